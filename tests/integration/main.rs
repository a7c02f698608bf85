//! The integration tests: one file a behaviour, each test in a world of its own.

#![forbid(unsafe_code)]
// A test that cannot set its world up has failed: the panic is its report.
#![allow(clippy::unwrap_used)]

mod layering;
#[allow(dead_code)] // until the tests that use all of it are here
mod world;
