//! Every bound of the harness, in one place. The server's are elsewhere: the two programs share nothing but `stats`.

use std::time::Duration;

/// A run without `--duration` and `--count` lasts this long.
pub const DURATION_DEFAULT: Duration = Duration::from_secs(10);
/// A run bounded by `--count` alone ends after this time all the same.
pub const DURATION_MAX_BY_COUNT: Duration = Duration::from_secs(600);
/// Longest `--duration`, `--warmup` and `--timeout`.
pub const DURATION_MAX: Duration = Duration::from_secs(24 * 3600);
/// One operation may take this long; then its connection is closed and a time-out counted.
pub const TIMEOUT_DEFAULT: Duration = Duration::from_secs(10);
/// After our close_notify the peer has this long to end the connection in an orderly way.
pub const CLOSE_WAIT: Duration = Duration::from_secs(1);
/// How long the probe waits for a TLS 1.3 session ticket before it decides that the server sends none.
pub const PROBE_TICKET_WAIT: Duration = Duration::from_millis(500);
/// A lane whose operation failed waits this long, so that a dead target is not hammered.
pub const ERROR_PAUSE: Duration = Duration::from_millis(10);
/// How often deadlines are looked at; a time-out is late by at most this.
pub const WATCH_TICK: Duration = Duration::from_millis(50);
/// How often the main thread looks at the run and draws the progress line.
pub const PROGRESS_TICK: Duration = Duration::from_millis(250);
/// How often the main thread looks whether the last operation is done.
pub const SETTLE_TICK: Duration = Duration::from_millis(2);
/// The pacer wakes at most this often; slots due within one nap are released together.
pub const PACER_NAP_MIN: Duration = Duration::from_micros(50);
/// The pacer looks this often whether the run was cut short.
pub const PACER_NAP_MAX: Duration = Duration::from_millis(100);

/// Most connections of one run, over all threads.
pub const CONNECTIONS_MAX: usize = 1_000_000;
/// Lanes of an open-loop `handshake` where `--connections` does not say.
pub const LANES_OPEN_DEFAULT: usize = 512;
/// Highest `--rate`, per second.
pub const RATE_MAX: f64 = 10_000_000.0;
/// Most threads.
pub const THREADS_MAX: usize = 256;
/// Most client identities.
pub const IDENTITIES_MAX: usize = 100_000;
/// Largest request, answer or chunk.
pub const SIZE_MAX: u64 = 64 * 1024 * 1024;
/// Distinct kinds of error that a report keeps; the rest are counted as "other".
pub const ERROR_KINDS_MAX: usize = 64;
/// Connects in flight at once while `idle` builds up its connections.
pub const IDLE_RAMP: usize = 64;

/// Ring entries of one thread: what is submitted in one turn before the ring has to be flushed.
pub const RING_ENTRIES: u32 = 1024;
/// Completion entries of one thread: operations that may finish within one turn.
pub const RING_COMPLETIONS: u32 = 32 * 1024;
/// One receive of the harness.
pub const RECEIVE_BYTES: usize = 32 * 1024;
/// One receive and one send of `bulk` and of the bulk backends.
pub const BULK_BYTES: usize = 256 * 1024;
/// Buffers that a thread keeps for reuse.
pub const BUFFERS_KEPT: usize = 1024;
/// Head of an HTTP answer.
pub const HTTP_HEAD_BYTES_MAX: usize = 64 * 1024;
/// Header fields of an HTTP answer.
pub const HTTP_FIELDS_MAX: usize = 100;
/// Connections from one loopback source address, below the usual range of ephemeral ports (28,232).
pub const CONNECTIONS_PER_SOURCE: usize = 20_000;
/// Processes that `--pid` follows.
pub const PROCESSES_MAX: usize = 4096;
/// Queue of connections not yet accepted by a backend.
pub const BACKLOG: i32 = 4096;

/// Validity of the throw-away PKI, in days; it is made anew once less than a day is left.
pub const PKI_DAYS: i64 = 30;

/// Latencies are recorded up to this many microseconds (ten minutes); longer ones count as this.
pub const LATENCY_MICROS_MAX: u64 = 600_000_000;
/// Significant decimal digits of a recorded latency.
pub const LATENCY_DIGITS: u8 = 3;

/// A harness thread that used a CPU, or waited for one, more than this share of the time may have been what limited the run.
pub const BUSY_SHARE_NOTED: f64 = 0.9;
/// A harness thread that waited for a CPU more than this share of the time had to share the machine.
pub const WAIT_SHARE_NOTED: f64 = 0.05;
/// Time stolen by the hypervisor that is worth a note.
pub const STEAL_SHARE_NOTED: f64 = 0.01;
/// An open-loop run whose starts were later than this at the 99th percentile says so.
pub const START_LAG_NOTED: Duration = Duration::from_millis(2);

/// The floor measures each operation for this long.
pub const FLOOR_TIME: Duration = Duration::from_millis(15);
/// Slices of a comparison that run before any agreement counts.
pub const COMPARE_SLICES_MIN: u32 = 5;
/// Slices that need a fresh process are few.
pub const COMPARE_IDLE_SLICES_MAX: u32 = 3;
/// The time between the samples of CPU over the time that operations were counted in; outside this a slice is repeated.
pub const COMPARE_SAMPLED: std::ops::RangeInclusive<f64> = 0.93..=1.07;
/// How often a slice that was disturbed is repeated, each time twice as long, before it is taken as it is.
pub const COMPARE_REPEATS: u32 = 3;
/// How often where nothing at all was finished, and how long such a slice becomes.
pub const COMPARE_REPEATS_EMPTY: u32 = 7;
pub const COMPARE_REPEAT_MAX: Duration = Duration::from_secs(10);
/// Before each slice is measured.
pub const COMPARE_WARMUP: Duration = Duration::from_millis(200);
/// A program under test has to listen within this time.
pub const COMPARE_START: Duration = Duration::from_secs(15);
/// A program under test that was asked to end has this long, before it is killed.
pub const COMPARE_END: Duration = Duration::from_secs(2);
/// Most connections that `compare --idle` holds.
pub const COMPARE_IDLE_MAX: i64 = 100_000;

/// Longest scenario file.
pub const MIX_BYTES_MAX: u64 = 64 * 1024;
/// Longest single wait of a client in a scenario, and longest visit of a slow one: a run ends when the last visit does.
pub const MIX_WAIT_MAX: Duration = Duration::from_secs(60);
/// Kinds of clients in a scenario file.
pub const MIX_PARTS_MAX: usize = 32;
/// Clients of a scenario that does not say.
pub const MIX_CONNECTIONS_DEFAULT: usize = 64;

/// How long the server's `/metrics` may take, and how long the page may be.
pub const METRICS_PATIENCE: Duration = Duration::from_secs(5);
pub const METRICS_BYTES_MAX: u64 = 16 << 20;
