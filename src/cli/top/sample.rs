//! The server's status as `top` needs it, and what changed from one to the next.

use serde::Deserialize;
use std::collections::HashMap;
use std::time::Instant;

/// One answer to `ctl status --json`. What a server of another version does not tell is zero.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Sample {
    pub version: String,
    pub pid: u32,
    pub uptime_seconds: u64,
    pub state: String,
    pub unready: Option<String>,
    pub config: Config,
    pub listeners: Vec<Listener>,
    pub backends: Vec<Backend>,
    pub workers: Vec<Worker>,
    pub blocks: u64,
    pub totals: Totals,
    pub handshakes: Handshakes,
    pub refusals: Vec<Refusal>,
    pub expiries: Vec<Expiry>,
    pub identities: Vec<Identity>,
    pub time: i64,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Config {
    pub file: Option<String>,
    pub last_reload_ok: bool,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Listener {
    pub handshakes_in_flight: u64,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Backend {
    pub name: String,
    pub servers: Vec<Server>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Server {
    pub address: String,
    pub up: bool,
    /// `ready`, `drain` or `down`: what an operator wants of it.
    pub state: String,
    pub connections: u64,
    pub connections_total: u64,
    pub connect_failures_total: u64,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Worker {
    pub connections: u64,
    pub busy_seconds_total: f64,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Totals {
    pub connections: u64,
    pub connections_total: u64,
    pub handshake_failures_total: u64,
    pub bytes_in_total: u64,
    pub bytes_out_total: u64,
    pub audit_dropped_total: u64,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Handshakes {
    pub full: u64,
    pub resumed: u64,
    pub hrr: u64,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Refusal {
    pub reason: String,
    pub total: u64,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Expiry {
    pub kind: String,
    pub name: String,
    pub at: i64,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Identity {
    pub identity: String,
    pub handshakes_total: u64,
    pub bytes_in_total: u64,
    pub bytes_out_total: u64,
    pub expires: i64,
}

/// What is on the screen.
#[derive(Debug)]
pub struct View {
    pub now: Sample,
    pub rates: Rates,
    taken: Instant,
    /// Why the server does not answer; the last answer stays on the screen.
    pub lost: Option<String>,
    pub paused: bool,
    /// Clients above the first that is shown.
    pub scrolled: usize,
}

/// Changes in a second; all zero after the first answer.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Rates {
    pub connections: f64,
    pub full: f64,
    pub resumed: f64,
    pub hrr: f64,
    pub failed: f64,
    pub bytes_in: f64,
    pub bytes_out: f64,
    /// Share of time, 0 to 1, by worker.
    pub busy: Vec<f64>,
    pub refusals: HashMap<String, f64>,
    /// Handshakes, by identity.
    pub identities: HashMap<String, f64>,
}

impl View {
    pub fn new(first: Sample, taken: Instant) -> View {
        let rates = Rates { busy: vec![0.0; first.workers.len()], ..Rates::default() };
        View { now: first, rates, taken, lost: None, paused: false, scrolled: 0 }
    }

    /// Another answer came.
    pub fn update(&mut self, sample: Sample, at: Instant) {
        let seconds = at.saturating_duration_since(self.taken).as_secs_f64();
        let restarted = sample.pid != self.now.pid || sample.uptime_seconds < self.now.uptime_seconds;
        self.rates = match restarted || seconds <= 0.0 {
            true => Rates { busy: vec![0.0; sample.workers.len()], ..Rates::default() },
            false => Rates::between(&self.now, &sample, seconds),
        };
        (self.now, self.taken, self.lost) = (sample, at, None);
        self.scroll(0);
    }

    /// No answer came.
    pub fn lose(&mut self, why: String) {
        self.rates = Rates { busy: vec![0.0; self.now.workers.len()], ..Rates::default() };
        self.lost = Some(why);
    }

    /// Moves the list of clients.
    pub fn scroll(&mut self, by: isize) {
        let last = self.now.identities.len().saturating_sub(1);
        self.scrolled = self.scrolled.saturating_add_signed(by).min(last);
    }
}

impl Rates {
    fn between(before: &Sample, after: &Sample, seconds: f64) -> Rates {
        let rate = |before: u64, after: u64| after.saturating_sub(before) as f64 / seconds;
        let total = |of: fn(&Sample) -> u64| rate(of(before), of(after));
        let busy = |(i, worker): (usize, &Worker)| {
            let earlier = before.workers.get(i).map_or(0.0, |worker| worker.busy_seconds_total);
            ((worker.busy_seconds_total - earlier) / seconds).clamp(0.0, 1.0)
        };
        let refused = |reason: &str| before.refusals.iter().find(|one| one.reason == reason).map_or(0, |one| one.total);
        // Whoever is new on the list may have been there long: only what both have tells a rate.
        let known: HashMap<&str, u64> =
            before.identities.iter().map(|one| (one.identity.as_str(), one.handshakes_total)).collect();
        let refusals = after.refusals.iter().map(|one| (one.reason.clone(), rate(refused(&one.reason), one.total)));
        let identities = after.identities.iter().map(|one| {
            let earlier = known.get(one.identity.as_str()).copied().unwrap_or(one.handshakes_total);
            (one.identity.clone(), rate(earlier, one.handshakes_total))
        });
        Rates {
            connections: total(|sample| sample.totals.connections_total),
            full: total(|sample| sample.handshakes.full),
            resumed: total(|sample| sample.handshakes.resumed),
            hrr: total(|sample| sample.handshakes.hrr),
            failed: total(|sample| sample.totals.handshake_failures_total),
            bytes_in: total(|sample| sample.totals.bytes_in_total),
            bytes_out: total(|sample| sample.totals.bytes_out_total),
            busy: after.workers.iter().enumerate().map(busy).collect(),
            refusals: refusals.collect(),
            identities: identities.collect(),
        }
    }
}
