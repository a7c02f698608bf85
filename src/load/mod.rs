//! The load harness, `countersign-load`: it measures any TLS server that asks its clients for certificates.
//!
//! It shares nothing with the server but `stats`, so that it cannot share its bugs: its I/O is tokio-uring's (one runtime to
//! a thread), its TLS is rustls's buffered client, its bounds are its own ([`limits`]).
//!
//! The way of a run: [`args`] → [`target`] and [`client`] (whom, and as whom) → one of the scenarios, a [`drive::Work`]
//! ([`handshake`], [`request`], …) → [`drive`] (threads, lanes, start and end) → [`report`] (table, JSON).

#![forbid(unsafe_code)]

use std::ffi::OsString;
use std::fmt;

use clap::Parser;

pub mod args;
pub mod backend;
pub mod bulk;
pub mod client;
pub mod compare;
pub mod connection;
pub mod drive;
pub mod failure;
pub mod floor;
pub mod handshake;
pub mod http;
pub mod idle;
pub mod latency;
pub mod limits;
pub mod mix;
pub mod net;
pub mod pace;
pub mod page;
pub mod paths;
pub mod pki;
pub mod probe;
pub mod process;
pub mod report;
pub mod request;
pub mod run;
pub mod signal;
pub mod summary;
pub mod target;
pub mod units;
pub mod worker;

#[cfg(test)]
mod tests;

/// Exit codes: the same numbers as the server's program uses, from sysexits.
pub mod exit {
    pub const OK: u8 = 0;
    /// Some operations failed.
    pub const FAILED: u8 = 1;
    pub const USAGE: u8 = 64;
    /// The target did not answer, or nothing succeeded.
    pub const UNAVAILABLE: u8 = 69;
    pub const INTERNAL: u8 = 70;
    /// The operating system lacks something, io_uring first of all.
    pub const OS: u8 = 71;
    pub const PERMISSION: u8 = 77;
    /// A file of the PKI is missing or bad.
    pub const CONFIG: u8 = 78;
}

/// The whole program: from arguments to exit code.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> u8 {
    let arguments = match args::Arguments::try_parse_from(arguments) {
        Ok(arguments) => arguments,
        Err(error) => {
            // What clap cannot print, nobody reads.
            let _ = error.print();
            return if error.use_stderr() { exit::USAGE } else { exit::OK };
        }
    };
    dispatch(arguments.command).unwrap_or_else(|refusal| {
        eprintln!("countersign-load: {refusal}");
        refusal.code
    })
}

fn dispatch(command: args::Command) -> Result<u8, Refusal> {
    use args::Command;
    match command {
        Command::Handshake(args) => run::handshake(&args),
        Command::Request(args) => run::request(&args),
        Command::Bulk(args) => run::bulk(&args),
        Command::Idle(args) => run::idle(&args),
        Command::Backend(args) => backend::serve(&args),
        Command::Pki(args) => {
            let pki = pki::Pki::open(args.directory.as_deref())?;
            println!("{}:\n{}", if pki.made_now() { "made" } else { "there already" }, pki.instructions());
            Ok(exit::OK)
        }
        Command::Mix(args) => run::mix(&args),
        Command::Compare(args) => compare::compare(&args),
    }
}

/// Why a run does not take place: for people, ending with what to try.
#[derive(Debug)]
pub struct Refusal {
    pub code: u8,
    pub message: String,
}

impl Refusal {
    pub fn new(code: u8, message: impl Into<String>) -> Refusal {
        Refusal { code, message: message.into() }
    }

    pub fn usage(message: impl Into<String>) -> Refusal {
        Refusal::new(exit::USAGE, message)
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}
