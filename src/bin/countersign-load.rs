//! The load harness's program: everything is in the library.

#![forbid(unsafe_code)]

// Sanitizers know only the system's allocator.
#[cfg(not(feature = "system-alloc"))]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    countersign::load::main(std::env::args_os()).into()
}
