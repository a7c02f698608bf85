//! Kernel TLS: keys into a socket, records out of it, and what this kernel can be trusted with.
//!
//! Everything here is a direct system call that never waits. What the kernel does not do by itself is the caller's:
//! counting records up to the limit of the keys, answering KeyUpdates, bounding floods.

mod keys;
mod message;
mod port;
mod trial;

pub use keys::{Cipher, Direction, Keys, Version};
pub use message::{ALERT, DATA, HANDSHAKE, Record, Trouble};
pub use port::Port;
pub use trial::{Trust, trust};

use std::io;
use std::os::fd::RawFd;

const SOL_TLS: i32 = 282;
/// `struct tcp_info` of linux/tcp.h: where `tcpi_bytes_acked` lies (kernel 4.1), and room up to its end.
const TCP_INFO_BYTES_ACKED: usize = 120;
const TCP_INFO_ROOM: usize = 128;
/// How often the account of a socket is looked at until two looks agree.
const LOOKS_MAX: usize = 32;

/// Attaches the TLS layer to a connected TCP socket; without keys it changes nothing yet.
fn attach(socket: RawFd) -> io::Result<()> {
    set_option(socket, libc::IPPROTO_TCP, libc::TCP_ULP, b"tls\0")
}

fn set_option(socket: RawFd, level: i32, name: i32, value: &[u8]) -> io::Result<()> {
    let (data, len) = (value.as_ptr().cast(), value.len() as libc::socklen_t);
    // SAFETY: the pointer and length are those of a slice that lives during the call.
    let result = unsafe { libc::setsockopt(socket, level, name, data, len) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Fills `value`; the number of bytes that the kernel had for it.
fn option(socket: RawFd, level: i32, name: i32, value: &mut [u8]) -> io::Result<usize> {
    let mut len = value.len() as libc::socklen_t;
    // SAFETY: the pointer and length are those of a slice that lives during the call; the kernel writes no more.
    let result = unsafe { libc::getsockopt(socket, level, name, value.as_mut_ptr().cast(), &mut len) };
    if result == 0 { Ok(len as usize) } else { Err(io::Error::last_os_error()) }
}

/// Bytes that TCP was given to send since the connection began.
///
/// # Errors
/// `Interrupted` where acknowledgements come so fast that no two looks agree; what the kernel says.
fn given_to_tcp(socket: RawFd) -> io::Result<u64> {
    let mut before = acknowledged(socket)?;
    for _ in 0..LOOKS_MAX {
        let queued = queued(socket)?;
        let behind = acknowledged(socket)?;
        // An acknowledgement in between would take bytes off the one and add them to the other.
        if before == behind {
            return Ok(before + queued);
        }
        before = behind;
    }
    Err(io::ErrorKind::Interrupted.into())
}

/// Bytes that the peer's TCP acknowledged.
fn acknowledged(socket: RawFd) -> io::Result<u64> {
    let mut info = [0; TCP_INFO_ROOM];
    let known = option(socket, libc::IPPROTO_TCP, libc::TCP_INFO, &mut info)?;
    let acked = info.get(TCP_INFO_BYTES_ACKED..TCP_INFO_BYTES_ACKED + 8).filter(|_| known >= TCP_INFO_ROOM);
    let acked = acked.and_then(|bytes| bytes.try_into().ok()).map(u64::from_ne_bytes);
    acked.ok_or_else(|| io::ErrorKind::Unsupported.into())
}

/// Bytes that TCP has to send still, or that are not acknowledged.
fn queued(socket: RawFd) -> io::Result<u64> {
    let mut queued: libc::c_int = 0;
    // SAFETY: SIOCOUTQ writes one int, and `queued` is one.
    let result = unsafe { libc::ioctl(socket, libc::TIOCOUTQ, &mut queued) };
    if result == 0 { Ok(queued.max(0) as u64) } else { Err(io::Error::last_os_error()) }
}
