//! Benchmarks of parts, without sockets: `cargo bench --bench parts [FILTER]`. `benches/README.md` says how to read them.

#![forbid(unsafe_code)]

use criterion::{criterion_group, criterion_main};

mod fixture;
mod floor;
mod formats;
mod handshake;

criterion_group!(formats, formats::counters, formats::proxy, formats::audit);
criterion_group!(tls, handshake::chains, handshake::handshakes, handshake::records);
criterion_group!(cryptography, floor::handshake, floor::records);
criterion_main!(formats, tls, cryptography);
