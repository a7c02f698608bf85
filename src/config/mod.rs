//! What the operator said: the TOML file or the flags, checked once and turned into [`Config`].
//!
//! Holding a [`Config`] proves that every key was known, well formed and consistent with the others. Files that it
//! names (certificates, CRLs) are not opened here: `tls` and `trust` load them.

#![forbid(unsafe_code)]

mod fault;
mod flags;
pub mod limits;
mod model;

pub use fault::{Fault, FaultKind};
pub use flags::Flags;
pub use model::*;

use std::path::Path;

impl Config {
    /// Reads and checks a file. Relative paths in it are relative to its directory.
    pub fn from_file(path: &Path) -> Result<Config, Vec<Fault>> {
        let text = std::fs::read_to_string(path).map_err(|error| {
            vec![
                Fault::config("", &format!("cannot be read: {error}"), "give the path of a configuration file")
                    .at(path),
            ]
        })?;
        Config::from_text(&text, Some(path))
    }

    /// Checks a text. `file` is where it came from: it stands in faults, and relative paths start at its directory
    /// (without it at the working directory).
    pub fn from_text(_text: &str, file: Option<&Path>) -> Result<Config, Vec<Fault>> {
        let fault = Fault::config("", "configuration files are not yet supported", "use the flags");
        Err(vec![match file {
            Some(file) => fault.at(file),
            None => fault,
        }])
    }

    /// Makes the configuration of `run` without a file: one listener, one site with `auth = "require"`, one backend,
    /// every other key at its default, no admin interface unless one is asked for.
    pub fn from_flags(_flags: &Flags) -> Result<Config, Vec<Fault>> {
        Err(vec![Fault::config("", "flags are not yet supported", "use a configuration file")])
    }
}
