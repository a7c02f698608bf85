//! One connection from accept to close: handshake, backend, bytes both ways, the right end. It decides nothing about
//! trust and knows nothing of other connections; what it needs of the worker around it is the trait [`Host`].
//!
//! A backend is spoken to only with an [`crate::trust::Admission`] in hand, which only `trust` can make.

#![forbid(unsafe_code)]

mod account;
mod arrival;
mod connection;
mod deadlines;
mod end;
#[cfg(debug_assertions)]
mod fault;
mod handshake;
mod kernel;
mod moved;
mod pace;
mod shelf;
mod sizing;
mod transfer;
mod upstream;

pub use account::Account;
pub use connection::{Live, serve};
pub use end::{Cause, EndSignal};
pub use pace::{Pacer, StepsPerTurn};
pub use shelf::Shelf;

use crate::config::{self, ProxyProtocol, ProxyTlvs};
use crate::stats::Counter;
use crate::sys::ktls::Direction;
use crate::sys::splice::Pipes;
use crate::sys::{Address, Reactor};
use crate::tls::{Declined, Environment, Established, Quota, Site, SiteTable, Stay};
use crate::trust::Identity;
use crate::wire::audit::{ConnectionRecord, Path};
use ipnet::IpNet;
use std::io;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

/// What a listener's connections share; immutable, replaced as a whole.
#[derive(Debug)]
pub struct Entry {
    /// Index of the listener in the configuration.
    pub index: usize,
    pub name: Arc<str>,
    /// From whom a PROXY header is required and believed.
    pub accept_proxy_from: Vec<IpNet>,
    pub kernel: config::KernelPath,
    pub limits: config::Limits,
    pub sites: Arc<SiteTable>,
    pub backends: Arc<[Backend]>,
    /// Index into `backends`, by the site's index.
    pub backend_of_site: Arc<[usize]>,
}

impl Entry {
    /// The backend of a site: its index and itself.
    pub fn backend(&self, site: &Site) -> (usize, &Backend) {
        let index = self.backend_of_site[site.index()];
        (index, &self.backends[index])
    }
}

/// A backend as connections use it.
#[derive(Debug)]
pub struct Backend {
    pub name: Arc<str>,
    /// Never empty.
    pub servers: Vec<Server>,
    pub connect_timeout: Duration,
    pub proxy_protocol: ProxyProtocol,
    pub proxy_tlvs: ProxyTlvs,
    pub balance: config::Balance,
}

/// One server of a backend.
#[derive(Debug)]
pub struct Server {
    pub address: Address,
    /// `backend/server`, as audit lines print it.
    pub label: Arc<str>,
}

/// A server chosen for a connection. Its drop tells the host that the connection is gone.
pub trait Seat {
    /// Index of the server in its backend.
    fn server(&self) -> usize;
}

/// What a handshake cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Took {
    /// Accept to established.
    pub wall: Duration,
    /// CPU time in TLS: signatures, key agreement, verification of the chain.
    pub cpu: Duration,
}

/// A limit that clients are refused for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    ConnectionsPerIdentity,
    FullHandshakesPerSource,
}

impl Limit {
    /// Each once, in the order of their numbers.
    pub const ALL: [Limit; 2] = [Limit::ConnectionsPerIdentity, Limit::FullHandshakesPerSource];

    /// The metric's label value: the key that sets it.
    pub fn code(self) -> &'static str {
        match self {
            Limit::ConnectionsPerIdentity => "connections_per_identity",
            Limit::FullHandshakesPerSource => "full_handshakes_per_second_per_source",
        }
    }
}

/// The worker around a connection.
pub trait Host: 'static {
    /// What [`Host::choose`] hands out.
    type Seat: Seat;

    fn reactor(&self) -> &Rc<Reactor>;
    fn environment(&self) -> Rc<Environment>;
    fn shelf(&self) -> &Shelf;
    /// How long a client may take to read last words; asked when they are spoken.
    fn goodbye_time(&self) -> Duration;
    /// When handshakes may go on.
    fn pacer(&self) -> &Rc<Pacer>;
    /// How many connections each identity may have; `None`: any number.
    fn quota(&self, entry: &Entry) -> Option<Quota>;
    /// Takes a full handshake off what this source may still begin; false: nothing is left.
    fn may_begin_full(&self, entry: &Entry, source: IpAddr) -> bool;
    /// A client was refused for a limit.
    fn limited(&self, limit: Limit);
    /// Plaintext bytes from clients, by the path that they went.
    fn bytes_in(&self, path: Path) -> &Counter;
    /// Plaintext bytes to clients.
    fn bytes_out(&self, path: Path) -> &Counter;
    /// Pipes for the kernel path.
    fn pipes(&self) -> &Pipes;
    /// A connection stays in user space though the kernel does TLS.
    fn stayed(&self, why: Stay);
    /// The client changed its keys, or we ours.
    fn key_updated(&self, direction: Direction);
    /// A server of `entry.backends[backend]` that is not among `tried`; `None`: none is left.
    fn choose(&self, entry: &Entry, backend: usize, who: Option<&Identity>, tried: &[usize]) -> Option<Self::Seat>;
    /// A connect failed; the next server follows.
    fn connect_failed(&self, entry: &Entry, backend: usize, server: usize, error: &io::Error);
    /// A connect worked.
    fn connected(&self, backend: usize, server: usize);
    /// No server of this backend could be reached.
    fn backend_down(&self, entry: &Entry, backend: usize);
    /// The handshake is over, well or badly: it is not in flight any more.
    fn handshake_over(&self, entry: &Entry, live: &Live);
    /// Whether what was published since the handshake began still admits its client.
    fn still_admitted(&self, live: &Live) -> bool;
    /// A handshake was completed.
    fn handshake_done(&self, entry: &Entry, established: &Established, took: Took);
    /// A ticket was not taken.
    fn declined(&self, why: Declined);
    /// A connection was refused before it reached a backend, or failed to become one.
    fn refused(&self, entry: &Entry, record: ConnectionRecord);
    /// A backend was chosen.
    fn accepted(&self, record: ConnectionRecord);
    /// All over.
    fn closed(&self, record: ConnectionRecord);
}
