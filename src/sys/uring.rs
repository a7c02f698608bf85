//! The io_uring kernel: SINGLE_ISSUER and DEFER_TASKRUN, one enter a turn, restricted to the operations in use.

mod memory;

use super::buffers::BufferSizes;
use super::direct;
use super::kernel::{Completion, Family, Kernel, Operation, Token, Wait};
use super::ktls::{self, Trust};
use super::missing::Missing;
use io_uring::register::{Probe, Restriction};
use io_uring::types::{Fd, SubmitArgs, Timespec};
use io_uring::{IoUring, cqueue, opcode, squeue};
use memory::ProvidedBuffers;
use std::io;
use std::os::fd::{IntoRawFd, RawFd};
use std::time::{Duration, Instant};

/// Sizes of a ring.
#[derive(Debug, Clone, Copy)]
pub struct RingOptions {
    /// Submission entries; when they run out, an extra enter makes room.
    pub entries: u32,
    /// Completion entries.
    pub completions: u32,
    pub buffers: BufferSizes,
}

/// An io_uring of the thread that made it.
pub struct Uring {
    ring: IoUring,
    groups: [ProvidedBuffers; 2],
}

/// Completions of cancel requests themselves: nobody waits for them.
const CANCEL_TOKEN: u64 = u64::MAX;

/// Tells whether this machine can run so many rings at once, before anything is started. One is entered too: a sandbox may
/// allow to make rings and forbid to use them.
///
/// # Errors
/// What is missing and how to get it.
pub fn probe(options: RingOptions, rings: usize) -> Result<(), Missing> {
    let mut rings = (0..rings.max(1)).map(|_| Uring::new(options)).collect::<Result<Vec<_>, _>>()?;
    rings[0].turn(Wait::Not, &mut Vec::new()).map_err(|error| Missing::diagnose("io_uring_enter", &error))
}

impl Uring {
    /// A ring that only the calling thread may use.
    ///
    /// # Errors
    /// What is missing on this machine.
    pub fn new(options: RingOptions) -> Result<Uring, Missing> {
        let at = |step| move |error: io::Error| Missing::diagnose(step, &error);
        let ring = IoUring::builder()
            .setup_cqsize(options.completions)
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_r_disabled()
            .build(options.entries)
            .map_err(at("io_uring_setup"))?;
        let mut known = Probe::new();
        ring.submitter().register_probe(&mut known).map_err(at("asking for the operations of the ring"))?;
        if OPERATIONS.iter().any(|operation| !known.is_supported(*operation)) {
            return Err(Missing::diagnose("the operations of the ring", &io::Error::from_raw_os_error(libc::EINVAL)));
        }
        let group = |number, (count, bytes)| {
            ProvidedBuffers::register(&ring, number, count, bytes).map_err(at("registering receive buffers"))
        };
        let groups = [group(0, options.buffers.small)?, group(1, options.buffers.large)?];
        ring.submitter().register_restrictions(&mut restrictions()).map_err(at("restricting the ring"))?;
        ring.submitter().register_enable_rings().map_err(at("enabling the ring"))?;
        Ok(Uring { ring, groups })
    }

    fn push(&mut self, entry: &squeue::Entry) {
        loop {
            // SAFETY: the callers of `start` promise that what the entry points to outlives the operation; cancel
            // entries point to nothing.
            let pushed = unsafe { self.ring.submission().push(entry) };
            if pushed.is_ok() {
                return;
            }
            // A full queue: hand it over without waiting. EBUSY and EINTR leave it as it was; try again.
            let _ = self.ring.submit();
        }
    }
}

/// What `start` and `cancel` use.
const OPERATIONS: [u8; 7] = [
    opcode::AcceptMulti::CODE,
    opcode::Recv::CODE,
    opcode::Send::CODE,
    opcode::Connect::CODE,
    opcode::Read::CODE,
    opcode::PollAdd::CODE,
    opcode::AsyncCancel::CODE,
];

/// Only these operations, no register call at all, no flag but buffer selection.
fn restrictions() -> Vec<Restriction> {
    let flags = Restriction::sqe_flags_allowed(squeue::Flags::BUFFER_SELECT.bits());
    OPERATIONS.into_iter().map(Restriction::sqe_op).chain([flags]).collect()
}

impl Kernel for Uring {
    unsafe fn start(&mut self, token: Token, operation: Operation) {
        let entry = match operation {
            Operation::Accept { listener } => {
                // A listener that the other kernel had, in the process before this one, would not wait. It can fail only
                // on what is no listener, and then the accept says so.
                let _ = direct::set_waiting(listener, true);
                opcode::AcceptMulti::new(Fd(listener)).flags(libc::SOCK_CLOEXEC).build()
            }
            Operation::Receive { socket, group } => opcode::Recv::new(Fd(socket), std::ptr::null_mut(), 0)
                .buf_group(group)
                .build()
                .flags(squeue::Flags::BUFFER_SELECT),
            Operation::Send { socket, data, len } => {
                opcode::Send::new(Fd(socket), data, len).flags(libc::MSG_WAITALL | libc::MSG_NOSIGNAL).build()
            }
            Operation::Connect { socket, address, len } => opcode::Connect::new(Fd(socket), address, len).build(),
            Operation::Read { file, data, len } => opcode::Read::new(Fd(file), data, len).build(),
            Operation::Poll { file, events } => opcode::PollAdd::new(Fd(file), events as u16 as u32).build(),
        };
        self.push(&entry.user_data(token.0));
    }

    fn cancel(&mut self, token: Token) {
        self.push(&opcode::AsyncCancel::new(token.0).build().user_data(CANCEL_TOKEN));
    }

    fn turn(&mut self, wait: Wait, completions: &mut Vec<Completion>) -> io::Result<()> {
        let timeout = match wait {
            Wait::Not => Some(Duration::ZERO),
            Wait::Until(moment) => Some(moment.saturating_duration_since(Instant::now())),
            Wait::Forever => None,
        };
        // Asking for one completion also when not waiting: only then the kernel runs its deferred work.
        let entered = match timeout {
            None => self.ring.submit_and_wait(1),
            Some(timeout) => {
                let timespec = Timespec::from(timeout);
                self.ring.submitter().submit_with_args(1, &SubmitArgs::new().timespec(&timespec))
            }
        };
        for entry in self.ring.completion() {
            if entry.user_data() != CANCEL_TOKEN {
                completions.push(Completion {
                    token: Token(entry.user_data()),
                    result: entry.result(),
                    buffer: cqueue::buffer_select(entry.flags()),
                    more: cqueue::more(entry.flags()),
                });
            }
        }
        match entered {
            Ok(_) => Ok(()),
            Err(error) => match error.raw_os_error() {
                Some(libc::ETIME | libc::EINTR | libc::EBUSY | libc::EAGAIN) => Ok(()),
                _ => Err(error),
            },
        }
    }

    fn buffers(&self, group: u16) -> usize {
        self.groups[group as usize].count()
    }

    fn buffer(&mut self, group: u16, buffer: u16) -> (*mut u8, usize) {
        self.groups[group as usize].buffer(buffer)
    }

    fn recycle(&mut self, group: u16, buffer: u16) {
        self.groups[group as usize].recycle(buffer);
    }

    fn socket(&mut self, family: Family) -> io::Result<RawFd> {
        Ok(direct::socket(family)?.into_raw_fd())
    }

    fn accept_waiting(&mut self, listener: RawFd) -> io::Result<RawFd> {
        direct::accept_waiting(listener)
    }

    fn close(&mut self, file: RawFd) {
        direct::close(file);
    }

    fn send_now(&mut self, socket: RawFd, bytes: &[u8]) -> io::Result<usize> {
        direct::send_now(socket, bytes)
    }

    fn tls(&self) -> Option<&'static Trust> {
        Some(ktls::trust())
    }
}
