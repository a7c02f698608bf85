//! The line's shape, and that nothing a client sends can forge, break or lengthen it.

use super::*;
use crate::config::limits;
use proptest::prelude::*;
use serde_json::Value;
use std::time::{Duration, UNIX_EPOCH};

const KEYS: [&str; 26] = [
    "ts",
    "conn_id",
    "event",
    "listener",
    "site",
    "client",
    "sni",
    "alpn",
    "tls",
    "cert",
    "identity",
    "rule",
    "decision",
    "reason",
    "reason_detail",
    "verify",
    "epoch",
    "our_alert",
    "peer_alert",
    "handshake_ms",
    "backend",
    "path",
    "bytes_in",
    "bytes_out",
    "close_reason",
    "duration_ms",
];

fn leaf() -> Leaf {
    Leaf {
        der: vec![0x30, 0],
        subject: "CN=acme-payments,O=Acme".into(),
        issuer: "CN=Partner CA,C=GB".into(),
        serial: "03a5b1".into(),
        not_before: 1_695_335_001,
        not_after: 1_750_182_201,
        sha256: hex::decode("bfaf1f7e070f9fa8dd62905f158da73f84a1136624fbafcc9393c8f7287a69eb")
            .unwrap()
            .try_into()
            .unwrap(),
        spki_sha256: [0; 32],
        san: vec!["uri:spiffe://bank.example/acme".into(), "dns:acme.example".into()],
        cn: Some("acme-payments".into()),
    }
}

fn closed() -> ConnectionRecord {
    ConnectionRecord {
        ts: UNIX_EPOCH + Duration::new(1_696_439_115, 514_108_999),
        conn_id: ConnectionId::new(1_696_439_115_514, [0xff; 10]),
        event: Event::Closed,
        listener: "public".into(),
        site: Some("payments".into()),
        client: "[2001:db8::7]:51234".parse().unwrap(),
        sni: Some("api.bank.example".into()),
        alpn: Some(b"http/1.1".to_vec()),
        tls: Some(TlsFacts {
            version: "1.3",
            cipher: "TLS_AES_128_GCM_SHA256",
            group: Some("X25519MLKEM768"),
            resumed: false,
        }),
        leaf: Some(Arc::new(leaf())),
        chain_len: 2,
        proven: true,
        identity: Some("name:acme".into()),
        rule: Some("{ name = \"acme\" }".into()),
        reason: Reason::Ok,
        reason_detail: String::new(),
        verify: 0,
        epoch: 7,
        our_alert: None,
        peer_alert: None,
        handshake_micros: 4_036,
        backend: Some("ledger/127.0.0.1:9000".into()),
        path: Path::User,
        bytes_in: 10,
        bytes_out: 20,
        close_reason: Some(CloseReason::Done),
        duration_micros: 1_500_000,
    }
}

/// Nothing is known but that somebody came.
fn refused_early() -> ConnectionRecord {
    ConnectionRecord {
        event: Event::Refused,
        site: None,
        sni: None,
        alpn: None,
        tls: None,
        leaf: None,
        chain_len: 0,
        proven: false,
        identity: None,
        rule: None,
        reason: Reason::PeerAlert(48),
        backend: None,
        close_reason: None,
        our_alert: Some(116),
        peer_alert: Some(48),
        ..closed()
    }
}

fn text_of(record: Record) -> String {
    let mut out = Vec::new();
    write_line(&record, &mut out);
    String::from_utf8(out).expect("UTF-8")
}

/// The one line's object.
fn parsed(record: Record) -> Value {
    let text = text_of(record);
    let line = text.strip_suffix('\n').expect("ends with a newline");
    assert!(!line.contains(['\n', '\r']), "{line:?}");
    serde_json::from_str(line).expect("JSON")
}

fn connection(record: ConnectionRecord) -> Value {
    parsed(Record::Connection(Box::new(record)))
}

#[test]
fn a_closed_connection_is_told_in_full() {
    let expected = serde_json::json!({
        "ts": "2023-10-04T17:05:15.514108Z",
        "conn_id": "018afba69efa7fffbfffffffffffffff",
        "event": "closed",
        "listener": "public",
        "site": "payments",
        "client": "[2001:db8::7]:51234",
        "sni": "api.bank.example",
        "alpn": "http/1.1",
        "tls": {"version": "1.3", "cipher": "TLS_AES_128_GCM_SHA256", "group": "X25519MLKEM768", "resumed": false},
        "cert": {
            "subject": "CN=acme-payments,O=Acme",
            "issuer": "CN=Partner CA,C=GB",
            "serial": "03a5b1",
            "not_before": "2023-09-21T22:23:21Z",
            "not_after": "2025-06-17T17:43:21Z",
            "sha256": "bfaf1f7e070f9fa8dd62905f158da73f84a1136624fbafcc9393c8f7287a69eb",
            "x5t_s256": "v68ffgcPn6jdYpBfFY2nP4ShE2Yk-6_Mk5PI9yh6aes",
            "san": ["uri:spiffe://bank.example/acme", "dns:acme.example"],
            "chain_len": 2,
            "proven": true,
        },
        "identity": "name:acme",
        "rule": "{ name = \"acme\" }",
        "decision": "admit",
        "reason": "ok",
        "reason_detail": null,
        "verify": 0,
        "epoch": 7,
        "our_alert": null,
        "peer_alert": null,
        "handshake_ms": 4.036,
        "backend": "ledger/127.0.0.1:9000",
        "path": "user",
        "bytes_in": 10,
        "bytes_out": 20,
        "close_reason": "done",
        "duration_ms": 1500.0,
    });
    assert_eq!(connection(closed()), expected);
}

#[test]
fn fields_stand_in_the_contracts_order() {
    let text = text_of(Record::Connection(Box::new(closed())));
    let places: Vec<usize> = KEYS.iter().map(|key| text.find(&format!("\"{key}\":")).expect(key)).collect();
    assert!(places.is_sorted(), "{text}");
}

#[test]
fn every_key_is_there_even_where_nothing_is_known() {
    let line = connection(refused_early());
    let object = line.as_object().unwrap();
    assert_eq!(object.len(), KEYS.len());
    assert!(KEYS.iter().all(|key| object.contains_key(*key)));
    for key in ["site", "sni", "alpn", "tls", "cert", "identity", "rule", "reason_detail", "backend", "close_reason"] {
        assert_eq!(line[key], Value::Null, "{key}");
    }
    assert_eq!((&line["event"], &line["decision"]), (&"refused".into(), &"refuse".into()));
    assert_eq!((&line["reason"], &line["our_alert"]), (&"peer_alert:48".into(), &116.into()));
}

#[test]
fn the_process_tells_of_its_start_reload_administration_and_stop() {
    let ts = UNIX_EPOCH;
    let digest = [0xab; 32];
    let hex = "ab".repeat(32);
    let start = parsed(Record::Start { ts, version: "0.1.0", digest, listeners: vec!["public".into()], workers: 4 });
    assert_eq!(
        start,
        serde_json::json!({"ts": "1970-01-01T00:00:00.000000Z", "event": "start", "version": "0.1.0",
            "digest": hex, "listeners": ["public"], "workers": 4})
    );
    let stop = parsed(Record::Stop { ts, digest, drained: false, connections_cut: 3 });
    assert_eq!((&stop["event"], &stop["connections_cut"]), (&"stop".into(), &3.into()));
    let reload = parsed(Record::Reload { ts, digest, ok: false, detail: "line 3\nforged".into() });
    assert_eq!((&reload["event"], &reload["detail"]), (&"reload".into(), &"line 3\nforged".into()));
    let command = "block --serial 03".to_owned();
    let admin = parsed(Record::Admin { ts, uid: 0, pid: 42, command, ok: true, result: String::new() });
    assert_eq!((&admin["event"], &admin["uid"], &admin["result"]), (&"admin".into(), &0.into(), &Value::Null));
}

#[test]
fn moments_that_rfc_3339_cannot_say_are_null_and_old_ones_are_not() {
    let with = |not_before, not_after| {
        let leaf = Leaf { not_before, not_after, ..leaf() };
        connection(ConnectionRecord { leaf: Some(Arc::new(leaf)), ..closed() })["cert"].clone()
    };
    let cert = with(-1, 253_402_300_799);
    assert_eq!(
        (&cert["not_before"], &cert["not_after"]),
        (&"1969-12-31T23:59:59Z".into(), &"9999-12-31T23:59:59Z".into())
    );
    let cert = with(i64::MIN, 253_402_300_800);
    assert_eq!((&cert["not_before"], &cert["not_after"]), (&Value::Null, &Value::Null));
    let before = ConnectionRecord { ts: UNIX_EPOCH - Duration::from_nanos(1_500), ..closed() };
    assert_eq!(connection(before)["ts"], "1969-12-31T23:59:59.999998Z");
}

#[test]
fn durations_have_at_most_three_decimals() {
    for micros in [0, 1, 999, 1_000, 4_036, 86_400_000_001, 999_999_999_999_999, u64::MAX] {
        let text = text_of(Record::Connection(Box::new(ConnectionRecord { duration_micros: micros, ..closed() })));
        let number = text.split("\"duration_ms\":").nth(1).unwrap().trim_end_matches("}\n");
        assert!(number.split('.').nth(1).is_none_or(|decimals| decimals.len() <= 3), "{number}");
        assert!(!number.contains(['e', 'E']), "{number}");
    }
}

#[test]
fn characters_that_end_lines_or_turn_terminals_are_escaped() {
    let nasty = "a\u{0}\u{1b}[2J\r\n\u{7f}\u{85}\u{9b}\u{2028}\u{2029}\u{202e}\u{2066}\u{feff}b";
    let text = text_of(Record::Connection(Box::new(ConnectionRecord { sni: Some(nasty.into()), ..closed() })));
    let line = text.strip_suffix('\n').unwrap();
    assert!(line.is_ascii() && !line.contains(|c: char| c.is_control()), "{line:?}");
    assert_eq!(serde_json::from_str::<Value>(line).unwrap()["sni"], nasty, "escaped, not lost");
}

#[test]
fn an_alpn_that_is_no_text_is_shown_by_its_bytes() {
    let with = |alpn: &[u8]| connection(ConnectionRecord { alpn: Some(alpn.to_vec()), ..closed() })["alpn"].clone();
    assert_eq!(with(b"h2\xff\xfe\"\n"), "h2\\xff\\xfe\"\n");
    assert_eq!(with("é".as_bytes()), "é");
}

#[test]
fn long_text_is_cut_with_an_ellipsis_and_text_at_the_bound_is_not() {
    let with =
        |len| connection(ConnectionRecord { reason_detail: "x".repeat(len), ..closed() })["reason_detail"].clone();
    let max = limits::AUDIT_TEXT_BYTES_MAX;
    assert_eq!(with(max), "x".repeat(max));
    assert_eq!(with(max + 1), "x".repeat(max) + "…");
}

#[test]
#[cfg_attr(miri, ignore = "takes Miri minutes")]
fn a_long_list_of_names_ends_with_an_ellipsis() {
    let san: Vec<String> = (0..10_000).map(|i| format!("dns:host-{i}.example")).collect();
    let leaf = Leaf { san: san.clone(), ..leaf() };
    let line = connection(ConnectionRecord { leaf: Some(Arc::new(leaf)), ..closed() });
    let shown = line["cert"]["san"].as_array().unwrap();
    assert_eq!(shown.last().unwrap(), "…");
    assert!(shown.len() > 100 && shown[..shown.len() - 1].iter().zip(&san).all(|(shown, name)| shown == name));
}

#[test]
#[cfg_attr(miri, ignore = "takes Miri minutes")]
fn the_worst_line_stays_within_the_bound() {
    for c in ["\u{0}", "\u{2028}", "\"", "x", "é", "\u{10ffff}"] {
        let long = c.repeat(20_000);
        let leaf = Leaf {
            subject: long.clone(),
            issuer: long.clone(),
            serial: long.clone(),
            san: vec![c.repeat(100); 1000],
            ..leaf()
        };
        let shared: Arc<str> = long.as_str().into();
        let record = ConnectionRecord {
            listener: shared.clone(),
            site: Some(shared.clone()),
            sni: Some(long.clone()),
            alpn: Some(vec![0xff; 20_000]),
            leaf: Some(Arc::new(leaf)),
            identity: Some(shared.clone()),
            rule: Some(shared.clone()),
            reason_detail: long.clone(),
            backend: Some(shared),
            bytes_in: u64::MAX,
            bytes_out: u64::MAX,
            ..closed()
        };
        let text = text_of(Record::Connection(Box::new(record)));
        assert!(text.len() <= limits::AUDIT_LINE_BYTES_MAX, "{} bytes of {c:?}", text.len());
        assert!(serde_json::from_str::<Value>(&text).is_ok());
    }
}

#[test]
fn connection_ids_are_uuids_of_version_7_that_sort_by_time() {
    let id = ConnectionId::new(0x0192_f3c4_a1b2, hex::decode("0c4e0d10a2b3c4d5e6f7").unwrap().try_into().unwrap());
    assert_eq!(id.to_string(), "0192f3c4a1b27c4e8d10a2b3c4d5e6f7");
    let later = ConnectionId::new(0x0192_f3c4_a1b3, [0; 10]);
    assert!(id.to_string() < later.to_string());
    assert_eq!(later.0[6] >> 4, 7);
    assert_eq!(later.0[8] >> 6, 2);
}

/// Text with a good share of what breaks logs.
fn hostile() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        any::<char>().prop_map(String::from),
        Just("\n{\"event\":\"accepted\"}\n".to_owned()),
        Just("\",\"decision\":\"admit\",\"x\":\"".to_owned()),
        Just("\\".to_owned()),
        Just("\u{2028}".to_owned()),
        Just("\u{0}\r\n".to_owned()),
        Just("n".repeat(4096)),
    ];
    proptest::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn no_input_forges_a_line_or_breaks_the_json(
        sni in hostile(),
        alpn in proptest::collection::vec(any::<u8>(), 0..300),
        subject in hostile(),
        san in proptest::collection::vec(hostile(), 0..4),
        identity in hostile(),
        detail in hostile(),
    ) {
        let leaf = Leaf { subject: subject.clone(), issuer: subject, san, ..leaf() };
        let record = ConnectionRecord {
            event: Event::Refused,
            sni: Some(sni.clone()),
            alpn: Some(alpn),
            leaf: Some(Arc::new(leaf)),
            identity: Some(identity.as_str().into()),
            reason: Reason::PolicyDenied,
            reason_detail: detail,
            ..closed()
        };
        let text = text_of(Record::Connection(Box::new(record)));
        prop_assert!(text.len() <= limits::AUDIT_LINE_BYTES_MAX);
        prop_assert_eq!(text.lines().count(), 1);
        prop_assert!(text.ends_with('\n'));
        let splits_lines = |c: char| c.is_control() || matches!(c, '\u{2028}' | '\u{2029}');
        prop_assert!(!text[..text.len() - 1].contains(splits_lines));
        let line: Value = serde_json::from_str(&text).expect("JSON");
        prop_assert_eq!(line.as_object().unwrap().len(), KEYS.len());
        prop_assert_eq!(&line["decision"], "refuse");
        prop_assert_eq!(&line["reason"], "policy_denied");
        let shown = line["sni"].as_str().unwrap();
        prop_assert!(shown == sni || sni.starts_with(shown.strip_suffix('…').expect("cut")));
    }
}
