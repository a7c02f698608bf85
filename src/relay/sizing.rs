//! Which group of receive buffers a direction uses: small ones for messages, large ones once data streams.

use crate::sys::{Lease, Size};

/// Full reads in a row before large buffers are used, and short reads in a row before they are given up.
const STREAK: u8 = 2;
const SHORT_STREAK: u8 = 8;
/// A read below this would have done with a small buffer.
const SHORT: usize = 4 << 10;

/// Remembers how the last reads went.
#[derive(Debug)]
pub struct Sizing {
    size: Size,
    streak: u8,
}

impl Sizing {
    /// Begins with small buffers.
    pub fn new() -> Sizing {
        Sizing { size: Size::Small, streak: 0 }
    }

    /// The group for the next read.
    pub fn size(&self) -> Size {
        self.size
    }

    /// Learns from a read.
    pub fn note(&mut self, lease: &Lease) {
        let (counts, limit, other) = match self.size {
            Size::Small => (lease.is_full(), STREAK, Size::Large),
            Size::Large => (lease.len() < SHORT, SHORT_STREAK, Size::Small),
        };
        self.streak = if counts { self.streak + 1 } else { 0 };
        if self.streak >= limit {
            *self = Sizing { size: other, streak: 0 };
        }
    }
}
