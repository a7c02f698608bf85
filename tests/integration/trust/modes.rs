//! Every mode of `auth` with every kind of client, fully and resumed, in both versions: whether it gets in, what the
//! backend reads of it in the PROXY header, and what the audit says.

use super::issue::List;
use super::outcome::{BOTH, Scene};
use crate::world::backend::{Backend, send_then_finish};
use crate::world::client::{Client, ClientSpec, Ending, Tickets};
use crate::world::pki::{CLIENT_IDENTITY, Ca, Credential, LeafSpec, SERVER_NAME, self_signed};
use crate::world::proxy::HeaderV2;
use crate::world::server::Server;
use crate::world::wait::{SOON, until_some};
use rustls::{ClientConfig, SupportedProtocolVersion};
use std::sync::Arc;
use time::{Duration, OffsetDateTime};

/// What comes of a client.
#[derive(Debug, Clone, Copy)]
enum Must {
    /// Let in: whether a certificate goes along, the X509_V number, the identity, the reason.
    In(Cert, u32, Called, &'static str),
    /// Refused in TLS 1.3 with this alert and reason.
    Out(u8, &'static str),
}
use Called::{As, ByHash, NotAtAll};
use Cert::{Nothing, Sent};
use Must::{In, Out};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cert {
    Sent,
    Nothing,
}

/// The identity that the audit tells.
#[derive(Debug, Clone, Copy)]
enum Called {
    As(&'static str),
    /// Nobody vouched for the names in the certificate, and so they are none of its bearer's.
    ByHash,
    NotAtAll,
}

/// Who comes, in the order of the columns below.
struct Guests {
    good: Credential,
    stranger: Credential,
    expired: Credential,
    revoked: Credential,
    denied: Credential,
    pinned: Credential,
}

impl Guests {
    fn invite(scene: &Scene) -> Guests {
        let now = OffsetDateTime::now_utc();
        let ca = &scene.world.pki.client_ca;
        let past = |spec: LeafSpec| spec.valid(now - Duration::days(9), now - Duration::days(1));
        scene.world.write("clients.crl", &List::of(&[77]).pem(ca));
        Guests {
            good: scene.world.pki.client.clone(),
            stranger: Ca::root("Somebody else").leaf(&LeafSpec::client("stranger")),
            expired: ca.leaf(&past(LeafSpec::client("late"))),
            revoked: ca.leaf(&LeafSpec::client("revoked").serial(77)),
            denied: ca.leaf(&LeafSpec::client("denied")),
            pinned: self_signed(&past(LeafSpec::client("pinned"))),
        }
    }

    fn all(&self) -> [(&'static str, Option<&Credential>); 7] {
        [
            ("nobody", None),
            ("good", Some(&self.good)),
            ("stranger", Some(&self.stranger)),
            ("expired", Some(&self.expired)),
            ("revoked", Some(&self.revoked)),
            ("denied", Some(&self.denied)),
            ("pinned", Some(&self.pinned)),
        ]
    }
}

const ANONYMOUS: Must = In(Nothing, 1, NotAtAll, "ok");
const GOOD: Must = In(Sent, 0, As(CLIENT_IDENTITY), "ok");
const DENIED: Must = Out(49, "policy_denied");

const TRUSTING: &str = "trust = [\"clients-ca.pem\"]\ncrls = [\"clients.crl\"]\ndeny = [{ cn = \"denied\" }]";

/// Serves in this mode and lets every guest come twice.
fn play(mode: &str, musts: [Must; 7]) {
    let mut scene = Scene::new();
    scene.backend = Backend::tcp(send_then_finish(b"hello!"));
    let guests = Guests::invite(&scene);
    let client = match mode {
        "off" => String::new(),
        "pin" => format!(
            "allow = [{{ name = \"acme\", sha256 = \"{}\" }}, {{ spki_sha256 = \"{}\" }}]\ndeny = [{{ cn = \"denied\" }}]",
            guests.pinned.sha256(),
            guests.expired.spki_sha256()
        ),
        _ => TRUSTING.to_owned(),
    };
    let config = scene.config(&format!("auth = \"{mode}\"\n{client}")).backend("proxy_protocol = \"v2\"");
    let server = scene.world.serve(&config);
    for versions in BOTH {
        for ((who, credential), must) in guests.all().into_iter().zip(musts) {
            let spec = match credential {
                None => ClientSpec::anonymous(&scene.world.pki),
                Some(credential) => ClientSpec::with(&scene.world.pki, credential),
            };
            let config = spec.versions(versions).tickets(&Tickets::new()).build();
            let visits = Visits { who, scene: &scene, server: &server, config: &config, credential };
            match must {
                In(..) => [false, true].into_iter().for_each(|resumed| visits.gets_in(must, resumed)),
                Out(alert, reason) => visits.stays_out(versions, alert, reason),
            }
        }
    }
    assert_eq!(server.stop(), 0);
}

struct Visits<'a> {
    who: &'a str,
    scene: &'a Scene,
    server: &'a Server,
    config: &'a Arc<ClientConfig>,
    credential: Option<&'a Credential>,
}

impl Visits<'_> {
    fn gets_in(&self, must: Must, resumed: bool) {
        let In(cert, verify, called, reason) = must else { unreachable!("only guests that get in") };
        let who = format!("{} (resumed: {resumed})", self.who);
        let backend = &self.scene.backend;
        let index = backend.connections();
        let mut client = Client::connect(self.config, SERVER_NAME, self.server.address());
        client.handshake().unwrap_or_else(|ending| panic!("{who}: {ending:?}"));
        let (bytes, ending) = client.read_to_end();
        let line = self.server.audit_of(client.address, if bytes.is_empty() { "refused" } else { "accepted" });
        assert_eq!((&bytes[..], ending), (&b"hello!"[..], Ending::CloseNotify), "{who}: {line}");
        assert_eq!(client.resumed(), resumed, "{who}: {line}");
        let header = until_some(SOON, || HeaderV2::read(&backend.seen(index).received).map(|(header, _)| header));
        let ssl = header.unwrap().ssl().unwrap();
        let bits = match (cert, resumed) {
            (Sent, false) => 0x07,
            (Sent, true) => 0x05,
            (Nothing, _) => 0x01,
        };
        assert_eq!((ssl.client, ssl.verify), (bits, verify), "{who}: {line}");
        assert_eq!(
            ssl.text(0x22),
            (cert == Sent).then_some(line["cert"]["subject"].as_str()).flatten().map(cn),
            "{who}"
        );
        assert_eq!(
            (line["decision"].as_str(), line["reason"].as_str()),
            (Some("admit"), Some(reason)),
            "{who}: {line}"
        );
        let identity = match called {
            As(identity) => Some(identity.to_owned()),
            ByHash => self.credential.map(|credential| format!("sha256:{}", credential.sha256())),
            NotAtAll => None,
        };
        assert_eq!(line["identity"].as_str(), identity.as_deref(), "{who}: {line}");
        assert_eq!(line["tls"]["resumed"], resumed, "{who}: {line}");
        assert_eq!(line["reason_detail"].as_str().is_some(), reason != "ok", "{who}: {line}");
        match cert {
            Sent => {
                assert_eq!(line["cert"]["sha256"], self.credential.unwrap().sha256(), "{who}: {line}");
                assert_eq!((line["verify"].as_u64(), &line["cert"]["proven"]), (Some(verify.into()), &true.into()));
            }
            Nothing => assert!(line["cert"].is_null(), "{who}: {line}"),
        }
    }

    fn stays_out(&self, versions: &[&SupportedProtocolVersion], alert: u8, reason: &str) {
        let heard = self.scene.backend.connections();
        let mut client = Client::connect(self.config, SERVER_NAME, self.server.address());
        let ending = client.refusal();
        let line = self.server.audit_of(client.address, "refused");
        // In TLS 1.2 there is no certificate_required: handshake_failure, or what rustls says.
        let other = alert == 116 && ending == Ending::Alert(40) && versions == crate::world::client::TLS12;
        assert!(other || ending == Ending::Alert(alert), "{}: {ending:?} {line}", self.who);
        let told = (line["reason"].as_str(), line["decision"].as_str(), line["identity"].as_str());
        assert_eq!(told, (Some(reason), Some("refuse"), None), "{}: {line}", self.who);
        assert_eq!(self.scene.backend.connections(), heard, "{}: the backend heard of it", self.who);
    }
}

fn cn(subject: &str) -> &str {
    subject.strip_prefix("CN=").unwrap()
}

#[test]
fn require_lets_in_who_is_verified_and_nobody_else() {
    let out = [Out(48, "unknown_issuer"), Out(45, "expired"), Out(44, "revoked"), DENIED, Out(48, "unknown_issuer")];
    play("require", [Out(116, "no_cert"), GOOD, out[0], out[1], out[2], out[3], out[4]]);
}

#[test]
fn optional_lets_in_who_is_verified_and_who_comes_with_nothing() {
    let out = [Out(48, "unknown_issuer"), Out(45, "expired"), Out(44, "revoked"), DENIED, Out(48, "unknown_issuer")];
    play("optional", [ANONYMOUS, GOOD, out[0], out[1], out[2], out[3], out[4]]);
}

#[test]
fn request_lets_everybody_in_whom_no_rule_denies_and_says_what_verification_would_have_said() {
    let stranger = In(Sent, 21, ByHash, "unknown_issuer");
    let expired = In(Sent, 10, ByHash, "expired");
    let revoked = In(Sent, 23, ByHash, "revoked");
    let pinned = In(Sent, 18, ByHash, "unknown_issuer");
    play("request", [ANONYMOUS, GOOD, stranger, expired, revoked, DENIED, pinned]);
}

#[test]
fn pin_lets_in_whom_a_hash_names_and_nobody_else() {
    let out = Out(49, "policy_denied");
    let expired = In(Sent, 0, ByHash, "ok");
    let pinned = In(Sent, 0, As("name:acme"), "ok");
    play("pin", [Out(116, "no_cert"), out, out, expired, out, out, pinned]);
}

#[test]
fn off_asks_nobody_for_anything() {
    play("off", [ANONYMOUS; 7]);
}
