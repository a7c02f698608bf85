//! What the operator said: the TOML file or the flags, checked once and turned into [`Config`].
//!
//! Holding a [`Config`] proves that every key was known, well formed and consistent with the others. Files that it
//! names (certificates, CRLs) are not opened here: `tls` and `trust` load them.
//!
//! How it comes about: `source` reads bytes, `toml` parses them with the place of each value, `walk` hands the values
//! out, one module for each table (`process`, `listener`, `backend`, `site`, `client`, `rule`) makes the types of
//! `model` from them, `together` checks what no table sees alone, and `pending` refuses what is not built yet. All of
//! them say what they find to one `report`.

#![forbid(unsafe_code)]

mod backend;
mod ciphers;
mod client;
mod defaults;
mod dn;
mod fault;
mod files;
mod flags;
mod forms;
mod hosts;
mod keys;
pub mod limits;
mod listener;
mod mentions;
mod model;
mod nearest;
mod net;
mod pending;
mod process;
mod report;
mod rule;
mod site;
mod socket;
mod source;
#[cfg(test)]
mod tests;
mod together;
mod walk;

pub use defaults::ADMIN_SOCKET;
pub use fault::{Fault, FaultKind};
pub use flags::Flags;
pub use mentions::Mentions;
pub use model::*;
pub use rule::sha256_from;
pub use socket::admin_socket_of;

use report::Report;
use std::path::Path;
use toml::de::DeTable;
use walk::Table;

/// A duration as the configuration has it (`"30d"`, `"1h30m"`), for arguments that take one.
pub fn parse_duration(text: &str) -> Result<std::time::Duration, String> {
    forms::duration(text).map_err(|problem| match problem.help {
        Some(help) => format!("{}; {help}", problem.message),
        None => problem.message,
    })
}

/// All that was found in one configuration, and what it makes if nothing was wrong.
#[derive(Debug, Clone)]
pub struct Examined {
    pub config: Option<Config>,
    /// Faults and warnings in the order of the file.
    pub found: Vec<Fault>,
}

impl Config {
    /// Reads and checks a file. Relative paths in it are relative to its directory.
    pub fn from_file(path: &Path) -> Result<Config, Vec<Fault>> {
        Examined::of_file(path).into_config()
    }

    /// Checks a text. `file` is where it came from: it stands in faults, and relative paths start at its directory
    /// (without it at the working directory).
    pub fn from_text(text: &str, file: Option<&Path>) -> Result<Config, Vec<Fault>> {
        Examined::of_text(text, file).into_config()
    }
}

impl Examined {
    /// Like [`Config::from_file`], with the warnings of a file that has faults too.
    pub fn of_file(path: &Path) -> Examined {
        match source::read(path) {
            Ok(text) => Examined::of_text(&text, Some(path)),
            Err(fault) => Examined { config: None, found: vec![fault] },
        }
    }

    /// Like [`Config::from_text`], with the warnings of a text that has faults too.
    pub fn of_text(text: &str, file: Option<&Path>) -> Examined {
        let report = Report::new(text, file);
        let (document, errors) = DeTable::parse_recoverable(text);
        // What recovery made of a broken file is not what the operator meant: no word on its content.
        if !errors.is_empty() {
            report_syntax(&report, text, &errors);
            return Examined { config: None, found: report.into_found() };
        }
        let config = read(&Table::root(&report, document.get_ref()));
        let failed = report.has_faults();
        let mentions = report.take_mentions();
        let found = report.into_found();
        let config = (!failed).then(|| Config {
            file: file.map(Path::to_owned),
            digest: sha256(text.as_bytes()),
            warnings: found.clone(),
            mentions,
            ..config
        });
        Examined { config, found }
    }

    fn into_config(self) -> Result<Config, Vec<Fault>> {
        let Examined { config, found } = self;
        config.ok_or_else(|| found.into_iter().filter(|fault| fault.kind != FaultKind::Warning).collect())
    }
}

/// Says what is not TOML: once for each line, because what follows an error there often comes from it.
fn report_syntax(report: &Report, text: &str, errors: &[toml::de::Error]) {
    let mut last = None;
    for error in errors {
        let span = error.span();
        let line = span.as_ref().map(|span| report.line_of(span.start));
        if line.is_some() && line == last {
            continue;
        }
        last = line;
        let fault = match span.and_then(|span| text.get(span)) {
            Some(key) if error.message().starts_with("duplicate key") => Fault::config(
                &key.escape_debug().to_string(),
                "stands here a second time",
                "write each key and table once",
            ),
            _ => Fault::config("", &format!("not TOML: {}", error.message()), "mend the form of this line"),
        };
        report.push(fault.on_line(line));
    }
}

/// Every table, then what they say together. Of use only if nothing was reported.
fn read(root: &Table<'_>) -> Config {
    let runtime = process::read_runtime(root);
    let admin = process::read_admin(root);
    let log = process::read_log(root);
    let audit = process::read_audit(root);
    let tickets = process::read_tickets(root);
    let (listeners, backends) = (listener::read_listeners(root), listener::read_backends(root));
    let tables = listener::demand_tables(root, "site", keys::SITE, "write a [[site]] with its certificate");
    listener::bound(&tables, limits::SITES_MAX, "sites");
    let sites = tables.iter().filter_map(|table| site::read(table, &listeners, &backends)).collect();
    let parts = together::Parts { listeners, backends, sites };
    together::check(root, &parts, admin.as_ref());
    together::warn_of_kernel_tls(&runtime, &parts.listeners);
    pending::refuse(root);
    Config {
        file: None,
        digest: [0; 32],
        runtime,
        admin,
        log,
        audit,
        tickets,
        listeners: parts.listeners.into_iter().map(|named| named.item).collect(),
        sites: parts.sites.into_iter().map(|draft| draft.site).collect(),
        backends: parts.backends.into_iter().map(|named| named.item).collect(),
        warnings: Vec::new(),
        mentions: Mentions::default(),
    }
}

fn sha256(bytes: &[u8]) -> [u8; 32] {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes);
    let mut array = [0; 32];
    array.copy_from_slice(digest.as_ref());
    array
}
