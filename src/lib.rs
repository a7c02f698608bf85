//! Countersign: a mutual-TLS terminator for Linux.
//!
//! # The map
//!
//! ```text
//!                 control thread (ordinary tokio, current_thread)
//!      signals · config load · admin HTTP · metrics · audit writer
//!           │  publishes an immutable Snapshot (arc-swap)          ▲  counters, audit records
//!           │  sends commands (crossbeam queue + ring wake-up)     │  (crossbeam queues)
//!           ▼                                                      │
//!   worker 0 (pinned to CPU 0)      worker 1 (pinned to CPU 1)    … one per CPU, nothing shared
//!   own io_uring or epoll, own SO_REUSEPORT sockets, own buffers, own first-level chain cache
//!       accept → ClientHello → site → handshake → identity → backend connect → relay → close
//! ```
//!
//! | module | what it is | may name |
//! |---|---|---|
//! | [`sys`] | the kernel, and the only `unsafe`: io_uring and epoll behind one reactor, buffers, sockets, CPU affinity | nothing of ours |
//! | [`stats`] | counters and histograms, no domain | nothing of ours |
//! | [`config`] | what the operator said: raw → [`config::Config`]; every bound in [`config::limits`] | nothing of ours |
//! | [`trust`] | who may speak: anchors, CRLs, rules, identity, chain cache, blocks, the one `evaluate`; time is an argument | `config`, `stats` |
//! | [`tls`] | rustls put together: sites, certificates, tickets, the unbuffered session | `config`, `stats`, `trust` |
//! | [`wire`] | formats to and from others, pure: PROXY v1/v2, audit lines | `config`, `trust` |
//! | [`relay`] | one connection from accept to close | `config`, `stats`, `trust`, `tls`, `wire`, `sys` |
//! | [`worker`] | one CPU's loop: table, budget per turn, choice of backends | all above |
//! | [`control`] | the process: start and stop order, drain, admin, audit writer | all above |
//! | [`cli`] | arguments to calls | all above |
//! | [`load`] | the second binary, the load harness | `stats` |
//!
//! `tests/integration/layering.rs` holds this table against the source.

pub mod cli;
pub mod config;
pub mod control;
pub mod load;
pub mod relay;
pub mod stats;
pub mod sys;
pub mod tls;
pub mod trust;
pub mod wire;
pub mod worker;
