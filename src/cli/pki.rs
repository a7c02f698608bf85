//! `countersign pki`: a development CA. A root and an intermediate in one directory, server and client certificates
//! from them, revocation and CRLs, and certificates that are broken in one chosen way, for those who test refusals.
//!
//! Keys lie on the disk unencrypted: this is no CA for production, and says so.

mod authority;
mod broken;
mod demo;
mod failure;
mod files;
mod keys;
mod leaf;
mod registry;
mod revocation;

#[cfg(test)]
mod tests;

pub use demo::{DemoPki, demo};
pub use failure::PkiError;

use super::exit;
use authority::{Authority, NewAuthority};
use broken::Broken;
use clap::{Args, Subcommand};
use files::Overwrite;
use keys::KeyType;
use leaf::{LeafRequest, Role};
use revocation::{Reason, Which};
use std::fmt;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use time::{Duration, OffsetDateTime};

/// Arguments of `pki`.
#[derive(Debug, Args)]
pub struct PkiArgs {
    #[command(subcommand)]
    command: PkiCommand,
}

#[derive(Debug, Subcommand)]
enum PkiCommand {
    /// Make a root and an intermediate CA
    Init(InitArgs),
    /// Make a server certificate for these DNS names and IP addresses
    Server(ServerArgs),
    /// Make a client certificate
    Client(ClientArgs),
    /// Note that a certificate is revoked; `pki crl` then says so to others
    Revoke(RevokeArgs),
    /// Write the CRLs of the intermediate and of the root
    Crl(CrlArgs),
}

/// Where the CA is.
#[derive(Debug, Args)]
struct Place {
    /// The CA's directory
    #[arg(long, value_name = "DIR", default_value = "pki")]
    dir: PathBuf,
}

#[derive(Debug, Args)]
struct InitArgs {
    #[command(flatten)]
    place: Place,
    /// Organization in the names of both CAs
    #[arg(long, value_name = "NAME", default_value = "Countersign Development")]
    name: String,
    /// Kind of both CAs' keys
    #[arg(long, value_enum, default_value_t = KeyType::P256)]
    key_type: KeyType,
    /// Days that the root is valid; the intermediate has half of them
    #[arg(long, value_name = "N", default_value_t = 3650, value_parser = clap::value_parser!(u32).range(2..=36500))]
    days: u32,
    /// Replace the CA that is there: what it issued is worthless then
    #[arg(long)]
    force: bool,
}

/// What server and client certificates have in common.
#[derive(Debug, Args)]
struct Issuing {
    #[command(flatten)]
    place: Place,
    /// Write STEM.pem and STEM.key [default: in DIR, `server` or the client's name]
    #[arg(long, value_name = "STEM")]
    out: Option<PathBuf>,
    /// Days of validity, at most those of the CA
    #[arg(long, value_name = "N", default_value_t = 365, value_parser = clap::value_parser!(u32).range(1..=36500))]
    days: u32,
    /// Kind of key
    #[arg(long, value_enum, default_value_t = KeyType::P256)]
    key_type: KeyType,
    /// Make it wrong in this way, to test refusals
    #[arg(long, value_enum, value_name = "HOW")]
    broken: Option<Broken>,
    /// Overwrite files of a certificate made before
    #[arg(long)]
    force: bool,
}

#[derive(Debug, Args)]
struct ServerArgs {
    /// DNS names (`*.` for a wildcard) and IP addresses; the first is the common name too
    #[arg(required = true, value_name = "NAME")]
    names: Vec<String>,
    #[command(flatten)]
    issuing: Issuing,
}

#[derive(Debug, Args)]
struct ClientArgs {
    /// The common name
    name: String,
    #[command(flatten)]
    issuing: Issuing,
    /// URI in the subject alternative name, such as spiffe://bank.example/payments
    #[arg(long, value_name = "URI")]
    uri: Vec<String>,
    /// DNS name in the subject alternative name
    #[arg(long, value_name = "NAME")]
    dns: Vec<String>,
    /// Email address in the subject alternative name
    #[arg(long, value_name = "ADDRESS")]
    email: Vec<String>,
    /// IP address in the subject alternative name
    #[arg(long, value_name = "ADDRESS")]
    ip: Vec<std::net::IpAddr>,
    /// Organizational unit
    #[arg(long, value_name = "NAME")]
    ou: Option<String>,
    /// Organization
    #[arg(long, value_name = "NAME")]
    o: Option<String>,
}

#[derive(Debug, Args)]
struct RevokeArgs {
    /// The certificate to revoke (the first in the file)
    #[arg(value_name = "FILE", required_unless_present = "serial", conflicts_with = "serial")]
    file: Option<PathBuf>,
    /// Revoke by serial number, hexadecimal with or without colons
    #[arg(long, value_name = "HEX")]
    serial: Option<String>,
    /// Why
    #[arg(long, value_enum, default_value_t = Reason::Unspecified)]
    reason: Reason,
    #[command(flatten)]
    place: Place,
}

#[derive(Debug, Args)]
struct CrlArgs {
    #[command(flatten)]
    place: Place,
    /// Write here [default: DIR/crl.pem]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Days until the next CRL is due
    #[arg(long, value_name = "N", default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=36500))]
    days: u32,
    /// Make CRLs that ran out yesterday, to test refusals
    #[arg(long)]
    expired: bool,
}

/// What a command did, for the terminal.
struct Done {
    /// Files written, each with what it is.
    wrote: Vec<(PathBuf, &'static str)>,
    /// What else to know.
    note: Option<String>,
    /// The next command, or what to write where.
    next: String,
}

impl fmt::Display for Done {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (path, what) in &self.wrote {
            writeln!(f, "wrote {}  {what}", path.display())?;
        }
        if let Some(note) = &self.note {
            writeln!(f, "note: {note}")?;
        }
        writeln!(f, "next: {}", self.next)
    }
}

/// Answers the exit code.
pub fn pki(args: PkiArgs) -> u8 {
    match run(args.command, OffsetDateTime::now_utc()) {
        Ok(done) => {
            // The files are there, whether or not anybody reads this.
            let _ = std::io::stdout().write_all(done.to_string().as_bytes());
            exit::OK
        }
        Err(error) => {
            eprintln!("countersign pki: {error}");
            error.exit_code()
        }
    }
}

fn run(command: PkiCommand, now: OffsetDateTime) -> Result<Done, PkiError> {
    match command {
        PkiCommand::Init(args) => init(args, now),
        PkiCommand::Server(args) => {
            let request = LeafRequest {
                role: Role::Server,
                cn: args.names[0].clone(),
                ou: None,
                o: None,
                alternative_names: leaf::server_names(&args.names)?,
                key_type: args.issuing.key_type,
                validity: Duration::days(args.issuing.days.into()),
                broken: args.issuing.broken,
            };
            issue(args.issuing, "server".into(), request, now)
        }
        PkiCommand::Client(args) => {
            let request = LeafRequest {
                role: Role::Client,
                cn: args.name.clone(),
                ou: args.ou,
                o: args.o,
                alternative_names: leaf::client_names(&args.uri, &args.dns, &args.email, &args.ip)?,
                key_type: args.issuing.key_type,
                validity: Duration::days(args.issuing.days.into()),
                broken: args.issuing.broken,
            };
            issue(args.issuing, leaf::stem_of(&args.name), request, now)
        }
        PkiCommand::Revoke(args) => revoke(args, now),
        PkiCommand::Crl(args) => crl(args, now),
    }
}

fn init(args: InitArgs, now: OffsetDateTime) -> Result<Done, PkiError> {
    let dir = args.place.dir;
    let new = NewAuthority {
        name: &args.name,
        key_type: args.key_type,
        validity: Duration::days(args.days.into()),
        overwrite: overwrite(args.force),
    };
    Authority::init(&dir, &new, now)?;
    Ok(Done {
        wrote: vec![
            (dir.join(authority::TRUST), "what to trust: the root"),
            (dir.join(authority::ROOT.certificate), "the root CA, its key beside it"),
            (dir.join(authority::INTERMEDIATE.certificate), "the CA that issues, its key beside it"),
            (dir.join(registry::FILE), "what was issued and revoked"),
        ],
        note: Some("for development and tests: the keys lie there unencrypted".into()),
        next: format!("countersign pki server localhost 127.0.0.1 --dir {}", shown(&dir)),
    })
}

fn issue(issuing: Issuing, stem: String, request: LeafRequest, now: OffsetDateTime) -> Result<Done, PkiError> {
    let dir = issuing.place.dir;
    let stem = issuing.out.unwrap_or_else(|| dir.join(stem));
    let mut authority = Authority::open(&dir)?;
    let files = leaf::issue(&mut authority, &request, &stem, overwrite(issuing.force), now)?;
    let ca = shown(&dir.join(authority::TRUST));
    let (what, next) = match (request.role, request.broken) {
        (_, Some(_)) => {
            ("a certificate that must not be let in", format!("countersign explain -c FILE {}", shown(&files.chain)))
        }
        (Role::Server, None) => {
            ("server certificate and its intermediate", format!("countersign pki client alice --dir {}", shown(&dir)))
        }
        (Role::Client, None) => (
            "client certificate and its intermediate",
            format!(
                "curl --cacert {ca} --cert {} --key {} https://localhost:8443/",
                shown(&files.chain),
                shown(&files.key)
            ),
        ),
    };
    let note = request.broken.map(|broken| format!("wrong on purpose: {}", broken.describe()));
    Ok(Done { wrote: vec![(files.chain, what), (files.key, "its key, mode 0600")], note, next })
}

fn revoke(args: RevokeArgs, now: OffsetDateTime) -> Result<Done, PkiError> {
    let which = match (&args.file, &args.serial) {
        (Some(file), _) => Which::File(file),
        (None, Some(serial)) => Which::Serial(serial),
        (None, None) => return Err(PkiError::usage("nothing named to revoke", "name a file, or give --serial")),
    };
    let dir = args.place.dir;
    let mut authority = Authority::open(&dir)?;
    let revoked = revocation::revoke(&mut authority, which, args.reason, now)?;
    Ok(Done {
        wrote: vec![(dir.join(registry::FILE), "what was issued and revoked")],
        note: Some(revoked),
        next: format!("countersign pki crl --dir {}", shown(&dir)),
    })
}

fn crl(args: CrlArgs, now: OffsetDateTime) -> Result<Done, PkiError> {
    let dir = args.place.dir;
    let mut authority = Authority::open(&dir)?;
    let out = args.out.unwrap_or_else(|| dir.join(revocation::FILE));
    let days = Duration::days(args.days.into());
    let until = if args.expired { revocation::NextUpdate::Past } else { revocation::NextUpdate::In(days) };
    let revoked = revocation::write_crls(&mut authority, &out, until, now)?;
    Ok(Done {
        wrote: vec![(out.clone(), "CRLs of the intermediate and the root")],
        note: Some(format!("{revoked} certificates revoked")),
        next: format!("write crls = [\"{}\"] into [site.client], then send SIGHUP to the server", out.display()),
    })
}

fn overwrite(force: bool) -> Overwrite {
    if force { Overwrite::Yes } else { Overwrite::No }
}

/// A path as a shell takes it.
fn shown(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+@%:,".contains(c);
    if !text.is_empty() && text.chars().all(plain) { text } else { format!("'{}'", text.replace('\'', r"'\''")) }
}
