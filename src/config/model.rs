//! The types of a checked configuration. Only data: how it comes about is in the modules beside this one.

use super::fault::Fault;
use super::mentions::Mentions;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// Everything that one run needs to know. Indices (`Site::listener`, `Site::backend`) are into the vectors here.
#[derive(Debug, Clone)]
pub struct Config {
    /// The file it came from; `None` for the flag form and `demo`.
    pub file: Option<PathBuf>,
    /// SHA-256 of the text it came from, for the audit's `start` line.
    pub digest: [u8; 32],
    pub runtime: Runtime,
    /// `None`: no admin interfaces at all.
    pub admin: Option<Admin>,
    pub log: Log,
    /// `None`: no audit.
    pub audit: Option<Audit>,
    pub tickets: Tickets,
    pub listeners: Vec<Listener>,
    pub sites: Vec<Site>,
    pub backends: Vec<Backend>,
    /// What is legal but unwise; `check` prints them, `run` logs them.
    pub warnings: Vec<Fault>,
    /// Which line names which file; [`Config::locate`] uses it.
    pub mentions: Mentions,
}

/// `[runtime]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Runtime {
    pub cpus: Cpus,
    pub pin: Pin,
    pub engine: Engine,
    pub steering: Steering,
    pub ktls: Ktls,
    pub drain_delay: Duration,
    pub drain_timeout: Duration,
    pub state_dir: Option<PathBuf>,
    /// Zero: reload only when told.
    pub watch: Duration,
}

/// Which CPUs the process may use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cpus {
    /// All that are allowed, at most the cgroup quota rounded up.
    Auto,
    /// These, sorted, without repetition.
    List(Vec<usize>),
}

/// Whether each worker is pinned to its CPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pin {
    Always,
    Never,
    /// Unless a quota is smaller than the CPUs allowed.
    Auto,
}

/// Which kernel interface the workers run on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Engine {
    IoUring,
    Epoll,
    Auto,
}

/// How SO_REUSEPORT spreads connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Steering {
    Hash,
    Cpu,
}

/// Kernel TLS and splice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ktls {
    Auto,
    Off,
    Require,
}

/// `[admin]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Admin {
    /// `None` where the key is the empty string.
    pub http: Option<SocketAddr>,
    pub probe: Option<SocketAddr>,
    pub socket: Option<PathBuf>,
    pub allow_remote: bool,
}

/// `[log]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Log {
    /// `error`, `warn`, `info`, `debug` or `trace`.
    pub level: String,
    pub format: LogFormat,
}

/// Form of the operator's log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    Text,
    Json,
}

/// `[audit]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Audit {
    pub target: AuditTarget,
    pub on_full: OnFull,
}

/// Where audit lines go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AuditTarget {
    File(PathBuf),
    Stdout,
    Journald,
}

/// What happens when the audit cannot be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnFull {
    /// Drop the line and count it.
    Drop,
    /// Refuse new connections.
    Refuse,
}

/// `[tickets]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Tickets {
    pub enabled: bool,
    pub rotate: Duration,
    /// Older keys still accepted.
    pub keep: u32,
    pub lifetime: Duration,
    pub max_auth_age: Duration,
    pub secret_files: Vec<PathBuf>,
}

/// Where a listener listens.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum ListenAddress {
    Ip(SocketAddr),
    /// On the sockets that the service manager opened under this name.
    Systemd(Arc<str>),
}

impl ListenAddress {
    /// What it is bound to, where the configuration says it.
    pub fn ip(&self) -> Option<SocketAddr> {
        match self {
            ListenAddress::Ip(address) => Some(*address),
            ListenAddress::Systemd(_) => None,
        }
    }
}

impl From<SocketAddr> for ListenAddress {
    fn from(address: SocketAddr) -> ListenAddress {
        ListenAddress::Ip(address)
    }
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ListenAddress::Ip(address) => address.fmt(f),
            ListenAddress::Systemd(name) => write!(f, "systemd:{name}"),
        }
    }
}

/// `[[listener]]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Listener {
    pub name: Arc<str>,
    pub addresses: Vec<ListenAddress>,
    pub accept_proxy_from: Vec<ipnet::IpNet>,
    /// Zero: off.
    pub tcp_keepalive: Duration,
    pub kernel: KernelPath,
    pub limits: Limits,
}

/// What the kernel may do for a listener's connections, within what `runtime.ktls` allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KernelPath {
    pub ktls: Directions,
    pub splice: Splice,
}

/// `listener.ktls`: which direction's keys the kernel gets. What it does not take stays in user space.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Directions {
    Off,
    /// Those of what we send.
    Transmit,
    /// Those of what we receive.
    Receive,
    /// Both, or none.
    Both,
    /// What the kernel passed the trial for: both, or none.
    Auto,
}

/// `listener.splice`: whether bytes under the kernel's keys go through pipes, or through user space.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Splice {
    Off,
    On,
    Auto,
}

/// `[listener.limits]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Limits {
    /// `None`: "auto".
    pub connections: Option<u32>,
    pub handshakes_in_flight: u32,
    pub handshake_timeout: Duration,
    pub idle_timeout: Duration,
    /// Zero: none.
    pub max_age: Duration,
    pub end_at_expiry: bool,
    /// Zero: no limit.
    pub connections_per_identity: u32,
    /// Zero: no limit.
    pub full_handshakes_per_second_per_source: u32,
    /// Bytes of DER over the whole Certificate message.
    pub client_chain_bytes: usize,
    pub client_chain_certificates: usize,
}

/// `[[site]]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Site {
    pub name: Arc<str>,
    /// Index into [`Config::listeners`].
    pub listener: usize,
    /// Empty: the catch-all of its listener.
    pub names: Vec<SiteName>,
    pub protocol: Protocol,
    /// Index into [`Config::backends`].
    pub backend: usize,
    /// Empty: ALPN is not negotiated.
    pub alpn: Vec<Vec<u8>>,
    /// Never empty.
    pub certificates: Vec<CertificateFiles>,
    pub tls: SiteTls,
    pub client: Client,
    /// Line of the site's table in the file, for faults found later in its files.
    pub line: Option<usize>,
}

/// A name that a site answers to, lower case.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum SiteName {
    Exact(String),
    /// `*.rest`: exactly one label before `rest` (held here without `*.`).
    Wildcard(String),
}

/// What goes over a site's connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    Tcp,
    Http,
}

/// One `certificate` entry, absolute paths.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateFiles {
    pub chain: PathBuf,
    pub key: PathBuf,
    pub ocsp: Option<PathBuf>,
}

/// `[site.tls]`. Suites and groups are IANA names, known ones only; empty = rustls's default list and order of ours.
#[derive(Debug, Clone, PartialEq)]
pub struct SiteTls {
    pub min_version: TlsVersion,
    pub cipher_suites: Vec<String>,
    pub groups: Vec<String>,
}

/// A protocol version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum TlsVersion {
    Tls12,
    Tls13,
}

/// `[site.client]`. The short form (`trust`, `crls`, `allow` … in `[site.client]`) is one [`Authority`].
#[derive(Debug, Clone, PartialEq)]
pub struct Client {
    pub auth: Auth,
    pub advertise: Advertise,
    pub intermediates: Vec<PathBuf>,
    pub crl_scope: CrlScope,
    /// Intermediates between leaf and anchor, 0 to 6.
    pub max_depth: usize,
    /// Empty where `auth` is `Off`, and only there. `Pin` and `Request` may have one with an empty `trust`: it holds
    /// their rules.
    pub authorities: Vec<Authority>,
}

/// `site.client.auth`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Auth {
    Require,
    Optional,
    Request,
    Pin,
    Off,
}

/// Names in CertificateRequest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Advertise {
    Trust,
    None,
    Files(Vec<PathBuf>),
}

/// Which certificates of a chain are looked up in CRLs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CrlScope {
    Chain,
    Leaf,
}

/// No CRL covers an issuer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CrlMissing {
    Refuse,
    Allow,
}

/// A CRL's nextUpdate has passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CrlExpired {
    Refuse,
    Allow,
    Grace(Duration),
}

/// Anchors with the CRLs and rules that go with them.
#[derive(Debug, Clone, PartialEq)]
pub struct Authority {
    pub trust: Vec<PathBuf>,
    pub crls: Vec<PathBuf>,
    pub crl_missing: CrlMissing,
    pub crl_expired: CrlExpired,
    /// `None`: every verified client. `Some` and empty: nobody.
    pub allow: Option<Vec<Rule>>,
    pub deny: Vec<Rule>,
    /// Line of the table in the file.
    pub line: Option<usize>,
}

/// One rule: all conditions must match. Never empty.
#[derive(Debug, Clone, PartialEq)]
pub struct Rule {
    /// The operator's name for whom it admits; becomes the identity.
    pub name: Option<Arc<str>>,
    pub conditions: Vec<Condition>,
    pub line: Option<usize>,
}

/// One condition of a rule, already in comparable form.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Condition {
    Cn(String),
    Ou(String),
    O(String),
    /// Lower case; labels, `*` alone stands for exactly one label.
    Dns(String),
    /// `*` one path segment, `**` any number of segments, only in the path.
    Uri(String),
    Email(String),
    Ip(std::net::IpAddr),
    /// Big-endian, without leading zeros (empty = zero).
    Serial(Vec<u8>),
    /// An RFC 2253 (RFC 4514) name as the operator wrote it; compared as a name.
    Issuer(String),
    Sha256([u8; 32]),
    SpkiSha256([u8; 32]),
    /// Dotted decimal.
    PolicyOid(String),
}

/// `[[backend]]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Backend {
    pub name: Arc<str>,
    /// Never empty.
    pub servers: Vec<Server>,
    pub balance: Balance,
    pub connect_timeout: Duration,
    pub proxy_protocol: ProxyProtocol,
    pub proxy_tlvs: ProxyTlvs,
    pub allow_remote: bool,
    pub health: Option<Health>,
}

/// Where a backend listens.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Server {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

/// How a server is chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Balance {
    LeastConnections,
    RoundRobin,
    IdentityHash,
}

/// Header that goes before a connection's bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProxyProtocol {
    Off,
    V1,
    V2,
}

/// TLVs of a PROXY v2 header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProxyTlvs {
    pub alpn: bool,
    pub authority: bool,
    pub unique_id: bool,
    pub ssl: bool,
    pub crc32c: bool,
    pub client_cert: bool,
}

/// `[backend.health]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Health {
    pub interval: Duration,
    pub timeout: Duration,
    pub rise: u32,
    pub fall: u32,
}

impl std::fmt::Display for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Server::Tcp(address) => write!(f, "{address}"),
            Server::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl std::fmt::Display for SiteName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            SiteName::Exact(name) => f.write_str(name),
            SiteName::Wildcard(rest) => write!(f, "*.{rest}"),
        }
    }
}
