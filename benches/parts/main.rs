//! Benchmarks of parts, without sockets: `cargo bench --bench parts [FILTER]`. `benches/README.md` says how to read them.

#![forbid(unsafe_code)]

use criterion::{criterion_group, criterion_main};

mod fixture;
mod floor;
mod formats;
mod handshake;
mod wake;

criterion_group!(formats, formats::counters, formats::proxy, formats::audit);
criterion_group!(tls, handshake::chains, handshake::handshakes, handshake::records);
criterion_group!(cryptography, floor::handshake, floor::records);
criterion_group!(own, wake::wake_up, wake::tickets);
criterion_main!(formats, tls, cryptography, own);
