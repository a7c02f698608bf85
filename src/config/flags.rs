//! The flag form of `run`: what the command line says in place of a file.

use super::fault::Fault;
use super::mentions::Mentions;
use super::model::*;
use super::report::Problem;
use super::{defaults, net, sha256};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Values of `run --listen … --backend …`, as typed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Flags {
    /// `--listen`, at least one.
    pub listen: Vec<String>,
    /// `--backend`: `IP:port` or `unix:PATH`.
    pub backend: String,
    /// `--certificate`: PEM chain, leaf first.
    pub certificate: PathBuf,
    /// `--key`.
    pub key: PathBuf,
    /// `--client-ca`: anchors that clients are verified against.
    pub client_ca: PathBuf,
    /// `--admin`: address of the admin HTTP interface; absent = none.
    pub admin: Option<String>,
}

impl Config {
    /// Makes the configuration of `run` without a file: one listener, one site with `auth = "require"`, one backend,
    /// every other key at its default, no admin interface unless one is asked for. Faults name the flag as their key.
    pub fn from_flags(flags: &Flags) -> Result<Config, Vec<Fault>> {
        let mut faults = Vec::new();
        let addresses = read_listen(flags, &mut faults);
        let servers: Vec<Server> = read_backend(flags, &addresses, &mut faults).into_iter().collect();
        let admin = flags.admin.as_deref().and_then(|text| read_admin(text, &addresses, &mut faults));
        let mut file = |flag: &str, path: &Path| {
            if path.as_os_str().is_empty() {
                faults.push(Fault::config(flag, "is empty", "give the path of a PEM file"));
            }
            path.to_owned()
        };
        let certificate = CertificateFiles {
            chain: file("--certificate", &flags.certificate),
            key: file("--key", &flags.key),
            ocsp: None,
        };
        let trust = vec![file("--client-ca", &flags.client_ca)];
        if !faults.is_empty() {
            return Err(faults);
        }
        Ok(Config {
            file: None,
            digest: sha256(format!("{flags:?}").as_bytes()),
            runtime: Runtime::default(),
            admin,
            log: Log::default(),
            audit: None,
            tickets: Tickets::default(),
            listeners: vec![listener(addresses)],
            sites: vec![site(certificate, trust)],
            backends: vec![backend(servers)],
            warnings: Vec::new(),
            mentions: Mentions::default(),
        })
    }
}

fn read_listen(flags: &Flags, faults: &mut Vec<Fault>) -> Vec<ListenAddress> {
    let mut addresses: Vec<ListenAddress> = Vec::new();
    for text in &flags.listen {
        match net::listen(text) {
            Ok(address) if address.ip().is_none_or(|ip| ip.port() != 0) && addresses.contains(&address) => {
                faults.push(Fault::config("--listen", &format!("{address} is given twice"), "leave one of them out"));
            }
            Ok(address) => addresses.push(address),
            Err(problem) => faults.push(fault("--listen", problem, "give IP:port, such as 0.0.0.0:8443")),
        }
    }
    if flags.listen.is_empty() {
        faults.push(Fault::config("--listen", "is missing", "give IP:port, such as 0.0.0.0:8443"));
    }
    addresses
}

fn read_backend(flags: &Flags, listening: &[ListenAddress], faults: &mut Vec<Fault>) -> Option<Server> {
    const HELP: &str = "give IP:port or unix:PATH, such as 127.0.0.1:9000";
    let here = std::path::absolute(".").unwrap_or_else(|_| PathBuf::from("."));
    let server = match net::server(&flags.backend, &here) {
        Ok(server) => server,
        Err(problem) => {
            faults.push(fault("--backend", problem, HELP));
            return None;
        }
    };
    if let Server::Tcp(address) = &server {
        if !net::is_loopback(address.ip()) {
            let message = format!("plaintext would leave this host for {address}");
            let help = "use a server of this host, or a configuration file with allow_remote = true";
            faults.push(Fault::config("--backend", &message, help));
        }
        if listening.contains(&ListenAddress::Ip(*address)) {
            faults.push(Fault::config("--backend", &format!("{address} is the address of --listen too"), HELP));
        }
    }
    Some(server)
}

fn read_admin(text: &str, listening: &[ListenAddress], faults: &mut Vec<Fault>) -> Option<Admin> {
    let address = match net::own(text) {
        Ok(address) => address,
        Err(problem) => {
            faults.push(fault("--admin", problem, "give IP:port, such as 127.0.0.1:9180"));
            return None;
        }
    };
    if !net::is_loopback(address.ip()) {
        let message = format!("{address} can be reached from other hosts, and the interface asks nobody who they are");
        let help = "use an address of 127.0.0.0/8, or a configuration file with allow_remote = true";
        faults.push(Fault::config("--admin", &message, help));
    }
    if address.port() != 0 && listening.contains(&ListenAddress::Ip(address)) {
        faults.push(Fault::config(
            "--admin",
            &format!("{address} is the address of --listen too"),
            "give another port",
        ));
    }
    Some(Admin { http: Some(address), probe: None, socket: None, allow_remote: false })
}

/// Advice for the file form would speak of quotes and keys.
fn fault(flag: &str, problem: Problem, help: &str) -> Fault {
    Fault::config(flag, &problem.message, help)
}

fn listener(addresses: Vec<ListenAddress>) -> Listener {
    Listener {
        name: Arc::from(defaults::NAME),
        addresses,
        accept_proxy_from: Vec::new(),
        tcp_keepalive: defaults::TCP_KEEPALIVE,
        kernel: KernelPath::default(),
        limits: Limits::default(),
    }
}

fn site(certificate: CertificateFiles, trust: Vec<PathBuf>) -> Site {
    Site {
        name: Arc::from(defaults::NAME),
        listener: 0,
        names: Vec::new(),
        protocol: Protocol::Tcp,
        backend: 0,
        alpn: Vec::new(),
        certificates: vec![certificate],
        tls: SiteTls::default(),
        client: Client { authorities: vec![Authority { trust, ..Authority::default() }], ..Client::default() },
        line: None,
    }
}

fn backend(servers: Vec<Server>) -> Backend {
    Backend {
        name: Arc::from(defaults::NAME),
        servers,
        balance: defaults::BALANCE,
        connect_timeout: defaults::CONNECT_TIMEOUT,
        proxy_protocol: ProxyProtocol::Off,
        proxy_tlvs: ProxyTlvs::default(),
        allow_remote: false,
        health: None,
    }
}
