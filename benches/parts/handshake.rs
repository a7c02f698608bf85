//! What one client costs: its chain, its handshake (the server's side alone is timed), its records.

use std::hint::black_box;
use std::time::Duration;

use countersign::trust::{self, Blocks, Presented};
use criterion::{BenchmarkId, Criterion, Throughput};
use rustls::client::Resumption;
use rustls_pki_types::UnixTime;

use crate::fixture::{World, shake};

/// A chain of two below one anchor: judged from scratch, and found in the worker's cache.
pub fn chains(criterion: &mut Criterion) {
    let world = World::new();
    let (policy, now, blocks) = (&world.snapshot.policies()[0], UnixTime::now(), Blocks::default());
    let presented = Presented { leaf: &world.identity.chain[0], rest: &world.identity.chain[1..] };
    let mut group = criterion.benchmark_group("chain");
    group.bench_function("cold", |b| b.iter(|| trust::evaluate(black_box(&presented), now, policy)));
    let environment = world.environment();
    group.bench_function("cached", |b| {
        b.iter(|| trust::admit(black_box(&presented), now, policy, &environment.cache, &blocks, trust::Look::First))
    });
    group.finish();
}

/// Whole handshakes, the client's work not counted.
pub fn handshakes(criterion: &mut Criterion) {
    let (world, now) = (World::new(), UnixTime::now());
    let mut group = criterion.benchmark_group("handshake");
    group.sample_size(50);
    for (name, version) in [("1.3", &rustls::version::TLS13), ("1.2", &rustls::version::TLS12)] {
        let forgetful = world.client(version, Resumption::disabled());
        group.bench_function(BenchmarkId::new("cold", name), |b| {
            b.iter_custom(|n| {
                let one = |_| {
                    let environment = world.environment();
                    shake(&forgetful, || world.session(&environment), now).0
                };
                (0..n).map(one).sum::<Duration>()
            })
        });
        let environment = world.environment();
        group.bench_function(BenchmarkId::new("cached", name), |b| {
            b.iter_custom(|n| {
                (0..n).map(|_| shake(&forgetful, || world.session(&environment), now).0).sum::<Duration>()
            })
        });
        let remembering = world.client(version, Resumption::in_memory_sessions(8));
        let (_, first) = shake(&remembering, || world.session(&environment), now);
        assert!(!first.established().expect("it is open").resumed);
        group.bench_function(BenchmarkId::new("resumed", name), |b| {
            b.iter_custom(|n| {
                let one = |_| {
                    let (spent, session) = shake(&remembering, || world.session(&environment), now);
                    assert!(session.established().expect("it is open").resumed, "a full handshake came in between");
                    spent
                };
                (0..n).map(one).sum::<Duration>()
            })
        });
    }
    group.finish();
}

/// Encrypting answers of several sizes.
pub fn records(criterion: &mut Criterion) {
    let (world, now) = (World::new(), UnixTime::now());
    let environment = world.environment();
    let client = world.client(&rustls::version::TLS13, Resumption::disabled());
    let (_, mut session) = shake(&client, || world.session(&environment), now);
    let mut group = criterion.benchmark_group("encrypt");
    for size in [64usize, 1024, 16 * 1024, 64 * 1024] {
        let (data, mut out) = (vec![7u8; size], Vec::with_capacity(2 * size + 1024));
        group.throughput(Throughput::Bytes(size as u64));
        group.bench_function(BenchmarkId::from_parameter(size), |b| {
            b.iter(|| {
                out.clear();
                session.encrypt(black_box(&data), &mut out).expect("an open session");
            })
        });
    }
    group.finish();
}
