//! The admin sockets that are open, so that they can be handed over as well: no probe is refused in between.

use super::Described;
use std::fmt;
use std::os::fd::OwnedFd;
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::task::AbortHandle;

/// All of them.
#[derive(Default)]
pub struct Doors(Mutex<Vec<Door>>);

struct Door {
    described: Described,
    socket: OwnedFd,
    accepting: AbortHandle,
}

impl Doors {
    /// One more, with a duplicate of its socket and the task that accepts on it.
    pub fn add(&self, described: Described, socket: OwnedFd, accepting: AbortHandle) {
        self.all().push(Door { described, socket, accepting });
    }

    /// Duplicates for another process.
    pub(super) fn lend(&self) -> Vec<(Described, OwnedFd)> {
        let lend = |door: &Door| Some((door.described.clone(), door.socket.try_clone().ok()?));
        self.all().iter().filter_map(lend).collect()
    }

    /// Accepts no more: another process does. Connections that are there go on.
    pub fn leave(&self) {
        self.all().drain(..).for_each(|door| door.accepting.abort());
    }

    fn all(&self) -> MutexGuard<'_, Vec<Door>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Doors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Doors").field("count", &self.all().len()).finish()
    }
}
