//! rustls clients of every kind, and sessions that they resume: made once a thread, so that a seed pays for nothing but
//! its own handshakes.

use super::fixture::{Asks, SiteFacts, begin};
use super::pki::{Leaf, Pki};
use crate::sys::scripted::Dice;
use crate::tls::{Environment, Session, Site, SiteTable, Status};
use crate::trust::{CacheStats, LocalChainCache, SharedChainCache};
use crate::worker::snapshot::Snapshot;
use rustls::client::{
    ClientSessionStore, ResolvesClientCert, Resumption, Tls12ClientSessionValue, Tls13ClientSessionValue,
    WebPkiServerVerifier,
};
use rustls::crypto::{CryptoProvider, GetRandomFailed, SecureRandom, aws_lc_rs};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::sign::CertifiedKey;
use rustls::time_provider::TimeProvider;
use rustls::{ClientConfig, ClientConnection, NamedGroup, RootCertStore, SignatureScheme, version};
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::time::Duration;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Version {
    V12,
    V13,
}

/// Who a client is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Who {
    Good,
    /// Of a CA that nobody trusts.
    Stranger,
    Expired,
    /// Shows the good client's certificate and has another key.
    Impostor,
    /// No certificate.
    Nobody,
}

/// What a client offers for the key exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Offer {
    /// X25519.
    Fast,
    /// A hello of two segments.
    Hybrid,
    /// A share that the site does not take: HelloRetryRequest.
    Retry,
}

thread_local! {
    static RANDOM: RefCell<Dice> = RefCell::new(Dice::new(0));
    static WALL: Cell<Duration> = const { Cell::new(Duration::ZERO) };
}

/// Sets the clock of all clients of this thread.
pub fn set_wall(since_1970: Duration) {
    WALL.set(since_1970);
}

/// Lends the clients of this thread a stream of randomness and takes what is left of it back: with rustls's own, which
/// orders a hello's extensions among other things, a flipped bit would hit something else at each time.
pub fn exchange_random(dice: Dice) -> Dice {
    RANDOM.replace(dice)
}

#[derive(Debug)]
struct Rolled;

impl SecureRandom for Rolled {
    fn fill(&self, bytes: &mut [u8]) -> Result<(), GetRandomFailed> {
        RANDOM.with_borrow_mut(|dice| bytes.iter_mut().for_each(|byte| *byte = dice.roll() as u8));
        Ok(())
    }
}

#[derive(Debug)]
struct WorldClock;

impl TimeProvider for WorldClock {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(WALL.get()))
    }
}

/// Tickets that one handshake brings here. A client's TLS 1.3 session cannot be copied, and each resumes once.
const TICKETS_AT_ONCE: usize = 40;

/// Every kind of client.
pub struct Identities {
    configs: HashMap<(Version, Who, Offer), ClientConfig>,
    generous: Vec<Arc<SiteTable>>,
    sessions: RefCell<HashMap<(usize, Version, Who), Keepsakes>>,
}

impl Identities {
    pub fn new(pki: &Pki, snapshot: &Snapshot) -> Identities {
        let mut roots = RootCertStore::empty();
        roots.add(pki.ca.clone()).unwrap();
        let provider = Arc::new(aws_lc_rs::default_provider());
        // rustls resumes only with the verifier and the credentials of the first time: one of each for all.
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap();
        let mut configs = HashMap::new();
        for who in [Who::Good, Who::Stranger, Who::Expired, Who::Impostor, Who::Nobody] {
            let wallet = Arc::new(Wallet(key_of(pki, who)));
            for version in [Version::V12, Version::V13] {
                for offer in [Offer::Fast, Offer::Hybrid, Offer::Retry] {
                    configs.insert((version, who, offer), config(version, offer, verifier.clone(), wallet.clone()));
                }
            }
        }
        let generous = |site: &Arc<Site>| Arc::new(SiteTable::new(vec![site.with_tickets(TICKETS_AT_ONCE)]));
        let generous = snapshot.sites().iter().map(generous).collect();
        Identities { configs, generous, sessions: RefCell::default() }
    }

    /// A client before its first byte. Without a name it asks for an address, which is no SNI.
    pub fn client(
        &self,
        version: Version,
        who: Who,
        offer: Offer,
        memory: Arc<Memory>,
        name: Option<&str>,
    ) -> ClientConnection {
        let mut config = self.configs[&(version, who, offer)].clone();
        config.resumption = Resumption::store(memory);
        let name = match name {
            Some(name) => ServerName::try_from(name.to_owned()).unwrap(),
            None => ServerName::from(std::net::IpAddr::from([10, 1, 0, 1])),
        };
        ClientConnection::new(Arc::new(config), name).unwrap()
    }

    /// What a client that was here at the beginning remembers.
    pub fn memory(&self, (index, site): (usize, &SiteFacts), version: Version, who: Who) -> Arc<Memory> {
        if who != Who::Good && (who != Who::Nobody || site.asks == Asks::Require) {
            return Memory::new(Keepsakes::default());
        }
        let mut sessions = self.sessions.borrow_mut();
        let kept = sessions.entry((index, version, who)).or_default();
        if kept.is_empty() {
            let memory = Memory::new(Keepsakes::default());
            let before = WALL.replace(Duration::from_secs(begin().as_secs()));
            let client = self.client(version, who, Offer::Fast, memory.clone(), Some(&site.name));
            shake_hands(self.generous[index].clone(), client);
            WALL.set(before);
            *kept = std::mem::take(&mut memory.0.lock().unwrap());
        }
        Memory::new(Keepsakes { v12: kept.v12.clone(), v13: kept.v13.pop().into_iter().collect(), group: kept.group })
    }
}

fn config(version: Version, offer: Offer, verifier: Arc<WebPkiServerVerifier>, wallet: Arc<Wallet>) -> ClientConfig {
    use rustls::crypto::aws_lc_rs::kx_group::{SECP384R1, X25519, X25519MLKEM768};
    let kx_groups = match offer {
        Offer::Fast => vec![X25519],
        Offer::Hybrid => vec![X25519MLKEM768, X25519],
        Offer::Retry => vec![SECP384R1, X25519],
    };
    let provider = CryptoProvider { kx_groups, secure_random: &Rolled, ..aws_lc_rs::default_provider() };
    let version = match version {
        Version::V12 => &version::TLS12,
        Version::V13 => &version::TLS13,
    };
    ClientConfig::builder_with_details(Arc::new(provider), Arc::new(WorldClock))
        .with_protocol_versions(&[version])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_client_cert_resolver(wallet)
}

fn key_of(pki: &Pki, who: Who) -> Option<Arc<CertifiedKey>> {
    let with = |certificate: &Leaf, key: &Leaf| {
        let signing = aws_lc_rs::sign::any_supported_type(&key.key()).unwrap();
        let chain: Vec<CertificateDer<'static>> = vec![certificate.der.clone()];
        Some(Arc::new(CertifiedKey::new(chain, signing)))
    };
    match who {
        Who::Good => with(&pki.client, &pki.client),
        Who::Stranger => with(&pki.stranger, &pki.stranger),
        Who::Expired => with(&pki.expired, &pki.expired),
        Who::Impostor => with(&pki.client, &pki.stranger),
        Who::Nobody => None,
    }
}

/// Carries a handshake through, without any network, for the tickets at its end.
fn shake_hands(sites: Arc<SiteTable>, mut client: ClientConnection) {
    let cache = LocalChainCache::new(Arc::new(SharedChainCache::new()), Arc::new(CacheStats::default()));
    let environment = Rc::new(Environment { cache: Rc::new(cache), blocks: Arc::default() });
    let mut session = Session::new(sites, environment);
    let mut status = Status::Handshaking;
    while client.is_handshaking() || client.wants_write() || status == Status::Handshaking {
        let (mut there, mut back) = (Vec::new(), Vec::new());
        client.write_tls(&mut there).unwrap();
        status = session.feed(&mut there, begin(), &mut Vec::new(), &mut back).unwrap();
        let mut back = &back[..];
        while !back.is_empty() {
            client.read_tls(&mut back).unwrap();
            client.process_new_packets().unwrap();
        }
    }
}

/// Sessions of the past.
#[derive(Debug, Default)]
struct Keepsakes {
    v12: Option<Tls12ClientSessionValue>,
    v13: Vec<Tls13ClientSessionValue>,
    group: Option<NamedGroup>,
}

impl Keepsakes {
    fn is_empty(&self) -> bool {
        self.v12.is_none() && self.v13.is_empty()
    }
}

/// Where a client keeps sessions.
#[derive(Debug)]
pub struct Memory(Mutex<Keepsakes>);

impl Memory {
    fn new(keepsakes: Keepsakes) -> Arc<Memory> {
        Arc::new(Memory(Mutex::new(keepsakes)))
    }

    pub fn empty() -> Arc<Memory> {
        Memory::new(Keepsakes::default())
    }
}

impl ClientSessionStore for Memory {
    fn set_kx_hint(&self, _: ServerName<'static>, group: NamedGroup) {
        self.0.lock().unwrap().group = Some(group);
    }
    fn kx_hint(&self, _: &ServerName<'_>) -> Option<NamedGroup> {
        self.0.lock().unwrap().group
    }
    fn set_tls12_session(&self, _: ServerName<'static>, value: Tls12ClientSessionValue) {
        self.0.lock().unwrap().v12 = Some(value);
    }
    fn tls12_session(&self, _: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        self.0.lock().unwrap().v12.clone()
    }
    fn remove_tls12_session(&self, _: &ServerName<'static>) {
        self.0.lock().unwrap().v12 = None;
    }
    fn insert_tls13_ticket(&self, _: ServerName<'static>, value: Tls13ClientSessionValue) {
        self.0.lock().unwrap().v13.push(value);
    }
    fn take_tls13_ticket(&self, _: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        self.0.lock().unwrap().v13.pop()
    }
}

/// Shows its certificate whatever is asked, if it has one.
#[derive(Debug)]
struct Wallet(Option<Arc<CertifiedKey>>);

impl ResolvesClientCert for Wallet {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.0.clone()
    }

    fn has_certs(&self) -> bool {
        self.0.is_some()
    }
}

/// One of each kind, for scripts to choose from: mostly the good.
pub fn some_client(dice: &mut Dice) -> Who {
    match dice.below(100) {
        0..80 => Who::Good,
        80..85 => Who::Stranger,
        85..89 => Who::Expired,
        89..94 => Who::Impostor,
        _ => Who::Nobody,
    }
}
