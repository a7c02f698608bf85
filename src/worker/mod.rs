//! One CPU's loop and what it is given: the [`Snapshot`], commands, queues back to the control thread.

#![forbid(unsafe_code)]

mod accepting;
pub mod audit_queue;
mod backends;
mod binding;
pub mod counters;
mod engine;
mod gauges;
mod host;
mod kernel_path;
mod leaving;
mod plan;
mod pool;
mod rejudge;
mod seen;
mod sessions;
mod snapshot;
mod sources;
mod standing;
mod start_error;
mod steering;
mod thread;

#[cfg(test)]
mod simulation;

pub use accepting::Lent;
pub use audit_queue::AuditQueue;
pub use counters::Counters;
pub use engine::Engine;
pub use gauges::Pause;
pub use kernel_path::{lack as kernel_tls_lack, words as kernel_tls};
pub use pool::{Inheritance, Pool};
pub use seen::{Sighting, Sightings};
pub use sessions::{Presence, Question, Session};
pub use snapshot::Snapshot;
pub use standing::{Standing, Standings, Wanted};
pub use start_error::StartError;
