//! Pipes through which bytes move between sockets without visiting user space.

use super::socket::Socket;
use std::cell::{Cell, RefCell};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

/// A pipe and how much is in it.
#[derive(Debug)]
pub struct Pipe {
    reader: OwnedFd,
    writer: OwnedFd,
    len: usize,
    capacity: usize,
    /// Pages taken since it was empty, at most: of [`Pipe::fill_records`] alone.
    pages: usize,
}

impl Pipe {
    /// A pipe of `capacity` bytes if the system gives so many, else of what it gives.
    pub(super) fn new(capacity: usize) -> io::Result<Pipe> {
        let mut ends = [0; 2];
        // SAFETY: the call fills an array of two descriptors.
        let made = unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_NONBLOCK | libc::O_CLOEXEC) };
        if made != 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: a new descriptor that nobody else has.
        let reader = unsafe { OwnedFd::from_raw_fd(ends[0]) };
        // SAFETY: likewise.
        let writer = unsafe { OwnedFd::from_raw_fd(ends[1]) };
        let wanted = libc::c_int::try_from(capacity).unwrap_or(libc::c_int::MAX);
        // SAFETY: a call without pointers on a descriptor of our own.
        let set = unsafe { libc::fcntl(writer.as_raw_fd(), libc::F_SETPIPE_SZ, wanted) };
        // Past pipe-user-pages-soft the kernel refuses more than the standard size, or gives less.
        // SAFETY: as above.
        let size = if set > 0 { set } else { unsafe { libc::fcntl(writer.as_raw_fd(), libc::F_GETPIPE_SZ) } };
        let capacity = usize::try_from(size).unwrap_or(0);
        // A single page is of no use to `fill_records`.
        if capacity < 2 * page_size() {
            return Err(io::ErrorKind::OutOfMemory.into());
        }
        Ok(Pipe { reader, writer, len: 0, capacity, pages: 0 })
    }

    /// Bytes inside.
    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bytes that it takes at most, in pages: fewer where the pages come half filled.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Moves what `from` has, at most `max` bytes, into the pipe. 0: the end of a plain stream; of kernel TLS perhaps an
    /// empty record. `WouldBlock`: nothing there, or, if something is in the pipe already, no room.
    pub fn fill(&mut self, from: &Socket, max: usize) -> io::Result<usize> {
        self.fill_raw(from.raw(), max)
    }

    /// The same from a socket with receive keys; an end of the stream and an empty record are both 0.
    ///
    /// Of a record that finds fewer free pages than it lies on, kernels lose what found no place: 6.1.176 and 6.18.15 do,
    /// 6.1.192 does not any more (`tls_sw_splice_read`). So no more is asked for than surely has its place.
    pub fn fill_records(&mut self, from: &Socket, max: usize) -> io::Result<usize> {
        self.fill_records_raw(from.raw(), max)
    }

    /// Moves what is in the pipe to `to`, as much as fits. Toward kernel TLS each call closes its last record.
    pub fn drain(&mut self, to: &Socket) -> io::Result<usize> {
        self.drain_raw(to.raw())
    }

    pub(super) fn fill_raw(&mut self, from: RawFd, max: usize) -> io::Result<usize> {
        let moved = splice(from, self.writer.as_raw_fd(), max)?;
        self.len += moved;
        Ok(moved)
    }

    pub(super) fn fill_records_raw(&mut self, from: RawFd, max: usize) -> io::Result<usize> {
        let page = page_size();
        let free = (self.capacity / page).saturating_sub(self.pages);
        // So many bytes may begin and end within a page.
        let sure = free.saturating_sub(1) * page;
        if sure == 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let moved = self.fill_raw(from, max.min(sure))?;
        self.pages += moved.div_ceil(page) + 1;
        Ok(moved)
    }

    pub(super) fn drain_raw(&mut self, to: RawFd) -> io::Result<usize> {
        let moved = splice(self.reader.as_raw_fd(), to, self.len)?;
        self.len = self.len.saturating_sub(moved);
        if self.len == 0 {
            self.pages = 0;
        }
        Ok(moved)
    }
}

fn page_size() -> usize {
    // SAFETY: a call without pointers.
    usize::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap_or(4096)
}

fn splice(from: RawFd, to: RawFd, max: usize) -> io::Result<usize> {
    let (none, flags) = (std::ptr::null_mut(), libc::SPLICE_F_NONBLOCK | libc::SPLICE_F_MOVE);
    // SAFETY: no offsets, and descriptors that their owners hold open during the call.
    let moved = unsafe { libc::splice(from, none, to, none, max, flags) };
    usize::try_from(moved).map_err(|_| io::Error::last_os_error())
}

/// The bounds of a worker's pipes.
#[derive(Debug, Clone, Copy)]
pub struct PipeBounds {
    /// Bytes of each.
    pub capacity: usize,
    /// Empty ones kept for reuse.
    pub kept_max: usize,
    /// In use at once: a receiver that does not read holds one.
    pub used_max: usize,
}

/// The pipes of one worker. A connection has one only while bytes are on their way.
#[derive(Debug)]
pub struct Pipes {
    bounds: PipeBounds,
    kept: RefCell<Vec<Pipe>>,
    used: Cell<usize>,
}

impl Pipes {
    pub fn new(bounds: PipeBounds) -> Pipes {
        Pipes { bounds, kept: RefCell::default(), used: Cell::default() }
    }

    /// An empty pipe; `None` where none may be had: the bytes then go by user space.
    pub fn take(&self) -> Option<PipeLoan<'_>> {
        if self.used.get() >= self.bounds.used_max {
            return None;
        }
        let kept = self.kept.borrow_mut().pop();
        let pipe = kept.or_else(|| Pipe::new(self.bounds.capacity).ok())?;
        self.used.set(self.used.get() + 1);
        Some(PipeLoan { pipe: Some(pipe), pipes: self })
    }

    /// In use now.
    pub fn used(&self) -> usize {
        self.used.get()
    }
}

/// A pipe on loan. It goes back when dropped; one with bytes of a broken connection inside is closed.
#[derive(Debug)]
pub struct PipeLoan<'a> {
    pipe: Option<Pipe>,
    pipes: &'a Pipes,
}

impl std::ops::Deref for PipeLoan<'_> {
    type Target = Pipe;

    fn deref(&self) -> &Pipe {
        self.pipe.as_ref().expect("taken out by drop alone")
    }
}

impl std::ops::DerefMut for PipeLoan<'_> {
    fn deref_mut(&mut self) -> &mut Pipe {
        self.pipe.as_mut().expect("taken out by drop alone")
    }
}

impl Drop for PipeLoan<'_> {
    fn drop(&mut self) {
        self.pipes.used.set(self.pipes.used.get() - 1);
        let mut kept = self.pipes.kept.borrow_mut();
        if let Some(pipe) = self.pipe.take().filter(|pipe| pipe.is_empty())
            && kept.len() < self.pipes.bounds.kept_max
        {
            kept.push(pipe);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;

    #[test]
    fn bytes_come_out_as_they_went_in() {
        let (mut left, into) = UnixStream::pair().unwrap();
        let (out, mut right) = UnixStream::pair().unwrap();
        left.write_all(b"through a pipe").unwrap();
        let mut pipe = Pipe::new(65536).unwrap();
        assert_eq!(pipe.fill_raw(into.as_raw_fd(), 4096).unwrap(), 14);
        assert_eq!((pipe.len(), pipe.drain_raw(out.as_raw_fd()).unwrap(), pipe.len()), (14, 14, 0));
        let mut read = [0; 14];
        right.read_exact(&mut read).unwrap();
        assert_eq!(&read, b"through a pipe");
        drop(left);
        assert_eq!(pipe.fill_raw(into.as_raw_fd(), 4096).unwrap(), 0);
    }

    #[test]
    fn a_full_receiver_would_block_and_keeps_the_rest_in_the_pipe() {
        let (mut left, into) = UnixStream::pair().unwrap();
        let (out, _right) = UnixStream::pair().unwrap();
        out.set_nonblocking(true).unwrap();
        left.set_nonblocking(true).unwrap();
        let mut pipe = Pipe::new(65536).unwrap();
        for _ in 0..10_000 {
            let _ = left.write(&[7; 4096]);
            let _ = pipe.fill_raw(into.as_raw_fd(), 4096);
            if let Err(error) = pipe.drain_raw(out.as_raw_fd()) {
                assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
                assert!(!pipe.is_empty());
                return;
            }
        }
        panic!("never full");
    }

    #[test]
    fn a_pipe_goes_back_empty_or_not_at_all_and_no_more_are_lent_than_allowed() {
        let pipes = Pipes::new(PipeBounds { capacity: 8192, kept_max: 1, used_max: 2 });
        let (first, second) = (pipes.take().unwrap(), pipes.take().unwrap());
        assert!(pipes.take().is_none());
        let reader = first.reader.as_raw_fd();
        drop(first);
        let mut again = pipes.take().unwrap();
        assert_eq!(again.reader.as_raw_fd(), reader);
        again.len = 1;
        drop((again, second));
        assert_eq!((pipes.used(), pipes.kept.borrow().len()), (0, 1));
    }
}
