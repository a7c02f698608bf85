//! How a session leaves user space: its keys go to the kernel once nothing of it is left here.

use super::{Phase, Session, ended};
use crate::tls::failure::Failure;
use crate::tls::kernel::{self, Bulk, Departed, Stay};
use crate::tls::records;
use std::time::Instant;

impl Session {
    /// How many bytes may be read now without reading past the record that is begun; `None` where it does not matter. It
    /// matters in handshakes after which the kernel may take over: nothing behind them may be in user space then.
    pub fn wants_exactly(&self) -> Option<usize> {
        self.running().filter(|running| running.site.may_leave()).map(|running| records::exactly(&running.carry))
    }

    /// Whether this session's keys may be given to the kernel at all.
    pub fn may_leave(&self) -> bool {
        self.running().is_some_and(|running| running.site.may_leave() && running.established.is_some())
    }

    /// Whether they can be now: version (1.3 or not) and cipher, for the kernel to judge.
    pub fn leaving(&self) -> Result<(bool, Bulk), Stay> {
        let Some(running) = self.running() else { return Err(Stay::Ended) };
        if running.peer_closed || running.close_sent {
            return Err(Stay::Ended);
        }
        if !running.carry.is_empty() || running.tls.wants_write() {
            return Err(Stay::Leftover);
        }
        kernel::suite_of(&running.tls).ok_or(Stay::Suite)
    }

    /// Takes the keys out, after [`Session::leaving`] said yes. On an error the session is lost.
    pub fn into_kernel(self, now: Instant) -> Result<Departed, Box<Failure>> {
        match self.phase {
            Phase::Running(running) if running.carry.is_empty() => kernel::depart(running.tls, now),
            _ => Err(ended()),
        }
    }
}
