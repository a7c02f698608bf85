//! Reads trust, intermediate and CRL files, each once, however many sites name it.

/// Files read so far. Make one for each load or reload and drop it afterwards: what is in use is shared by the policies.
#[derive(Debug, Default)]
pub struct Loader {}

impl Loader {
    /// Nothing read yet.
    pub fn new() -> Loader {
        Loader::default()
    }
}
