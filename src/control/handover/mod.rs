//! Handing over to a new program without refusing or resetting anybody (SIGUSR2).
//!
//! ```text
//! old process                      helper                    new process
//!   start ──────────────────────────▶ exec ───────────────────▶ reads the offer
//!   offer, sockets, keys, chains ─────────────────────────────▶ loads everything, adopts sockets, serves
//!   ◀──────────────────────────────────────────────── serving ──
//!   MAINPID= to the service manager
//!   go, with the blocks of now ───────────────────────────────▶ READY=1
//!   leaves the sockets, drains  ◀── other blocks, reloads ─────
//! ```
//!
//! Until `go` the old process serves as ever: whatever goes wrong before ends the new one and changes nothing. Both accept
//! from the same queues meanwhile. Verdicts are not handed over: chains are judged anew by the policy that the new process
//! has loaded. After it the new process alone writes blocks, and tells the old one of them, so that they end its
//! connections too.
//!
//! | file | what it is |
//! |---|---|
//! | [`frame`] | messages |
//! | [`helper`] | who starts the new program |
//! | [`doors`] | the admin sockets |
//! | [`giving`] | the old process |
//! | [`taking`] | the new process |

mod doors;
mod frame;
mod giving;
mod helper;
mod taking;

pub use doors::Doors;
pub use giving::HandedOver;
pub use helper::Helper;
pub use taking::{Elder, Given, Legacy, Predecessor, Succession};

use crate::trust::Blocks;
use crate::worker::counters::Counters;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

/// The form of what is handed over. A process refuses one that it does not know; what is added to it without changing the
/// meaning of the rest keeps the number.
const VERSION: u32 = 1;

/// Names the descriptor of the socket pair to the new process.
const VARIABLE: &str = "COUNTERSIGN_HANDOVER_FD";

/// What the old process has to give.
#[derive(Debug, Serialize, Deserialize)]
struct Offer {
    version: u32,
    /// The program's version, for the log.
    program: String,
    pid: u32,
    /// In the order in which their descriptors come.
    sockets: Vec<Described>,
    blocks: Blocks,
    resumption: Resumption,
}

/// Which socket it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "for", rename_all = "snake_case")]
pub enum Described {
    /// One worker's socket for one address of a listener, as the configuration names them.
    Listener {
        name: String,
        address: SocketAddr,
        worker: usize,
    },
    /// One that the service manager passed to a process before, under this name.
    Passed {
        name: String,
    },
    AdminHttp {
        address: SocketAddr,
    },
    AdminProbe {
        address: SocketAddr,
    },
    AdminSocket {
        path: PathBuf,
    },
    /// Of a newer program.
    #[serde(other)]
    Unknown,
}

/// How many handshakes were resumed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resumption {
    pub handshakes: u64,
    pub resumed: u64,
}

impl Resumption {
    /// Over all workers since the start of the process.
    pub fn of(counters: &[Arc<Counters>]) -> Resumption {
        let mut sum = Resumption::default();
        for kinds in counters.iter().flat_map(|counters| &counters.listeners).flat_map(|of| &of.handshakes) {
            for (kind, groups) in kinds.iter().enumerate() {
                let count: u64 = groups.iter().map(|counter| counter.value()).sum();
                sum.handshakes += count;
                sum.resumed += if kind == crate::worker::counters::Kind::Resumed as usize { count } else { 0 };
            }
        }
        sum
    }
}

impl fmt::Display for Resumption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.handshakes {
            0 => f.write_str("no handshake yet"),
            all => write!(f, "{:.1} % of {all} handshakes resumed", 100.0 * self.resumed as f64 / all as f64),
        }
    }
}

#[cfg(test)]
mod tests;
