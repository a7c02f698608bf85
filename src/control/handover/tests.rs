//! Both sides' forms fit each other.

use super::*;
use crate::relay::Took;
use crate::trust::{KnownChain, PolicyId};
use crate::worker::counters::Kind;
use rustls_pki_types::CertificateDer;
use std::time::Duration;

#[test]
fn chains_are_read_back_and_what_is_cut_is_left_out() {
    let chain = |byte: u8, lens: &[usize]| KnownChain {
        policy: PolicyId([byte; 32]),
        certificates: lens.iter().map(|len| CertificateDer::from(vec![byte; *len])).collect(),
    };
    let chains = vec![chain(1, &[300]), chain(2, &[1, 0, 70_000]), chain(3, &[])];
    let bytes = giving::encoded(&chains);
    assert_eq!(taking::decoded(&bytes), chains);
    assert_eq!(taking::decoded(&bytes[..bytes.len() - 40]), chains[..1]);
    assert_eq!(taking::decoded(&[]), []);
}

#[test]
fn an_offer_of_a_newer_program_with_more_in_it_is_understood() {
    let text = r#"{"version":1,"program":"9.9","pid":7,"later":[1],"blocks":[],"resumption":{"handshakes":4,"resumed":1},
        "sockets":[{"for":"listener","name":"public","address":"127.0.0.1:0","worker":3},{"for":"quic","port":1}]}"#;
    let offer: Offer = serde_json::from_str(text).unwrap();
    let address = "127.0.0.1:0".parse().unwrap();
    assert_eq!(offer.sockets[0], Described::Listener { name: "public".to_owned(), address, worker: 3 });
    assert_eq!(offer.sockets[1], Described::Unknown);
    assert_eq!(offer.resumption.to_string(), "25.0 % of 4 handshakes resumed");
}

#[test]
fn full_and_retried_handshakes_count_as_not_resumed() {
    let took = Took { wall: Duration::ZERO, cpu: Duration::ZERO };
    let counters = vec![Arc::new(Counters::new(2, &[])), Arc::new(Counters::new(2, &[]))];
    counters[0].count_handshake(0, "1.3", Kind::Full, Some("X25519"), took);
    counters[0].count_handshake(1, "1.3", Kind::Retried, Some("X25519"), took);
    counters[1].count_handshake(1, "1.2", Kind::Resumed, None, took);
    assert_eq!(Resumption::of(&counters), Resumption { handshakes: 3, resumed: 1 });
    assert_eq!(Resumption::default().to_string(), "no handshake yet");
}
