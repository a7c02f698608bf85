//! `countersign ctl`: one question to a running server, one answer printed.

pub(super) mod client;

#[cfg(test)]
mod tests;

use super::exit;
use crate::config::{self, ADMIN_SOCKET, Fault, FaultKind};
use crate::control::ctl::{Answer, Request, Selector, ServerState};
use crate::control::explain;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use clap::{ArgGroup, Args, Subcommand};
use std::io::Write;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Talk to a running server over its admin socket.
#[derive(Debug, Args)]
#[command(after_help = "Options may stand before or after the command. The socket is --socket, else the one that the \
        configuration given by -c names, else /run/countersign/admin.sock; whoever may open it may do everything.\n\
        Exit codes: 0 done, 1 the server refuses (for `explain`: or the client would be refused), 69 no server answers, \
        77 the socket may not be opened.")]
pub struct CtlArgs {
    /// The server's admin socket
    #[arg(long, value_name = "PATH", global = true)]
    socket: Option<PathBuf>,
    /// The server's configuration, to find the socket by
    #[arg(short = 'c', long = "config", value_name = "FILE", global = true)]
    config: Option<PathBuf>,
    /// Print JSON in place of text
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// How the server is: listeners, backends, workers, totals
    Status,
    /// Read the configuration and every file it names again; all faults are printed, and any leaves everything as it is
    Reload,
    /// Stop as SIGTERM does: accept no more, let connections end, then exit
    Drain {
        /// Time for open connections, such as 30s [default: runtime.drain_timeout]
        #[arg(value_name = "DURATION", value_parser = config::parse_duration)]
        timeout: Option<Duration>,
    },
    /// Refuse a client from now on, resumed sessions too, and end its connections within a second
    Block(BlockArgs),
    /// Take a block away; name the client as the block does
    Unblock(SelectorArgs),
    /// List the blocks in force
    Blocked,
    /// Ticket keys
    Tickets {
        #[command(subcommand)]
        command: TicketsCommand,
    },
    /// Would the running server let this client in, by its policy, CRLs and blocks of now?
    Explain(ExplainArgs),
    /// The last refused attempts, with their reasons
    Refusals(RefusalsArgs),
    /// Connections open now
    Sessions {
        /// Of this client alone, as the audit prints it, such as uri:spiffe://bank.example/acme
        #[arg(long, value_name = "IDENTITY")]
        identity: Option<String>,
    },
    /// Clients connected now, with how many connections each has
    Identities {
        /// Those alone, connected now or not, that were let in since the start and whose certificate runs out within
        /// this time, such as 14d: who has not renewed yet
        #[arg(long, value_name = "DURATION", value_parser = config::parse_duration)]
        expiring: Option<Duration>,
    },
    /// Take a backend's server out, or back in; open connections stay. A reload keeps it, a restart forgets it
    Backend {
        /// The backend's name
        #[arg(value_name = "NAME")]
        backend: String,
        /// The server as the configuration has it, such as 127.0.0.1:9000 or unix:/run/ledger.sock
        server: String,
        state: ServerState,
    },
}

#[derive(Debug, Subcommand)]
enum TicketsCommand {
    /// Seal tickets with a new key from now on; `tickets.keep` older ones still open
    Rotate,
}

#[derive(Debug, Args)]
#[command(group(ArgGroup::new("client").required(true).args(["serial", "sha256", "spki", "identity"])))]
struct SelectorArgs {
    /// The certificate with this serial number: hex, as `openssl x509 -serial` prints it, with colons or without
    #[arg(long, value_name = "HEX")]
    serial: Option<String>,
    /// Under this issuer alone, such as "CN=Partner CA,O=Bank,C=GB"; without it under any
    #[arg(long, value_name = "DN", requires = "serial", conflicts_with_all = ["sha256", "spki", "identity"])]
    issuer: Option<String>,
    /// The certificate with this SHA-256: 64 hex digits, with colons or without
    #[arg(long, value_name = "HEX")]
    sha256: Option<String>,
    /// Every certificate of this key: SHA-256 of its SubjectPublicKeyInfo in hex
    #[arg(long, value_name = "HEX")]
    spki: Option<String>,
    /// Every certificate of this client, as the audit prints it, such as uri:spiffe://bank.example/acme or name:acme
    #[arg(long, value_name = "IDENTITY")]
    identity: Option<String>,
}

#[derive(Debug, Args)]
struct BlockArgs {
    #[command(flatten)]
    client: SelectorArgs,
    /// End the block after this time, such as 2h; without it it stays until `unblock`
    #[arg(long = "for", value_name = "DURATION", value_parser = config::parse_duration)]
    duration: Option<Duration>,
    /// Why, for `blocked` and the audit
    #[arg(long, value_name = "TEXT")]
    why: Option<String>,
}

#[derive(Debug, Args)]
struct ExplainArgs {
    /// The listener that the client connects to, by name; may be left out where there is one
    #[arg(long, value_name = "NAME")]
    listener: Option<String>,
    /// The name that the client asks for (SNI); may be left out for a catch-all, or where there is one site
    #[arg(long, value_name = "NAME")]
    sni: Option<String>,
    /// What the client sends: its certificate first, then its intermediates; PEM, or DER of one certificate
    #[arg(value_name = "CHAIN")]
    chain: PathBuf,
}

#[derive(Debug, Args)]
struct RefusalsArgs {
    /// From this address alone
    #[arg(long, value_name = "IP")]
    client: Option<IpAddr>,
    /// With this certificate alone: SHA-256 in hex
    #[arg(long, value_name = "HEX")]
    sha256: Option<String>,
    /// With a certificate of this client alone, such as uri:spiffe://bank.example/acme; the kind may be left out
    #[arg(long, value_name = "IDENTITY")]
    identity: Option<String>,
    /// No older than this, such as 1h
    #[arg(long, value_name = "DURATION", value_parser = config::parse_duration)]
    last: Option<Duration>,
}

/// Asks, prints, and answers the exit code.
pub fn ctl(args: CtlArgs) -> u8 {
    let request = match request_of(args.command) {
        Ok(request) => request,
        Err(problem) => {
            eprintln!("countersign ctl: {problem}");
            return exit::CONFIG;
        }
    };
    let socket = match socket_of(args.socket, args.config.as_deref()) {
        Ok(socket) => socket,
        Err(fault) => {
            eprintln!("countersign ctl: {fault}");
            return if fault.kind == FaultKind::Permission { exit::PERMISSION } else { exit::CONFIG };
        }
    };
    match client::ask(&socket, &request) {
        Ok(answer) => print(&request, &answer, args.json),
        Err(silence) => {
            eprintln!("countersign ctl: {silence}");
            silence.exit_code()
        }
    }
}

fn request_of(command: Command) -> Result<Request, String> {
    Ok(match command {
        Command::Status => Request::Status,
        Command::Reload => Request::Reload,
        Command::Drain { timeout } => {
            let millis = |timeout: Duration| u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX);
            Request::Drain { timeout_ms: timeout.map(millis) }
        }
        Command::Block(BlockArgs { client, duration, why }) => {
            // Less than a second is one: blocks are counted in seconds.
            let for_seconds = duration.map(|duration| duration.as_millis().div_ceil(1000) as u64);
            Request::Block { client: client.selector(), for_seconds, why }
        }
        Command::Unblock(client) => Request::Unblock { client: client.selector() },
        Command::Blocked => Request::Blocked,
        Command::Tickets { command: TicketsCommand::Rotate } => Request::RotateTickets,
        Command::Explain(ExplainArgs { listener, sni, chain }) => {
            let chain = read_chain(&chain)?;
            Request::Explain { listener, sni, chain }
        }
        Command::Refusals(RefusalsArgs { client, sha256, identity, last }) => {
            Request::Refusals { client, sha256, identity, last_seconds: last.map(|last| last.as_secs()) }
        }
        Command::Sessions { identity } => Request::Sessions { identity },
        Command::Identities { expiring } => {
            Request::Identities { expiring_seconds: expiring.map(|time| time.as_secs()) }
        }
        Command::Backend { backend, server, state } => Request::Backend { backend, server, state },
    })
}

impl SelectorArgs {
    fn selector(self) -> Selector {
        let SelectorArgs { serial, issuer, sha256, spki, identity } = self;
        let digest = sha256.map(Selector::Sha256).or(spki.map(Selector::SpkiSha256));
        let named = identity.map(Selector::Identity);
        // The group lets exactly one through.
        digest.or(named).unwrap_or_else(|| Selector::Serial { serial: serial.unwrap_or_default(), issuer })
    }
}

fn read_chain(path: &Path) -> Result<Vec<String>, String> {
    let problem = |problem: String| {
        format!("{}: {problem}; give the client's certificate, then its intermediates", path.display())
    };
    let bytes = std::fs::read(path).map_err(|error| problem(format!("cannot be read: {error}")))?;
    let chain = explain::certificates_of(&bytes).map_err(problem)?;
    Ok(chain.iter().map(|certificate| STANDARD.encode(certificate)).collect())
}

/// The socket to talk to: as typed, else as the file has it, else where it usually is.
pub(super) fn socket_of(socket: Option<PathBuf>, file: Option<&Path>) -> Result<PathBuf, Fault> {
    match (socket, file) {
        (Some(socket), _) => Ok(socket),
        (None, None) => Ok(PathBuf::from(ADMIN_SOCKET)),
        (None, Some(file)) => config::admin_socket_of(file)?.ok_or_else(|| {
            let help = "write [admin] with `socket`, and restart; or name another server's socket with --socket";
            Fault::config("admin.socket", "this configuration has no admin socket", help).at(file)
        }),
    }
}

/// Prints the answer; the exit code.
fn print(request: &Request, answer: &Answer, json: bool) -> u8 {
    let text = match (&answer.data, json) {
        (Some(data), true) => format!("{}\n", data.get().trim_end()),
        (None, true) => format!("{}\n", serde_json::json!({ "ok": answer.ok, "text": answer.text })),
        (_, false) => plain(&answer.text),
    };
    // A reader that went away takes nothing from the answer: the exit code tells it too.
    if answer.ok || json {
        let _ = std::io::stdout().lock().write_all(text.as_bytes());
    } else {
        let lines: String = text.lines().map(|line| format!("countersign ctl: {line}\n")).collect();
        let _ = std::io::stderr().lock().write_all(lines.as_bytes());
    }
    if answer.ok && !explains_a_refusal(request, answer) { exit::OK } else { exit::REFUSED }
}

fn explains_a_refusal(request: &Request, answer: &Answer) -> bool {
    let admitted = || {
        let data: serde_json::Value = serde_json::from_str(answer.data.as_ref()?.get()).ok()?;
        data["admitted"].as_bool()
    };
    matches!(request, Request::Explain { .. }) && admitted() != Some(true)
}

/// Text for a terminal, ended by a newline: nothing in it but lines.
fn plain(text: &str) -> String {
    let mut plain: String = text.chars().map(|c| if c.is_control() && c != '\n' { ' ' } else { c }).collect();
    if !plain.is_empty() && !plain.ends_with('\n') {
        plain.push('\n');
    }
    plain
}
