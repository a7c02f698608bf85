//! The contract's own example, as it stands there but for fingerprints and pending keys, and every default in it.
//! The structures are written out so that a key without a default here does not compile.

use super::super::*;
use super::{LEAST, taken};
use std::sync::Arc;
use std::time::Duration;

const EXAMPLE: &str = include_str!("contract.toml");

fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

fn runtime() -> Runtime {
    Runtime {
        cpus: Cpus::Auto,
        pin: Pin::Auto,
        engine: Engine::Auto,
        steering: Steering::Hash,
        ktls: Ktls::Auto,
        drain_delay: seconds(0),
        drain_timeout: seconds(60),
        state_dir: None,
        watch: seconds(0),
    }
}

fn admin() -> Admin {
    Admin {
        http: Some("127.0.0.1:9180".parse().unwrap()),
        probe: None,
        socket: Some("/run/countersign/admin.sock".into()),
        allow_remote: false,
    }
}

fn log() -> Log {
    Log { level: "info".to_owned(), format: LogFormat::Text }
}

fn audit() -> Audit {
    Audit { target: AuditTarget::File("/var/log/countersign/audit.jsonl".into()), on_full: OnFull::Drop }
}

fn tickets() -> Tickets {
    Tickets {
        enabled: true,
        rotate: seconds(3600),
        keep: 2,
        lifetime: seconds(2 * 3600),
        max_auth_age: seconds(12 * 3600),
        secret_files: vec![],
    }
}

fn listener(name: &str, addresses: &[&str]) -> Listener {
    Listener {
        name: Arc::from(name),
        addresses: addresses.iter().map(|text| ListenAddress::Ip(text.parse().unwrap())).collect(),
        accept_proxy_from: vec![],
        tcp_keepalive: seconds(60),
        kernel: KernelPath { ktls: Directions::Auto, splice: Splice::Auto },
        limits: Limits {
            connections: None,
            handshakes_in_flight: 2048,
            handshake_timeout: seconds(10),
            idle_timeout: seconds(600),
            max_age: seconds(0),
            end_at_expiry: true,
            connections_per_identity: 0,
            full_handshakes_per_second_per_source: 0,
            client_chain_bytes: 32768,
            client_chain_certificates: 8,
        },
    }
}

fn authority(trust: &str) -> Authority {
    Authority {
        trust: vec![trust.into()],
        crls: vec![],
        crl_missing: CrlMissing::Refuse,
        crl_expired: CrlExpired::Refuse,
        allow: None,
        deny: vec![],
        line: None,
    }
}

/// With the defaults of `[site.tls]` and `[site.client]`, a catch-all without ALPN.
fn site(name: &str) -> Site {
    Site {
        name: Arc::from(name),
        listener: 0,
        names: vec![],
        protocol: Protocol::Tcp,
        backend: 0,
        alpn: vec![],
        certificates: vec![CertificateFiles {
            chain: "/etc/countersign/server.pem".into(),
            key: "/etc/countersign/server.key".into(),
            ocsp: None,
        }],
        tls: SiteTls { min_version: TlsVersion::Tls12, cipher_suites: vec![], groups: vec![] },
        client: Client {
            auth: Auth::Require,
            advertise: Advertise::Trust,
            intermediates: vec![],
            crl_scope: CrlScope::Chain,
            max_depth: 4,
            authorities: vec![authority("/etc/countersign/clients-ca.pem")],
        },
        line: None,
    }
}

fn backend(name: &str, servers: Vec<Server>) -> Backend {
    Backend {
        name: Arc::from(name),
        servers,
        balance: Balance::LeastConnections,
        connect_timeout: seconds(1),
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

/// Lines are checked elsewhere.
fn without_lines(mut site: Site) -> Site {
    site.line = None;
    for authority in &mut site.client.authorities {
        authority.line = None;
        for rule in authority.allow.iter_mut().flatten().chain(&mut authority.deny) {
            rule.line = None;
        }
    }
    site
}

#[test]
fn the_least_that_runs_has_every_default_of_the_contract() {
    let config = taken(LEAST);
    assert_eq!(config.runtime, runtime());
    assert_eq!(config.admin, None);
    assert_eq!(config.log, log());
    assert_eq!(config.audit, None);
    assert_eq!(config.tickets, tickets());
    assert_eq!(config.listeners, [listener("default", &["127.0.0.1:0"])]);
    assert_eq!(config.sites.into_iter().map(without_lines).collect::<Vec<_>>(), [site("default")]);
    let servers = vec![Server::Tcp("127.0.0.1:9000".parse().unwrap())];
    assert_eq!(config.backends, [backend("default", servers)]);
}

#[test]
fn tables_that_are_there_and_empty_have_the_defaults_of_their_keys() {
    let config = taken(&format!("[admin]\n[audit]\n[runtime]\n[log]\n[tickets]\n{LEAST}"));
    assert_eq!(config.admin, Some(admin()));
    assert_eq!(config.audit, Some(audit()));
    assert_eq!((config.runtime, config.log, config.tickets), (runtime(), log(), tickets()));
}

#[test]
fn the_contract_s_example_says_its_defaults() {
    let config = taken(EXAMPLE);
    assert_eq!(config.runtime, runtime());
    assert_eq!(config.admin, Some(admin()));
    assert_eq!(config.log, log());
    assert_eq!(config.audit, Some(audit()));
    assert_eq!(config.tickets, tickets());
    assert_eq!(config.listeners, [listener("public", &["0.0.0.0:8443", "[::]:8443"])]);
    let servers = vec![Server::Tcp("127.0.0.1:9000".parse().unwrap()), Server::Unix("/run/ledger.sock".into())];
    assert_eq!(config.backends, [backend("ledger", servers)]);
}

#[test]
fn the_contract_s_example_site_is_read_to_the_last_condition() {
    let config = taken(EXAMPLE);
    let mut expected = site("payments");
    expected.names =
        vec![SiteName::Exact("api.bank.example".to_owned()), SiteName::Wildcard("partners.bank.example".to_owned())];
    expected.certificates[0].ocsp = Some("/etc/countersign/server.ocsp".into());
    let rule = |name: Option<&str>, conditions| Rule { name: name.map(Arc::from), conditions, line: None };
    let leaf = hex::decode("bfaf1f7e070f9fa8dd62905f158da73f84a1136624fbafcc9393c8f7287a69eb").unwrap();
    let spki = hex::decode("c93bd926a3e41be0502799af43521b2c2814e5bc6b6578651841d00e9dee69de").unwrap();
    let authority = &mut expected.client.authorities[0];
    authority.allow = Some(vec![
        rule(None, vec![Condition::Uri("spiffe://bank.example/payments/*".to_owned())]),
        rule(None, vec![Condition::Ou("settlement".to_owned()), Condition::Dns("*.partners.example".to_owned())]),
        rule(Some("acme"), vec![Condition::Sha256(leaf.try_into().unwrap())]),
        rule(None, vec![Condition::SpkiSha256(spki.try_into().unwrap())]),
        rule(
            None,
            vec![
                Condition::Serial(vec![0x03, 0xa5, 0xb1]),
                Condition::Issuer("CN=Partner Issuing CA,O=Bank,C=GB".to_owned()),
            ],
        ),
    ]);
    authority.deny = vec![rule(None, vec![Condition::Cn("old-batch-client".to_owned())])];
    assert_eq!(config.sites.into_iter().map(without_lines).collect::<Vec<_>>(), [expected]);
}

#[test]
fn the_health_table_says_its_defaults() {
    let health = Health { interval: seconds(2), timeout: seconds(1), rise: 2, fall: 3 };
    let said = "[backend.health]\ninterval = \"2s\"\ntimeout = \"1s\"\nrise = 2\nfall = 3\n";
    for table in [said, "[backend.health]\n"] {
        assert_eq!(taken(&format!("{EXAMPLE}{table}")).backends[0].health, Some(health.clone()));
    }
    assert_eq!(taken(EXAMPLE).backends[0].health, None);
}
