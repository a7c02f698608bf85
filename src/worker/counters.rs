//! What one worker counts. The worker alone writes; the control thread reads and adds up.

use crate::stats::{Counter, Histogram};
use crate::tls::Declined;
use crate::trust::{CacheStats, Reason};
use std::sync::Arc;

/// Counters of one worker.
#[derive(Debug)]
pub struct Counters {
    /// One for each listener, by its index in the configuration.
    pub listeners: Vec<ListenerCounters>,
    /// One for each server of each backend, by index.
    pub backends: Vec<Vec<ServerCounters>>,
    pub chain_cache: Arc<CacheStats>,
    /// Plaintext bytes from clients, user-space path.
    pub bytes_in: Counter,
    /// Plaintext bytes to clients.
    pub bytes_out: Counter,
    /// Audit records that found no room.
    pub audit_dropped: Counter,
    /// Accepting paused because descriptors or memory ran out.
    pub accept_paused: Counter,
    /// Tasks that panicked, each ending its own connection alone.
    pub task_panics: Counter,
    /// Tickets not taken, by [`Declined`].
    pub resumption_declined: [Counter; Declined::ALL.len()],
    /// Turns of the loop; a watchdog sees that it moves.
    pub turns: Counter,
    /// Microseconds spent outside the kernel wait.
    pub busy_micros: Counter,
}

/// Counters of one listener in one worker.
#[derive(Debug)]
pub struct ListenerCounters {
    pub connections: Counter,
    /// A gauge.
    pub active: Counter,
    /// A gauge.
    pub handshakes_in_flight: Counter,
    /// By version (1.2, 1.3) and kind (full, resumed).
    pub handshakes: [[Counter; 2]; 2],
    /// By key exchange group, see [`GROUPS`]; the last is "other".
    pub groups: [Counter; GROUPS.len()],
    /// By [`Reason::index`], over all sites of the listener.
    pub failures: [Counter; Reason::ALL.len()],
    /// Accept to established: full, resumed.
    pub handshake_time: [Histogram; 2],
}

/// Key exchange groups that have a counter of their own.
pub const GROUPS: [&str; 5] = ["X25519MLKEM768", "X25519", "secp256r1", "secp384r1", "other"];

/// Counters of one server of a backend in one worker.
#[derive(Debug, Default)]
pub struct ServerCounters {
    /// A gauge.
    pub active: Counter,
    pub connections: Counter,
    pub connect_failures: Counter,
}

impl Counters {
    /// Zeroes for `listeners` listeners and backends with so many servers each.
    pub fn new(listeners: usize, servers: &[usize]) -> Counters {
        Counters {
            listeners: (0..listeners).map(|_| ListenerCounters::default()).collect(),
            backends: servers.iter().map(|n| (0..*n).map(|_| ServerCounters::default()).collect()).collect(),
            chain_cache: Arc::default(),
            bytes_in: Counter::default(),
            bytes_out: Counter::default(),
            audit_dropped: Counter::default(),
            accept_paused: Counter::default(),
            task_panics: Counter::default(),
            resumption_declined: Default::default(),
            turns: Counter::default(),
            busy_micros: Counter::default(),
        }
    }
}

impl Default for ListenerCounters {
    fn default() -> Self {
        ListenerCounters {
            connections: Counter::default(),
            active: Counter::default(),
            handshakes_in_flight: Counter::default(),
            handshakes: Default::default(),
            groups: Default::default(),
            failures: std::array::from_fn(|_| Counter::default()),
            handshake_time: Default::default(),
        }
    }
}
