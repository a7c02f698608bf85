//! Receive buffers that tell on who misuses them: poisoned while they are free, and looked at before the next use.

use std::ptr::NonNull;

/// What a free buffer holds.
const POISON: u8 = 0xde;

/// The buffers of one group, each an allocation of its own, so that a sanitizer sees an overflow.
pub(super) struct Group {
    buffers: Vec<Buffer>,
    /// What the memory of a free one looks like.
    poisoned: Box<[u8]>,
}

struct Buffer {
    memory: NonNull<[u8]>,
    free: bool,
}

impl Group {
    pub fn new(count: u16, bytes: usize) -> Group {
        let poisoned = vec![POISON; bytes].into_boxed_slice();
        let buffer = |_| {
            let memory = Box::into_raw(poisoned.clone());
            Buffer { memory: NonNull::new(memory).expect("a box is not null"), free: true }
        };
        Group { buffers: (0..count).map(buffer).collect(), poisoned }
    }

    pub fn count(&self) -> usize {
        self.buffers.len()
    }

    pub fn bytes(&self) -> usize {
        self.poisoned.len()
    }

    pub fn free(&self) -> impl Iterator<Item = u16> + '_ {
        self.in_state(true)
    }

    pub fn taken(&self) -> impl Iterator<Item = u16> + '_ {
        self.in_state(false)
    }

    fn in_state(&self, free: bool) -> impl Iterator<Item = u16> + '_ {
        self.buffers.iter().enumerate().filter(move |(_, buffer)| buffer.free == free).map(|(i, _)| i as u16)
    }

    /// Where a buffer lies; `None` where there is none of that number or it was not handed out.
    pub fn lent(&self, buffer: u16) -> Option<NonNull<[u8]>> {
        self.buffers.get(usize::from(buffer)).filter(|buffer| !buffer.free).map(|buffer| buffer.memory)
    }

    /// Hands a buffer out with `bytes` at its start. False: somebody wrote to it while it was free.
    pub fn hand_out(&mut self, buffer: u16, bytes: &[u8]) -> bool {
        let buffer = &mut self.buffers[usize::from(buffer)];
        // SAFETY: allocated by `new`, freed by `drop` alone; nobody else has a reference to a free buffer.
        let memory = unsafe { buffer.memory.as_mut() };
        let intact = !buffer.free || *memory == *self.poisoned;
        memory[..bytes.len()].copy_from_slice(bytes);
        buffer.free = false;
        intact
    }

    /// Takes a buffer back. False: it was not handed out.
    pub fn take_back(&mut self, buffer: u16) -> bool {
        let Some(buffer) = self.buffers.get_mut(usize::from(buffer)).filter(|buffer| !buffer.free) else {
            return false;
        };
        buffer.free = true;
        // SAFETY: as in `hand_out`: its lease is being dropped and does not look any more.
        unsafe { buffer.memory.as_mut() }.fill(POISON);
        true
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        for buffer in &self.buffers {
            // SAFETY: made by `Box::into_raw` in `new`, and dropped once.
            drop(unsafe { Box::from_raw(buffer.memory.as_ptr()) });
        }
    }
}
