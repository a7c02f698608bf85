//! `countersign explain`: would this client be let in, and why. Loads what a run would load for the one site, and asks the
//! same function that a run asks.

#[cfg(test)]
mod tests;

use super::{exit, run};
use crate::config::{Config, Fault, limits};
use crate::control::explain::{self, Chosen, Report, Unchosen, choose};
use crate::trust::{Loader, Policy, Presented};
use clap::Args;
use rustls_pki_types::{CertificateDer, UnixTime};
use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// Arguments of `explain`.
#[derive(Debug, Args)]
#[command(after_help = "Exit codes: 0 let in, 1 refused, 77 a file may not be read, 78 bad configuration or chain. \
                        Blocks of a running server are not looked at: `countersign ctl explain` asks it.")]
pub struct ExplainArgs {
    /// The configuration file
    #[arg(short, long = "config", value_name = "FILE")]
    config: PathBuf,
    /// The listener that the client connects to, by name; may be left out where there is one
    #[arg(long, value_name = "NAME")]
    listener: Option<String>,
    /// The name that the client asks for (SNI); may be left out for a catch-all, or where there is one site
    #[arg(long, value_name = "NAME")]
    sni: Option<String>,
    /// The moment to judge at, such as 2027-01-15T08:00:00Z; now if left out
    #[arg(long, value_name = "RFC3339", value_parser = parse_moment)]
    at: Option<UnixTime>,
    /// Print one JSON object in place of text
    #[arg(long)]
    json: bool,
    /// What the client sends: its certificate first, then its intermediates; PEM, or DER of one certificate
    #[arg(value_name = "CHAIN")]
    chain: PathBuf,
}

/// Answers the exit code.
pub fn explain(args: ExplainArgs) -> u8 {
    let config = match Config::from_file(&args.config) {
        Ok(config) => config,
        Err(faults) => return run::refuse(&faults),
    };
    let chain = match read_chain(&args.chain) {
        Ok(chain) => chain,
        Err(fault) => return run::refuse(&[fault]),
    };
    let now = args.at.unwrap_or_else(UnixTime::now);
    let report = match choose(&config, args.listener.as_deref(), args.sni.as_deref()) {
        Err(Unchosen::Ambiguous(message)) => {
            eprintln!("countersign explain: {message}");
            return exit::USAGE;
        }
        Err(Unchosen::NoSite(listener)) => Report::of_no_site(listener, args.sni.as_deref(), now),
        Ok(chosen) => match judge(&config, &chosen, &chain, now) {
            Ok(report) => report,
            Err(faults) => return run::refuse(&faults),
        },
    };
    let text = if args.json { format!("{:#}\n", report.in_json()) } else { report.in_text() };
    // A reader that has seen enough is no fault; the exit code tells the answer too.
    let _ = std::io::stdout().write_all(text.as_bytes());
    if report.is_admitted() { exit::OK } else { exit::REFUSED }
}

fn judge<'c>(
    config: &'c Config,
    chosen: &Chosen<'c>,
    chain: &[CertificateDer<'static>],
    now: UnixTime,
) -> Result<Report<'c>, Vec<Fault>> {
    let Chosen { listener, site, .. } = chosen;
    let (policy, _) = Policy::load(site, listener, 0, now, &mut Loader::new())
        .map_err(|faults| faults.into_iter().map(|fault| config.locate(fault)).collect::<Vec<_>>())?;
    let Some((leaf, rest)) = chain.split_first() else { return Err(Vec::new()) };
    Ok(explain::judge(chosen, &policy, &Presented { leaf, rest }, now, None))
}

/// The certificates of a file, at least one; keys and comments beside them are passed over.
fn read_chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, Fault> {
    let fault = |message: &str, help: &str| Fault::config("", message, help).at(path);
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(limits::PEM_BYTES_MAX).read_to_end(&mut bytes));
    read.map_err(|error| {
        let kind = match error.kind() {
            std::io::ErrorKind::PermissionDenied => crate::config::FaultKind::Permission,
            _ => crate::config::FaultKind::Config,
        };
        fault(&format!("cannot be read: {error}"), "name the file with the client's certificate").of_kind(kind)
    })?;
    explain::certificates_of(&bytes)
        .map_err(|problem| fault(&problem, "give PEM: the client's certificate first, then its intermediates"))
}

fn parse_moment(text: &str) -> Result<UnixTime, String> {
    let moment = OffsetDateTime::parse(text, &Rfc3339)
        .map_err(|_| format!("{text:?} is not a moment; write it like 2027-01-15T08:00:00Z"))?;
    let seconds = u64::try_from(moment.unix_timestamp()).map_err(|_| "that was before 1970".to_owned())?;
    Ok(UnixTime::since_unix_epoch(Duration::from_secs(seconds)))
}
