//! When a connection's bytes last moved, and which way: what a drain needs to know to tell an idle one.

use std::cell::Cell;
use std::time::{Duration, Instant};

/// Kept by whoever moves bytes, on any path.
#[derive(Debug, Default)]
pub struct Moved {
    last: Cell<Option<Instant>>,
    /// The client's bytes went to the backend, and nothing came back since.
    unanswered: Cell<bool>,
}

impl Moved {
    /// Something moved, if only TLS's own records. The first call says that a backend is there.
    pub fn touch(&self, now: Instant) {
        self.last.set(Some(now));
    }

    /// The client's bytes went to the backend.
    pub fn upward(&self, now: Instant) {
        self.touch(now);
        self.unanswered.set(true);
    }

    /// The backend's bytes went to the client.
    pub fn downward(&self, now: Instant) {
        self.touch(now);
        self.unanswered.set(false);
    }

    /// When something moved last; `None` before there is a backend.
    pub fn last(&self) -> Option<Instant> {
        self.last.get()
    }

    /// Since when nothing has moved, if that is `quiet` ago or more and nobody waits for an answer.
    pub fn idle_since(&self, now: Instant, quiet: Duration) -> Option<Instant> {
        let last = self.last.get().filter(|last| now.saturating_duration_since(*last) >= quiet)?;
        (!self.unanswered.get()).then_some(last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUIET: Duration = Duration::from_secs(2);

    #[test]
    fn a_connection_is_idle_once_it_is_quiet_and_nobody_waits_for_an_answer() {
        let start = Instant::now();
        let moved = Moved::default();
        assert_eq!(moved.idle_since(start + 10 * QUIET, QUIET), None, "still in its handshake");
        moved.touch(start);
        assert_eq!(moved.idle_since(start + QUIET / 2, QUIET), None);
        assert_eq!(moved.idle_since(start + QUIET, QUIET), Some(start));
        moved.upward(start + QUIET);
        assert_eq!(moved.idle_since(start + 10 * QUIET, QUIET), None, "the answer is not there yet");
        moved.downward(start + 2 * QUIET);
        assert_eq!(moved.idle_since(start + 3 * QUIET, QUIET), Some(start + 2 * QUIET));
    }
}
