use super::*;
use crate::trust::Leaf;
use crate::wire::audit::{ConnectionId, Path};

const SHA256: [u8; 32] = [0xab; 32];

fn at(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000 + seconds)
}

fn leaf(cn: &str) -> Leaf {
    Leaf {
        der: vec![0x30, 0],
        subject: format!("CN={cn}"),
        issuer: "CN=Partner CA".into(),
        serial: "03a5b1".into(),
        not_before: 0,
        not_after: 0,
        sha256: SHA256,
        spki_sha256: [0; 32],
        san: vec![format!("uri:spiffe://bank.example/{cn}")],
        cn: Some(cn.into()),
    }
}

fn refused(client: &str, reason: Reason, leaf: Option<Leaf>, seconds: u64) -> ConnectionRecord {
    ConnectionRecord {
        ts: at(seconds),
        conn_id: ConnectionId::new(seconds, [7; 10]),
        event: Event::Refused,
        listener: "public".into(),
        site: Some("payments".into()),
        client: format!("{client}:5000").parse().unwrap(),
        sni: None,
        alpn: None,
        tls: None,
        leaf: leaf.map(Arc::new),
        chain_len: 1,
        proven: false,
        identity: None,
        rule: None,
        reason,
        reason_detail: "its CA is not trusted here".into(),
        verify: 0,
        epoch: 1,
        our_alert: Some(48),
        peer_alert: None,
        handshake_micros: 0,
        backend: None,
        path: Path::User,
        bytes_in: 0,
        bytes_out: 0,
        close_reason: None,
        duration_micros: 0,
    }
}

fn clients(refusals: &Refusals, wanted: &Wanted) -> Vec<String> {
    refusals.find(wanted, at(1000)).iter().map(|refused| refused.client.ip().to_string()).collect()
}

#[test]
fn attempts_are_found_by_client_certificate_identity_and_age() {
    let refusals = Refusals::default();
    refusals.note(&refused("192.0.2.1", Reason::UnknownIssuer, Some(leaf("acme")), 0));
    refusals.note(&refused("192.0.2.2", Reason::NoCert, None, 900));
    assert_eq!(clients(&refusals, &Wanted::default()), ["192.0.2.1", "192.0.2.2"], "oldest first");
    let client = Some("192.0.2.2".parse().unwrap());
    assert_eq!(clients(&refusals, &Wanted { client, ..Wanted::default() }), ["192.0.2.2"]);
    assert_eq!(clients(&refusals, &Wanted { sha256: Some(SHA256), ..Wanted::default() }), ["192.0.2.1"]);
    assert_eq!(clients(&refusals, &Wanted { sha256: Some([0; 32]), ..Wanted::default() }), [""; 0]);
    let full = format!("sha256:{}", hex::encode(SHA256));
    for identity in ["uri:spiffe://bank.example/acme", "spiffe://bank.example/acme", "cn:acme", "acme", full.as_str()] {
        let wanted = Wanted { identity: Some(identity.into()), ..Wanted::default() };
        assert_eq!(clients(&refusals, &wanted), ["192.0.2.1"], "{identity}");
    }
    let wanted = Wanted { identity: Some("dns:acme".into()), ..Wanted::default() };
    assert_eq!(clients(&refusals, &wanted), [""; 0]);
    let last = Some(Duration::from_secs(100));
    assert_eq!(clients(&refusals, &Wanted { last, ..Wanted::default() }), ["192.0.2.2"]);
}

#[test]
fn a_client_mapped_into_ipv6_is_found_by_its_ipv4_address() {
    let refusals = Refusals::default();
    refusals.note(&refused("[::ffff:192.0.2.1]", Reason::NoCert, None, 0));
    let client = Some("192.0.2.1".parse().unwrap());
    assert_eq!(clients(&refusals, &Wanted { client, ..Wanted::default() }), ["192.0.2.1"]);
}

#[test]
fn what_was_let_in_is_no_refusal() {
    let refusals = Refusals::default();
    refusals.note(&ConnectionRecord { event: Event::Closed, ..refused("192.0.2.1", Reason::Ok, None, 0) });
    assert!(refusals.find(&Wanted::default(), at(0)).is_empty());
}

#[test]
fn attempts_that_repeat_are_one_with_a_count_and_push_nobody_out() {
    let refusals = Refusals::default();
    refusals.note(&refused("192.0.2.1", Reason::Expired, Some(leaf("acme")), 0));
    for second in 0..10_000 {
        refusals.note(&refused("192.0.2.2", Reason::NotTls, None, second));
    }
    let found = refusals.find(&Wanted::default(), at(0));
    assert_eq!(found.len(), 2);
    assert_eq!((found[1].times, found[1].at), (10_000, at(9_999)));
}

#[test]
fn the_memory_is_bounded_in_number_and_length() {
    let refusals = Refusals::default();
    for i in 0..=limits::REFUSALS_KEPT_MAX as u32 {
        let client = std::net::Ipv4Addr::from(i).to_string();
        let long = ConnectionRecord { reason_detail: "é".repeat(9000), ..refused(&client, Reason::NoCert, None, 0) };
        refusals.note(&long);
    }
    let found = refusals.find(&Wanted::default(), at(0));
    assert_eq!(found.len(), limits::REFUSALS_KEPT_MAX);
    assert_eq!(found[0].client.ip().to_string(), "0.0.0.1", "the oldest went");
    assert!(found[0].detail.len() <= limits::REFUSAL_TEXT_BYTES_MAX + '…'.len_utf8());
}

#[test]
fn the_text_names_client_certificate_reason_and_what_to_do() {
    let refusals = Refusals::default();
    refusals.note(&refused("192.0.2.1", Reason::UnknownIssuer, Some(leaf("acme")), 0));
    let text = refusals.find(&Wanted::default(), at(0))[0].in_text();
    for part in [
        "192.0.2.1:5000",
        "public/payments",
        "unknown_issuer",
        "CN=acme",
        "03a5b1",
        "not trusted here",
        "site.client.trust",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
}
