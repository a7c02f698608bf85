//! What the cryptography of a handshake costs on this CPU, now.

use std::time::Instant;

use aws_lc_rs::agreement::{EphemeralPrivateKey, UnparsedPublicKey as PeerKey, X25519, agree_ephemeral};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1, ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair, UnparsedPublicKey,
};

/// Microseconds of one operation each.
pub struct Floor {
    pub sign: f64,
    pub verify: f64,
    /// Making a key and agreeing with it.
    pub agree: f64,
}

/// Takes about a second.
pub fn measure() -> Floor {
    let random = SystemRandom::new();
    let document = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &random).expect("a key");
    let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, document.as_ref()).expect("the same key");
    let signature = key.sign(&random, &[5; 130]).expect("a signature");
    let public = UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, key.public_key().as_ref());
    let peer =
        EphemeralPrivateKey::generate(&X25519, &random).expect("a key").compute_public_key().expect("its public half");
    let agree = || {
        let own = EphemeralPrivateKey::generate(&X25519, &random).expect("a key");
        own.compute_public_key().expect("its public half");
        agree_ephemeral(own, PeerKey::new(&X25519, peer.as_ref()), (), |_| Ok::<(), ()>(())).expect("a secret");
    };
    Floor {
        sign: micros(|| {
            key.sign(&random, &[5; 130]).expect("a signature");
        }),
        verify: micros(|| public.verify(&[5; 130], signature.as_ref()).expect("a good signature")),
        agree: micros(agree),
    }
}

/// The tenth percentile of many short rows: what disturbs makes a row slower, never faster.
fn micros(mut operation: impl FnMut()) -> f64 {
    const ROW: u32 = 20;
    let mut rows: Vec<f64> = (0..200)
        .map(|_| {
            let begun = Instant::now();
            (0..ROW).for_each(|_| operation());
            begun.elapsed().as_secs_f64() * 1e6 / f64::from(ROW)
        })
        .collect();
    rows.sort_by(f64::total_cmp);
    rows[rows.len() / 10]
}
