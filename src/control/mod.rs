//! The process: start and stop order, signals, drain, admin HTTP, metrics, the audit's writer.
//!
//! An ordinary tokio runtime on the main thread. Nothing here is on the way of a connection's bytes, and nothing here
//! wakes up while there is nothing to do.
//!
//! | file | what it is |
//! |---|---|
//! | [`life`] | start order, what signals do, stop order |
//! | [`drain`] | when to stop accepting, when to give up |
//! | [`service`] | what is asked of the workers |
//! | [`audit`] | the thread that writes audit lines |
//! | [`admin`] | `/metrics`, `/healthz`, `/readyz`, `/status` |
//! | [`explain`] | whether a client would be let in, and why |
//! | [`exposition`] | counters as Prometheus text |
//! | [`logging`] | the operator's log |

#![forbid(unsafe_code)]

mod admin;
mod audit;
mod drain;
pub mod explain;
mod exposition;
mod failure;
#[cfg(test)]
mod fixture;
mod life;
mod logging;
mod pool;
mod readiness;
mod service;
mod signals;
mod state;
mod status;

pub use failure::{Exit, StartFailure};
pub use life::{Options, Ready, run};
