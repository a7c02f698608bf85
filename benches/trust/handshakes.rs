//! Full handshakes by chain, CRLs and cache, and resumed ones, as multiples of what the cryptography alone costs in the same
//! round.

use crate::cpu_time;
use crate::figures::{Series, ratio};
use crate::world::{Shape, World};
use aws_lc_rs::agreement::{EphemeralPrivateKey, UnparsedPublicKey as PeerKey, X25519, agree_ephemeral};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1, ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair, UnparsedPublicKey,
};
use countersign::tls::Environment;
use rustls::ClientConfig;
use rustls::client::Resumption;
use rustls::version::{TLS12, TLS13};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

/// Whether the chain was seen before, or the session.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Before {
    Never,
    Chain,
    Session,
}

struct Case {
    world: Rc<World>,
    client: Arc<ClientConfig>,
    environment: Rc<Environment>,
    before: Before,
    series: Series,
}

/// Prints a table a version.
pub fn measure(rounds: usize, row: usize) {
    let shapes = [
        ("2 certificates, no CRLs", 1, false),
        ("2 certificates, CRLs", 1, true),
        ("3 certificates, no CRLs", 2, false),
        ("3 certificates, CRLs", 2, true),
    ];
    let worlds = shapes.map(|(name, intermediates, crls)| {
        (name, Rc::new(World::new(&Shape { intermediates, revoked: crls.then(|| vec![7]) })))
    });
    for (version, name) in [(&TLS13, "TLS 1.3"), (&TLS12, "TLS 1.2")] {
        println!(
            "\n{name}, P-256 certificates, X25519: server's CPU µs a handshake, median (minimum to maximum) of {rounds} rows"
        );
        let mut floor = Series::new("floor");
        let cryptography = Cryptography::new();
        let mut cases: Vec<Case> = worlds.iter().flat_map(|(name, world)| cases(name, world, version)).collect();
        for _ in 0..rounds {
            floor.push(cryptography.row(row));
            cases.iter_mut().for_each(|case| case.row(row));
        }
        println!("{floor}");
        for three in cases.chunks(3) {
            let [cold, warm, resumed] = three else { unreachable!("three of each world") };
            let base = &floor;
            println!("{}   {}", cold.series, ratio(&cold.series, base));
            println!("{}   {}   {}", warm.series, ratio(&warm.series, base), ratio(&warm.series, &cold.series));
            println!("{}   {}", resumed.series, ratio(&resumed.series, base));
        }
    }
}

fn cases(name: &str, world: &Rc<World>, version: &'static rustls::SupportedProtocolVersion) -> [Case; 3] {
    [(Before::Never, "cold"), (Before::Chain, "warm"), (Before::Session, "resumed")].map(|(before, word)| {
        let resumption = match before {
            Before::Session => Resumption::in_memory_sessions(8),
            Before::Never | Before::Chain => Resumption::disabled(),
        };
        let (client, environment) = (world.client(version, resumption), world.environment());
        if before != Before::Never {
            world.shake(&client, &environment);
        }
        // The few names of a run live as long as it.
        let series = Series::new(String::leak(format!("{name}, {word}")));
        Case { world: world.clone(), client, environment, before, series }
    })
}

impl Case {
    fn row(&mut self, row: usize) {
        let mut spent = Duration::ZERO;
        for _ in 0..row {
            if self.before == Before::Never {
                self.environment = self.world.environment();
            }
            let (one, resumed) = self.world.shake(&self.client, &self.environment);
            assert_eq!(resumed, self.before == Before::Session, "another kind of handshake than was to be measured");
            spent += one;
        }
        self.series.push(micros(spent, row));
    }
}

/// What no handshake can do without: one signature, one verification of the client's, one key agreement.
struct Cryptography {
    random: SystemRandom,
    key: EcdsaKeyPair,
    peer: Vec<u8>,
}

impl Cryptography {
    fn new() -> Cryptography {
        let random = SystemRandom::new();
        let document = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &random).expect("a key");
        let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, document.as_ref()).expect("the same key");
        let own = EphemeralPrivateKey::generate(&X25519, &random).expect("a key");
        let peer = own.compute_public_key().expect("its public half").as_ref().to_vec();
        Cryptography { random, key, peer }
    }

    fn row(&self, row: usize) -> f64 {
        let message = [5u8; 130];
        let begun = cpu_time();
        for _ in 0..row {
            let signature = self.key.sign(&self.random, &message).expect("a signature");
            let public = UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, self.key.public_key().as_ref());
            public.verify(&message, signature.as_ref()).expect("a good signature");
            let own = EphemeralPrivateKey::generate(&X25519, &self.random).expect("a key");
            own.compute_public_key().expect("its public half");
            agree_ephemeral(own, PeerKey::new(&X25519, &self.peer), (), |_| Ok::<(), ()>(())).expect("a secret");
        }
        micros(cpu_time() - begun, row)
    }
}

fn micros(spent: Duration, operations: usize) -> f64 {
    spent.as_secs_f64() * 1e6 / operations as f64
}
