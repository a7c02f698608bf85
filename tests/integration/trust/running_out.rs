//! A CRL runs out while the process runs: nobody new gets in, no session is resumed, and who is in stays.

use super::issue::List;
use super::outcome::{BOTH, Scene};
use crate::world::client::{Client, ClientSpec, Ending, Tickets};
use crate::world::pki::{CLIENT_IDENTITY, SERVER_NAME};
use crate::world::wait::{SOON, until};
use time::{Duration, OffsetDateTime};

#[test]
fn the_end_of_a_crl_bites_on_new_handshakes_and_resumptions_and_spares_open_connections() {
    let scene = Scene::new();
    let now = OffsetDateTime::now_utc();
    let end = now + Duration::seconds(6);
    let list = List::of(&[]).valid(now - Duration::days(1), end);
    scene.world.write("clients.crl", &list.pem(&scene.world.pki.client_ca));
    let server = scene.serve("trust = [\"clients-ca.pem\"]\ncrls = [\"clients.crl\"]");
    let mut open = Vec::new();
    for versions in BOTH {
        let config = ClientSpec::new(&scene.world.pki).versions(versions).tickets(&Tickets::new()).build();
        for resumed in [false, true] {
            let mut client = Client::connect(&config, SERVER_NAME, server.address());
            client.echo(b"before").unwrap();
            assert_eq!(client.resumed(), resumed);
            open.push((config.clone(), client));
        }
    }
    assert!(until(SOON, || OffsetDateTime::now_utc() > end + Duration::seconds(1)));
    for (config, client) in &mut open {
        // The chain is in the cache and the session in a ticket: neither helps.
        let mut next = Client::connect(config, SERVER_NAME, server.address());
        assert_eq!(next.refusal(), Ending::Alert(46));
        let line = server.audit_of(next.address, "refused");
        let told = (line["reason"].as_str(), line["verify"].as_u64());
        assert_eq!(told, (Some("crl_expired"), Some(12)), "{line}");
        let detail = line["reason_detail"].as_str().unwrap();
        assert!(detail.contains("Test client CA") && detail.contains("reload"), "{detail}");
        client.echo(b"after").unwrap();
    }
    for (_, mut client) in open {
        client.close_notify();
        assert_eq!(client.read_to_end(), (Vec::new(), Ending::CloseNotify));
        assert_eq!(server.audit_of(client.address, "closed")["identity"], CLIENT_IDENTITY);
    }
}
