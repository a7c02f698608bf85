//! A group of receive buffers shared with the kernel: a ring of descriptors and the memory they name.

use super::super::pages::Pages;
use io_uring::IoUring;
use io_uring::types::BufRingEntry;
use std::io;
use std::sync::atomic::{AtomicU16, Ordering};

/// The buffers of one group. Dropped after the ring that uses them (field order of the owner).
pub(super) struct ProvidedBuffers {
    entries: Pages,
    memory: Pages,
    bytes: usize,
    count: u16,
    tail: u16,
}

impl ProvidedBuffers {
    /// Registers `count` (a power of two) buffers of `bytes` bytes as group `number`.
    pub fn register(ring: &IoUring, number: u16, count: u16, bytes: usize) -> io::Result<ProvidedBuffers> {
        assert!(count.is_power_of_two(), "the kernel takes powers of two");
        let entries = Pages::new(usize::from(count) * size_of::<BufRingEntry>());
        let memory = Pages::new(usize::from(count) * bytes);
        let mut buffers = ProvidedBuffers { entries, memory, bytes, count, tail: 0 };
        let address = buffers.entries.start().as_ptr() as u64;
        // SAFETY: page-aligned memory for `count` entries, which lives until after the ring is closed.
        unsafe { ring.submitter().register_buf_ring_with_flags(address, count, number, 0) }?;
        (0..count).for_each(|buffer| buffers.recycle(buffer));
        Ok(buffers)
    }

    pub fn count(&self) -> usize {
        self.count.into()
    }

    pub fn buffer(&mut self, buffer: u16) -> (*mut u8, usize) {
        assert!(buffer < self.count, "the kernel names its own buffers");
        // SAFETY: within the allocation, by the assertion above.
        (unsafe { self.memory.start().as_ptr().add(usize::from(buffer) * self.bytes) }, self.bytes)
    }

    pub fn recycle(&mut self, buffer: u16) {
        let (address, bytes) = self.buffer(buffer);
        let place = usize::from(self.tail & (self.count - 1));
        let first = self.entries.start().as_ptr().cast::<BufRingEntry>();
        // SAFETY: `place` is below `count`, the number of entries allocated.
        let entry = unsafe { first.add(place) };
        // SAFETY: the kernel reads entries only up to the tail, which moves past this one below.
        let entry = unsafe { &mut *entry };
        entry.set_addr(address as u64);
        entry.set_len(bytes as u32);
        entry.set_bid(buffer);
        self.tail = self.tail.wrapping_add(1);
        // SAFETY: `first` is the start of the registered ring.
        let tail = unsafe { BufRingEntry::tail(first) };
        // SAFETY: aligned, valid for as long as the ring, and shared with the kernel alone, atomically.
        let tail = unsafe { AtomicU16::from_ptr(tail.cast_mut()) };
        tail.store(self.tail, Ordering::Release);
    }
}
