//! What a comparison came to, as data: the JSON form is this, field by field.

use serde::Serialize;

use crate::load::compare::Course;
use crate::load::compare::args::CompareArgs;
use crate::load::compare::machine::MachineNote;
use crate::load::compare::peer::{Missing, Peer};
use crate::load::compare::recipe::{GROUP, SUITE};
use crate::load::compare::scenario::{Scenario, Unit};
use crate::load::compare::series::{Range, spread};
use crate::load::compare::slice::{Slice, was_not_resumed};
use crate::load::compare::table;
use crate::load::floor::Floor;
use crate::load::latency::{Latencies, Point};
use crate::load::paths::Paths;
use crate::load::{exit, limits, page, run, units};

/// Everything.
#[derive(Clone, Debug, Serialize)]
pub struct Comparison {
    pub program: &'static str,
    pub version: &'static str,
    /// RFC 3339.
    pub at: String,
    pub machine: MachineNote,
    pub settings: Settings,
    pub peers: Vec<Peer>,
    pub missing: Vec<Missing>,
    pub scenarios: Vec<Row>,
    pub interrupted: bool,
    pub notes: Vec<String>,
}

/// What is equal for all.
#[derive(Clone, Debug, Serialize)]
pub struct Settings {
    pub tls: &'static str,
    pub cipher: &'static str,
    pub group: &'static str,
    pub certificates: &'static str,
    pub slices_max: u32,
    pub slice_seconds: f64,
    pub spread_percent: f64,
}

/// One scenario.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    pub name: &'static str,
    pub title: String,
    pub unit: Unit,
    pub connections: usize,
    /// Measured just before, on the servers' CPU.
    pub floor: Floor,
    /// What the cryptography alone costs, in the row's unit, and what was counted for it.
    pub floor_figure: Option<f64>,
    pub floor_of: &'static str,
    pub steal_share: f64,
    pub entries: Vec<Entry>,
    pub left_out: Vec<Missing>,
    #[serde(skip)]
    scenario: Scenario,
}

/// One program in one scenario. What is no range is a median over the slices.
#[derive(Clone, Debug, Serialize)]
pub struct Entry {
    pub peer: String,
    pub figure: Range,
    pub user: f64,
    pub system: f64,
    /// Half the interquartile range over the median.
    pub spread: f64,
    /// Of `figure`, over the first entry's slice of the same round; absent for that entry itself.
    pub ratio: Option<Range>,
    pub of_floor: Option<f64>,
    pub operations_per_second: f64,
    pub bytes_per_second: f64,
    pub server_cores: f64,
    pub generator_cores: f64,
    /// Over all slices together.
    pub p50_us: u64,
    pub p99_us: u64,
    pub latency_curve: Vec<Point>,
    pub errors: u64,
    pub notes: Vec<String>,
    /// By which path Countersign moved its bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub paths: Option<Paths>,
    pub slices: Vec<Slice>,
}

impl Row {
    pub fn new(scenario: &Scenario, floor: Floor) -> Row {
        Row {
            name: scenario.name,
            title: scenario.title.clone(),
            unit: scenario.unit,
            connections: scenario.connections,
            floor_figure: scenario.floor(&floor),
            floor_of: scenario.floor_of(),
            floor,
            steal_share: 0.0,
            entries: Vec::new(),
            left_out: Vec::new(),
            scenario: scenario.clone(),
        }
    }

    pub fn leave_out(&mut self, peer: &Peer, why: String) {
        self.left_out.push(Missing { name: peer.name.clone(), why });
    }

    /// The slices of one program; the first to come is what the others are compared with.
    pub fn take(&mut self, peer: &Peer, slices: Vec<Slice>, paths: Option<Paths>) {
        let column = |of: fn(&Slice) -> f64| slices.iter().map(of).collect::<Vec<f64>>();
        let median = |of: fn(&Slice) -> f64| Range::of(&column(of)).map_or(0.0, |range| range.median);
        let figures = column(|s| s.figure);
        let Some(figure) = Range::of(&figures) else {
            return self.leave_out(peer, "no slice of it was finished".to_owned());
        };
        let mut latencies = Latencies::default();
        slices.iter().for_each(|slice| latencies.merge(&slice.latencies));
        let base = self.entries.first().map(|first| first.slices.iter().map(|s| s.figure).collect::<Vec<_>>());
        self.entries.push(Entry {
            peer: peer.name.clone(),
            figure,
            user: median(|s| s.user),
            system: median(|s| s.system),
            spread: spread(&figures),
            ratio: base.and_then(|base| Range::of_ratios(&figures, &base)),
            of_floor: self.floor_figure.filter(|floor| *floor > 0.0).map(|floor| figure.median / floor),
            operations_per_second: median(|s| s.operations_per_second),
            bytes_per_second: median(|s| s.bytes_per_second),
            server_cores: median(|s| s.server_cores),
            generator_cores: median(|s| s.generator_cores),
            p50_us: latencies.percentile(50.0),
            p99_us: latencies.percentile(99.0),
            latency_curve: latencies.curve(),
            errors: slices.iter().map(|s| s.errors).sum(),
            notes: notes(&self.scenario, &slices, paths),
            paths,
            slices,
        });
    }
}

/// What makes one program's figure another thing than it seems.
fn notes(scenario: &Scenario, slices: &[Slice], paths: Option<Paths>) -> Vec<String> {
    let mut notes = Vec::new();
    if let Some(paths) = paths.filter(|paths| paths.ktls + paths.splice > 0) {
        notes.push(format!("its bytes went by {}", paths.words()));
    }
    if was_not_resumed(scenario, slices) {
        notes.push("its handshakes were not all resumed: the figure is a mixture".to_owned());
    }
    let (errors, done) = slices.iter().fold((0, 0), |(e, d), s| (e + s.errors, d + s.operations));
    if errors > 0 {
        let example = slices.iter().find_map(|s| s.error_example.clone()).unwrap_or_default();
        notes.push(format!("{} of {} operations failed: {example}", units::count(errors), units::count(errors + done)));
    }
    if scenario.unit != Unit::KibPerConnection
        && slices.iter().map(|s| s.server_cores).sum::<f64>() < 0.1 * slices.len() as f64
    {
        notes.push("it used less than a tenth of its CPU: few operations to divide by".to_owned());
    }
    notes
}

impl Comparison {
    pub fn new(
        args: &CompareArgs,
        course: &Course<'_>,
        missing: Vec<Missing>,
        rows: Vec<Row>,
        interrupted: bool,
    ) -> Comparison {
        let machine = course.machine.clone();
        let mut notes = machine.notes();
        if rows.iter().any(|row| row.steal_share > limits::STEAL_SHARE_NOTED) {
            let most = 100.0 * rows.iter().map(|row| row.steal_share).fold(0.0, f64::max);
            notes.push(format!("the hypervisor took up to {most:.1} % of the CPU time of a scenario"));
        }
        if interrupted {
            notes.push("interrupted: scenarios are missing, and the last one has few slices".to_owned());
        }
        let now = time::OffsetDateTime::now_utc().truncate_to_second();
        Comparison {
            program: "countersign-load",
            version: env!("CARGO_PKG_VERSION"),
            at: now.format(&time::format_description::well_known::Rfc3339).unwrap_or_default(),
            machine,
            settings: Settings {
                tls: "1.3",
                cipher: SUITE,
                group: GROUP,
                certificates: "ECDSA P-256, one intermediate, both sides",
                slices_max: args.slices,
                slice_seconds: args.slice.as_secs_f64(),
                spread_percent: args.spread,
            },
            peers: course.peers.clone(),
            missing,
            scenarios: rows,
            interrupted,
            notes,
        }
    }

    /// 0 if something was measured without an error, 1 if some failed or were left out, 69 if nothing was measured.
    pub fn code(&self) -> u8 {
        let entries = || self.scenarios.iter().flat_map(|row| &row.entries);
        match () {
            () if entries().next().is_none() => exit::UNAVAILABLE,
            () if entries().any(|e| e.errors > 0) || self.scenarios.iter().any(|r| !r.left_out.is_empty()) => {
                exit::FAILED
            }
            () => exit::OK,
        }
    }
}

impl run::Publish for Comparison {
    fn json(&self) -> String {
        serde_json::to_string_pretty(self).expect("plain data with string keys") + "\n"
    }

    fn html(&self) -> String {
        page::comparison(self)
    }

    fn table(&self) -> String {
        table::table(self)
    }
}
