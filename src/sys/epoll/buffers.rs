//! A group of receive buffers. The one given back last is lent first: it is the one that the cache still has.

use super::super::pages::Pages;

pub(super) struct Group {
    memory: Pages,
    bytes: usize,
    count: u16,
    free: Vec<u16>,
}

impl Group {
    pub fn new(count: u16, bytes: usize) -> Group {
        Group { memory: Pages::new(usize::from(count) * bytes), bytes, count, free: (0..count).rev().collect() }
    }

    pub fn count(&self) -> usize {
        self.count.into()
    }

    pub fn lend(&mut self) -> Option<u16> {
        self.free.pop()
    }

    pub fn take_back(&mut self, buffer: u16) {
        debug_assert!(!self.free.contains(&buffer), "buffer {buffer} came back twice");
        self.free.push(buffer);
    }

    pub fn buffer(&self, buffer: u16) -> (*mut u8, usize) {
        assert!(buffer < self.count, "the kernel names its own buffers");
        // SAFETY: within the allocation, by the assertion above.
        (unsafe { self.memory.start().as_ptr().add(usize::from(buffer) * self.bytes) }, self.bytes)
    }

    /// The memory of a buffer that was lent and that nobody has yet.
    pub fn room(&mut self, buffer: u16) -> &mut [u8] {
        let (start, bytes) = self.buffer(buffer);
        // SAFETY: initialised by `Pages`, and no lease of it exists: it has just left the free list.
        unsafe { std::slice::from_raw_parts_mut(start, bytes) }
    }
}
