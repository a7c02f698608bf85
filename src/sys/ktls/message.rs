//! Records with their content type: `recvmsg` and `sendmsg` with a control message.

use super::SOL_TLS;
use std::io;
use std::os::fd::RawFd;

/// Content types (RFC 8446 section 5.1).
pub const ALERT: u8 = 21;
pub const HANDSHAKE: u8 = 22;
pub const DATA: u8 = 23;

const SET_RECORD_TYPE: i32 = 1;
const GET_RECORD_TYPE: i32 = 2;
const HEADER: usize = size_of::<libc::cmsghdr>();
/// CMSG_SPACE(1): the header and one byte, up to the next word.
const SPACE: usize = HEADER + size_of::<usize>();

/// What a read found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Record {
    /// So many bytes of application data, perhaps of several records.
    Data(usize),
    /// A record of another type.
    Control { kind: u8, len: usize },
    /// The TCP stream ended. Whether it should have, only an alert before it can tell.
    End,
}

/// What an error of a socket with receive keys means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// Nothing is there, or there is no room.
    NotNow,
    /// What is next is no data; of `recvmsg`: is no record at all.
    NoData,
    /// A record that does not open under its key.
    BadRecord,
    /// A record that is longer than records may be.
    TooLong,
    /// The client changed its keys, and the new ones are not installed.
    NoKeys,
    /// TCP's own.
    Broken,
}

impl Trouble {
    pub fn of(error: &io::Error) -> Trouble {
        match error.raw_os_error() {
            Some(libc::EAGAIN | libc::EINTR) => Trouble::NotNow,
            Some(libc::EINVAL | libc::EIO) => Trouble::NoData,
            Some(libc::EBADMSG) => Trouble::BadRecord,
            Some(libc::EMSGSIZE) => Trouble::TooLong,
            Some(libc::EKEYEXPIRED) => Trouble::NoKeys,
            _ => Trouble::Broken,
        }
    }
}

/// Control data, aligned as the kernel's own macros would have it.
#[repr(C, align(8))]
struct Control([u8; SPACE]);

/// Reads without waiting. Only a socket with receive keys may be asked: without them it would give ciphertext, which has
/// no content type and is an error here.
pub(super) fn receive(socket: RawFd, into: &mut [u8]) -> io::Result<Record> {
    let mut control = Control([0; SPACE]);
    let mut part = libc::iovec { iov_base: into.as_mut_ptr().cast(), iov_len: into.len() };
    let mut message = header(&mut part, &mut control);
    // SAFETY: the message names `into`, `part` and `control`, which live during the call, with their true lengths.
    let read = unsafe { libc::recvmsg(socket, &mut message, libc::MSG_DONTWAIT) };
    if read < 0 {
        return Err(io::Error::last_os_error());
    }
    let len = read as usize;
    match content_type(&control.0, message.msg_controllen) {
        Some(DATA) => Ok(Record::Data(len)),
        Some(kind) => Ok(Record::Control { kind, len }),
        None if len == 0 => Ok(Record::End),
        None => Err(io::Error::other("the kernel gave bytes without their content type")),
    }
}

/// Sends `data`, at most one record of it, as content type `kind`, without waiting: all of it or an error.
pub(super) fn send(socket: RawFd, kind: u8, data: &[u8]) -> io::Result<()> {
    let mut control = Control([0; SPACE]);
    control.0[..size_of::<usize>()].copy_from_slice(&(HEADER + 1).to_ne_bytes());
    control.0[size_of::<usize>()..][..4].copy_from_slice(&SOL_TLS.to_ne_bytes());
    control.0[size_of::<usize>() + 4..][..4].copy_from_slice(&SET_RECORD_TYPE.to_ne_bytes());
    control.0[HEADER] = kind;
    let mut part = libc::iovec { iov_base: data.as_ptr().cast_mut().cast(), iov_len: data.len() };
    let message = header(&mut part, &mut control);
    // SAFETY: the message names `data`, `part` and `control`, which live during the call, with their true lengths; sending
    // writes to none of them.
    let sent = unsafe { libc::sendmsg(socket, &message, libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL) };
    match usize::try_from(sent) {
        Err(_) => Err(io::Error::last_os_error()),
        Ok(sent) if sent == data.len() => Ok(()),
        Ok(_) => Err(io::Error::other("the kernel took a part of a control record")),
    }
}

fn header(part: &mut libc::iovec, control: &mut Control) -> libc::msghdr {
    // SAFETY: all zeroes are a valid msghdr: no name, no parts, no control data.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = part;
    message.msg_iovlen = 1;
    message.msg_control = control.0.as_mut_ptr().cast();
    message.msg_controllen = SPACE;
    message
}

/// The content type in the control data that came, if there is one.
fn content_type(control: &[u8; SPACE], len: usize) -> Option<u8> {
    if len < HEADER + 1 {
        return None;
    }
    let number = |at: usize| control[at..at + 4].try_into().map(i32::from_ne_bytes).ok();
    let level = number(size_of::<usize>())?;
    let kind = number(size_of::<usize>() + 4)?;
    ((level, kind) == (SOL_TLS, GET_RECORD_TYPE)).then_some(control[HEADER])
}
