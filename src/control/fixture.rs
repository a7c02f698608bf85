//! A configuration for tests: two listeners, two sites, one backend of two servers.

use super::state::{Facts, Generation};
use crate::config::*;
use crate::worker::counters::Counters;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// Without admin and audit; nothing that it names exists.
pub fn config() -> Config {
    Config {
        file: Some(PathBuf::from("/etc/countersign/countersign.toml")),
        digest: [0xab; 32],
        runtime: Runtime {
            cpus: Cpus::Auto,
            pin: Pin::Auto,
            engine: Engine::Auto,
            steering: Steering::Hash,
            ktls: Ktls::Auto,
            drain_delay: Duration::ZERO,
            drain_timeout: Duration::from_secs(60),
            state_dir: None,
            watch: Duration::ZERO,
        },
        admin: None,
        log: Log { level: "error".into(), format: LogFormat::Text },
        audit: None,
        tickets: Tickets {
            enabled: true,
            rotate: Duration::from_secs(3600),
            keep: 2,
            lifetime: Duration::from_secs(7200),
            max_auth_age: Duration::from_secs(12 * 3600),
            secret_files: Vec::new(),
        },
        listeners: vec![listener("public"), listener("partners")],
        sites: vec![site("api", 0), site("settlement", 1)],
        backends: vec![backend()],
        warnings: Vec::new(),
        mentions: Mentions::default(),
    }
}

/// A generation with these counters.
pub fn generation(config: Arc<Config>, counters: Vec<Arc<Counters>>) -> Generation {
    Generation {
        config,
        addresses: Vec::new(),
        counters,
        connection_limits: Vec::new(),
        engine: crate::worker::Engine::IoUring,
        standings: Vec::new(),
        facts: Facts::default(),
        ticket_keys: None,
    }
}

fn listener(name: &str) -> Listener {
    Listener {
        name: Arc::from(name),
        addresses: vec![ListenAddress::Ip("127.0.0.1:0".parse().unwrap())],
        accept_proxy_from: Vec::new(),
        tcp_keepalive: Duration::from_secs(60),
        kernel: KernelPath::default(),
        limits: Limits {
            connections: Some(1000),
            handshakes_in_flight: 2048,
            handshake_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(600),
            max_age: Duration::ZERO,
            end_at_expiry: true,
            connections_per_identity: 0,
            full_handshakes_per_second_per_source: 0,
            client_chain_bytes: 32 << 10,
            client_chain_certificates: 8,
        },
    }
}

fn site(name: &str, listener: usize) -> Site {
    Site {
        name: Arc::from(name),
        listener,
        names: Vec::new(),
        protocol: Protocol::Tcp,
        backend: 0,
        alpn: Vec::new(),
        certificates: Vec::new(),
        tls: SiteTls { min_version: TlsVersion::Tls12, cipher_suites: Vec::new(), groups: Vec::new() },
        client: Client {
            auth: Auth::Require,
            advertise: Advertise::Trust,
            intermediates: Vec::new(),
            crl_scope: CrlScope::Chain,
            max_depth: 4,
            authorities: Vec::new(),
        },
        line: None,
    }
}

fn backend() -> Backend {
    Backend {
        name: Arc::from("ledger"),
        servers: vec![Server::Tcp("127.0.0.1:9000".parse().unwrap()), Server::Unix(PathBuf::from("/run/ledger.sock"))],
        balance: Balance::LeastConnections,
        connect_timeout: Duration::from_secs(1),
        proxy_protocol: ProxyProtocol::Off,
        proxy_tlvs: ProxyTlvs {
            alpn: true,
            authority: true,
            unique_id: true,
            ssl: true,
            crc32c: false,
            client_cert: false,
        },
        allow_remote: false,
        health: None,
    }
}
