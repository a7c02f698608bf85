//! Every key there is, by table: what the walker holds a file against.

/// A table's path without indices, and its keys.
pub(super) type Keys = (&'static str, &'static [&'static str]);

pub(super) const ROOT: Keys = ("", &["runtime", "admin", "log", "audit", "tickets", "listener", "site", "backend"]);
pub(super) const RUNTIME: Keys =
    ("runtime", &["cpus", "pin", "engine", "steering", "ktls", "drain_delay", "drain_timeout", "state_dir", "watch"]);
pub(super) const ADMIN: Keys = ("admin", &["http", "probe", "socket", "allow_remote"]);
pub(super) const LOG: Keys = ("log", &["level", "format"]);
pub(super) const AUDIT: Keys = ("audit", &["path", "on_full"]);
pub(super) const TICKETS: Keys =
    ("tickets", &["enabled", "rotate", "keep", "lifetime", "max_auth_age", "secret_files"]);
pub(super) const LISTENER: Keys =
    ("listener", &["name", "address", "accept_proxy_from", "tcp_keepalive", "ktls", "splice", "limits"]);
pub(super) const LIMITS: Keys = (
    "listener.limits",
    &[
        "connections",
        "handshakes_in_flight",
        "handshake_timeout",
        "idle_timeout",
        "max_age",
        "end_at_expiry",
        "connections_per_identity",
        "full_handshakes_per_second_per_source",
        "client_chain_bytes",
        "client_chain_certificates",
    ],
);
pub(super) const SITE: Keys =
    ("site", &["name", "listener", "names", "protocol", "backend", "alpn", "certificate", "tls", "client", "http"]);
pub(super) const CERTIFICATE: Keys = ("site.certificate", &["chain", "key", "ocsp"]);
pub(super) const SITE_TLS: Keys = ("site.tls", &["min_version", "cipher_suites", "groups"]);
pub(super) const SITE_HTTP: Keys = ("site.http", &["identity_headers", "header_names"]);
pub(super) const CLIENT: Keys = (
    "site.client",
    &[
        "auth",
        "trust",
        "advertise",
        "intermediates",
        "crls",
        "crl_scope",
        "crl_missing",
        "crl_expired",
        "max_depth",
        "allow",
        "deny",
        "authority",
    ],
);
pub(super) const AUTHORITY: Keys =
    ("site.client.authority", &["trust", "crls", "crl_missing", "crl_expired", "allow", "deny"]);
pub(super) const RULE: Keys = (
    "site.client.allow",
    &["name", "cn", "ou", "o", "dns", "uri", "email", "ip", "serial", "issuer", "sha256", "spki_sha256", "policy_oid"],
);
pub(super) const BACKEND: Keys = (
    "backend",
    &["name", "servers", "balance", "connect_timeout", "proxy_protocol", "proxy_tlvs", "allow_remote", "health"],
);
pub(super) const HEALTH: Keys = ("backend.health", &["interval", "timeout", "rise", "fall"]);

/// All of them.
pub(super) const TABLES: &[Keys] = &[
    ROOT,
    RUNTIME,
    ADMIN,
    LOG,
    AUDIT,
    TICKETS,
    LISTENER,
    LIMITS,
    SITE,
    CERTIFICATE,
    SITE_TLS,
    SITE_HTTP,
    CLIENT,
    AUTHORITY,
    RULE,
    BACKEND,
    HEALTH,
];

/// What to say of a key that its table does not have: the nearest key there, else the table that has exactly this
/// key, else all that the table has.
pub(super) fn advice_for(key: &str, keys: Keys) -> String {
    if let Some(near) = super::nearest::nearest(key, keys.1.iter().copied()) {
        return format!("did you mean `{near}`?");
    }
    let mut elsewhere = TABLES.iter().filter(|table| !table.0.is_empty() && table.1.contains(&key));
    if let (Some(table), None) = (elsewhere.next(), elsewhere.next()) {
        return format!("it belongs in `{}`", table.0);
    }
    format!("known here: {}", keys.1.join(", "))
}
