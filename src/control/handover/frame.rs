//! Messages between two processes of ours over a socket pair: a kind, a length, bytes, and descriptors beside them.

use crate::config::limits;
use crate::sys;
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;
use zeroize::Zeroizing;

/// What a message is about. One that a process does not know is passed over: it comes from a newer program, which says by
/// the version of its offer where that would not do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kind(pub u8);

impl Kind {
    /// What there is to hand over: JSON.
    pub const OFFER: Kind = Kind(b'O');
    /// Descriptors, in the order in which the offer lists them.
    pub const DESCRIPTORS: Kind = Kind(b'D');
    /// Ticket keys.
    pub const KEYS: Kind = Kind(b'K');
    /// Verified chains.
    pub const CHAINS: Kind = Kind(b'C');
    /// That was all.
    pub const END: Kind = Kind(b'E');
    /// The new process serves.
    pub const SERVING: Kind = Kind(b'S');
    /// The new process says why it does not.
    pub const REFUSED: Kind = Kind(b'R');
    /// The old process lets go; with the blocks of that moment.
    pub const GO: Kind = Kind(b'G');
    /// Afterwards: other blocks.
    pub const BLOCKS: Kind = Kind(b'B');
    /// Afterwards: a reload took effect.
    pub const RELOADED: Kind = Kind(b'L');
    /// To the helper: start the program; from it: its process id.
    pub const START: Kind = Kind(b's');
    /// To the helper: end the program; from it: how it ended.
    pub const KILL: Kind = Kind(b'k');
}

/// One message.
#[derive(Debug)]
pub struct Frame {
    pub kind: Kind,
    /// Wiped on drop: it may hold keys.
    pub bytes: Zeroizing<Vec<u8>>,
    pub descriptors: Vec<OwnedFd>,
}

/// Both directions of a socket pair.
#[derive(Debug)]
pub struct Channel(UnixStream);

const HEAD: usize = 5;

impl Channel {
    pub fn new(stream: UnixStream) -> Channel {
        Channel(stream)
    }

    /// The same channel once more.
    pub fn again(&self) -> io::Result<Channel> {
        self.0.try_clone().map(Channel)
    }

    /// Ends both directions, for every holder of it.
    pub fn end(&self) {
        let _ = self.0.shutdown(std::net::Shutdown::Both);
    }

    /// How long a message may take; `None`: for ever.
    pub fn patience(&self, limit: Option<Duration>) -> io::Result<()> {
        self.0.set_read_timeout(limit)?;
        self.0.set_write_timeout(limit.or(Some(limits::HAND_OVER_WORD_TIME_MAX)))
    }

    pub fn send(&self, kind: Kind, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        let len = u32::try_from(bytes.len()).ok().filter(|_| bytes.len() <= limits::HAND_OVER_BYTES_MAX);
        let len = len.ok_or_else(|| io::Error::new(ErrorKind::InvalidInput, "the message is too long"))?;
        let mut head = [0; HEAD];
        head[0] = kind.0;
        head[1..].copy_from_slice(&len.to_be_bytes());
        let sent = sys::send_with(&self.0, &head, descriptors)?;
        (&self.0).write_all(&head[sent..])?;
        (&self.0).write_all(bytes)
    }

    /// The next message; `None` where the other process has ended or closed its side between messages.
    pub fn receive(&self) -> io::Result<Option<Frame>> {
        let mut head = [0; HEAD];
        let (mut got, mut descriptors) = sys::receive_with(&self.0, &mut head)?;
        if got == 0 {
            return Ok(None);
        }
        while got < HEAD {
            let (more, others) = sys::receive_with(&self.0, &mut head[got..])?;
            if more == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
            got += more;
            descriptors.extend(others);
        }
        let len = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
        if len > limits::HAND_OVER_BYTES_MAX {
            return Err(io::Error::new(ErrorKind::InvalidData, "the message is too long"));
        }
        // Zeroes from the start: a vector that grows leaves copies behind.
        let mut bytes = Zeroizing::new(vec![0; len]);
        (&self.0).read_exact(&mut bytes)?;
        Ok(Some(Frame { kind: Kind(head[0]), bytes, descriptors }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    #[test]
    fn messages_keep_their_bounds_their_order_and_their_descriptors() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let (_left, right) = UnixStream::pair().unwrap();
        let (ours, theirs) = (Channel::new(ours), Channel::new(theirs));
        ours.send(Kind::KEYS, b"", &[]).unwrap();
        ours.send(Kind::DESCRIPTORS, b"two", &[right.as_fd(), right.as_fd()]).unwrap();
        ours.send(Kind(b'?'), &[7; 100_000], &[]).unwrap_or_else(|error| panic!("{error}"));
        drop(ours);
        let frames: Vec<Frame> = std::iter::from_fn(|| theirs.receive().unwrap()).collect();
        assert_eq!(frames.iter().map(|frame| frame.descriptors.len()).collect::<Vec<_>>(), [0, 2, 0]);
        assert_eq!(frames[1].bytes.as_slice(), b"two");
        assert_eq!((frames[2].kind, frames[2].bytes.len()), (Kind(b'?'), 100_000));
    }

    #[test]
    fn a_length_past_the_bound_and_an_end_within_a_message_are_errors() {
        for bytes in [&[b'B', 255, 255, 255, 255][..], &[b'B', 0, 0, 0, 9, 1]] {
            let (ours, theirs) = UnixStream::pair().unwrap();
            (&ours).write_all(bytes).unwrap();
            drop(ours);
            assert!(Channel::new(theirs).receive().is_err(), "{bytes:?}");
        }
    }
}
