//! Memory for receive buffers, whichever kernel fills them.

use std::alloc::{Layout, handle_alloc_error};
use std::ptr::NonNull;

const PAGE: usize = 4096;

/// Zeroed, page-aligned memory of its own.
pub(super) struct Pages {
    start: NonNull<u8>,
    layout: Layout,
}

impl Pages {
    pub fn new(bytes: usize) -> Pages {
        let layout = Layout::from_size_align(bytes.max(1), PAGE).expect("buffer sizes are constants of the program");
        // SAFETY: the layout has a size above zero.
        let start = unsafe { std::alloc::alloc_zeroed(layout) };
        Pages { start: NonNull::new(start).unwrap_or_else(|| handle_alloc_error(layout)), layout }
    }

    pub fn start(&self) -> NonNull<u8> {
        self.start
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        // SAFETY: allocated with this layout by `new`.
        unsafe { std::alloc::dealloc(self.start.as_ptr(), self.layout) };
    }
}
