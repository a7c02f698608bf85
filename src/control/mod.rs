//! The process: start and stop order, signals, reload, drain, admin HTTP and socket, metrics, the audit's writer.
//!
//! An ordinary tokio runtime on the main thread. Nothing here is on the way of a connection's bytes, and nothing here
//! wakes up while there is nothing to do (health checks are something).
//!
//! | file | what it is |
//! |---|---|
//! | [`life`] | start order, what signals do, stop order |
//! | [`drain`] | when to stop accepting, when to give up |
//! | [`confinement`] | what the process may still read and write |
//! | [`handover`] | a new program takes over |
//! | [`desk`] | what can be asked of a running process |
//! | [`reload`] | the next configuration, checked whole before it replaces the present one |
//! | [`watch`] | whether files changed since |
//! | [`service`] | what is asked of the workers |
//! | [`audit`] | the thread that writes audit lines |
//! | [`refusals`] | the last attempts that were refused |
//! | [`clients`] | the clients that were let in, for the metrics and `ctl identities` |
//! | [`block_book`] | blocks on disk |
//! | [`ctl`] | the admin socket |
//! | [`admin`] | `/metrics`, `/healthz`, `/readyz`, `/status` |
//! | [`explain`] | whether a client would be let in, and why |
//! | [`exposition`] | counters as Prometheus text |
//! | [`health`] | whether backend servers answer |
//! | [`logging`] | the operator's log |

#![forbid(unsafe_code)]

mod admin;
mod audit;
mod block_book;
mod block_ends;
mod clients;
mod confinement;
pub mod ctl;
mod desk;
mod drain;
pub mod explain;
mod exposition;
mod failure;
#[cfg(test)]
mod fixture;
mod handover;
mod health;
mod life;
mod logging;
mod notify;
mod pool;
mod readiness;
mod refusals;
mod reload;
mod service;
mod signals;
mod state;
mod status;
mod text;
mod watch;

pub use block_book::BlockBook;
pub use failure::{Exit, StartFailure};
pub use handover::Succession;
pub use life::{Options, Ready, run};
