use super::*;
use crate::control::fixture;
use crate::control::state::{Crl, Facts, ServerCertificate};
use crate::trust::{Leaf, Reason};
use crate::worker::{Counters, Sighting, Sightings};
use std::collections::HashMap;
use std::sync::Arc;

const NOW: u64 = 1_800_000_000;
const HOSTILE: &str = "<script>alert(1)</script>\" onload='x' &\u{202e}\u{1b}[2J";

fn wall() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(NOW)
}

/// A state in which every name is hostile.
fn state() -> State {
    let mut config = fixture::config();
    config.listeners[0].name = HOSTILE.into();
    config.backends[0].name = HOSTILE.into();
    config.file = Some(HOSTILE.into());
    let config = Arc::new(config);
    let counters = vec![Arc::new(Counters::for_config(&config))];
    counters[0].count_failure(0, Some(0), Reason::Expired);
    counters[0].count_failure(0, Some(0), Reason::Expired);
    counters[0].count_failure(0, None, Reason::NotTls);
    let mut generation = fixture::generation(config, counters);
    generation.facts = Facts {
        server_certificates: vec![ServerCertificate {
            sni: HOSTILE.into(),
            serial: "01".into(),
            not_after: NOW as i64 + 3 * 86_400,
        }],
        crls: vec![Crl { issuer: HOSTILE.into(), next_update: NOW as i64 - 3 * 86_400, entries: 1 }],
        ..Facts::default()
    };
    let state = State::new(generation, None);
    let leaf = Leaf {
        der: Vec::new(),
        subject: HOSTILE.into(),
        issuer: HOSTILE.into(),
        serial: "02".into(),
        not_before: 0,
        not_after: NOW as i64 + 86_400 * 5,
        sha256: [1; 32],
        spki_sha256: [1; 32],
        san: Vec::new(),
        cn: None,
    };
    let sighting = Sighting {
        identity: HOSTILE.into(),
        leaf: Arc::new(leaf),
        last: wall(),
        handshakes: 3,
        bytes_in: 5,
        bytes_out: 6,
    };
    state.clients.note(Sightings { clients: HashMap::from([([1; 32], sighting)]), overlooked: 0 });
    state
}

#[test]
fn the_page_escapes_every_name_whoever_chose_it() {
    let state = state();
    let html = Status::of(&state, &state.generation(), Instant::now(), wall()).to_html();
    assert!(!html.contains("<script"), "{html}");
    assert!(!html.contains("onload='"), "{html}");
    assert!(!html.contains(['\u{202e}', '\u{1b}']), "{html}");
    assert!(html.matches("&lt;script&gt;").count() >= 5, "listener, backend, certificate, CRL, client: {html}");
    let tags = |tag: &str| html.matches(tag).count();
    assert_eq!(tags("<table>"), tags("</table>"));
    assert_eq!(tags("<tr>"), tags("</tr>"));
    for outside in ["http://", "https://", "src=", "url(", "@import"] {
        assert!(!html.contains(outside), "{outside} in {html}");
    }
}

#[test]
fn refusals_are_counted_by_reason_and_what_runs_out_first_is_first() {
    let state = state();
    let generation = state.generation();
    let status = Status::of(&state, &generation, Instant::now(), wall());
    let json: serde_json::Value = serde_json::from_str(&status.to_json()).unwrap();
    assert_eq!(
        json["refusals"],
        serde_json::json!([{ "reason": "expired", "total": 2 }, { "reason": "not_tls", "total": 1 }])
    );
    let kinds: Vec<&str> =
        json["expiries"].as_array().unwrap().iter().map(|one| one["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["crl", "server", "client"]);
    assert_eq!(json["identities"][0]["handshakes_total"], 3);
    let text = status.in_text();
    assert!(text.contains("refused: 2 expired, 1 not_tls"), "{text}");
    assert!(text.contains("runs out 3 days ago") && text.contains("runs out in 3 days"), "{text}");
}

#[test]
fn times_are_told_in_the_unit_that_fits() {
    for (at, text) in [(90 * 60, "in 90 minutes"), (7200, "in 2 hours"), (172_800, "in 2 days"), (-60, "1 minutes ago")]
    {
        assert_eq!(in_days(NOW as i64 + at, NOW), text);
    }
}
