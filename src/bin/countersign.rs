//! The terminator's program: everything is in the library.

#![forbid(unsafe_code)]

use std::process::ExitCode;

// Sanitizers know only the system's allocator.
#[cfg(not(feature = "system-alloc"))]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    ExitCode::from(countersign::cli::countersign(std::env::args_os()))
}
