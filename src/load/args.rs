//! The command line of `countersign-load`, as clap sees it. Checks that need the machine (addresses, files) are elsewhere.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::load::compare::args::CompareArgs;
use crate::load::{limits, units};

/// Measure a TLS server that asks its clients for certificates.
#[derive(Debug, Parser)]
#[command(
    name = "countersign-load",
    version,
    after_help = "Exit codes: 0 every operation succeeded; 1 some failed (the report says how); 64 usage, or a target outside \
                  loopback without --yes-remote; 69 the target did not answer, or nothing succeeded; 70 internal; 71 the \
                  operating system lacks something; 77 permission; 78 a PKI file is missing or bad."
)]
pub struct Arguments {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Connect, complete a TLS handshake, end the connection; full or resumed
    Handshake(HandshakeArgs),
    /// Request and answer over connections that stay open
    Request(RequestArgs),
    /// Move bytes as fast as they go
    Bulk(BulkArgs),
    /// Open connections and hold them: memory per connection
    Idle(IdleArgs),
    /// A scenario file with shares of new, resumed, long-lived, slow and hostile clients
    Mix(MixArgs),
    /// Countersign and the peers found on this machine, side by side
    Compare(CompareArgs),
    /// The plain server to stand behind what is measured: echo, sink, stream or HTTP
    Backend(BackendArgs),
    /// Make the throw-away PKI and say how the server should use it
    Pki(PkiArgs),
}

/// What is measured, and as whom.
#[derive(Clone, Debug, Default, Args)]
pub struct TargetArgs {
    /// Where the TLS server listens: HOST:PORT
    #[arg(value_name = "TARGET", required_unless_present = "target_option")]
    pub target: Option<String>,
    /// The same as an option
    #[arg(long = "target", value_name = "HOST:PORT", conflicts_with = "target", id = "target_option")]
    pub target_option: Option<String>,
    /// Directory with ca.pem, client.pem and client.key; made anew where it holds none [default: a directory in the user's cache]
    #[arg(long, value_name = "DIR")]
    pub pki: Option<PathBuf>,
    /// Trust these certificates for the server, in place of the PKI's ca.pem
    #[arg(long, value_name = "FILE")]
    pub ca: Option<PathBuf>,
    /// Client certificate chain, in place of the PKI's client.pem
    #[arg(long, value_name = "FILE", requires = "key", alias = "cert")]
    pub certificate: Option<PathBuf>,
    /// Key of --certificate
    #[arg(long, value_name = "FILE", requires = "certificate")]
    pub key: Option<PathBuf>,
    /// Send no client certificate
    #[arg(long, conflicts_with_all = ["certificate", "identities"])]
    pub anonymous: bool,
    /// Do not verify the server's certificate
    #[arg(long)]
    pub insecure: bool,
    /// Name to ask for (SNI) and to verify [default: the host of TARGET, or "localhost" for a loopback address]
    #[arg(long, value_name = "NAME")]
    pub sni: Option<String>,
    /// Only this version of TLS
    #[arg(long, value_name = "VERSION")]
    pub tls: Option<TlsVersion>,
    /// Only these cipher suites, by IANA name, in this order
    #[arg(long, value_name = "NAME,…", value_delimiter = ',')]
    pub cipher_suites: Vec<String>,
    /// Only these key exchange groups, in this order: X25519MLKEM768, X25519, secp256r1, secp384r1. Under TLS 1.2 many servers need
    /// the curve of their certificate among them
    #[arg(long, value_name = "NAME,…", value_delimiter = ',')]
    pub groups: Vec<String>,
    /// Offer these ALPN protocols
    #[arg(long, value_name = "NAME,…", value_delimiter = ',')]
    pub alpn: Vec<String>,
    /// Come as this many different clients; needs the CA's key in the PKI directory
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = identities)]
    pub identities: usize,
    /// Allow a target outside loopback: only servers that are yours to load
    #[arg(long)]
    pub yes_remote: bool,
}

/// How hard, how long, from where, and what is reported.
#[derive(Clone, Debug, Args)]
pub struct RunArgs {
    /// Connections at a time (closed loop); with --rate, most operations at a time [default: 16; idle 1000, bulk 1, handshake
    /// --rate 512]
    #[arg(short = 'n', long, value_name = "N", value_parser = connections)]
    pub connections: Option<usize>,
    /// Open loop: start this many operations per second, whatever the target does; latency counts from the intended start
    #[arg(long, value_name = "R", value_parser = units::rate)]
    pub rate: Option<f64>,
    /// End after this time [default: 10s where --count is not given either]
    #[arg(short = 'd', long, value_name = "TIME", value_parser = units::duration_not_zero)]
    pub duration: Option<Duration>,
    /// End after this many operations, and after 10m at the latest where --duration is not given
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub count: Option<u64>,
    /// Run this long before measuring
    #[arg(long, value_name = "TIME", default_value = "0s", value_parser = units::duration)]
    pub warmup: Duration,
    /// Longest time of one operation
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = units::duration_not_zero)]
    pub timeout: Duration,
    /// Threads, each with a ring of its own [default: half the CPUs, or as many as --cpus names]
    #[arg(long, value_name = "N", value_parser = threads)]
    pub threads: Option<usize>,
    /// Pin the threads to these CPUs, e.g. "1" or "0,2-5"
    #[arg(long, value_name = "LIST", value_parser = units::cpus)]
    pub cpus: Option<units::Cpus>,
    /// The server's process, its children counted: reports CPU per operation and memory
    #[arg(long, value_name = "PID", value_parser = clap::value_parser!(u32).range(1..))]
    pub pid: Option<u32>,
    /// The server's control group (v2), in place of --pid: its directory below /sys/fs/cgroup. User and system time are exact there
    #[arg(long, value_name = "DIR", conflicts_with = "pid")]
    pub cgroup: Option<PathBuf>,
    /// The admin address of a Countersign under measurement: reports by which path the bytes went, user space, ktls or splice
    #[arg(long, value_name = "HOST:PORT")]
    pub metrics: Option<String>,
    #[command(flatten)]
    pub output: OutputArgs,
}

/// Where the report goes.
#[derive(Clone, Debug, Args)]
pub struct OutputArgs {
    /// Write the report as JSON; "-" is standard output, in place of the table
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Write the report as a page with plots
    #[arg(long, value_name = "FILE", value_parser = page_file)]
    pub html: Option<PathBuf>,
    /// No progress line
    #[arg(short, long)]
    pub quiet: bool,
}

impl OutputArgs {
    /// The files to write.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        [&self.json, &self.html].into_iter().flatten().map(PathBuf::as_path)
    }
}

#[derive(Debug, Args)]
pub struct HandshakeArgs {
    #[command(flatten)]
    pub target: TargetArgs,
    #[command(flatten)]
    pub run: RunArgs,
    /// Resume with the session ticket of the connection before
    #[arg(long)]
    pub resume: bool,
}

#[derive(Debug, Args)]
pub struct RequestArgs {
    #[command(flatten)]
    pub target: TargetArgs,
    #[command(flatten)]
    pub run: RunArgs,
    /// Bytes of each request, which the backend has to echo (not with --http)
    #[arg(long, value_name = "BYTES", default_value = "1KiB", value_parser = units::size)]
    pub size: usize,
    /// HTTP/1.1 GET of this path in place of the echo
    #[arg(long, value_name = "PATH", num_args = 0..=1, require_equals = true, default_missing_value = "/", conflicts_with = "size")]
    pub http: Option<String>,
}

#[derive(Debug, Args)]
pub struct BulkArgs {
    #[command(flatten)]
    pub target: TargetArgs,
    #[command(flatten)]
    pub run: RunArgs,
    /// Which way the bytes go: down needs a backend that sends by itself ("stream"), up any that reads ("sink"), both an "echo" or a
    /// "stream"
    #[arg(long, value_name = "WAY", default_value = "down")]
    pub direction: Direction,
}

#[derive(Debug, Args)]
pub struct IdleArgs {
    #[command(flatten)]
    pub target: TargetArgs,
    #[command(flatten)]
    pub run: RunArgs,
    /// Exchange this many bytes with an echo backend on each connection before it falls idle
    #[arg(long, value_name = "BYTES", value_parser = units::size)]
    pub exchange: Option<usize>,
}

#[derive(Debug, Args)]
#[command(
    after_help = "benches/mix.toml is an example with every kind of client and every key. Hostile clients (half_handshake, \
                        wrong_certificate, key_updates) are no throughput and no errors: how the server ended them is told apart."
)]
pub struct MixArgs {
    /// The scenario: a TOML file with a [[client]] table for each kind
    #[arg(value_name = "SCENARIO")]
    pub scenario: PathBuf,
    #[command(flatten)]
    pub target: TargetArgs,
    #[command(flatten)]
    pub run: RunArgs,
}

#[derive(Debug, Args)]
pub struct BackendArgs {
    /// Where to listen, in plaintext: IP:PORT or unix:PATH; may be given several times
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:9000")]
    pub listen: Vec<String>,
    /// What to do with a connection
    #[arg(long, value_name = "MODE", default_value = "echo")]
    pub mode: BackendMode,
    /// Size of the body that the "http" mode answers with
    #[arg(long, value_name = "BYTES", default_value = "1KiB", value_parser = units::size)]
    pub size: usize,
    /// Expect a PROXY v2 header first
    #[arg(long)]
    pub proxy: bool,
    /// Threads, each with a ring of its own
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = threads)]
    pub threads: usize,
    /// Pin the threads to these CPUs
    #[arg(long, value_name = "LIST", value_parser = units::cpus)]
    pub cpus: Option<units::Cpus>,
    /// End after this time [default: at a signal]
    #[arg(short = 'd', long, value_name = "TIME", value_parser = units::duration_not_zero)]
    pub duration: Option<Duration>,
    /// Allow an address outside loopback
    #[arg(long)]
    pub yes_remote: bool,
}

#[derive(Debug, Args)]
pub struct PkiArgs {
    /// Where to [default: a directory in the user's cache]
    #[arg(value_name = "DIR")]
    pub directory: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum TlsVersion {
    #[value(name = "1.2")]
    V12,
    #[value(name = "1.3")]
    V13,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Direction {
    Down,
    Up,
    Both,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum BackendMode {
    /// Send back what came
    Echo,
    /// Read and forget
    Sink,
    /// Send without end, and read and forget
    Stream,
    /// Answer each HTTP/1.1 request with a body of --size bytes
    Http,
}

fn page_file(text: &str) -> Result<PathBuf, String> {
    if text == "-" {
        return Err("a page goes to a file; \"-\" is for --json alone".to_owned());
    }
    Ok(text.into())
}

fn connections(text: &str) -> Result<usize, String> {
    within(text, limits::CONNECTIONS_MAX)
}

fn threads(text: &str) -> Result<usize, String> {
    within(text, limits::THREADS_MAX)
}

fn identities(text: &str) -> Result<usize, String> {
    within(text, limits::IDENTITIES_MAX)
}

fn within(text: &str, most: usize) -> Result<usize, String> {
    match text.parse::<usize>() {
        Ok(n) if (1..=most).contains(&n) => Ok(n),
        _ => Err(format!("a number from 1 to {most} is needed")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    fn parse(line: &str) -> Result<Arguments, clap::Error> {
        Arguments::try_parse_from(line.split_whitespace())
    }

    #[test]
    fn the_definitions_hold_together() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn a_target_is_taken_as_argument_or_option_but_not_both_and_not_none() {
        for line in ["countersign-load handshake 127.0.0.1:8443", "countersign-load handshake --target 127.0.0.1:8443"]
        {
            assert!(matches!(parse(line), Ok(Arguments { command: Command::Handshake(_) })), "{line}");
        }
        assert!(parse("countersign-load handshake").is_err());
        assert!(parse("countersign-load handshake a:1 --target b:1").is_err());
    }

    #[test]
    fn the_path_of_http_may_be_left_out_and_excludes_a_size() {
        let Ok(Arguments { command: Command::Request(args) }) = parse("countersign-load request 127.0.0.1:1 --http")
        else {
            panic!("refused")
        };
        assert_eq!(args.http.as_deref(), Some("/"));
        assert!(parse("countersign-load request 127.0.0.1:1 --http /x --size 5").is_err());
    }

    #[test]
    fn standard_output_is_for_json_and_not_for_a_page() {
        assert!(parse("countersign-load handshake 127.0.0.1:1 --json - --html page.html").is_ok());
        assert!(parse("countersign-load handshake 127.0.0.1:1 --html -").is_err());
    }

    #[test]
    fn nonsense_numbers_are_refused() {
        for flags in
            ["--connections 0", "--rate -1", "--duration 5", "--count 0", "--threads 0", "--pid 0", "--identities 0"]
        {
            assert!(parse(&format!("countersign-load handshake 127.0.0.1:1 {flags}")).is_err(), "{flags}");
        }
    }

    #[test]
    fn a_key_goes_with_a_certificate() {
        assert!(parse("countersign-load handshake 127.0.0.1:1 --certificate c.pem").is_err());
        assert!(parse("countersign-load handshake 127.0.0.1:1 --certificate c.pem --key k.pem").is_ok());
        assert!(parse("countersign-load handshake 127.0.0.1:1 --anonymous --certificate c.pem --key k.pem").is_err());
    }
}
