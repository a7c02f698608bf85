//! What `compare` runs against each program, and in which unit it is told.

use serde::Serialize;

use crate::load::args::{BackendMode, Direction};
use crate::load::compare::args::CompareArgs;
use crate::load::drive::LoopKind;
use crate::load::floor::Floor;
use crate::load::handshake::Kind;
use crate::load::{Refusal, limits};

/// One row of the comparison.
#[derive(Clone, Debug)]
pub struct Scenario {
    pub name: &'static str,
    /// In words, for the table and the page.
    pub title: String,
    pub unit: Unit,
    pub connections: usize,
    pub loop_kind: LoopKind,
    pub work: Work,
    pub behind: Behind,
}

/// What a client does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    Handshake(Kind),
    /// Echo of [`REQUEST_BYTES`].
    Request,
    Bulk(Direction),
    Idle,
}

/// The backend behind the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Behind {
    pub mode: BackendMode,
    pub socket: Socket,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Socket {
    Tcp,
    Unix,
}

/// What the main figure of a scenario is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Unit {
    /// CPU time of the server for one operation.
    #[serde(rename = "cpu_us_per_operation")]
    MicrosPerOperation,
    /// CPU time of the server for a GiB moved.
    #[serde(rename = "cpu_ms_per_gib")]
    MillisPerGib,
    /// Memory of the server for one open connection.
    #[serde(rename = "kib_per_connection")]
    KibPerConnection,
}

impl Unit {
    pub fn label(self) -> &'static str {
        match self {
            Unit::MicrosPerOperation => "µs of CPU an operation",
            Unit::MillisPerGib => "ms of CPU a GiB",
            Unit::KibPerConnection => "KiB a connection",
        }
    }
}

/// Bytes of a request and of its answer.
pub const REQUEST_BYTES: usize = 1024;

impl Scenario {
    /// All of them, with the settings of `args`.
    fn all(args: &CompareArgs) -> Vec<Scenario> {
        let echo = |socket| Behind { mode: BackendMode::Echo, socket };
        let one = |name, title: &str, connections, work, behind| Scenario {
            name,
            title: title.to_owned(),
            unit: Unit::MicrosPerOperation,
            connections,
            loop_kind: LoopKind::Closed,
            work,
            behind,
        };
        let request =
            |name, connections: usize, socket, title: &str| one(name, title, connections, Work::Request, echo(socket));
        let bulk = |name, direction, mode, title: &str| Scenario {
            unit: Unit::MillisPerGib,
            ..one(name, title, 4, Work::Bulk(direction), Behind { mode, socket: Socket::Tcp })
        };
        let held = args.idle as usize;
        let rate = args.rate;
        vec![
            one("handshake", "full mTLS handshakes, 8 clients", 8, Work::Handshake(Kind::Full), echo(Socket::Tcp)),
            one("resume", "resumed handshakes, 8 clients", 8, Work::Handshake(Kind::Resumed), echo(Socket::Tcp)),
            request("request-1", 1, Socket::Tcp, "1 KiB echoed, 1 connection"),
            request("request-64", 64, Socket::Tcp, "1 KiB echoed, 64 connections"),
            request("request-256", 256, Socket::Tcp, "1 KiB echoed, 256 connections"),
            request("unix-64", 64, Socket::Unix, "1 KiB echoed, 64 connections, backend on a unix socket"),
            Scenario {
                loop_kind: LoopKind::Open(rate),
                ..request(
                    "latency-64",
                    64,
                    Socket::Tcp,
                    &format!("1 KiB echoed, 64 connections, open loop at {rate} /s"),
                )
            },
            bulk("bulk-down", Direction::Down, BackendMode::Stream, "bytes to the client, 4 connections"),
            bulk("bulk-up", Direction::Up, BackendMode::Sink, "bytes from the client, 4 connections"),
            Scenario {
                unit: Unit::KibPerConnection,
                loop_kind: LoopKind::Hold,
                ..one("idle", &format!("{held} connections held after 1 KiB"), held, Work::Idle, echo(Socket::Tcp))
            },
        ]
    }

    /// Those that `--scenario` names, in its order; all where it names none.
    pub fn chosen(args: &CompareArgs) -> Result<Vec<Scenario>, Refusal> {
        let all = Scenario::all(args);
        if args.scenario.is_empty() {
            return Ok(all);
        }
        let find = |name: &String| {
            all.iter().find(|s| s.name == name.as_str()).cloned().ok_or_else(|| {
                let known: Vec<_> = all.iter().map(|s| s.name).collect();
                let nearest = crate::load::units::nearest(name, &known).map(|n| format!(" (did you mean {n}?)"));
                Refusal::usage(format!(
                    "--scenario {name}: there is none of that name{}; choose among {}",
                    nearest.unwrap_or_default(),
                    known.join(", ")
                ))
            })
        };
        args.scenario.iter().map(find).collect()
    }

    /// What the cryptography alone costs, in this scenario's unit.
    pub fn floor(&self, floor: &Floor) -> Option<f64> {
        match self.work {
            Work::Handshake(Kind::Full) => Some(floor.full_handshake()),
            Work::Handshake(Kind::Resumed) => Some(floor.resumed_handshake()),
            Work::Request => Some(floor.echo(REQUEST_BYTES)),
            Work::Bulk(Direction::Down) => Some(floor.seal_gib_ms()),
            Work::Bulk(Direction::Up) => Some(floor.open_gib_ms()),
            Work::Bulk(Direction::Both) | Work::Idle => None,
        }
    }

    /// What [`Scenario::floor`] is made of.
    pub fn floor_of(&self) -> &'static str {
        match self.work {
            Work::Handshake(Kind::Full) => "one signature, one verification, one key agreement",
            Work::Handshake(Kind::Resumed) => "one key agreement",
            Work::Request => "1 KiB opened and sealed",
            Work::Bulk(Direction::Down) => "a GiB sealed in records of 16 KiB",
            Work::Bulk(Direction::Up) => "a GiB opened in records of 16 KiB",
            Work::Bulk(Direction::Both) | Work::Idle => "",
        }
    }

    /// Each slice needs a process that has held nothing yet: memory that was freed hides growth.
    pub fn wants_fresh_process(&self) -> bool {
        self.work == Work::Idle
    }

    /// Most slices of it, where `wanted` are asked for.
    pub fn slices(&self, wanted: u32) -> u32 {
        if self.wants_fresh_process() { wanted.min(limits::COMPARE_IDLE_SLICES_MAX) } else { wanted }
    }

    pub fn buffer_bytes(&self) -> usize {
        if matches!(self.work, Work::Bulk(_)) { limits::BULK_BYTES } else { limits::RECEIVE_BYTES }
    }
}
