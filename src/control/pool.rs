//! The real workers, as [`Service`] and as errors of a start.

use super::failure::{Exit, StartFailure};
use super::life::Loaded;
use super::service::Service;
use super::state::Facts;
use crate::config::Config;
use crate::worker::audit_queue::AuditQueue;
use crate::worker::counters::Counters;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

/// Loads every file that the configuration names.
pub fn load(_config: &Arc<Config>) -> Result<Loaded<()>, StartFailure> {
    Ok(Loaded { snapshot: (), facts: Facts::default(), warnings: Vec::new() })
}

/// Binds every socket and starts every worker.
pub fn start(_snapshot: (), _audit: Option<Arc<AuditQueue>>) -> Result<Nobody, StartFailure> {
    Err(StartFailure::new(Exit::Internal, "workers are not yet supported; wait for a later version"))
}

/// No worker at all.
pub enum Nobody {}

impl Service for Nobody {
    fn local_addresses(&self) -> Vec<(Arc<str>, SocketAddr)> {
        match *self {}
    }

    fn counters(&self) -> Vec<Arc<Counters>> {
        match *self {}
    }

    fn stop_accepting(&self) {}

    fn drain(&self, _deadline: Instant) {}

    fn connections(&self) -> u64 {
        0
    }

    fn join(self, _cut: bool) -> u64 {
        0
    }
}
