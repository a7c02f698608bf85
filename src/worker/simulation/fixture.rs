//! What all seeds of a thread share: one configuration, loaded as the program loads it, and its sites as scripts choose
//! among them.

use super::identities::Identities;
use super::pki::{BEGIN, Pki};
use crate::config::{Config, ProxyProtocol};
use crate::sys::Address;
use crate::worker::audit_queue::AuditQueue;
use crate::worker::snapshot::Snapshot;
use rustls_pki_types::UnixTime;
use std::fmt::Write;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

pub const IDLE_TIMEOUT: Duration = Duration::from_secs(20);
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);

/// A site and its backend.
#[derive(Debug, Clone)]
pub struct SiteFacts {
    pub name: String,
    pub listener: usize,
    pub servers: Vec<Address>,
    pub proxy: ProxyProtocol,
    pub asks: Asks,
}

/// What a site asks of its clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asks {
    Require,
    Optional,
    Nothing,
}

/// A listener, its address, and the most connections and handshakes it takes at a time.
pub struct ListenerFacts {
    pub name: &'static str,
    pub address: &'static str,
    pub connections: u32,
    pub handshakes: u32,
}

pub const LISTENERS: [ListenerFacts; 2] = [
    ListenerFacts { name: "wide", address: "10.1.0.1:443", connections: 1000, handshakes: 1000 },
    ListenerFacts { name: "tight", address: "10.1.0.1:444", connections: 2, handshakes: 1 },
];

/// Kinds of sites; each listener has one of each.
#[rustfmt::skip]
const KINDS: [(&str, ProxyProtocol, Asks, Backend, Groups); 7] = [
    ("plain", ProxyProtocol::Off, Asks::Require, Backend::Tcp(1), Groups::Fast),
    ("v1", ProxyProtocol::V1, Asks::Require, Backend::Tcp(3), Groups::Fast),
    ("v2", ProxyProtocol::V2, Asks::Require, Backend::Tcp(2), Groups::Fast),
    ("guest", ProxyProtocol::V2, Asks::Optional, Backend::Tcp(1), Groups::Fast),
    ("unix", ProxyProtocol::Off, Asks::Require, Backend::Unix(1), Groups::Fast),
    ("hybrid", ProxyProtocol::V2, Asks::Require, Backend::Unix(2), Groups::Default),
    ("open", ProxyProtocol::Off, Asks::Nothing, Backend::Tcp(1), Groups::Fast),
];

#[derive(Debug, Clone, Copy)]
enum Backend {
    Tcp(u8),
    Unix(u8),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Groups {
    /// X25519 alone.
    Fast,
    Default,
}

/// Shared by all seeds of a thread.
pub struct Fixture {
    pub snapshot: Arc<Snapshot>,
    /// The same, loaded again.
    pub reloaded: Arc<Snapshot>,
    /// With a trust anchor that has issued no client's certificate.
    pub distrusting: Arc<Snapshot>,
    pub sites: Vec<SiteFacts>,
    pub identities: Identities,
    pub audit: Arc<AuditQueue>,
}

thread_local! {
    static FIXTURE: Rc<Fixture> = Rc::new(Fixture::new());
}

pub fn begin() -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(BEGIN))
}

impl Fixture {
    pub fn of_thread() -> Rc<Fixture> {
        FIXTURE.with(Rc::clone)
    }

    fn new() -> Fixture {
        let dir = tempfile::tempdir().unwrap();
        let pki = Pki::of_process();
        pki.write(dir.path());
        let (text, sites) = configuration();
        let load = |text: &str, epoch| {
            let config = Config::from_text(text, Some(&dir.path().join("simulation.toml"))).unwrap_or_else(|faults| {
                panic!("{}", faults.iter().map(|fault| format!("{fault}\n")).collect::<String>())
            });
            Snapshot::load(&Arc::new(config), epoch, begin()).unwrap().0
        };
        let (snapshot, reloaded) = (load(&text, 1), load(&text, 2));
        let distrusting = load(&text.replace("ca.pem", "barren.pem"), 3);
        let identities = Identities::new(pki, &snapshot);
        Fixture { snapshot, reloaded, distrusting, sites, identities, audit: Arc::default() }
    }

    /// The sites of one listener, by index.
    pub fn sites_of(&self, listener: usize) -> Vec<usize> {
        (0..self.sites.len()).filter(|site| self.sites[*site].listener == listener).collect()
    }
}

fn configuration() -> (String, Vec<SiteFacts>) {
    let mut text = "[tickets]\nrotate = \"10d\"\nlifetime = \"2h\"\n".to_owned();
    let mut sites = Vec::new();
    for (listener, ListenerFacts { name, address, connections, handshakes }) in LISTENERS.iter().enumerate() {
        write!(
            text,
            "[[listener]]\nname = \"{name}\"\naddress = [\"{address}\"]\n[listener.limits]\n\
             connections = {connections}\nhandshakes_in_flight = {handshakes}\n\
             handshake_timeout = \"{}s\"\nidle_timeout = \"{}s\"\n",
            HANDSHAKE_TIMEOUT.as_secs(),
            IDLE_TIMEOUT.as_secs(),
        )
        .unwrap();
        for (kind, (label, proxy, asks, backend, groups)) in KINDS.iter().enumerate() {
            let site = SiteFacts {
                name: format!("{label}-{name}.sim.test"),
                listener,
                servers: servers(listener, kind, *backend),
                proxy: *proxy,
                asks: *asks,
            };
            write_site(&mut text, &site, name, *groups);
            sites.push(site);
        }
    }
    (text, sites)
}

fn servers(listener: usize, kind: usize, backend: Backend) -> Vec<Address> {
    match backend {
        Backend::Tcp(count) => (0..count)
            .map(|server| Address::Ip(SocketAddr::from(([127, 1 + listener as u8, kind as u8, 1 + server], 9000))))
            .collect(),
        Backend::Unix(count) => {
            (0..count).map(|server| Address::Unix(format!("/run/sim/{listener}-{kind}-{server}.sock").into())).collect()
        }
    }
}

fn write_site(text: &mut String, site: &SiteFacts, listener: &str, groups: Groups) {
    let groups = if groups == Groups::Fast { "groups = [\"X25519\", \"secp256r1\"]" } else { "" };
    let (auth, trust) = match site.asks {
        Asks::Require => ("require", "trust = [\"ca.pem\"]"),
        Asks::Optional => ("optional", "trust = [\"ca.pem\"]"),
        Asks::Nothing => ("off", ""),
    };
    let proxy = match site.proxy {
        ProxyProtocol::Off => "off",
        ProxyProtocol::V1 => "v1",
        ProxyProtocol::V2 => "v2",
    };
    let server = |address: &Address| match address {
        Address::Ip(ip) => format!("\"{ip}\""),
        Address::Unix(path) => format!("\"unix:{}\"", path.display()),
    };
    let servers = site.servers.iter().map(server).collect::<Vec<_>>().join(", ");
    let name = &site.name;
    write!(
        text,
        "[[site]]\nname = \"{name}\"\nlistener = \"{listener}\"\nnames = [\"{name}\"]\nbackend = \"{name}\"\n\
         certificate = [{{ chain = \"server.pem\", key = \"server.key\" }}]\n[site.tls]\n{groups}\n\
         [site.client]\nauth = \"{auth}\"\n{trust}\n\
         [[backend]]\nname = \"{name}\"\nservers = [{servers}]\nproxy_protocol = \"{proxy}\"\n\
         proxy_tlvs = [\"alpn\", \"authority\", \"unique_id\", \"ssl\", \"crc32c\"]\n",
    )
    .unwrap();
}
