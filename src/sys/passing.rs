//! Bytes with descriptors beside them, over a unix socket: how one process hands its sockets to another.

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
    recvmsg, sendmsg,
};
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;

/// Descriptors that go with one message, at most; Linux takes 253.
pub const DESCRIPTORS_MAX: usize = 64;

/// Sends `bytes`, or a part of them, with `descriptors` beside the first: how many bytes went.
///
/// # Errors
/// What sendmsg says; more descriptors than [`DESCRIPTORS_MAX`].
pub fn send_with(stream: &UnixStream, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() && !control.push(SendAncillaryMessage::ScmRights(descriptors)) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    Ok(sendmsg(stream.as_fd(), &[IoSlice::new(bytes)], &mut control, SendFlags::NOSIGNAL)?)
}

/// Receives at most as many bytes as there is room for, with the descriptors beside them: how many bytes came, 0 at the
/// end. The descriptors are closed on exec.
///
/// # Errors
/// What recvmsg says.
pub fn receive_with(stream: &UnixStream, room: &mut [u8]) -> io::Result<(usize, Vec<OwnedFd>)> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::CMSG_CLOEXEC;
    let received = recvmsg(stream.as_fd(), &mut [IoSliceMut::new(room)], &mut control, flags)?;
    let mut descriptors = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            descriptors.extend(rights);
        }
    }
    Ok((received.bytes, descriptors))
}

/// Takes over a unix socket that this process was started with, by its number. From here on it is closed on exec. Call it
/// once for a number, before anything else may have opened that descriptor.
///
/// # Errors
/// EBADF where there is no such descriptor, ENOTSOCK and its kind where it is something else.
pub fn inherited_socket(number: RawFd) -> io::Result<UnixStream> {
    if number <= libc::STDERR_FILENO {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    // SAFETY: a system call without pointers; a number that is no descriptor is answered by EBADF.
    if unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor is open, and the caller says that nobody else in this process owns it.
    let descriptor = unsafe { OwnedFd::from_raw_fd(number) };
    let stream = UnixStream::from(descriptor);
    stream.local_addr()?;
    Ok(stream)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};

    #[test]
    fn a_descriptor_arrives_beside_the_bytes_and_works() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let (mut left, right) = UnixStream::pair().unwrap();
        assert_eq!(send_with(&ours, b"take it", &[right.as_fd()]).unwrap(), 7);
        drop(right);
        let mut room = [0; 16];
        let (count, mut descriptors) = receive_with(&theirs, &mut room).unwrap();
        assert_eq!((&room[..count], descriptors.len()), (&b"take it"[..], 1));
        UnixStream::from(descriptors.remove(0)).write_all(b"hello").unwrap();
        let mut heard = [0; 5];
        left.read_exact(&mut heard).unwrap();
        assert_eq!(&heard, b"hello");
        drop(ours);
        assert_eq!(receive_with(&theirs, &mut room).unwrap().0, 0);
    }

    #[test]
    fn what_is_no_socket_of_ours_is_not_taken() {
        assert!(inherited_socket(1).is_err());
        assert!(inherited_socket(1_000_000).is_err());
    }
}
