//! The contract's defaults, in one place: for keys that a file leaves out, and for the flag form.

use super::model::*;
use std::time::Duration;

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);

/// Name of a lone listener or backend that the operator did not name.
pub(super) const NAME: &str = "default";
/// `admin.socket`.
pub const ADMIN_SOCKET: &str = "/run/countersign/admin.sock";
/// `audit.path`.
pub(super) const AUDIT_PATH: &str = "/var/log/countersign/audit.jsonl";

impl Default for Runtime {
    fn default() -> Runtime {
        Runtime {
            cpus: Cpus::Auto,
            pin: Pin::Auto,
            engine: Engine::Auto,
            steering: Steering::Hash,
            ktls: Ktls::Auto,
            drain_delay: Duration::ZERO,
            drain_timeout: MINUTE,
            state_dir: None,
            watch: Duration::ZERO,
        }
    }
}

impl Default for Admin {
    /// Of a table that is there and empty.
    fn default() -> Admin {
        Admin {
            http: Some(([127, 0, 0, 1], 9180).into()),
            probe: None,
            socket: Some(ADMIN_SOCKET.into()),
            allow_remote: false,
        }
    }
}

impl Default for Log {
    fn default() -> Log {
        Log { level: "info".to_owned(), format: LogFormat::Text }
    }
}

impl Default for Audit {
    /// Of a table that is there and empty.
    fn default() -> Audit {
        Audit { target: AuditTarget::File(AUDIT_PATH.into()), on_full: OnFull::Drop }
    }
}

impl Default for Tickets {
    fn default() -> Tickets {
        Tickets {
            enabled: true,
            rotate: HOUR,
            keep: 2,
            lifetime: 2 * HOUR,
            max_auth_age: 12 * HOUR,
            secret_files: Vec::new(),
        }
    }
}

/// `listener.tcp_keepalive`.
pub(super) const TCP_KEEPALIVE: Duration = MINUTE;

impl Default for KernelPath {
    fn default() -> KernelPath {
        KernelPath { ktls: Directions::Auto, splice: Splice::Auto }
    }
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            connections: None,
            handshakes_in_flight: 2048,
            handshake_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(600),
            max_age: Duration::ZERO,
            end_at_expiry: true,
            connections_per_identity: 0,
            full_handshakes_per_second_per_source: 0,
            client_chain_bytes: 32 << 10,
            client_chain_certificates: 8,
        }
    }
}

impl Default for SiteTls {
    fn default() -> SiteTls {
        SiteTls { min_version: TlsVersion::Tls12, cipher_suites: Vec::new(), groups: Vec::new() }
    }
}

impl Default for Client {
    /// Without authorities, which have no default.
    fn default() -> Client {
        Client {
            auth: Auth::Require,
            advertise: Advertise::Trust,
            intermediates: Vec::new(),
            crl_scope: CrlScope::Chain,
            max_depth: 4,
            authorities: Vec::new(),
        }
    }
}

impl Default for Authority {
    /// Without trust, which has no default.
    fn default() -> Authority {
        Authority {
            trust: Vec::new(),
            crls: Vec::new(),
            crl_missing: CrlMissing::Refuse,
            crl_expired: CrlExpired::Refuse,
            allow: None,
            deny: Vec::new(),
            line: None,
        }
    }
}

/// `backend.connect_timeout`.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// `backend.balance`.
pub(super) const BALANCE: Balance = Balance::LeastConnections;

impl Default for ProxyTlvs {
    fn default() -> ProxyTlvs {
        ProxyTlvs { alpn: true, authority: true, unique_id: true, ssl: true, crc32c: false, client_cert: false }
    }
}

impl Default for Health {
    /// Of a table that is there and empty.
    fn default() -> Health {
        Health { interval: Duration::from_secs(2), timeout: Duration::from_secs(1), rise: 2, fall: 3 }
    }
}
