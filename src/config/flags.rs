//! The flag form of `run`: what the command line says in place of a file.

use std::path::PathBuf;

/// Values of `run --listen … --backend …`, as typed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Flags {
    /// `--listen`, at least one.
    pub listen: Vec<String>,
    /// `--backend`: `IP:port` or `unix:PATH`.
    pub backend: String,
    /// `--certificate`: PEM chain, leaf first.
    pub certificate: PathBuf,
    /// `--key`.
    pub key: PathBuf,
    /// `--client-ca`: anchors that clients are verified against.
    pub client_ca: PathBuf,
    /// `--admin`: address of the admin HTTP interface; absent = none.
    pub admin: Option<String>,
}
