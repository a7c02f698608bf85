//! Counters of all workers put together, for [`Status`](super::Status).

use super::{
    BackendStatus, ConfigStatus, Expiry, Handshakes, IdentityStatus, ListenerStatus, RefusalStatus, ServerStatus,
    SiteStatus, Totals, WorkerStatus,
};
use crate::config::limits;
use crate::control::exposition::is_up;
use crate::control::state::{Generation, State};
use crate::control::text::moment;
use crate::stats::Counter;
use crate::trust::Reason;
use crate::worker::Wanted;
use crate::worker::counters::{Counters, Kind, ListenerCounters, ServerCounters};
use std::net::SocketAddr;
use std::time::{Instant, SystemTime};

pub(super) fn config_status(state: &State, generation: &Generation) -> ConfigStatus {
    let load = state.last_load();
    ConfigStatus {
        file: generation.config.file.as_ref().map(|file| file.display().to_string()),
        sha256: hex::encode(generation.config.digest),
        since: moment(load.ok_at),
        last_reload_ok: load.ok,
        last_reload: (load.at != state.started_at).then(|| moment(load.at)),
    }
}

pub(super) fn listeners(generation: &Generation) -> Vec<ListenerStatus<'_>> {
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

pub(super) fn sites(generation: &Generation) -> Vec<SiteStatus<'_>> {
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

pub(super) fn backends(generation: &Generation) -> Vec<BackendStatus<'_>> {
    let server = |b: usize, s: usize, address: String| {
        let counters: Vec<&ServerCounters> = generation.counters.iter().filter_map(|c| c.server(b, s)).collect();
        let sum = |counter: fn(&ServerCounters) -> u64| counters.iter().map(|c| counter(c)).sum();
        let standing = generation.standings.get(b).and_then(|of| of.get(s));
        ServerStatus {
            address,
            up: is_up(counters.iter().copied()) && !standing.is_some_and(|standing| standing.is_down()),
            state: standing.map_or(Wanted::Ready, |standing| standing.wanted()).word(),
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

pub(super) fn workers(state: &State, generation: &Generation, now: Instant) -> Vec<WorkerStatus> {
    let ratios = state.busy_ratios(now);
    let connections = |counters: &Counters| counters.listeners.iter().map(|listener| listener.active.value()).sum();
    let each = generation.counters.iter().zip(ratios).enumerate();
    each.map(|(worker, (counters, ratio))| WorkerStatus {
        worker,
        connections: connections(counters),
        busy_ratio: (ratio * 1000.0).round() / 1000.0,
        busy_seconds_total: (counters.busy_micros.value() / 1000) as f64 / 1e3,
    })
    .collect()
}

pub(super) fn totals(state: &State, generation: &Generation, listeners: &[ListenerStatus<'_>]) -> Totals {
    let before_site = generation.counters.iter().flat_map(|c| &c.listeners).map(|listener| &listener.failures[..]);
    let with_site = generation.counters.iter().flat_map(|c| &c.sites).map(|site| &site.failures[..]);
    Totals {
        connections: listeners.iter().map(|listener| listener.connections).sum(),
        connections_total: listeners.iter().map(|listener| listener.connections_total).sum(),
        handshakes_total: listeners.iter().map(|listener| listener.handshakes_total).sum(),
        handshake_failures_total: failures(before_site) + failures(with_site),
        bytes_in_total: generation.counters.iter().map(|c| c.bytes_moved().0).sum(),
        bytes_out_total: generation.counters.iter().map(|c| c.bytes_moved().1).sum(),
        audit_dropped_total: state.audit_dropped(),
    }
}

/// Handshakes that ended well, by kind.
pub(super) fn handshakes(generation: &Generation) -> Handshakes {
    let listeners = || generation.counters.iter().flat_map(|counters| &counters.listeners);
    let of = |kind: Kind| {
        listeners()
            .flat_map(|listener| &listener.handshakes)
            .flat_map(|kinds| &kinds[kind as usize])
            .map(Counter::value)
            .sum()
    };
    Handshakes { full: of(Kind::Full), resumed: of(Kind::Resumed), hrr: of(Kind::Retried) }
}

/// Failures by reason, whether the site was known or not.
pub(super) fn refusals(generation: &Generation) -> Vec<RefusalStatus> {
    let mut refusals = Vec::new();
    for reason in Reason::ALL {
        let place = reason.index();
        let early = generation.counters.iter().flat_map(|counters| &counters.listeners);
        let late = generation.counters.iter().flat_map(|counters| &counters.sites);
        let total = early.map(|listener| listener.failures[place].value()).sum::<u64>()
            + late.map(|site| site.failures[place].value()).sum::<u64>();
        if total > 0 {
            refusals.push(RefusalStatus { reason: reason.code(), total });
        }
    }
    refusals.sort_by_key(|refusal| std::cmp::Reverse(refusal.total));
    refusals
}

/// Certificates and CRLs of ours and of clients, the soonest first.
pub(super) fn expiries(state: &State, generation: &Generation, wall: SystemTime) -> Vec<Expiry> {
    let facts = &generation.facts;
    let entry = |kind, name: &str, at| Expiry { kind, name: name.to_owned(), at };
    let mut expiries: Vec<Expiry> = Vec::new();
    expiries.extend(facts.server_certificates.iter().map(|own| entry("server", &own.sni, own.not_after)));
    expiries.extend(facts.anchors.iter().map(|anchor| entry("ca", &anchor.name, anchor.not_after)));
    expiries.extend(facts.crls.iter().map(|crl| entry("crl", &crl.issuer, crl.next_update)));
    let clients = state.clients.expiring(wall).into_iter().take(limits::STATUS_EXPIRIES_MAX);
    expiries.extend(clients.map(|client| Expiry { kind: "client", name: client.identity, at: client.not_after }));
    expiries.sort_by(|one, other| (one.at, one.kind, &one.name).cmp(&(other.at, other.kind, &other.name)));
    expiries.truncate(limits::STATUS_EXPIRIES_MAX);
    expiries
}

/// The clients with the most handshakes and bytes of late.
pub(super) fn identities(state: &State, wall: SystemTime) -> Vec<IdentityStatus> {
    let busiest = state.clients.busiest(wall).into_iter().take(limits::STATUS_IDENTITIES_MAX);
    busiest
        .map(|client| IdentityStatus {
            identity: client.identity,
            handshakes_total: client.handshakes,
            bytes_in_total: client.bytes_in,
            bytes_out_total: client.bytes_out,
            last_seen: moment(client.last_seen),
            expires: client.not_after,
        })
        .collect()
}
