//! Arguments to calls: what each command takes, and who answers it. No work is done here.
//!
//! A command lives in a file of its own with an `…Args` type and one function from it to an exit code.

#![forbid(unsafe_code)]

pub mod certs;
pub mod check;
pub mod ctl;
pub mod demo;
pub mod explain;
pub mod pki;
pub mod run;
pub mod top;

use clap::{Parser, Subcommand};
use std::ffi::OsString;

/// Exit codes, as the contract has them.
pub mod exit {
    /// Clean, drained, or warnings only.
    pub const OK: u8 = 0;
    /// The command says no: a client refused, a certificate about to expire, a drain cut short.
    pub const REFUSED: u8 = 1;
    /// The command line cannot be understood, or asks for what is not there yet.
    pub const USAGE: u8 = 64;
    /// An address is in use, or nobody answers.
    pub const UNAVAILABLE: u8 = 69;
    /// A fault of ours.
    pub const INTERNAL: u8 = 70;
    /// The operating system lacks something needed.
    pub const OS: u8 = 71;
    /// A file that may not be read, a port that may not be bound.
    pub const PERMISSION: u8 = 77;
    /// Bad configuration, a missing file included.
    pub const CONFIG: u8 = 78;
}

/// Mutual-TLS terminator: admits clients by certificate and hands their decrypted bytes to a backend.
#[derive(Debug, Parser)]
#[command(name = "countersign", version, max_term_width = 100, arg_required_else_help = true)]
struct Countersign {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run in the foreground until a signal
    Run(run::RunArgs),
    /// Make a throw-away PKI and backend, and serve them to try with curl
    Demo(demo::DemoArgs),
    /// Load everything that a run would load and say each fault with its file, line and key
    Check(check::CheckArgs),
    /// Say whether a client would be let in, and why
    Explain(explain::ExplainArgs),
    /// A development CA: make certificates, broken ones too, and CRLs
    Pki(pki::PkiArgs),
    /// List every certificate and CRL in use with its expiry
    Certs(certs::CertsArgs),
    /// Talk to a running server over its admin socket
    Ctl(ctl::CtlArgs),
    /// Watch a running server in the terminal
    Top(top::TopArgs),
}

/// Runs the terminator's program on these arguments (the first is the program's name) and answers its exit code.
pub fn countersign(arguments: impl IntoIterator<Item = OsString>) -> u8 {
    let command = match parse::<Countersign>(arguments) {
        Ok(program) => program.command,
        Err(code) => return code,
    };
    match command {
        Command::Run(args) => run::run(args),
        Command::Demo(args) => demo::demo(args),
        Command::Check(args) => check::check(args),
        Command::Explain(args) => explain::explain(args),
        Command::Pki(args) => pki::pki(args),
        Command::Certs(args) => certs::certs(args),
        Command::Ctl(args) => ctl::ctl(args),
        Command::Top(args) => top::top(args),
    }
}

/// Parses a program's arguments. `Err` is the exit code where clap has answered already: help and version are
/// [`exit::OK`], anything it refuses is [`exit::USAGE`].
pub fn parse<P: Parser>(arguments: impl IntoIterator<Item = OsString>) -> Result<P, u8> {
    P::try_parse_from(arguments).map_err(|error| {
        // Nothing to do where even the terminal is gone: the code still tells.
        let _ = error.print();
        if error.use_stderr() { exit::USAGE } else { exit::OK }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    fn answer(line: &str) -> u8 {
        countersign(std::iter::once("countersign").chain(line.split_whitespace()).map(OsString::from))
    }

    #[test]
    fn the_definitions_of_the_arguments_hold_together() {
        Countersign::command().debug_assert();
    }

    #[test]
    fn help_and_version_are_answered_for_each_command() {
        for line in
            ["--help", "-h", "help", "--version", "-V", "run --help", "check --help", "help check", "pki --help"]
        {
            assert_eq!(answer(line), exit::OK, "{line}");
        }
    }

    #[test]
    fn what_is_not_understood_exits_64() {
        for line in ["", "--bogus", "bogus", "check", "check --bogus", "check -c a -c b", "run --bogus", "check -c"] {
            assert_eq!(answer(line), exit::USAGE, "{line}");
        }
    }

    #[test]
    fn a_configuration_that_is_not_there_exits_78() {
        assert_eq!(answer("check -c /nonexistent/countersign.toml"), exit::CONFIG);
        assert_eq!(answer("check -c /"), exit::CONFIG);
    }
}
