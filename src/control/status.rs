//! `/status`: the running process as one JSON object. Names and counts only, nothing about single clients.

use super::exposition::is_up;
use super::state::{Generation, State, VERSION};
use super::text::moment;
use crate::stats::Counter;
use crate::worker::counters::{Counters, ListenerCounters, ServerCounters};
use serde::Serialize;
use std::fmt::{self, Write};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

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
    listeners: Vec<ListenerStatus<'a>>,
    sites: Vec<SiteStatus<'a>>,
    backends: Vec<BackendStatus<'a>>,
    workers: Vec<WorkerStatus>,
    /// How many there are.
    blocks: usize,
    totals: Totals,
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
    up: bool,
    connections: u64,
    connections_total: u64,
    connect_failures_total: u64,
}

#[derive(Debug, Serialize)]
struct WorkerStatus {
    worker: usize,
    connections: u64,
    busy_ratio: f64,
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

impl<'a> Status<'a> {
    /// The state as it is `now`.
    /// `generation` is the state's own, held by the caller for as long as the object is.
    pub fn of(state: &State, generation: &'a Generation, now: Instant) -> Status<'a> {
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
            listeners,
            sites: sites(generation),
            backends: backends(generation),
            workers: workers(state, generation, now),
            blocks: state.blocks(),
            totals,
        }
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
            let up = if server.up { "up" } else { "down" };
            writeln!(out, "backend {} {}: {up}, {} connections", backend.name, server.address, server.connections)?;
        }
        let (workers, totals) = (self.workers.len(), &self.totals);
        let busy = self.workers.iter().map(|worker| worker.busy_ratio).sum::<f64>() / workers.max(1) as f64 * 100.0;
        writeln!(out, "{workers} workers over {}, {busy:.0} % busy; {} blocks", self.engine, self.blocks)?;
        let Totals { connections_total, handshakes_total, handshake_failures_total, audit_dropped_total, .. } = totals;
        writeln!(
            out,
            "since the start {connections_total} connections, {handshakes_total} handshakes, {handshake_failures_total} \
             failures, {audit_dropped_total} audit lines lost"
        )
    }

    /// The object as a line of JSON.
    pub fn to_json(&self) -> String {
        // Nothing in these types can fail to serialise; an empty object would be noticed at once.
        let mut json = serde_json::to_string(self).unwrap_or_else(|_| "{}".to_owned());
        json.push('\n');
        json
    }
}

fn config_status(state: &State, generation: &Generation) -> ConfigStatus {
    let load = state.last_load();
    ConfigStatus {
        file: generation.config.file.as_ref().map(|file| file.display().to_string()),
        sha256: hex::encode(generation.config.digest),
        since: moment(load.ok_at),
        last_reload_ok: load.ok,
        last_reload: (load.at != state.started_at).then(|| moment(load.at)),
    }
}

fn listeners(generation: &Generation) -> Vec<ListenerStatus<'_>> {
    let listeners = generation.config.listeners.iter().enumerate();
    listeners.map(|(index, listener)| listener_status(generation, index, &listener.name)).collect()
}

fn listener_status<'a>(generation: &'a Generation, index: usize, name: &'a str) -> ListenerStatus<'a> {
    let counters: Vec<&ListenerCounters> =
        generation.counters.iter().filter_map(|c| c.listeners.get(index).map(AsRef::as_ref)).collect();
    let sum = |counter: fn(&ListenerCounters) -> u64| counters.iter().map(|c| counter(c)).sum();
    let mut addresses: Vec<SocketAddr> = generation.addresses_of(name).collect();
    addresses.dedup();
    ListenerStatus {
        name,
        addresses,
        connections: sum(|c| c.active.value()),
        connections_total: sum(|c| c.connections.value()),
        handshakes_in_flight: sum(|c| c.handshakes_in_flight.value()),
        handshakes_total: sum(|c| c.handshakes.iter().flatten().flatten().map(Counter::value).sum()),
    }
}

fn sites(generation: &Generation) -> Vec<SiteStatus<'_>> {
    let config = &generation.config;
    let sites = config.sites.iter().enumerate();
    sites
        .map(|(index, site)| SiteStatus {
            name: &site.name,
            listener: config.listeners.get(site.listener).map_or("", |listener| &listener.name),
            backend: config.backends.get(site.backend).map_or("", |backend| &backend.name),
            failures_total: failures(
                generation.counters.iter().filter_map(|c| c.sites.get(index)).map(|c| &c.failures[..]),
            ),
        })
        .collect()
}

fn failures<'a>(of: impl Iterator<Item = &'a [Counter]>) -> u64 {
    of.flatten().map(Counter::value).sum()
}

fn backends(generation: &Generation) -> Vec<BackendStatus<'_>> {
    let server = |b: usize, s: usize, address: String| {
        let counters: Vec<&ServerCounters> = generation.counters.iter().filter_map(|c| c.server(b, s)).collect();
        let sum = |counter: fn(&ServerCounters) -> u64| counters.iter().map(|c| counter(c)).sum();
        ServerStatus {
            address,
            up: is_up(counters.iter().copied()),
            connections: sum(|c| c.active.value()),
            connections_total: sum(|c| c.connections.value()),
            connect_failures_total: sum(|c| c.connect_failures.value()),
        }
    };
    let mut backends = Vec::new();
    for (b, backend) in generation.config.backends.iter().enumerate() {
        let servers = backend.servers.iter().enumerate().map(|(s, address)| server(b, s, address.to_string()));
        backends.push(BackendStatus { name: &backend.name, servers: servers.collect() });
    }
    backends
}

fn workers(state: &State, generation: &Generation, now: Instant) -> Vec<WorkerStatus> {
    let ratios = state.busy_ratios(now);
    let connections = |counters: &Counters| counters.listeners.iter().map(|listener| listener.active.value()).sum();
    let each = generation.counters.iter().zip(ratios).enumerate();
    each.map(|(worker, (counters, ratio))| WorkerStatus {
        worker,
        connections: connections(counters),
        busy_ratio: (ratio * 1000.0).round() / 1000.0,
    })
    .collect()
}

fn totals(state: &State, generation: &Generation, listeners: &[ListenerStatus<'_>]) -> Totals {
    let before_site = generation.counters.iter().flat_map(|c| &c.listeners).map(|listener| &listener.failures[..]);
    let with_site = generation.counters.iter().flat_map(|c| &c.sites).map(|site| &site.failures[..]);
    Totals {
        connections: listeners.iter().map(|listener| listener.connections).sum(),
        connections_total: listeners.iter().map(|listener| listener.connections_total).sum(),
        handshakes_total: listeners.iter().map(|listener| listener.handshakes_total).sum(),
        handshake_failures_total: failures(before_site) + failures(with_site),
        bytes_in_total: generation.counters.iter().map(|c| c.bytes_in.value()).sum(),
        bytes_out_total: generation.counters.iter().map(|c| c.bytes_out.value()).sum(),
        audit_dropped_total: state.audit_dropped(),
    }
}
