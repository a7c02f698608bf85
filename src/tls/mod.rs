//! rustls put together: sites, certificates, tickets, the session over the unbuffered API. No sockets, no clock: time is
//! an argument, bytes go in and out.
//!
//! Reading order: [`Session`] drives one connection; [`SiteTable`] and [`Site`] say with what; `scope` lends a
//! connection's context to rustls's callbacks; `verifier` and `tickets` are those callbacks; `ticket_keys` seals.
//! Once keys are in the kernel, [`KernelSession`] judges what is no data, and [`Opener`] or [`Sealer`] does the direction that
//! stayed here.

#![forbid(unsafe_code)]

mod credentials;
mod established;
mod failure;
mod files;
mod finished;
mod hello;
mod kernel;
mod key_changes;
mod names;
mod offer;
mod opener;
#[cfg(fuzzing)]
mod probe;
mod protection;
mod quota;
mod records;
mod resolver;
mod scope;
mod sealer;
mod session;
mod session_value;
mod site;
mod table;
mod ticket_keys;
mod tickets;
mod verifier;

#[cfg(test)]
mod tests;

pub use credentials::ServerCertificate;
pub use established::Established;
pub use failure::Failure;
pub use files::read_secrets;
pub use kernel::{Bulk, Departed, KernelSession, Said, Stay, TrafficKeys};
pub use key_changes::KeyChanges;
pub use names::openssl_cipher_name;
pub use opener::{Opened, Opener};
#[cfg(fuzzing)]
pub use probe::TicketProbe;
pub use quota::{Quota, QuotaPlace, Tally};
pub use sealer::Sealer;
pub use session::{Cost, Session, Status};
pub use site::{Site, SiteSource};
pub use table::SiteTable;
pub use ticket_keys::{NoKeys, Secret, TicketKeys};

use crate::trust::{Blocks, LocalChainCache};
use arc_swap::ArcSwap;
use std::rc::Rc;
use std::sync::Arc;

/// What all sessions of one worker share.
#[derive(Debug)]
pub struct Environment {
    pub cache: Rc<LocalChainCache>,
    /// Published by the control thread.
    pub blocks: Arc<ArcSwap<Blocks>>,
}

/// Why a ticket was not taken; the connection then did a full handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Declined {
    Epoch,
    Blocked,
    Expired,
    UnknownKey,
    Sni,
    AuthAge,
}

impl Declined {
    /// All of them, in the order of `resumption_declined` counters.
    pub const ALL: [Declined; 6] =
        [Declined::Epoch, Declined::Blocked, Declined::Expired, Declined::UnknownKey, Declined::Sni, Declined::AuthAge];

    /// The metric's label value.
    pub fn code(self) -> &'static str {
        match self {
            Declined::Epoch => "epoch",
            Declined::Blocked => "blocked",
            Declined::Expired => "expired",
            Declined::UnknownKey => "unknown_key",
            Declined::Sni => "sni",
            Declined::AuthAge => "auth_age",
        }
    }
}
