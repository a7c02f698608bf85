//! What a run came to: for people as a table, for programs as JSON. Both say what may be wrong with the figures.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde::Serialize;

use crate::load::connection::Negotiated;
use crate::load::drive::LoopKind;
use crate::load::latency::{Point, Summary};
use crate::load::paths::Paths;
use crate::load::process::{Memory, ThreadUse, Usage};
use crate::load::run::Publish;
use crate::load::{page, units};

/// Everything a run reports. The JSON form is this, field by field; times are in the unit that the name ends with.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    pub program: &'static str,
    pub version: &'static str,
    pub scenario: String,
    pub target: String,
    pub settings: Settings,
    /// What the probe negotiated; absent where it was refused.
    pub negotiated: Option<Negotiated>,
    pub elapsed_seconds: f64,
    pub operations: u64,
    /// What one operation is.
    pub operation: &'static str,
    pub operations_per_second: f64,
    pub resumed: u64,
    pub bytes_in: u64,
    pub bytes_out: u64,
    pub errors: u64,
    pub errors_by_kind: BTreeMap<String, u64>,
    /// Lanes that could not prepare, by kind.
    pub prepare_errors_by_kind: BTreeMap<String, u64>,
    pub error_example: Option<String>,
    /// Open loop: due within the run and never begun.
    pub not_begun: u64,
    pub closed_late: u64,
    pub latency_us: Option<Summary>,
    pub latency_curve: Vec<Point>,
    /// Open loop: how late operations began, by the harness's fault or for want of a free connection.
    pub start_lag_us: Option<Summary>,
    /// By kind of client: `mix`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub clients: Vec<ClientKind>,
    pub server: Option<Server>,
    /// By which path the server moved bytes during the run, warm-up included: `--metrics`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub paths: Option<Paths>,
    pub harness: Harness,
    /// What to know before believing the figures.
    pub notes: Vec<String>,
}

#[derive(Clone, Debug, Serialize)]
pub struct Settings {
    pub connections: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate_per_second: Option<f64>,
    pub closed_loop: bool,
    pub threads: usize,
    pub identities: usize,
    pub warmup_seconds: f64,
    pub timeout_seconds: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size_bytes: Option<usize>,
}

impl Settings {
    pub fn loop_kind(mut self, kind: LoopKind) -> Settings {
        self.closed_loop = kind == LoopKind::Closed;
        self.rate_per_second = if let LoopKind::Open(rate) = kind { Some(rate) } else { None };
        self
    }
}

/// What one kind of client did.
#[derive(Clone, Debug, Serialize)]
pub struct ClientKind {
    pub kind: &'static str,
    pub operations: u64,
    pub errors_by_kind: BTreeMap<String, u64>,
    /// How the server ended hostile clients.
    pub endings: BTreeMap<String, u64>,
    pub latency_us: Option<Summary>,
}

/// The measured process and its children, or control group.
#[derive(Clone, Debug, Serialize)]
pub struct Server {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pid: Option<u32>,
    #[serde(flatten)]
    pub usage: Usage,
    /// Where operations were counted.
    pub cpu_us_per_operation: Option<PerOperation>,
    /// Bulk: CPU seconds for each GiB moved.
    pub cpu_seconds_per_gib: Option<f64>,
    /// Before the first connection.
    pub memory_before: Memory,
    /// With all connections open.
    pub memory_open: Memory,
    pub memory_after: Memory,
    /// Growth from before to open, over the connections held.
    pub memory_per_connection: Option<Memory>,
}

#[derive(Clone, Copy, Debug, Serialize)]
pub struct PerOperation {
    pub total: f64,
    pub user: f64,
    pub system: f64,
}

impl PerOperation {
    pub fn new(usage: &Usage, operations: u64) -> Option<PerOperation> {
        let per = |seconds: f64| seconds * 1e6 / operations as f64;
        (operations > 0).then(|| PerOperation {
            total: per(usage.cpu_seconds),
            user: per(usage.user_seconds),
            system: per(usage.system_seconds),
        })
    }
}

/// The harness itself: it must not be what it measures.
#[derive(Clone, Debug, Serialize)]
pub struct Harness {
    pub cpu_seconds: f64,
    pub cpu_us_per_operation: Option<f64>,
    pub busiest_thread_share: f64,
    pub threads: Vec<ThreadUse>,
    pub was_bottleneck: bool,
}

impl Publish for Report {
    fn json(&self) -> String {
        let text = serde_json::to_string_pretty(self).expect("plain data with string keys");
        text + "\n"
    }

    fn html(&self) -> String {
        page::single(self)
    }

    fn table(&self) -> String {
        let mut table = Table::default();
        self.head(&mut table);
        self.speed(&mut table);
        self.latencies(&mut table);
        self.kinds(&mut table);
        self.failures(&mut table);
        self.costs(&mut table);
        for note in &self.notes {
            table.line("note", note);
        }
        table.0
    }
}

impl Report {
    fn head(&self, table: &mut Table) {
        let settings = &self.settings;
        let (n, threads) = (settings.connections, settings.threads);
        let pace = match settings.rate_per_second {
            Some(rate) => format!("open loop at {} /s, at most {n} at a time", units::three_digits(rate)),
            None if settings.closed_loop => format!("closed loop, {n} at a time"),
            None => format!("{n} connections held"),
        };
        let plural = if threads == 1 { "thread" } else { "threads" };
        table.line("scenario", &format!("{} to {}", self.scenario, self.target));
        table.line("load", &format!("{pace}, {threads} {plural}"));
        if settings.identities > 1 {
            table.line("clients", &format!("{} identities", units::count(settings.identities as u64)));
        }
        if let Some(negotiated) = &self.negotiated {
            let group = negotiated.group.as_deref().unwrap_or("-");
            table.line("TLS", &format!("{} {} {}", negotiated.version, negotiated.cipher, group));
        }
    }

    fn speed(&self, table: &mut Table) {
        let seconds = self.elapsed_seconds.max(1e-9);
        if self.settings.closed_loop || self.settings.rate_per_second.is_some() {
            let text = format!(
                "{} {} in {:.2} s: {} /s",
                units::count(self.operations),
                self.operation,
                self.elapsed_seconds,
                units::three_digits(self.operations_per_second)
            );
            table.line("done", &text);
        }
        if self.resumed > 0 || self.scenario.contains("resume") {
            let share = 100.0 * self.resumed as f64 / self.operations.max(1) as f64;
            table.line("resumed", &format!("{} ({share:.1} %)", units::count(self.resumed)));
        }
        if self.bytes_in + self.bytes_out > 0 {
            let rate = |bytes: u64| units::bytes(bytes as f64 / seconds);
            table.line("bytes", &format!("in {} /s, out {} /s", rate(self.bytes_in), rate(self.bytes_out)));
        }
    }

    fn latencies(&self, table: &mut Table) {
        let Some(l) = &self.latency_us else { return };
        for (i, (name, value)) in l.rows().iter().enumerate() {
            table.line(if i == 0 { "latency" } else { "" }, &format!("{name:<7}{:>10}", units::micros(*value)));
        }
    }

    fn kinds(&self, table: &mut Table) {
        for (i, kind) in self.clients.iter().enumerate() {
            table.line(if i == 0 { "clients" } else { "" }, &kind.words());
        }
    }

    fn failures(&self, table: &mut Table) {
        if self.errors == 0 && self.prepare_errors_by_kind.is_empty() {
            table.line("errors", "none");
        }
        for (i, (kind, n)) in self.errors_by_kind.iter().enumerate() {
            table.line(if i == 0 { "errors" } else { "" }, &format!("{kind:<30}{}", units::count(*n)));
        }
        for (kind, n) in &self.prepare_errors_by_kind {
            table.line("not ready", &format!("{kind:<30}{} connections", units::count(*n)));
        }
        if let Some(example) = &self.error_example {
            table.line("", &format!("e.g. {example}"));
        }
        if self.fell_behind() {
            table.line("not begun", &format!("{} that were due", units::count(self.not_begun)));
        }
    }

    /// Whether what was due and never began is more than the last moment's.
    fn fell_behind(&self) -> bool {
        fell_behind(self.not_begun, self.operations + self.errors)
    }

    fn costs(&self, table: &mut Table) {
        if let Some(server) = &self.server {
            server.rows(table, self.operation);
        }
        if let Some(paths) = self.paths {
            table.line("path", &paths.words());
        }
        let own = &self.harness;
        let per = own
            .cpu_us_per_operation
            .map(|us| format!(", {} µs an operation", units::three_digits(us)))
            .unwrap_or_default();
        let busiest = 100.0 * own.busiest_thread_share;
        table.line("harness", &format!("{:.2} s of CPU{per}, busiest thread {busiest:.0} %", own.cpu_seconds));
    }
}

impl ClientKind {
    /// One line.
    pub fn words(&self) -> String {
        let mut words = format!("{:<19}{:>9}", self.kind, units::count(self.operations));
        if let Some(l) = self.latency_us.filter(|_| self.endings.is_empty()) {
            let [p50, p99] = [l.p50, l.p99].map(|us| units::micros(us as f64));
            write!(words, "  p50 {p50}, p99 {p99}").expect("writing to a string does not fail");
        }
        let counted = |map: &BTreeMap<String, u64>| {
            map.iter().map(|(name, n)| format!("{name} {}", units::count(*n))).collect::<Vec<_>>().join(", ")
        };
        for (name, map) in [("ended", &self.endings), ("failed", &self.errors_by_kind)] {
            if !map.is_empty() {
                write!(words, "  {name}: {}", counted(map)).expect("writing to a string does not fail");
            }
        }
        words
    }
}

impl Server {
    fn rows(&self, table: &mut Table, operation: &str) {
        let usage = &self.usage;
        let plural = if usage.processes == 1 { "process" } else { "processes" };
        let (seconds, cores) = (usage.cpu_seconds, usage.cores);
        table.line("server", &format!("{seconds:.2} s of CPU, {cores:.2} cores, {} {plural}", usage.processes));
        if let Some(cost) = &self.cpu_us_per_operation {
            let [total, user, system] = [cost.total, cost.user, cost.system].map(units::three_digits);
            table.line("", &format!("{total} µs of CPU for each of the {operation} (user {user}, system {system})"));
        }
        if let Some(seconds) = self.cpu_seconds_per_gib {
            table.line("", &format!("{seconds:.2} s of CPU a GiB"));
        }
        let show = |m: &Memory| format!("RSS {}, PSS {}", units::bytes(m.rss as f64), units::bytes(m.pss as f64));
        match &self.memory_per_connection {
            Some(each) => {
                table.line("memory", &format!("{} a connection (the kernel's sockets not counted)", show(each)));
                let (before, open) = (show(&self.memory_before), show(&self.memory_open));
                table.line("", &format!("before {before}; with all open {open}"));
            }
            None => table.line("memory", &show(&self.memory_after)),
        }
    }
}

/// At the very end of an open loop a few operations are due that nobody can begin any more.
pub fn fell_behind(not_begun: u64, begun: u64) -> bool {
    not_begun > 2 + begun / 1000
}

/// Lines with a name in front.
#[derive(Default)]
struct Table(String);

impl Table {
    fn line(&mut self, name: &str, text: &str) {
        writeln!(self.0, "{name:<11}{text}").expect("writing to a string does not fail");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        let usage = Usage { processes: 1, cpu_seconds: 0.4, user_seconds: 0.3, system_seconds: 0.1, cores: 0.4 };
        Report {
            program: "countersign-load",
            version: "0",
            scenario: "handshake (full)".to_owned(),
            target: "127.0.0.1:8443".to_owned(),
            settings: Settings {
                connections: 16,
                rate_per_second: None,
                closed_loop: true,
                threads: 1,
                identities: 1,
                warmup_seconds: 0.0,
                timeout_seconds: 10.0,
                size_bytes: None,
            },
            negotiated: None,
            elapsed_seconds: 1.0,
            operations: 1000,
            operation: "handshakes",
            operations_per_second: 1000.0,
            resumed: 0,
            bytes_in: 0,
            bytes_out: 0,
            errors: 2,
            errors_by_kind: BTreeMap::from([("alert:unknown_ca".to_owned(), 2)]),
            prepare_errors_by_kind: BTreeMap::new(),
            error_example: None,
            not_begun: 0,
            closed_late: 0,
            latency_us: None,
            latency_curve: Vec::new(),
            start_lag_us: None,
            clients: Vec::new(),
            server: Some(Server {
                pid: Some(1),
                usage,
                cpu_us_per_operation: PerOperation::new(&usage, 1000),
                cpu_seconds_per_gib: None,
                memory_before: Memory::default(),
                memory_open: Memory::default(),
                memory_after: Memory::default(),
                memory_per_connection: None,
            }),
            paths: Some(Paths { user: 1, ktls: 0, splice: 3 }),
            harness: Harness {
                cpu_seconds: 0.2,
                cpu_us_per_operation: Some(200.0),
                busiest_thread_share: 0.2,
                threads: Vec::new(),
                was_bottleneck: false,
            },
            notes: vec!["something to know".to_owned()],
        }
    }

    #[test]
    fn the_table_tells_the_cost_the_errors_and_the_notes() {
        let table = report().table();
        for part in [
            "400 µs of CPU",
            "user 300, system 100",
            "alert:unknown_ca",
            "something to know",
            "1,000 handshakes",
            "splice 75.0 %",
        ] {
            assert!(table.contains(part), "{part} not in:\n{table}");
        }
    }

    #[test]
    fn the_json_holds_the_same_figures() {
        let value: serde_json::Value = serde_json::from_str(&report().json()).unwrap();
        assert_eq!(value["operations"], 1000);
        assert_eq!(value["errors_by_kind"]["alert:unknown_ca"], 2);
        assert_eq!(value["server"]["cpu_us_per_operation"]["total"], 400.0);
        assert_eq!(value["server"]["cpu_seconds"], 0.4);
    }

    #[test]
    fn nothing_done_costs_nothing_per_operation() {
        let usage = Usage { processes: 1, cpu_seconds: 1.0, user_seconds: 1.0, system_seconds: 0.0, cores: 1.0 };
        assert!(PerOperation::new(&usage, 0).is_none());
    }
}
