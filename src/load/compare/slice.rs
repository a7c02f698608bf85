//! One slice: one program, one scenario, a second or so; what it cost.

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use crate::load::bulk::Bulk;
use crate::load::compare::scenario::{REQUEST_BYTES, Scenario, Unit, Work};
use crate::load::drive::{self, Bounds, Observer, Outcome, Progress};
use crate::load::handshake::{Handshakes, Kind};
use crate::load::idle::Idle;
use crate::load::latency::Latencies;
use crate::load::pace::Stop;
use crate::load::process::{Family, Machine, Sample};
use crate::load::request::{Protocol, Requests};
use crate::load::units::Cpus;
use crate::load::worker::Plan;
use crate::load::{Refusal, exit, limits};

/// What one slice came to.
#[derive(Clone, Debug, Serialize)]
pub struct Slice {
    /// In the scenario's unit.
    pub figure: f64,
    /// The same, user and system apart; zero where the figure is no CPU time.
    pub user: f64,
    pub system: f64,
    pub operations: u64,
    pub operations_per_second: f64,
    pub bytes_per_second: f64,
    /// CPU seconds per second of the program.
    pub server_cores: f64,
    /// The same of the generator and the backend together.
    pub generator_cores: f64,
    pub steal_share: f64,
    pub p50_us: u64,
    pub p99_us: u64,
    pub resumed: u64,
    pub errors: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error_example: Option<String>,
    #[serde(skip)]
    pub latencies: Latencies,
}

/// Length and CPUs of a slice.
#[derive(Clone, Debug)]
pub struct Cut {
    pub length: Duration,
    pub cpus: Cpus,
}

/// What came of the attempt at a slice.
#[derive(Debug)]
pub enum Attempt {
    Good(Slice),
    /// On a busy machine the samples may be taken late, or nothing be finished within a short slice: worth another try.
    Disturbed(Option<Slice>),
}

/// Runs one. An error means that the program failed.
pub fn run(scenario: &Scenario, plan: &Arc<Plan>, family: &Family, cut: &Cut, stop: &Stop) -> Result<Attempt, Refusal> {
    let bounds = Bounds {
        loop_kind: scenario.loop_kind,
        warmup: if scenario.work == Work::Idle { Duration::ZERO } else { limits::COMPARE_WARMUP.min(cut.length) },
        duration: Some(cut.length),
        count: None,
        cpus: Some(cut.cpus.clone()),
    };
    let mut gauge = Gauge::new(family);
    let outcome = match scenario.work {
        Work::Handshake(kind) => drive::run(Handshakes { kind }, plan, &bounds, stop, &mut gauge),
        Work::Request => {
            let protocol = Protocol::Echo(REQUEST_BYTES);
            drive::run(Requests { protocol }, plan, &bounds, stop, &mut gauge)
        }
        Work::Bulk(direction) => drive::run(Bulk { direction }, plan, &bounds, stop, &mut gauge),
        Work::Idle => drive::run(Idle { exchange: Some(REQUEST_BYTES) }, plan, &bounds, stop, &mut gauge),
    }?;
    gauge.read(scenario, outcome)
}

/// Samples the program and this process when measuring begins and ends.
struct Gauge<'a> {
    family: &'a Family,
    before: Sample,
    start: Option<(Sample, Sample, Machine)>,
    end: Option<(Sample, Sample, Machine)>,
}

impl<'a> Gauge<'a> {
    fn new(family: &'a Family) -> Gauge<'a> {
        Gauge { family, before: family.sample(), start: None, end: None }
    }

    fn look(&self) -> (Sample, Sample, Machine) {
        (self.family.sample(), Sample::of_this_process(), Machine::now())
    }

    fn read(self, scenario: &Scenario, outcome: Outcome) -> Result<Attempt, Refusal> {
        let (Some((server, own, machine)), Some((server_end, own_end, machine_end))) = (self.start, self.end) else {
            return Ok(Attempt::Disturbed(None));
        };
        let (usage, own) = (server_end.since(&server), own_end.since(&own));
        let tally = outcome.tally;
        let (bytes, seconds) = (tally.bytes_in + tally.bytes_out, outcome.elapsed.as_secs_f64().max(1e-9));
        let errors = tally.failures.total() + tally.prepare_failures.total();
        // One unit of work in the scenario's unit of cost.
        let (done, scale) = match scenario.unit {
            Unit::MicrosPerOperation => (tally.operations as f64, 1e6),
            Unit::MillisPerGib => (bytes as f64 / f64::from(1 << 30), 1e3),
            Unit::KibPerConnection => (tally.prepare_latencies.len() as f64, 0.0),
        };
        if done <= 0.0 {
            return match tally.example {
                Some(why) => Err(Refusal::new(exit::UNAVAILABLE, format!("nothing succeeded: {why}"))),
                None => Ok(Attempt::Disturbed(None)),
            };
        }
        // Costs and operations have to be of the same time.
        let sampled = server_end.seconds_since(&server) / seconds;
        let disturbed = scenario.work != Work::Idle && !limits::COMPARE_SAMPLED.contains(&sampled);
        let memory = |sample: &Sample| if sample.memory.pss > 0 { sample.memory.pss } else { sample.memory.rss };
        let grown = memory(&server_end).saturating_sub(memory(&self.before)) as f64 / 1024.0;
        let cost = |cpu: f64| cpu * scale / done;
        let latencies = if scenario.work == Work::Idle { tally.prepare_latencies } else { tally.latencies };
        let slice = Slice {
            figure: if scenario.unit == Unit::KibPerConnection { grown / done } else { cost(usage.cpu_seconds) },
            user: cost(usage.user_seconds),
            system: cost(usage.system_seconds),
            operations: tally.operations,
            operations_per_second: tally.operations as f64 / seconds,
            bytes_per_second: bytes as f64 / seconds,
            server_cores: usage.cores,
            generator_cores: own.cores,
            steal_share: machine_end.steal_share_since(&machine),
            p50_us: latencies.percentile(50.0),
            p99_us: latencies.percentile(99.0),
            resumed: tally.resumed,
            errors,
            error_example: tally.example,
            latencies,
        };
        Ok(if disturbed { Attempt::Disturbed(Some(slice)) } else { Attempt::Good(slice) })
    }
}

impl Observer for Gauge<'_> {
    fn progress(&mut self, _progress: &Progress<'_>) {}

    fn measuring(&mut self) {
        self.start = Some(self.look());
    }

    fn measured(&mut self) {
        self.end = Some(self.look());
    }
}

/// Whether handshakes that should have been resumed were not, but for a few.
pub fn was_not_resumed(scenario: &Scenario, slices: &[Slice]) -> bool {
    let (resumed, all) = slices.iter().fold((0, 0), |(r, a), s| (r + s.resumed, a + s.operations));
    scenario.work == Work::Handshake(Kind::Resumed) && resumed * 100 < all * 99
}
