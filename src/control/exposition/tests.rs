use super::*;
use crate::control::fixture;
use crate::control::readiness::Phase;
use crate::control::state::{Anchor, Crl, ServerCertificate};
use crate::relay::Took;
use crate::worker::counters::Kind;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

const TOOK: Took = Took { wall: Duration::from_micros(300), cpu: Duration::from_micros(200) };

/// Every series of the text, with its value; checks the form of each line on the way.
fn parse(text: &str) -> BTreeMap<String, f64> {
    let mut series = BTreeMap::new();
    let mut typed = BTreeSet::new();
    for line in text.lines() {
        if let Some(comment) = line.strip_prefix("# ") {
            if let Some(name) = comment.strip_prefix("TYPE ") {
                assert!(typed.insert(name.split(' ').next().unwrap().to_owned()), "{name} typed twice");
            }
            continue;
        }
        let (name, value) = line.rsplit_once(' ').expect(line);
        let metric = name.split('{').next().unwrap();
        let family = ["_bucket", "_sum", "_count"].iter().find_map(|suffix| metric.strip_suffix(suffix));
        assert!(typed.contains(metric) || family.is_some_and(|family| typed.contains(family)), "{metric} has no type");
        assert!(series.insert(name.to_owned(), value.parse().expect(line)).is_none(), "{name} twice");
    }
    series
}

fn state() -> State {
    let config = Arc::new(fixture::config());
    let counters = (0..2).map(|_| Arc::new(Counters::for_config(&config))).collect();
    let mut generation = fixture::generation(config, counters);
    generation.connection_limits = vec![1000, 2000];
    State::new(generation, None)
}

fn rendered(state: &State) -> BTreeMap<String, f64> {
    parse(&render(state, Instant::now(), UNIX_EPOCH + std::time::Duration::from_secs(1_800_000_000)))
}

#[test]
fn counters_of_all_workers_are_added_up_by_listener() {
    let state = state();
    state.generation().counters[0].listeners[0].connections.add(5);
    state.generation().counters[1].listeners[0].connections.add(7);
    state.generation().counters[1].listeners[1].active.add(3);
    let series = rendered(&state);
    assert_eq!(series["countersign_connections_total{listener=\"public\"}"], 12.0);
    assert_eq!(series["countersign_connections_total{listener=\"partners\"}"], 0.0);
    assert_eq!(series["countersign_connections_active{listener=\"partners\"}"], 3.0);
    assert_eq!(series["countersign_connections_limit{listener=\"public\"}"], 1000.0);
}

#[test]
fn handshakes_carry_listener_version_group_and_kind() {
    let state = state();
    state.generation().counters[0].count_handshake(0, "1.3", Kind::Full, Some("X25519"), TOOK);
    state.generation().counters[1].count_handshake(0, "1.3", Kind::Full, Some("X25519"), TOOK);
    state.generation().counters[1].count_handshake(1, "1.2", Kind::Resumed, None, TOOK);
    let series = rendered(&state);
    let name = |listener, version, group, kind| {
        format!(
            "countersign_handshakes_total{{listener=\"{listener}\",version=\"{version}\",group=\"{group}\",kind=\"{kind}\"}}"
        )
    };
    assert_eq!(series[&name("public", "1.3", "X25519", "full")], 2.0);
    assert_eq!(series[&name("partners", "1.2", "none", "resumed")], 1.0);
    assert_eq!(series["countersign_handshake_seconds_count{kind=\"full\"}"], 2.0);
}

#[test]
fn failures_carry_their_site_where_it_is_known_and_are_counted_once() {
    let state = state();
    state.generation().counters[0].count_failure(0, Some(0), Reason::Revoked);
    state.generation().counters[0].count_failure(0, None, Reason::PeerAlert(48));
    let series = rendered(&state);
    let name = |site, reason| {
        format!("countersign_handshake_failures_total{{listener=\"public\",site=\"{site}\",reason=\"{reason}\"}}")
    };
    assert_eq!(series[&name("api", "revoked")], 1.0);
    assert_eq!(series[&name("", "revoked")], 0.0);
    assert_eq!(series[&name("", "peer_alert")], 1.0);
    assert_eq!(series[&name("api", "expired")], 0.0, "alerts need the zero before the first failure");
}

#[test]
fn series_are_bounded_whatever_clients_do() {
    let state = state();
    let quiet = rendered(&state).len();
    for alert in 0..=255 {
        state.generation().counters[0].count_failure(0, Some(1), Reason::PeerAlert(alert));
        let group = format!("group{alert}");
        state.generation().counters[0].count_handshake(0, "1.3", Kind::Full, Some(&group), TOOK);
    }
    assert_eq!(rendered(&state).len(), quiet + 1, "one series for all unforeseen groups, none for alerts");
}

#[test]
fn with_many_sites_failures_that_never_happened_are_left_out() {
    let mut config = fixture::config();
    config.sites = (0..1000).map(|_| config.sites[0].clone()).collect();
    for (i, site) in config.sites.iter_mut().enumerate() {
        site.name = format!("site{i}").into();
    }
    let counters = vec![Arc::new(Counters::for_config(&config))];
    counters[0].count_failure(0, Some(999), Reason::NoCert);
    let state = State::new(fixture::generation(Arc::new(config), counters), None);
    let failures =
        rendered(&state).into_keys().filter(|name| name.contains("handshake_failures_total")).collect::<Vec<_>>();
    let expected = "countersign_handshake_failures_total{listener=\"public\",site=\"site999\",reason=\"no_cert\"}";
    assert_eq!(failures, [expected]);
}

#[test]
fn a_server_is_down_only_when_every_worker_says_so() {
    let state = state();
    let name = "countersign_backend_up{backend=\"ledger\",server=\"unix:/run/ledger.sock\"}";
    assert_eq!(rendered(&state)[name], 1.0);
    state.generation().counters[0].backends[0][1].down.increment();
    assert_eq!(rendered(&state)[name], 1.0);
    state.generation().counters[1].backends[0][1].down.increment();
    assert_eq!(rendered(&state)[name], 0.0);
}

#[test]
fn expiry_is_told_in_unix_seconds_and_the_earliest_end_of_a_name_wins() {
    let anchor = |not_after| Anchor { name: "CN=Root, \"quoted\"".into(), not_after };
    let crl = |next_update, entries| Crl { issuer: "CN=Root".into(), next_update, entries };
    let facts = Facts {
        epoch: 7,
        policies: [0xcd; 32],
        server_certificates: vec![ServerCertificate { sni: "api.example".into(), serial: "01".into(), not_after: 99 }],
        anchors: vec![anchor(2_000_000_000), anchor(1_900_000_000)],
        crls: vec![crl(1_800_000_100, 3), crl(1_800_000_200, 4)],
    };
    let mut generation = fixture::generation(Arc::new(fixture::config()), Vec::new());
    generation.facts = facts;
    let state = State::new(generation, None);
    let series = rendered(&state);
    assert_eq!(series["countersign_server_cert_expires_timestamp_seconds{sni=\"api.example\",serial=\"01\"}"], 99.0);
    assert_eq!(series[r#"countersign_ca_expires_timestamp_seconds{issuer="CN=Root, \"quoted\""}"#], 1_900_000_000.0);
    assert_eq!(series["countersign_crl_next_update_timestamp_seconds{issuer=\"CN=Root\"}"], 1_800_000_100.0);
    assert_eq!(series["countersign_crl_entries{issuer=\"CN=Root\"}"], 7.0);
    let trust = format!("countersign_trust_epoch_info{{sha256=\"{}\",epoch=\"7\"}}", "cd".repeat(32));
    assert_eq!(series[&trust], 1.0);
    assert_eq!(series["process_clock_time_seconds"], 1_800_000_000.0);
}

#[test]
fn ready_and_build_are_told() {
    let state = state();
    assert_eq!(rendered(&state)["countersign_ready"], 0.0);
    state.readiness.advance(Phase::Ready);
    let series = rendered(&state);
    assert_eq!(series["countersign_ready"], 1.0);
    assert_eq!(series[&format!("countersign_build_info{{version=\"{VERSION}\"}}")], 1.0);
    assert_eq!(series["countersign_config_last_reload_successful"], 1.0);
}

#[test]
fn every_metric_has_a_help_line_and_every_counter_ends_in_total() {
    let state = state();
    let text = render(&state, Instant::now(), SystemTime::now());
    for line in text.lines().filter_map(|line| line.strip_prefix("# TYPE ")) {
        let (name, kind) = line.split_once(' ').unwrap();
        assert!(text.contains(&format!("# HELP {name} ")), "{name}");
        assert_eq!(kind == "counter", name.ends_with("_total"), "{line}");
    }
}
