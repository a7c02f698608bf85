//! Descriptors of the process under test. Numbers of connections are made up, far above any real one; listening sockets
//! and eventfds are real descriptors that the kernel's side never uses as such.

use super::super::kernel::Family;
use std::collections::BTreeMap;
use std::os::fd::RawFd;

/// The first number that is made up.
const FIRST: RawFd = 1 << 20;

/// What a descriptor stands for.
#[derive(Debug, Clone, Copy)]
pub(super) enum File {
    /// A listening socket, by its place among the doors. The number is a real descriptor that keeps the place.
    Door(usize),
    /// A socket that is not connected.
    Fresh(#[allow(dead_code, reason = "seen in traces")] Family),
    /// A connected one. With `abort` its close is a reset.
    Stream { pipe: usize, abort: bool },
}

/// All that are open.
#[derive(Debug)]
pub(super) struct Files {
    open: BTreeMap<RawFd, File>,
    next: RawFd,
    max: usize,
    reuses_numbers: bool,
}

impl Files {
    pub fn new(max: usize, reuses_numbers: bool) -> Files {
        Files { open: BTreeMap::new(), next: FIRST, max, reuses_numbers }
    }

    pub fn is_made_up(file: RawFd) -> bool {
        file >= FIRST
    }

    /// Puts a real descriptor in.
    pub fn register(&mut self, file: RawFd, what: File) {
        self.open.insert(file, what);
    }

    /// A new number; EMFILE when all are in use.
    pub fn open(&mut self, what: File) -> Result<RawFd, i32> {
        if self.sockets().count() >= self.max {
            return Err(libc::EMFILE);
        }
        if self.reuses_numbers {
            self.next = (FIRST..).find(|number| !self.open.contains_key(number)).ok_or(libc::EMFILE)?;
        }
        let number = self.next;
        self.next += 1;
        self.open.insert(number, what);
        Ok(number)
    }

    pub fn of(&self, file: RawFd) -> Option<File> {
        self.open.get(&file).copied()
    }

    pub fn change(&mut self, file: RawFd, what: File) {
        self.open.insert(file, what);
    }

    pub fn close(&mut self, file: RawFd) -> Option<File> {
        self.open.remove(&file)
    }

    /// What is open, but for listening sockets.
    pub fn sockets(&self) -> impl Iterator<Item = (RawFd, File)> + '_ {
        self.open.iter().filter(|(_, what)| !matches!(what, File::Door(_))).map(|(number, what)| (*number, *what))
    }

    pub fn len(&self) -> usize {
        self.open.len()
    }
}
