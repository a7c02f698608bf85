//! Counters as Prometheus text (conventions.md section 7). Made anew for each scrape, so that nothing is kept between
//! scrapes and no series outlives what it counts. Label values come from the configuration and from our own tables;
//! of what clients send only the names of verified certificates are labels, for [`limits::CLIENTS_EXPORTED_MAX`] of them.

mod histogram;
mod sheet;
mod usage;

use super::state::{Facts, Generation, State, VERSION};
use crate::config::{Config, limits};
use crate::relay::Limit;
use crate::stats::Counter;
use crate::sys;
use crate::tls::{Declined, Stay};
use crate::trust::Reason;
use crate::wire::audit::Path;
use crate::worker::counters::{Counters, GROUPS, KINDS, ListenerCounters, ServerCounters, VERSIONS};
use crate::worker::{Pause, Standings};
use rustls_pki_types::UnixTime;
use sheet::Sheet;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// The media type of the text.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Label and days of `countersign_client_certs_expiring`.
const WITHIN: [(&str, i64); 5] = [("1d", 1), ("7d", 7), ("14d", 14), ("30d", 30), ("90d", 90)];

/// All that is counted, at this moment.
pub fn render(state: &State, now: Instant, wall: SystemTime) -> String {
    let sheet = Sheet::default();
    let Generation { config, counters, connection_limits, standings, facts, ticket_keys, .. } = &*state.generation();
    process(&sheet, state, counters, (now, wall));
    for (index, listener) in config.listeners.iter().enumerate() {
        let each = || counters.iter().filter_map(move |counters| counters.listeners.get(index).map(AsRef::as_ref));
        connections(&sheet, &listener.name, connection_limits.get(index), &each);
        handshakes(&sheet, &listener.name, &each);
        if let Some(keys) = ticket_keys {
            let now = UnixTime::since_unix_epoch(wall.duration_since(UNIX_EPOCH).unwrap_or_default());
            let labels = [("listener", &*listener.name)];
            sheet.gauge("countersign_ticket_key_age_seconds", &labels, keys.age(now).as_secs_f64());
        }
    }
    failures(&sheet, config, counters);
    resumption(&sheet, counters);
    traffic(&sheet, counters);
    backends(&sheet, config, counters, standings);
    expiry(&sheet, facts);
    clients(&sheet, state, wall);
    own_process(&sheet);
    let mut text = sheet.render();
    histogram::handshakes(counters, &mut text);
    text
}

/// The sum of one counter over all workers.
fn sum<'a, T: 'a>(of: impl Iterator<Item = &'a T>, counter: impl Fn(&'a T) -> &'a Counter) -> u64 {
    of.map(|counters| counter(counters).value()).sum()
}

/// Seconds since the Unix epoch.
fn seconds(wall: SystemTime) -> f64 {
    wall.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}

fn process(sheet: &Sheet, state: &State, counters: &[Arc<Counters>], (now, wall): (Instant, SystemTime)) {
    sheet.gauge("countersign_build_info", &[("version", VERSION)], 1.0);
    sheet.gauge("process_clock_time_seconds", &[], seconds(wall));
    sheet.gauge("process_start_time_seconds", &[], seconds(state.started_at));
    let load = state.last_load();
    sheet.gauge("countersign_config_last_reload_successful", &[], f64::from(u8::from(load.ok)));
    sheet.gauge("countersign_config_last_reload_success_timestamp_seconds", &[], seconds(load.ok_at));
    sheet.gauge("countersign_blocks", &[], state.blocks() as f64);
    sheet.gauge("countersign_ready", &[], f64::from(u8::from(state.unready().is_none())));
    sheet.counter("countersign_audit_dropped_total", &[], state.audit_dropped());
    let ratios = state.busy_ratios(now);
    for (worker, (counters, ratio)) in counters.iter().zip(ratios).enumerate() {
        let worker = worker.to_string();
        let labels = [("worker", worker.as_str())];
        sheet.gauge("countersign_worker_busy_ratio", &labels, ratio);
        sheet.counter("countersign_worker_turns_total", &labels, counters.turns.value());
        let busy = counters.busy_micros.value() as f64 / 1e6;
        sheet.counter_seconds("countersign_worker_busy_seconds_total", &labels, busy);
        sheet.counter("countersign_task_panics_total", &labels, counters.task_panics.value());
        for (pause, count) in Pause::ALL.iter().zip(&counters.accept_paused) {
            let labels = [labels[0], ("reason", pause.code())];
            sheet.counter("countersign_accept_paused_total", &labels, count.value());
        }
    }
}

fn connections<'a, I: Iterator<Item = &'a ListenerCounters>>(
    sheet: &Sheet,
    name: &str,
    limit: Option<&u32>,
    each: &dyn Fn() -> I,
) {
    let labels = [("listener", name)];
    sheet.counter("countersign_connections_total", &labels, sum(each(), |c| &c.connections));
    sheet.gauge("countersign_connections_active", &labels, sum(each(), |c| &c.active) as f64);
    sheet.gauge("countersign_handshakes_in_flight", &labels, sum(each(), |c| &c.handshakes_in_flight) as f64);
    if let Some(limit) = limit {
        sheet.gauge("countersign_connections_limit", &labels, f64::from(*limit));
    }
}

fn handshakes<'a, I: Iterator<Item = &'a ListenerCounters>>(sheet: &Sheet, name: &str, each: &dyn Fn() -> I) {
    for (v, version) in VERSIONS.iter().enumerate() {
        for (k, kind) in KINDS.iter().enumerate() {
            for (g, group) in GROUPS.iter().enumerate() {
                let value = sum(each(), |c| &c.handshakes[v][k][g]);
                // Most of these never happen; what did not happen is left out.
                if value > 0 {
                    let labels = [("listener", name), ("version", version), ("group", group), ("kind", kind)];
                    sheet.counter("countersign_handshakes_total", &labels, value);
                }
            }
        }
    }
}

fn failures(sheet: &Sheet, config: &Config, counters: &[Arc<Counters>]) {
    let zeros = config.sites.len() + config.listeners.len() <= limits::ZERO_SERIES_MAX;
    let put = |listener: &str, site: &str, reason: Reason, value: u64| {
        if value > 0 || (zeros && reason != Reason::Ok) {
            let labels = [("listener", listener), ("site", site), ("reason", reason.code())];
            sheet.counter("countersign_handshake_failures_total", &labels, value);
        }
    };
    for reason in Reason::ALL {
        for (index, listener) in config.listeners.iter().enumerate() {
            let each = counters.iter().filter_map(|counters| counters.listeners.get(index));
            put(&listener.name, "", reason, sum(each, |c| &c.failures[reason.index()]));
        }
        for (index, site) in config.sites.iter().enumerate() {
            let each = counters.iter().filter_map(|counters| counters.sites.get(index));
            let listener = config.listeners.get(site.listener).map_or("", |listener| &listener.name);
            put(listener, &site.name, reason, sum(each, |c| &c.failures[reason.index()]));
        }
    }
}

fn resumption(sheet: &Sheet, counters: &[Arc<Counters>]) {
    let each = || counters.iter().map(Arc::as_ref);
    for (index, declined) in Declined::ALL.iter().enumerate() {
        let value = sum(each(), |c: &Counters| &c.resumption_declined[index]);
        sheet.counter("countersign_resumption_declined_total", &[("reason", declined.code())], value);
    }
    for (index, limit) in Limit::ALL.iter().enumerate() {
        let value = sum(each(), |c: &Counters| &c.limited[index]);
        sheet.counter("countersign_identity_limited_total", &[("limit", limit.code())], value);
    }
    let caches = || each().map(|counters| counters.chain_cache.as_ref());
    sheet.counter("countersign_chain_cache_hits_total", &[], sum(caches(), |c| &c.hits));
    sheet.counter("countersign_chain_cache_misses_total", &[], sum(caches(), |c| &c.misses));
    sheet.counter("countersign_chain_cache_evictions_total", &[], sum(caches(), |c| &c.evictions));
    sheet.gauge("countersign_chain_cache_entries", &[], sum(caches(), |c| &c.entries) as f64);
    // Sessions are in tickets alone (dangers: a store of sessions passes by every check of a ticket).
    sheet.counter("countersign_session_cache_lookups_total", &[], 0);
    sheet.counter("countersign_session_cache_misses_total", &[], 0);
}

fn traffic(sheet: &Sheet, counters: &[Arc<Counters>]) {
    let each = || counters.iter().map(Arc::as_ref);
    for (name, path) in [("user", Path::User), ("ktls", Path::Ktls), ("splice", Path::Splice)] {
        let inward = sum(each(), |c: &Counters| c.bytes_in_by(path));
        let outward = sum(each(), |c: &Counters| c.bytes_out_by(path));
        sheet.counter("countersign_bytes_total", &[("direction", "in"), ("path", name)], inward);
        sheet.counter("countersign_bytes_total", &[("direction", "out"), ("path", name)], outward);
    }
    let (inward, outward) =
        (sum(each(), |c: &Counters| &c.kernel.key_updates_in), sum(each(), |c: &Counters| &c.kernel.key_updates_out));
    sheet.counter("countersign_keyupdates_total", &[("direction", "in")], inward);
    sheet.counter("countersign_keyupdates_total", &[("direction", "out")], outward);
    for (index, why) in Stay::ALL.iter().enumerate() {
        let value = sum(each(), |c: &Counters| &c.kernel.stayed[index]);
        sheet.counter("countersign_path_demotions_total", &[("reason", why.code())], value);
    }
}

fn backends(sheet: &Sheet, config: &Config, counters: &[Arc<Counters>], standings: &Standings) {
    for (b, backend) in config.backends.iter().enumerate() {
        for (s, server) in backend.servers.iter().enumerate() {
            let each = || counters.iter().filter_map(move |counters| counters.server(b, s));
            let server = server.to_string();
            let labels = [("backend", &*backend.name), ("server", server.as_str())];
            let takes = standings.get(b).and_then(|of| of.get(s)).is_none_or(|standing| standing.takes_connections());
            let up = takes && is_up(each());
            sheet.gauge("countersign_backend_up", &labels, f64::from(u8::from(up)));
            sheet.gauge("countersign_backend_connections_active", &labels, sum(each(), |c| &c.active) as f64);
            sheet.counter("countersign_backend_connections_total", &labels, sum(each(), |c| &c.connections));
            let failed = sum(each(), |c| &c.connect_failures);
            sheet.counter("countersign_backend_connect_failures_total", &labels, failed);
        }
    }
}

/// A server is up while any worker holds it to be.
pub fn is_up<'a>(mut each: impl Iterator<Item = &'a ServerCounters>) -> bool {
    each.any(|server| server.down.value() == 0)
}

fn expiry(sheet: &Sheet, facts: &Facts) {
    let (policies, epoch) = (hex::encode(facts.policies), facts.epoch.to_string());
    sheet.gauge("countersign_trust_epoch_info", &[("sha256", &policies), ("epoch", &epoch)], 1.0);
    for certificate in &facts.server_certificates {
        let labels = [("sni", certificate.sni.as_str()), ("serial", certificate.serial.as_str())];
        sheet.gauge("countersign_server_cert_expires_timestamp_seconds", &labels, certificate.not_after as f64);
    }
    // The same name may stand for several keys and files: the earliest end is the one that matters.
    for (issuer, not_after) in earliest(facts.anchors.iter().map(|anchor| (&anchor.name, anchor.not_after))) {
        sheet.gauge("countersign_ca_expires_timestamp_seconds", &[("issuer", issuer)], not_after as f64);
    }
    let updates = facts.crls.iter().map(|crl| (&crl.issuer, crl.next_update));
    for (issuer, next_update) in earliest(updates) {
        sheet.gauge("countersign_crl_next_update_timestamp_seconds", &[("issuer", issuer)], next_update as f64);
    }
    let mut entries: BTreeMap<&str, u64> = BTreeMap::new();
    for crl in &facts.crls {
        *entries.entry(&crl.issuer).or_default() += crl.entries;
    }
    for (issuer, entries) in entries {
        sheet.gauge("countersign_crl_entries", &[("issuer", issuer)], entries as f64);
    }
}

/// How many identities run out within which time, and those that do first.
fn clients(sheet: &Sheet, state: &State, wall: SystemTime) {
    let expiring = state.clients.expiring(wall);
    let now = super::clients::seconds(wall);
    for (within, days) in WITHIN {
        let number = expiring.iter().take_while(|client| client.not_after <= now + days * 24 * 3600).count();
        sheet.gauge("countersign_client_certs_expiring", &[("within", within)], number as f64);
    }
    for client in expiring.iter().take(limits::CLIENTS_EXPORTED_MAX) {
        let labels = [("identity", client.identity.as_str()), ("issuer", client.issuer.as_str())];
        sheet.gauge("countersign_client_cert_expires_timestamp_seconds", &labels, client.not_after as f64);
    }
    sheet.gauge("countersign_identities_seen", &[], expiring.len() as f64);
    sheet.counter("countersign_identities_overlooked_total", &[], state.clients.overlooked());
}

/// What the system says of this process; left out where it is hidden.
fn own_process(sheet: &Sheet) {
    let Some(usage) = usage::look() else { return };
    sheet.counter_seconds("process_cpu_seconds_total", &[], usage.cpu_seconds);
    sheet.gauge("process_resident_memory_bytes", &[], usage.resident_bytes as f64);
    sheet.gauge("process_max_fds", &[], sys::limits::descriptor_limit() as f64);
    if let Some(open) = usage.descriptors {
        sheet.gauge("process_open_fds", &[], open as f64);
    }
}

/// The smallest time of each name.
fn earliest<'a>(times: impl Iterator<Item = (&'a String, i64)>) -> BTreeMap<&'a str, i64> {
    let mut first: BTreeMap<&str, i64> = BTreeMap::new();
    for (name, time) in times {
        first.entry(name).and_modify(|known| *known = time.min(*known)).or_insert(time);
    }
    first
}

#[cfg(test)]
mod tests;
