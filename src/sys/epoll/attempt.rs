//! One try of an operation. No call here waits.

use super::super::direct;
use super::super::kernel::{Completion, Operation};
use super::Epoll;
use super::watch::Flight;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, SocketFlags};
use std::os::fd::{IntoRawFd, RawFd};

/// What came of a try.
pub(super) enum Verdict {
    /// A result or a negated errno; nothing more will come.
    Over(i32),
    /// So many bytes in this buffer.
    Filled(i32, u16),
    /// epoll will tell when to try again.
    Wait,
    /// There is more to do, in the next turn.
    Again,
    /// There is no room, and nothing will tell when there is.
    Crowded,
}

/// What holds of a descriptor now, as poll(2) says it, or a negated errno.
fn look(file: RawFd, events: i16) -> i32 {
    let mut entry = libc::pollfd { fd: file, events, revents: 0 };
    // SAFETY: one entry, which lives during the call.
    match unsafe { libc::poll(&mut entry, 1, 0) } {
        0 => 0,
        1.. => i32::from(entry.revents as u16),
        _ => -std::io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO),
    }
}

fn failed(error: Errno) -> Verdict {
    Verdict::Over(-error.raw_os_error())
}

impl Epoll {
    pub(super) fn perform(&mut self, flight: &mut Flight, completions: &mut Vec<Completion>) -> Verdict {
        match flight.operation {
            Operation::Accept { listener } => self.accept(listener, flight, completions),
            Operation::Receive { socket, group } => self.receive(socket, group),
            Operation::Read { file, data, len } => {
                // SAFETY: whoever started the operation keeps this memory, untouched, until its last completion.
                let room = unsafe { std::slice::from_raw_parts_mut(data, len as usize) };
                match rustix::io::read(direct::borrow(file), room) {
                    Ok(count) => Verdict::Over(count as i32),
                    Err(Errno::AGAIN) => self.nothing_to_read(file),
                    Err(error) => failed(error),
                }
            }
            Operation::Send { socket, data, len } => {
                // SAFETY: whoever started the operation keeps this memory, untouched, until its last completion.
                let bytes = unsafe { std::slice::from_raw_parts(data, len as usize) };
                self.send(socket, bytes, &mut flight.sent)
            }
            Operation::Poll { file, events } => match look(file, events) {
                0 => Verdict::Wait,
                told => Verdict::Over(told),
            },
            Operation::Connect { socket, address, len } => {
                // SAFETY: whoever started the operation keeps the address, of this length, until its last completion.
                let result = unsafe { libc::connect(socket, address, len) };
                self.connected(socket, if result == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) })
            }
        }
    }

    fn nothing_to_read(&mut self, file: RawFd) -> Verdict {
        self.watches.of(file).is_empty();
        Verdict::Wait
    }

    fn accept(&mut self, listener: RawFd, flight: &Flight, completions: &mut Vec<Completion>) -> Verdict {
        for _ in 0..self.accepts {
            let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
            match rustix::net::accept_with(direct::borrow(listener), flags) {
                Ok(socket) => {
                    let result = socket.into_raw_fd();
                    self.watches.renew(result);
                    completions.push(Completion { token: flight.token, result, buffer: None, more: true });
                }
                Err(Errno::AGAIN) => return self.nothing_to_read(listener),
                // The queue may hold more, and no event will say so again: the next accept is tried at once.
                Err(error) => return failed(error),
            }
        }
        Verdict::Again
    }

    fn receive(&mut self, socket: RawFd, group: u16) -> Verdict {
        let group = &mut self.groups[group as usize];
        let Some(buffer) = group.lend() else { return Verdict::Over(-libc::ENOBUFS) };
        let room = group.room(buffer);
        let capacity = room.len();
        // `MSG_TRUNC` has no meaning here: on a stream the two counts are the same.
        let received = rustix::net::recv(direct::borrow(socket), room, RecvFlags::DONTWAIT).map(|(count, _)| count);
        if let Ok(count @ 1..) = received {
            self.watches.of(socket).has_read(count == capacity);
            return Verdict::Filled(count as i32, buffer);
        }
        group.take_back(buffer);
        match received {
            Ok(_) => Verdict::Over(0),
            Err(Errno::AGAIN) => self.nothing_to_read(socket),
            Err(error) => failed(error),
        }
    }

    /// All of it, as the other kernel does with MSG_WAITALL.
    fn send(&mut self, socket: RawFd, bytes: &[u8], sent: &mut u32) -> Verdict {
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        match rustix::net::send(direct::borrow(socket), &bytes[*sent as usize..], flags) {
            Ok(count) => {
                *sent += count as u32;
                if *sent as usize == bytes.len() {
                    return Verdict::Over(*sent as i32);
                }
            }
            Err(Errno::AGAIN) => {}
            // What is gone is told first; the next send meets the error.
            Err(_) if *sent > 0 => return Verdict::Over(*sent as i32),
            Err(error) => return failed(error),
        }
        self.watches.of(socket).is_full();
        Verdict::Wait
    }

    /// A connect that is under way is called again once epoll tells of it: it answers what became of it.
    fn connected(&mut self, socket: RawFd, result: std::io::Result<()>) -> Verdict {
        let Err(error) = result else { return Verdict::Over(0) };
        match error.raw_os_error() {
            Some(libc::EISCONN) => Verdict::Over(0),
            Some(libc::EINPROGRESS | libc::EALREADY | libc::EINTR) => {
                self.watches.of(socket).is_full();
                Verdict::Wait
            }
            Some(libc::EAGAIN) => Verdict::Crowded,
            code => Verdict::Over(-code.unwrap_or(libc::EIO)),
        }
    }
}
