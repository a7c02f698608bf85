//! The admin socket: what `countersign ctl` asks a running server, and how it is answered. One line of JSON there, one
//! back, any number of times on a connection. Whoever may open the socket may do everything: its mode is 0600.
//!
//! | file | what it is |
//! |---|---|
//! | [`socket`] | the socket in the file system, its connections |
//! | [`commands`] | which request gets which answer |
//! | [`blocking`] | `block`, `unblock`, `blocked` |
//! | [`present`] | `sessions`, `identities` |
//! | [`servers`] | `backend` |

mod blocking;
mod commands;
mod present;
mod servers;
mod socket;

pub use socket::{Opened, open};

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::net::IpAddr;

/// What is asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "snake_case", deny_unknown_fields)]
pub enum Request {
    Status,
    Reload,
    /// The time for open connections; `None`: `runtime.drain_timeout`.
    Drain {
        timeout_ms: Option<u64>,
    },
    Block {
        client: Selector,
        /// `None`: until it is taken away.
        for_seconds: Option<u64>,
        why: Option<String>,
    },
    Unblock {
        client: Selector,
    },
    Blocked,
    RotateTickets,
    Explain {
        listener: Option<String>,
        sni: Option<String>,
        /// DER in base64, leaf first.
        chain: Vec<String>,
    },
    Refusals {
        client: Option<IpAddr>,
        sha256: Option<String>,
        identity: Option<String>,
        last_seconds: Option<u64>,
    },
    Sessions {
        identity: Option<String>,
    },
    Identities {
        /// Those alone, connected or not, whose certificate runs out within this time.
        expiring_seconds: Option<u64>,
    },
    Backend {
        backend: String,
        server: String,
        state: ServerState,
    },
}

/// What is wanted of a backend server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum ServerState {
    /// Takes connections, as long as it is up
    Ready,
    /// No new connections; those open stay, and it is still checked
    Drain,
    /// The same, and it is not checked
    Down,
}

/// Whom a block names, as typed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Selector {
    Serial { serial: String, issuer: Option<String> },
    Sha256(String),
    SpkiSha256(String),
    Identity(String),
}

/// What comes back.
#[derive(Debug, Serialize, Deserialize)]
pub struct Answer {
    /// Whether the server did as asked.
    pub ok: bool,
    /// For people.
    pub text: String,
    /// For programs; absent where there is no more to it than that it was done, or why not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<Box<RawValue>>,
}

impl Answer {
    fn done(text: impl Into<String>) -> Answer {
        Answer { ok: true, text: text.into(), data: None }
    }

    fn refused(text: impl Into<String>) -> Answer {
        Answer { ok: false, text: text.into(), data: None }
    }

    fn told(text: impl Into<String>, data: &impl Serialize) -> Answer {
        // Nothing that is told here can fail to serialise; programs would find `data` missing.
        Answer { data: serde_json::value::to_raw_value(data).ok(), ..Answer::done(text) }
    }
}

/// Who asks, as the kernel knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Peer {
    uid: u32,
    pid: i32,
}

#[cfg(test)]
mod tests;
