//! How a session leaves user space: its keys go to the kernel once nothing of it is left here.

use super::{Phase, Session, Status, ended};
use crate::tls::failure::Failure;
use crate::tls::kernel::{self, Bulk, Departed, Stay};
use crate::tls::records;
use rustls_pki_types::UnixTime;
use std::time::Instant;

impl Session {
    /// Whether nothing may be read behind the handshake, for the kernel may take over there: [`Session::feed_to_the_end`] is
    /// to be called then.
    pub fn reads_exactly(&self) -> bool {
        self.running().is_some_and(|running| running.site.may_leave())
    }

    /// The same as [`Session::feed`] in as many steps as there are records, up to the end of the handshake and no further;
    /// and how many bytes it took.
    pub fn feed_to_the_end(
        &mut self,
        input: &mut [u8],
        now: UnixTime,
        plain: &mut Vec<u8>,
        out: &mut Vec<u8>,
    ) -> (Result<Status, Box<Failure>>, usize) {
        let mut used = 0;
        loop {
            let left = &mut input[used..];
            let carry = self.running().map_or(&[][..], |running| &running.carry);
            let count = records::to_the_end(carry, left);
            let status = self.feed(&mut left[..count], now, plain, out);
            used += count;
            match status {
                Ok(Status::Handshaking) if used < input.len() => {}
                status => return (status, used),
            }
        }
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
