//! What a client sends before and during the handshake, in any pieces. Nothing is passed on before a client is admitted;
//! who is admitted is who its certificate says; the pieces change nothing; what is sent back is whole TLS records, with
//! the alert last; and after a failure there is silence.
#![no_main]

use countersign::tls::{Failure, Session, Status};
use countersign_fuzz::Choices;
use countersign_fuzz::pki::{Entity, NOW, unix};
use countersign_fuzz::world::World;
use libfuzzer_sys::fuzz_target;
use rustls::client::Resumption;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, RootCertStore, version};
use std::io::Write;
use std::sync::Arc;

struct Peers {
    world: World,
    /// TLS 1.3 and 1.2, each without certificate, with a good one, with a revoked one.
    clients: Vec<Arc<ClientConfig>>,
}

thread_local! {
    static PEERS: Peers = Peers::new();
}

fuzz_target!(|data: &[u8]| PEERS.with(|peers| {
    let mut choices = Choices::new(data);
    if choices.bool() { peers.raw(&mut choices) } else { peers.changed_client(&mut choices) }
}));

const SAID: &[u8] = b"what the client says";

impl Peers {
    fn new() -> Peers {
        let world = World::new();
        let pki = &world.files.pki;
        let mut clients = Vec::new();
        for version in [&version::TLS13, &version::TLS12] {
            for identity in [None, Some(&pki.good), Some(&pki.revoked)] {
                clients.push(Arc::new(client(&world, version, identity)));
            }
        }
        Peers { world, clients }
    }

    /// Bytes as they are: in one piece and in many, the end is the same.
    fn raw(&self, choices: &mut Choices<'_>) {
        let mut cuts = Pieces(choices.u32());
        let bytes = choices.rest();
        let mut whole = Server::new(self.world.session());
        whole.feed(&mut bytes.to_vec());
        let mut pieces = Server::new(self.world.session());
        let mut copy = bytes.to_vec();
        let mut rest = &mut copy[..];
        while !rest.is_empty() {
            let (piece, later) = rest.split_at_mut(cuts.next().min(rest.len()));
            pieces.feed(piece);
            rest = later;
        }
        assert_eq!(whole.end(), pieces.end(), "depends on how the bytes were cut");
        assert_eq!(whole.session.sni(), pieces.session.sni());
        assert!(whole.session.established().is_none(), "bytes that hold no secret");
    }

    /// A real client whose flights are changed here and there.
    fn changed_client(&self, choices: &mut Choices<'_>) {
        let which = usize::from(choices.byte()) % self.clients.len();
        let name = *choices.of(&["a.test", "b.test", "x.wild.test", "other.test"]);
        let (flight_changed, edits) = (choices.byte() % 4, choices.byte() % 4);
        let mut cuts = Pieces(choices.u32());
        let server_name = ServerName::try_from(name).expect("a name");
        let mut client = ClientConnection::new(self.clients[which].clone(), server_name).expect("a client");
        let mut server = Server::new(self.world.session());
        let mut changed = false;
        for flight in 0..6 {
            let mut bytes = Vec::new();
            while client.wants_write() {
                client.write_tls(&mut bytes).expect("writes");
            }
            if flight == flight_changed {
                let before = bytes.clone();
                (0..edits).for_each(|_| choices.edit(&mut bytes));
                changed |= bytes != before;
            }
            if bytes.is_empty() {
                break;
            }
            let mut rest = &mut bytes[..];
            while !rest.is_empty() {
                let (piece, later) = rest.split_at_mut(cuts.next().min(rest.len()));
                server.feed(piece);
                rest = later;
            }
            let mut answer = std::mem::take(&mut server.answer);
            let mut answer = &mut answer[..];
            while !answer.is_empty() {
                let mut unread: &[u8] = answer;
                if client.read_tls(&mut unread).is_err() || client.process_new_packets().is_err() {
                    break;
                }
                let used = answer.len() - unread.len();
                answer = &mut answer[used..];
            }
            if !client.is_handshaking() && server.said_so_far {
                continue;
            }
            if !client.is_handshaking() {
                server.said_so_far = true;
                // It refuses where an alert came meanwhile.
                let _ = client.writer().write_all(SAID);
            }
        }
        self.check(&server, which, name, changed);
    }

    fn check(&self, server: &Server, which: usize, name: &str, changed: bool) {
        let pki = &self.world.files.pki;
        let shown = [None, Some(&pki.good), Some(&pki.revoked)][which % 3];
        // Of what the client said only a beginning can have come, and unchanged.
        assert!(SAID.starts_with(&server.plain), "{:?}", server.plain);
        match (server.session.established(), &server.failure) {
            (Some(established), _) => {
                assert_eq!(established.sni.as_deref(), Some(name));
                let leaf = established.admission.leaf().map(|leaf| leaf.der.clone());
                let asked = name != "x.wild.test";
                assert_eq!(leaf, shown.filter(|_| asked).map(|entity| entity.der.to_vec()), "somebody else");
                assert!(may_enter(name, shown, pki), "{name} let client {which} in");
            }
            (None, None) => assert!(changed, "an unchanged handshake came to nothing"),
            (None, Some(failure)) => assert!(changed || !may_enter(name, shown, pki), "{failure}"),
        }
    }
}

/// What the sites of the world ask for.
fn may_enter(name: &str, shown: Option<&Entity>, pki: &countersign_fuzz::pki::Pki) -> bool {
    let is_revoked = shown.is_some_and(|entity| entity.der == pki.revoked.der);
    match name {
        "a.test" => shown.is_some(),
        "b.test" => !is_revoked,
        "x.wild.test" => true,
        _ => false,
    }
}

fn client(
    world: &World,
    version: &'static rustls::SupportedProtocolVersion,
    identity: Option<&Entity>,
) -> ClientConfig {
    let pki = &world.files.pki;
    let mut roots = RootCertStore::empty();
    roots.add(pki.root.der.clone()).expect("a root");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_details(provider, Arc::new(Clock))
        .with_protocol_versions(&[version])
        .expect("versions")
        .with_root_certificates(roots);
    let mut config = match identity {
        Some(entity) => {
            let chain = vec![entity.der.clone(), pki.intermediate.der.clone()];
            builder.with_client_auth_cert(chain, entity.private_key()).expect("a key that fits")
        }
        None => builder.with_no_client_auth(),
    };
    config.resumption = Resumption::disabled();
    config
}

#[derive(Debug)]
struct Clock;

impl rustls::time_provider::TimeProvider for Clock {
    fn current_time(&self) -> Option<rustls::pki_types::UnixTime> {
        Some(unix(NOW))
    }
}

/// Lengths of pieces from a seed: mostly short ones.
struct Pieces(u32);

impl Pieces {
    fn next(&mut self) -> usize {
        self.0 = self.0.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        match self.0 >> 30 {
            0 => 1,
            1 => 1 + (self.0 >> 20) as usize % 7,
            2 => 1 + (self.0 >> 20) as usize % 300,
            _ => 1 + (self.0 >> 16) as usize % 5000,
        }
    }
}

/// A session with what it is held to.
struct Server {
    session: Session,
    answer: Vec<u8>,
    plain: Vec<u8>,
    failure: Option<Box<Failure>>,
    said_so_far: bool,
}

impl Server {
    fn new(session: Session) -> Server {
        Server { session, answer: Vec::new(), plain: Vec::new(), failure: None, said_so_far: false }
    }

    fn feed(&mut self, bytes: &mut [u8]) {
        let (plain_before, mut out) = (self.plain.len(), Vec::new());
        let status = self.session.feed(bytes, unix(NOW), &mut self.plain, &mut out);
        let last = check_records(&out);
        match status {
            _ if self.failure.is_some() => {
                assert!(status.is_err() && out.is_empty(), "something came of a session that had failed");
                assert_eq!(self.plain.len(), plain_before);
            }
            Ok(Status::Handshaking) => {
                assert!(self.plain.is_empty(), "plaintext of a client that is not admitted");
                assert!(self.session.established().is_none());
            }
            Ok(Status::Open | Status::PeerClosed) => assert!(self.session.established().is_some()),
            Err(failure) => {
                assert!(!failure.detail.is_empty() && !failure.detail.chars().any(char::is_control));
                if failure.our_alert.is_some() {
                    assert!(matches!(last, Some(21 | 23)), "no alert at the end");
                }
                self.failure = Some(failure);
            }
        }
        self.answer.extend_from_slice(&out);
    }

    fn end(&self) -> Option<(countersign::trust::Reason, Option<u8>, Option<u8>)> {
        self.failure.as_ref().map(|failure| (failure.reason, failure.our_alert, failure.peer_alert))
    }
}

/// Whole records one after the other; the type of the last one.
fn check_records(mut bytes: &[u8]) -> Option<u8> {
    let mut last = None;
    while !bytes.is_empty() {
        let (head, rest) = bytes.split_at_checked(5).expect("a record's header");
        assert!(matches!(head[0], 20..=23) && head[1] == 3, "{head:?}");
        let (_, later) =
            rest.split_at_checked(usize::from(u16::from_be_bytes([head[3], head[4]]))).expect("a whole record");
        (last, bytes) = (Some(head[0]), later);
    }
    last
}
