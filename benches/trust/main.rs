//! What the judgement of a client costs in a handshake, and what a long CRL costs: `cargo bench --bench trust
//! [-- --rounds N --entries N]`. `benches/README.md` says how to read it.
//!
//! CPU time of this thread, the client's side not counted. Every case gets a short row in turn, and ratios are taken
//! within a round.

#![forbid(unsafe_code)]

use clap::Parser;
use std::path::PathBuf;
use std::time::Duration;

#[path = "../relay/figures.rs"]
#[allow(dead_code, reason = "shared with another bench, which prints JSON too")]
mod figures;
mod handshakes;
mod long_list;
mod world;

/// Measure handshakes by chain, CRLs and caches, and a long CRL.
#[derive(Debug, Parser)]
struct Arguments {
    /// Rows of each case
    #[arg(long, default_value_t = 15)]
    rounds: usize,
    /// Handshakes in a row
    #[arg(long, default_value_t = 40)]
    row: usize,
    /// Entries of the long CRL
    #[arg(long, default_value_t = 1_000_000)]
    entries: u64,
    /// Be the process whose memory is looked at: load this configuration, once without and once with the CRL
    #[arg(long, hide = true)]
    load: Option<PathBuf>,
    /// What cargo says to every benchmark
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() {
    let arguments = Arguments::parse();
    if let Some(directory) = &arguments.load {
        return long_list::load_and_tell(directory);
    }
    handshakes::measure(arguments.rounds, arguments.row);
    long_list::measure(arguments.rounds, arguments.entries);
}

/// CPU time of this thread so far.
fn cpu_time() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(now.tv_sec.unsigned_abs(), u32::try_from(now.tv_nsec).unwrap_or_default())
}
