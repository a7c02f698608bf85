//! `countersign certs`: every certificate and CRL that a configuration names, whose it is and when it runs out. Reads
//! the files as they are now, so it also tells of what a running server has not loaded yet.

mod inventory;

#[cfg(test)]
mod tests;

use super::{exit, run};
use crate::config::{self, Config};
use clap::Args;
use inventory::{Entry, Inventory};
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::PathBuf;
use std::time::Duration;
use time::OffsetDateTime;

/// Arguments of `certs`.
#[derive(Debug, Args)]
pub struct CertsArgs {
    /// The configuration file
    #[arg(short, long = "config", value_name = "FILE")]
    config: PathBuf,
    /// Only what runs out within this time, such as 30d; exit 1 if there is any
    #[arg(long, value_name = "TIME", value_parser = config::parse_duration)]
    expiring: Option<Duration>,
    /// Print a JSON array in place of a table
    #[arg(long)]
    json: bool,
}

/// Answers the exit code.
pub fn certs(args: CertsArgs) -> u8 {
    let config = match Config::from_file(&args.config) {
        Ok(config) => config,
        Err(faults) => return run::refuse(&faults),
    };
    let now = OffsetDateTime::now_utc().unix_timestamp();
    let (text, code) = listing(Inventory::of(&config), args.expiring, args.json, now);
    // A reader that has seen enough (`head`) is no fault.
    let _ = std::io::stdout().write_all(text.as_bytes());
    code
}

/// What to print, and the exit code. Files that cannot be read are told of on standard error.
fn listing(inventory: Inventory, expiring: Option<Duration>, json: bool, now: i64) -> (String, u8) {
    let Inventory { mut entries, faults } = inventory;
    if let Some(time) = expiring {
        let until = now.saturating_add_unsigned(time.as_secs());
        entries.retain(|entry| entry.expires.is_some_and(|expires| expires <= until));
    }
    let text = if json { as_json(&entries, now) } else { as_table(&entries, now) };
    let code = if !faults.is_empty() {
        run::refuse(&faults)
    } else if expiring.is_some() && !entries.is_empty() {
        exit::REFUSED
    } else {
        exit::OK
    };
    (text, code)
}

fn as_table(entries: &[Entry], now: i64) -> String {
    let head = ["DAYS", "EXPIRES", "ROLE", "OWNER", "SUBJECT", "FILE"].map(str::to_owned);
    if entries.is_empty() {
        return "nothing to list\n".to_owned();
    }
    let rows: Vec<[String; 6]> = std::iter::once(head).chain(entries.iter().map(|entry| row(entry, now))).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: [usize; 5] = std::array::from_fn(width);
    let mut text = String::new();
    for [days, expires, role, owner, subject, file] in &rows {
        let [w0, w1, w2, w3, w4] = widths;
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{days:>w0$}  {expires:w1$}  {role:w2$}  {owner:w3$}  {subject:w4$}  {file}");
    }
    text
}

fn row(entry: &Entry, now: i64) -> [String; 6] {
    [
        entry.days_left(now).map_or("-".to_owned(), |days| days.to_string()),
        entry.expires_text().unwrap_or("never".to_owned()),
        entry.role.name().to_owned(),
        entry.owners.join(","),
        entry.subject.clone(),
        entry.file.display().to_string(),
    ]
}

fn as_json(entries: &[Entry], now: i64) -> String {
    let objects: Vec<serde_json::Value> = entries
        .iter()
        .map(|entry| {
            serde_json::json!({
                "role": entry.role.name(),
                "owners": entry.owners,
                "subject": entry.subject,
                "issuer": entry.issuer,
                "serial": entry.serial,
                "sha256": entry.sha256,
                "expires": entry.expires_text(),
                "days_left": entry.days_left(now),
                "file": entry.file.display().to_string(),
            })
        })
        .collect();
    format!("{:#}\n", serde_json::Value::Array(objects))
}
