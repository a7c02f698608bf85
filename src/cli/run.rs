//! `countersign run`: from a configuration file, or from flags alone.

use super::exit;
use crate::config::{Config, Fault, Flags};
use crate::control::{self, Options, StartFailure, Succession};
use clap::Args;
use std::path::PathBuf;

/// Run in the foreground until SIGTERM or SIGINT; a second one ends it at once.
#[derive(Debug, Args)]
#[command(
    override_usage = "countersign run -c FILE\n       countersign run --listen ADDRESS --backend SERVER --certificate FILE --key FILE --client-ca FILE",
    after_help = "Prints one line `ready listeners=… workers=… …` on standard error once it serves.\n\
        Signals: HUP reads the configuration again, TERM and INT drain (a second one ends at once), USR1 opens log\n\
        files anew, USR2 hands over to a new binary without refusing or resetting anybody.\n\
        Exit codes: 0 drained, 1 connections were cut, 69 address in use, 71 the system lacks something,\n\
        77 no permission, 78 bad configuration."
)]
pub struct RunArgs {
    /// The configuration, TOML
    #[arg(short = 'c', long, value_name = "FILE", conflicts_with_all = ["listen", "backend", "certificate", "key", "client_ca", "admin"])]
    config: Option<PathBuf>,
    /// Address to listen on, such as 0.0.0.0:8443; may be given several times
    #[arg(long, value_name = "ADDRESS")]
    listen: Vec<String>,
    /// Where decrypted bytes go: IP:PORT or unix:PATH
    #[arg(long, value_name = "SERVER")]
    backend: Option<String>,
    /// The server's certificate chain, PEM, leaf first
    #[arg(long, value_name = "FILE")]
    certificate: Option<PathBuf>,
    /// The key of that certificate, PEM
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// The CAs that clients' certificates are verified against, PEM
    #[arg(long, value_name = "FILE")]
    client_ca: Option<PathBuf>,
    /// Address of /metrics, /healthz, /readyz and /status; loopback only
    #[arg(long, value_name = "ADDRESS")]
    admin: Option<String>,
}

/// Runs and answers the exit code.
pub fn run(args: RunArgs) -> u8 {
    let config = match args.config {
        Some(ref file) => Config::from_file(file),
        None => match args.flags() {
            Ok(flags) => Config::from_flags(&flags),
            Err(missing) => {
                eprintln!(
                    "countersign run: {} missing; give a configuration with -c FILE, or all of \
                     --listen --backend --certificate --key --client-ca",
                    missing.join(", ")
                );
                return exit::USAGE;
            }
        },
    };
    match config {
        // Before there are threads.
        Ok(config) => match Succession::prepare() {
            Ok(succession) => control::run(config, Options { succession: Some(succession), ..Options::default() }),
            Err(failure) => failure.tell(),
        },
        Err(faults) => refuse(&faults),
    }
}

impl RunArgs {
    /// The flag form, or the flags that it lacks.
    fn flags(self) -> Result<Flags, Vec<&'static str>> {
        let mut missing = Vec::new();
        if self.listen.is_empty() {
            missing.push("--listen");
        }
        let (backend, certificate, key, client_ca) = (self.backend, self.certificate, self.key, self.client_ca);
        missing.extend(backend.is_none().then_some("--backend"));
        missing.extend(certificate.is_none().then_some("--certificate"));
        missing.extend(key.is_none().then_some("--key"));
        missing.extend(client_ca.is_none().then_some("--client-ca"));
        match (backend, certificate, key, client_ca) {
            (Some(backend), Some(certificate), Some(key), Some(client_ca)) if missing.is_empty() => {
                Ok(Flags { listen: self.listen, backend, certificate, key, client_ca, admin: self.admin })
            }
            _ => Err(missing),
        }
    }
}

/// Says what is wrong with a configuration.
pub(super) fn refuse(faults: &[Fault]) -> u8 {
    StartFailure::of_faults(faults).tell()
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Program {
        #[command(flatten)]
        run: RunArgs,
    }

    fn parse(arguments: &[&str]) -> Result<RunArgs, clap::Error> {
        Program::try_parse_from(std::iter::once(&"run").chain(arguments)).map(|program| program.run)
    }

    #[test]
    fn all_flags_together_make_the_flag_form() {
        let all = "--listen 127.0.0.1:0 --listen [::1]:0 --backend 127.0.0.1:9 --certificate c --key k --client-ca a";
        let flags = parse(&all.split(' ').collect::<Vec<_>>()).unwrap().flags().unwrap();
        assert_eq!(flags.listen, ["127.0.0.1:0", "[::1]:0"]);
        assert_eq!(flags.client_ca, PathBuf::from("a"));
    }

    #[test]
    fn a_missing_flag_is_named() {
        let args = parse(&["--listen", "127.0.0.1:0", "--key", "k"]).unwrap();
        assert_eq!(args.flags().unwrap_err(), ["--backend", "--certificate", "--client-ca"]);
    }

    #[test]
    fn neither_a_file_nor_flags_exits_64() {
        assert_eq!(run(parse(&[]).unwrap()), exit::USAGE);
    }

    #[test]
    fn a_file_and_flags_at_once_are_refused() {
        assert!(parse(&["-c", "x.toml", "--key", "k"]).is_err());
        assert!(parse(&["-c", "x.toml"]).is_ok());
    }

    #[test]
    fn a_file_that_does_not_exist_exits_78() {
        assert_eq!(run(parse(&["-c", "/nonexistent/countersign.toml"]).unwrap()), exit::CONFIG);
    }
}
