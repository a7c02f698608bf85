//! The running process as one object: `/status`, `ctl status`, and what `top` draws. Of clients it names those that are
//! busiest and those whose certificates run out first.

mod gather;
mod page;

use super::state::{Generation, State, VERSION};
use super::text::moment;
use crate::worker::{Engine, kernel_tls};
use gather::{backends, config_status, expiries, handshakes, identities, listeners, refusals, sites, totals, workers};
use serde::Serialize;
use std::fmt::{self, Write};
use std::net::SocketAddr;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// The object, fields in the order in which they are printed.
#[derive(Debug, Serialize)]
pub struct Status<'a> {
    version: &'static str,
    pid: u32,
    uptime_seconds: u64,
    state: &'static str,
    /// Why `/readyz` does not answer 200.
    unready: Option<&'static str>,
    /// What the workers stand on.
    engine: &'static str,
    config: ConfigStatus,
    /// When a hand-over to a new program was last tried in vain, and why.
    #[serde(skip_serializing_if = "Option::is_none")]
    hand_over_failed: Option<String>,
    listeners: Vec<ListenerStatus<'a>>,
    sites: Vec<SiteStatus<'a>>,
    backends: Vec<BackendStatus<'a>>,
    workers: Vec<WorkerStatus>,
    /// What the kernel's TLS is trusted with, or why it is not used.
    kernel_tls: String,
    /// How many there are.
    blocks: usize,
    totals: Totals,
    /// Those that ended well.
    handshakes: Handshakes,
    /// Failed handshakes by reason, the most frequent first; only what happened.
    refusals: Vec<RefusalStatus>,
    /// What runs out first.
    expiries: Vec<Expiry>,
    /// The busiest of late first.
    identities: Vec<IdentityStatus>,
    /// Seconds since the Unix epoch, by this host's clock.
    time: u64,
}

#[derive(Debug, Serialize)]
struct ConfigStatus {
    /// Absent with the flag form.
    file: Option<String>,
    sha256: String,
    /// When it took effect.
    since: String,
    /// Whether the last reload, if there was one, went well.
    last_reload_ok: bool,
    last_reload: Option<String>,
}

#[derive(Debug, Serialize)]
struct ListenerStatus<'a> {
    name: &'a str,
    addresses: Vec<SocketAddr>,
    connections: u64,
    connections_total: u64,
    handshakes_in_flight: u64,
    handshakes_total: u64,
}

#[derive(Debug, Serialize)]
struct SiteStatus<'a> {
    name: &'a str,
    listener: &'a str,
    backend: &'a str,
    /// How often a handshake failed after the site was known.
    failures_total: u64,
}

#[derive(Debug, Serialize)]
struct BackendStatus<'a> {
    name: &'a str,
    servers: Vec<ServerStatus>,
}

#[derive(Debug, Serialize)]
struct ServerStatus {
    address: String,
    /// Whether it works, as far as is known.
    up: bool,
    /// `ready`, `drain` or `down`: what an operator wants of it.
    state: &'static str,
    connections: u64,
    connections_total: u64,
    connect_failures_total: u64,
}

#[derive(Debug, Serialize)]
struct WorkerStatus {
    worker: usize,
    connections: u64,
    busy_ratio: f64,
    /// Since the start, for those who look in their own rhythm.
    busy_seconds_total: f64,
}

#[derive(Debug, Default, Serialize)]
struct Handshakes {
    full: u64,
    resumed: u64,
    hrr: u64,
}

#[derive(Debug, Serialize)]
struct RefusalStatus {
    reason: &'static str,
    total: u64,
}

/// A certificate or CRL and when it runs out.
#[derive(Debug, Serialize)]
struct Expiry {
    /// `server`, `ca`, `crl` or `client`.
    kind: &'static str,
    name: String,
    /// Seconds since the Unix epoch.
    at: i64,
}

#[derive(Debug, Serialize)]
struct IdentityStatus {
    identity: String,
    handshakes_total: u64,
    /// Of connections that ended.
    bytes_in_total: u64,
    bytes_out_total: u64,
    last_seen: String,
    /// Of the certificate seen last; seconds since the Unix epoch.
    expires: i64,
}

#[derive(Debug, Serialize)]
struct Totals {
    connections: u64,
    connections_total: u64,
    handshakes_total: u64,
    handshake_failures_total: u64,
    bytes_in_total: u64,
    bytes_out_total: u64,
    audit_dropped_total: u64,
}

impl ServerStatus {
    /// For people.
    fn word(&self) -> &'static str {
        match (self.state, self.up) {
            ("drain", _) => "draining",
            ("down", _) => "taken down",
            (_, true) => "up",
            (_, false) => "down",
        }
    }
}

impl<'a> Status<'a> {
    /// The state as it is now, `wall` by the clock on the wall.
    /// `generation` is the state's own, held by the caller for as long as the object is.
    pub fn of(state: &State, generation: &'a Generation, now: Instant, wall: SystemTime) -> Status<'a> {
        let listeners = listeners(generation);
        let totals = totals(state, generation, &listeners);
        Status {
            version: VERSION,
            pid: std::process::id(),
            uptime_seconds: now.saturating_duration_since(state.started).as_secs(),
            state: state.readiness.phase().word(),
            unready: state.unready(),
            engine: generation.engine.word(),
            config: config_status(state, generation),
            hand_over_failed: state.failed_hand_over().map(|(at, why)| format!("{}: {why}", moment(at))),
            listeners,
            sites: sites(generation),
            backends: backends(generation),
            workers: workers(state, generation, now),
            kernel_tls: match generation.engine {
                Engine::Epoll => "not used over epoll".to_owned(),
                Engine::IoUring => kernel_tls(generation.config.runtime.ktls),
            },
            blocks: state.blocks(),
            totals,
            handshakes: handshakes(generation),
            refusals: refusals(generation),
            expiries: expiries(state, generation, wall),
            identities: identities(state, wall),
            time: wall.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs(),
        }
    }

    /// For browsers.
    pub fn to_html(&self) -> String {
        page::html(self)
    }

    /// For people.
    pub fn in_text(&self) -> String {
        let mut text = String::new();
        // Writing to a string cannot fail.
        let _ = self.write_text(&mut text);
        text
    }

    fn write_text(&self, out: &mut String) -> fmt::Result {
        let up = Duration::from_secs(self.uptime_seconds);
        writeln!(
            out,
            "countersign {}, pid {}, up {up:?}, {}",
            self.version,
            self.pid,
            self.unready.unwrap_or(self.state)
        )?;
        let config = &self.config;
        let file = config.file.as_deref().unwrap_or("the command line");
        writeln!(out, "configuration of {file}, in force since {}", config.since)?;
        match &config.last_reload {
            Some(at) if !config.last_reload_ok => {
                writeln!(out, "the last reload failed, at {at}: the log says why; what is above still serves")?;
            }
            _ => {}
        }
        if let Some(failed) = &self.hand_over_failed {
            writeln!(out, "the last hand-over failed, {failed}; this process goes on")?;
        }
        for listener in &self.listeners {
            let addresses: Vec<String> = listener.addresses.iter().map(ToString::to_string).collect();
            let (name, open, in_flight) = (listener.name, listener.connections, listener.handshakes_in_flight);
            writeln!(
                out,
                "listener {name} on {}: {open} connections, {in_flight} in their handshake",
                addresses.join(" ")
            )?;
        }
        for (backend, server) in
            self.backends.iter().flat_map(|backend| backend.servers.iter().map(move |s| (backend, s)))
        {
            let up = server.word();
            writeln!(out, "backend {} {}: {up}, {} connections", backend.name, server.address, server.connections)?;
        }
        let (workers, totals) = (self.workers.len(), &self.totals);
        let busy = self.workers.iter().map(|worker| worker.busy_ratio).sum::<f64>() / workers.max(1) as f64 * 100.0;
        writeln!(out, "{workers} workers over {}, {busy:.0} % busy; {} blocks", self.engine, self.blocks)?;
        writeln!(out, "kernel TLS: {}", self.kernel_tls)?;
        let Totals { connections_total, handshakes_total, handshake_failures_total, audit_dropped_total, .. } = totals;
        writeln!(
            out,
            "since the start {connections_total} connections, {handshakes_total} handshakes, {handshake_failures_total} \
             failures, {audit_dropped_total} audit lines lost"
        )?;
        if !self.refusals.is_empty() {
            let refusals: Vec<String> =
                self.refusals.iter().map(|refusal| format!("{} {}", refusal.total, refusal.reason)).collect();
            writeln!(out, "refused: {} (`countersign ctl refusals` says whom and why)", refusals.join(", "))?;
        }
        for Expiry { kind, name, at } in self.expiries.iter().take(TEXT_EXPIRIES) {
            writeln!(out, "{kind} {name} runs out {}", in_days(*at, self.time))?;
        }
        Ok(())
    }

    /// The object as a line of JSON.
    pub fn to_json(&self) -> String {
        // Nothing in these types can fail to serialise; an empty object would be noticed at once.
        let mut json = serde_json::to_string(self).unwrap_or_else(|_| "{}".to_owned());
        json.push('\n');
        json
    }
}

/// Lines about expiry in the text.
const TEXT_EXPIRIES: usize = 4;

/// `in 12 days`, `in 5 hours`, `3 days ago`.
fn in_days(at: i64, now: u64) -> String {
    let left = at.saturating_sub_unsigned(now);
    let (amount, unit) = match left.unsigned_abs() {
        seconds @ 0..7200 => (seconds / 60, "minutes"),
        seconds @ 7200..172_800 => (seconds / 3600, "hours"),
        seconds => (seconds / 86_400, "days"),
    };
    if left < 0 { format!("{amount} {unit} ago") } else { format!("in {amount} {unit}") }
}

#[cfg(test)]
mod tests;
