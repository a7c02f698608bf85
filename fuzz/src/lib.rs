//! What the fuzz targets share: a reader that turns fuzzed bytes into choices, edits of things that are known to be
//! good, and a small PKI that is the same in every run, so that the kept corpus keeps its meaning.

pub mod choices;
pub mod pki;
pub mod world;

pub use choices::Choices;
