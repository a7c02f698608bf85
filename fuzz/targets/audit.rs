//! Whatever a record holds, it is exactly one line of JSON, bounded, with nothing in it that a log reader or a terminal
//! takes for more than text; and text that fits is read back as it was.
#![no_main]

use countersign::config::limits;
use countersign::trust::{Leaf, Reason};
use countersign::wire::audit::{
    CloseReason, ConnectionId, ConnectionRecord, Event, Path, Record, TlsFacts, write_line,
};
use countersign_fuzz::Choices;
use libfuzzer_sys::fuzz_target;
use serde_json::Value;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

fuzz_target!(|data: &[u8]| {
    let mut choices = Choices::new(data);
    let record = record(&mut choices);
    let mut out = b"the line before\n".to_vec();
    write_line(&record, &mut out);
    let line = out.strip_prefix(b"the line before\n").expect("appends");
    assert!(line.len() <= limits::AUDIT_LINE_BYTES_MAX, "{} bytes", line.len());
    let text = std::str::from_utf8(line).expect("UTF-8").strip_suffix('\n').expect("a newline at its end");
    assert!(!text.chars().any(is_odd), "{text:?}");
    let object: Value = serde_json::from_str(text).expect("JSON");
    assert!(object.is_object());
    if let Record::Connection(record) = &record {
        check(record, &object);
    }
});

/// What ends lines or changes how they look, in one reader or another.
fn is_odd(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{2028}' | '\u{2029}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

fn check(record: &ConnectionRecord, object: &Value) {
    let told = |key: &str, text: Option<&str>| match text {
        None => assert!(object[key].is_null(), "{key}"),
        // Short enough that no escape can make it too long.
        Some(text) if text.len() * 6 <= limits::AUDIT_TEXT_BYTES_MAX => assert_eq!(object[key], text),
        Some(text) => {
            let read = object[key].as_str().expect("text");
            assert!(text.starts_with(read.strip_suffix('…').unwrap_or(read)), "{key} is another text");
        }
    };
    told("listener", Some(&record.listener));
    told("site", record.site.as_deref());
    told("sni", record.sni.as_deref());
    told("identity", record.identity.as_deref());
    told("rule", record.rule.as_deref());
    told("backend", record.backend.as_deref());
    told("reason_detail", Some(record.reason_detail.as_str()).filter(|detail| !detail.is_empty()));
    let decision = if record.event == Event::Refused { "refuse" } else { "admit" };
    assert_eq!(object["decision"], decision);
    assert_eq!(object["bytes_in"], record.bytes_in);
    assert_eq!(object["conn_id"], record.conn_id.to_string());
    assert_eq!(object["cert"].is_object(), record.leaf.is_some());
}

fn record(choices: &mut Choices<'_>) -> Record {
    let ts = moment(choices);
    match choices.byte() % 8 {
        0 => {
            let listeners = (0..choices.byte() % 8).map(|_| choices.text()).collect();
            Record::Start { ts, version: "1", digest: choices.array(), listeners, workers: choices.u32() as usize }
        }
        1 => {
            let digest = choices.array();
            Record::Stop { ts, digest, drained: choices.bool(), connections_cut: choices.u64() }
        }
        2 => Record::Reload { ts, digest: choices.array(), ok: choices.bool(), detail: choices.text() },
        3 => {
            let (uid, pid) = (choices.u32(), choices.u32() as i32);
            Record::Admin { ts, uid, pid, command: choices.text(), ok: choices.bool(), result: choices.text() }
        }
        _ => Record::Connection(Box::new(connection(choices, ts))),
    }
}

fn moment(choices: &mut Choices<'_>) -> SystemTime {
    let distance = Duration::new(choices.u64() >> (choices.byte() & 63), choices.u32() % 1_000_000_000);
    let past = choices.bool();
    let moment = if past { UNIX_EPOCH.checked_sub(distance) } else { UNIX_EPOCH.checked_add(distance) };
    moment.unwrap_or(UNIX_EPOCH)
}

fn connection(choices: &mut Choices<'_>, ts: SystemTime) -> ConnectionRecord {
    let tls = TlsFacts { version: "1.3", cipher: "TLS_AES_128_GCM_SHA256", group: None, resumed: choices.bool() };
    let close = [None, Some(CloseReason::Done), Some(CloseReason::Truncated), Some(CloseReason::Internal)];
    ConnectionRecord {
        ts,
        conn_id: ConnectionId::new(choices.u64(), choices.array()),
        event: *choices.of(&[Event::Accepted, Event::Closed, Event::Refused]),
        listener: choices.text().into(),
        site: choices.maybe(|choices| choices.text().into()),
        client: SocketAddr::new(IpAddr::from(choices.array::<16>()), choices.u16()),
        sni: choices.maybe(Choices::text),
        alpn: choices.maybe(|choices| choices.bytes().to_vec()),
        tls: choices.maybe(|_| tls),
        leaf: choices.maybe(|choices| Arc::new(leaf(choices))),
        chain_len: choices.u16().into(),
        proven: choices.bool(),
        identity: choices.maybe(|choices| choices.text().into()),
        rule: choices.maybe(|choices| choices.text().into()),
        reason: match *choices.of(&Reason::ALL) {
            Reason::PeerAlert(_) => Reason::PeerAlert(choices.byte()),
            reason => reason,
        },
        reason_detail: choices.text(),
        verify: choices.u32(),
        epoch: choices.u64(),
        our_alert: choices.maybe(Choices::byte),
        peer_alert: choices.maybe(Choices::byte),
        handshake_micros: choices.u64(),
        backend: choices.maybe(|choices| choices.text().into()),
        path: *choices.of(&[Path::User, Path::Ktls, Path::Splice]),
        bytes_in: choices.u64(),
        bytes_out: choices.u64(),
        close_reason: *choices.of(&close),
        duration_micros: choices.u64(),
    }
}

fn leaf(choices: &mut Choices<'_>) -> Leaf {
    Leaf {
        der: Vec::new(),
        subject: choices.text(),
        issuer: choices.text(),
        serial: choices.text(),
        not_before: choices.u64() as i64,
        not_after: choices.u64() as i64,
        sha256: choices.array(),
        spki_sha256: choices.array(),
        // Many copies reach the bounds that a short input cannot.
        san: {
            let names: Vec<String> = (0..choices.byte() % 8).map(|_| choices.text()).collect();
            let times = usize::from(choices.byte());
            names.iter().cycle().take(names.len() * times).cloned().collect()
        },
        cn: None,
    }
}
