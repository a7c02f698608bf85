//! Byte vectors for outgoing data, kept warm for reuse: an idle connection holds none.

use std::cell::RefCell;

/// Last in, first out, so that the next taken is still in the cache.
#[derive(Debug)]
pub struct Shelf {
    kept: RefCell<Vec<Vec<u8>>>,
    kept_max: usize,
}

/// A vector that grew past this is not kept.
const CAPACITY_KEPT_MAX: usize = 160 << 10;

impl Shelf {
    /// Keeps at most `kept_max` vectors.
    pub fn new(kept_max: usize) -> Shelf {
        Shelf { kept: RefCell::default(), kept_max }
    }

    /// An empty vector.
    pub fn take(&self) -> Vec<u8> {
        self.kept.borrow_mut().pop().unwrap_or_default()
    }

    /// Gives one back.
    pub fn give(&self, mut bytes: Vec<u8>) {
        let mut kept = self.kept.borrow_mut();
        if bytes.capacity() > 0 && bytes.capacity() <= CAPACITY_KEPT_MAX && kept.len() < self.kept_max {
            bytes.clear();
            kept.push(bytes);
        }
    }
}
