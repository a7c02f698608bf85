//! Parts of the data path, run N times each for an instruction counter: `benches/instructions/count` says how.
//! What runs is the same every time but for random keys and nonces, which move the counts by a few in a thousand.

#![forbid(unsafe_code)]

use std::hint::black_box;
use std::process::ExitCode;

use countersign::config::ProxyTlvs;
use countersign::stats::Histogram;
use countersign::trust::{self, Blocks, Presented};
use countersign::wire::audit::ConnectionId;
use countersign::wire::proxy;
use rustls::client::Resumption;
use rustls_pki_types::UnixTime;

use fixture::{World, shake};

#[path = "../parts/fixture.rs"]
mod fixture;

/// Prepares once, then runs N times.
type Case = fn(usize);

const CASES: [(&str, Case); 10] = [
    ("chain_cold", chain_cold),
    ("chain_cached", chain_cached),
    ("handshake_cold", handshake_cold),
    ("handshake_cached", handshake_cached),
    ("handshake_resumed", handshake_resumed),
    ("encrypt_1KiB", |n| encrypt(n, 1024)),
    ("encrypt_16KiB", |n| encrypt(n, 16 * 1024)),
    ("proxy_v2_write", proxy_write),
    ("proxy_v2_parse", proxy_parse),
    ("histogram", histogram),
];

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    let case = words.first().and_then(|name| CASES.iter().find(|(case, _)| case == name));
    match (case, words.get(1).map(|n| n.parse::<usize>())) {
        (Some((_, run)), Some(Ok(n))) => run(n),
        _ if words.first().is_some_and(|word| word == "--list") => {
            CASES.iter().for_each(|(name, _)| println!("{name}"));
        }
        _ => {
            eprintln!("usage: instructions CASE N | --list; benches/instructions/count runs all of them");
            return if words.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(64) };
        }
    }
    ExitCode::SUCCESS
}

fn chain_cold(n: usize) {
    let world = World::new();
    let (policy, now) = (&world.snapshot.policies()[0], UnixTime::now());
    let presented = Presented { leaf: &world.identity.chain[0], rest: &world.identity.chain[1..] };
    for _ in 0..n {
        let _ = black_box(trust::evaluate(black_box(&presented), now, policy));
    }
}

fn chain_cached(n: usize) {
    let world = World::new();
    let (policy, now, blocks) = (&world.snapshot.policies()[0], UnixTime::now(), Blocks::default());
    let presented = Presented { leaf: &world.identity.chain[0], rest: &world.identity.chain[1..] };
    let environment = world.environment();
    // The first one fills the cache, whatever N is.
    for _ in 0..=n {
        let look = trust::Look::First;
        let _ = black_box(trust::admit(black_box(&presented), now, policy, &environment.cache, &blocks, look));
    }
}

fn handshake_cold(n: usize) {
    let (world, now) = (World::new(), UnixTime::now());
    let client = world.client(&rustls::version::TLS13, Resumption::disabled());
    for _ in 0..n {
        let environment = world.environment();
        shake(&client, || world.session(&environment), now);
    }
}

fn handshake_cached(n: usize) {
    let (world, now) = (World::new(), UnixTime::now());
    let (client, environment) = (world.client(&rustls::version::TLS13, Resumption::disabled()), world.environment());
    for _ in 0..=n {
        shake(&client, || world.session(&environment), now);
    }
}

fn handshake_resumed(n: usize) {
    let (world, now) = (World::new(), UnixTime::now());
    let client = world.client(&rustls::version::TLS13, Resumption::in_memory_sessions(8));
    let environment = world.environment();
    for round in 0..=n {
        let (_, session) = shake(&client, || world.session(&environment), now);
        assert_eq!(session.established().expect("it is open").resumed, round > 0, "all but the first resume");
    }
}

fn encrypt(n: usize, size: usize) {
    let (world, now) = (World::new(), UnixTime::now());
    let environment = world.environment();
    let client = world.client(&rustls::version::TLS13, Resumption::disabled());
    let (_, mut session) = shake(&client, || world.session(&environment), now);
    let (data, mut out) = (vec![7u8; size], Vec::with_capacity(2 * size + 1024));
    for _ in 0..n {
        out.clear();
        session.encrypt(black_box(&data), &mut out).expect("an open session");
    }
}

fn header() -> proxy::Header<'static> {
    proxy::Header {
        source: "203.0.113.7:51234".parse().expect("an address"),
        destination: "192.0.2.10:443".parse().expect("an address"),
        alpn: Some(b"http/1.1"),
        authority: Some("api.bank.example"),
        unique_id: ConnectionId([7; 16]),
        ssl: None,
        client_cert: None,
    }
}

const TLVS: ProxyTlvs =
    ProxyTlvs { alpn: true, authority: true, unique_id: true, ssl: true, crc32c: false, client_cert: false };

fn proxy_write(n: usize) {
    let mut out = Vec::with_capacity(1024);
    for _ in 0..n {
        out.clear();
        proxy::write_v2(black_box(&header()), TLVS, &mut out);
    }
    black_box(&out);
}

fn proxy_parse(n: usize) {
    let mut written = Vec::with_capacity(1024);
    proxy::write_v2(&header(), TLVS, &mut written);
    for _ in 0..n {
        let _ = black_box(proxy::parse(black_box(&written)));
    }
}

fn histogram(n: usize) {
    let histogram = Histogram::default();
    for _ in 0..n {
        black_box(&histogram).record(black_box(417));
    }
}
