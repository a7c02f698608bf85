//! One page of metrics: a recorder of the `metrics` crate that lives for one scrape.

use metrics::{Key, KeyName, Label, Level, Metadata, Recorder};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusRecorder};

/// The recorder wants to know where a metric comes from; for us it is always here.
static METADATA: Metadata<'static> = Metadata::new("countersign", Level::INFO, None);

/// What each metric means, for its HELP line.
const HELP: &[(&str, &str)] = &[
    ("countersign_build_info", "Always 1; the label tells the version."),
    ("process_clock_time_seconds", "The clock of this host, so that expiry can be computed against it."),
    ("process_start_time_seconds", "When this process started."),
    ("countersign_config_last_reload_successful", "1 if the configuration was last loaded without fault, else 0."),
    ("countersign_config_last_reload_success_timestamp_seconds", "When a configuration last took effect."),
    ("countersign_trust_epoch_info", "Always 1; a digest of what decides about clients, and how often it was loaded."),
    ("countersign_ticket_key_age_seconds", "How long the key that seals tickets has been in use."),
    ("countersign_blocks", "Blocks made over the admin socket that are in force."),
    ("countersign_ready", "1 while /readyz answers 200."),
    ("countersign_audit_dropped_total", "Audit records that could not be written."),
    ("countersign_worker_busy_ratio", "Share of time a worker was busy since the scrape before, 0 to 1."),
    ("countersign_worker_turns_total", "Turns of a worker's loop."),
    ("countersign_task_panics_total", "Connections ended by a fault of ours."),
    (
        "countersign_accept_paused_total",
        "Times accepting paused: a limit was reached, or descriptors or memory ran out (shortage).",
    ),
    ("countersign_connections_total", "Connections accepted."),
    ("countersign_connections_active", "Connections open now."),
    ("countersign_connections_limit", "Connections a listener takes at once."),
    ("countersign_handshakes_in_flight", "Handshakes going on now."),
    ("countersign_handshakes_total", "Handshakes that ended well."),
    ("countersign_handshake_failures_total", "Connections refused or lost before they were established."),
    ("countersign_identity_limited_total", "Clients refused because they, or their network, had reached a limit."),
    ("countersign_resumption_declined_total", "Tickets not taken; a full handshake followed."),
    ("countersign_chain_cache_hits_total", "Client chains found already verified."),
    ("countersign_chain_cache_misses_total", "Client chains that had to be verified."),
    ("countersign_chain_cache_evictions_total", "Verified chains that gave way to others."),
    ("countersign_chain_cache_entries", "Verified chains kept now."),
    ("countersign_session_cache_lookups_total", "Always 0: sessions are in tickets, there is no cache of them."),
    ("countersign_session_cache_misses_total", "Always 0, as the lookups are."),
    ("countersign_client_certs_expiring", "Identities seen whose certificate in use runs out within this time."),
    (
        "countersign_client_cert_expires_timestamp_seconds",
        "When the certificate of an identity seen runs out; the 100 that do first.",
    ),
    ("countersign_identities_seen", "Identities let in whose certificate has not run out."),
    ("countersign_identities_overlooked_total", "Client certificates that were forgotten because there were too many."),
    ("process_cpu_seconds_total", "CPU time used, user and system."),
    ("process_resident_memory_bytes", "Memory in use."),
    ("process_max_fds", "Descriptors that may be open."),
    ("process_open_fds", "Descriptors open now."),
    ("countersign_worker_busy_seconds_total", "Time that a worker was busy."),
    ("countersign_bytes_total", "Decrypted bytes relayed: in from clients, out to them."),
    ("countersign_keyupdates_total", "Changes of keys on the kernel path: in by clients, out by us."),
    (
        "countersign_path_demotions_total",
        "Connections that stayed in user space though the kernel does TLS; `pipes`: whose bytes did for a while.",
    ),
    ("countersign_backend_up", "1 while connections are sent to a server, 0 while it counts as down."),
    ("countersign_backend_connections_active", "Connections to a server open now."),
    ("countersign_backend_connections_total", "Connections made to a server."),
    ("countersign_backend_connect_failures_total", "Connections to a server that could not be made."),
    ("countersign_server_cert_expires_timestamp_seconds", "When a server certificate of ours runs out."),
    ("countersign_ca_expires_timestamp_seconds", "When a trust anchor runs out."),
    ("countersign_crl_next_update_timestamp_seconds", "When a CRL runs out."),
    ("countersign_crl_entries", "Entries of a CRL."),
];

/// Counters of seconds: the recorder's own counters take whole numbers alone, so these are gauges until they are text.
const FRACTIONS: &[&str] = &["countersign_worker_busy_seconds_total", "process_cpu_seconds_total"];

/// A page in the making.
pub struct Sheet {
    recorder: PrometheusRecorder,
}

impl Default for Sheet {
    fn default() -> Self {
        let recorder = PrometheusBuilder::new().build_recorder();
        for (name, text) in HELP {
            let name = KeyName::from_const_str(name);
            // Counters, gauges and histograms share one table of descriptions.
            recorder.describe_gauge(name, None, (*text).into());
        }
        Sheet { recorder }
    }
}

impl Sheet {
    /// A value that only grows.
    pub fn counter(&self, name: &'static str, labels: &[(&'static str, &str)], value: u64) {
        self.recorder.register_counter(&key(name, labels), &METADATA).absolute(value);
    }

    /// A time that only grows.
    pub fn counter_seconds(&self, name: &'static str, labels: &[(&'static str, &str)], value: f64) {
        debug_assert!(FRACTIONS.contains(&name), "{name}");
        self.gauge(name, labels, value);
    }

    /// A value that goes up and down.
    pub fn gauge(&self, name: &'static str, labels: &[(&'static str, &str)], value: f64) {
        self.recorder.register_gauge(&key(name, labels), &METADATA).set(value);
    }

    /// The page as text, metrics and series in the order of their names: the same state gives the same text.
    pub fn render(&self) -> String {
        let text = self.recorder.handle().render();
        let mut blocks: Vec<Vec<&str>> = text.split("\n\n").map(|block| block.lines().collect()).collect();
        blocks.retain(|block| !block.is_empty());
        for block in &mut blocks {
            // `#` sorts before every name, and HELP before TYPE.
            block.sort_unstable();
        }
        blocks.sort_unstable_by(|one, other| one.last().cmp(&other.last()));
        let mut sorted = String::with_capacity(text.len() + 1);
        for line in blocks.into_iter().flatten() {
            match line.strip_prefix("# TYPE ").and_then(|line| line.strip_suffix(" gauge")) {
                Some(name) if FRACTIONS.contains(&name) => sorted.push_str(&format!("# TYPE {name} counter")),
                _ => sorted.push_str(line),
            }
            sorted.push('\n');
        }
        sorted
    }
}

fn key(name: &'static str, labels: &[(&'static str, &str)]) -> Key {
    let labels: Vec<Label> = labels.iter().map(|(name, value)| Label::new(*name, (*value).to_owned())).collect();
    Key::from_parts(name, labels)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_the_same_whatever_order_it_was_filled_in() {
        let (one, other) = (Sheet::default(), Sheet::default());
        for i in 0..20 {
            one.counter("countersign_connections_total", &[("listener", &format!("l{i}"))], i);
            other.counter("countersign_connections_total", &[("listener", &format!("l{}", 19 - i))], 19 - i);
        }
        one.gauge("countersign_ready", &[], 1.0);
        other.gauge("countersign_ready", &[], 1.0);
        assert_eq!(one.render(), other.render());
        assert!(one.render().starts_with("# HELP countersign_connections_total Connections accepted.\n# TYPE "));
    }

    #[test]
    fn a_label_value_from_the_configuration_cannot_forge_a_line() {
        let sheet = Sheet::default();
        sheet.gauge("countersign_ready", &[("listener", "a\"} 1\n\nforged 1\nb\\")], 1.0);
        let text = sheet.render();
        assert_eq!(text.lines().filter(|line| !line.starts_with('#')).count(), 1, "{text}");
        assert!(text.contains(r#"listener="a\"} 1\n\nforged 1\nb\\""#), "{text}");
    }
}
