//! The figures that the project aims at, measured on the release programs: `cargo bench --bench relay [-- --help]`.
//! `benches/README.md` says how to read them and what makes them lie.

#![forbid(unsafe_code)]

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use clap::Parser;
use countersign::load::process::Family;
use serde_json::Value;

use figures::{Series, ratio};
use subject::Process;

mod epoll;
mod figures;
mod floor;
mod subject;

/// Measure the relay, its handshakes and what it costs to be idle.
#[derive(Debug, Parser)]
struct Arguments {
    /// Slices of each measurement; the programs take turns
    #[arg(long, default_value_t = 7)]
    rounds: usize,
    /// Length of one slice
    #[arg(long, default_value = "1s")]
    slice: String,
    /// Connections to hold for the memory of an idle one
    #[arg(long, default_value_t = 2000)]
    idle: usize,
    /// Write all slices as JSON
    #[arg(long)]
    json: Option<PathBuf>,
    /// Be the relay that the others are compared with: LISTEN BACKEND DIRECTORY
    #[arg(long, num_args = 3, hide = true)]
    epoll_relay: Option<Vec<String>>,
    /// What cargo says to every benchmark
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if let Some(words) = &arguments.epoll_relay {
        pin();
        let address = |i: usize| words[i].parse::<SocketAddr>().expect("an address from the parent");
        epoll::serve(address(0), address(1), Path::new(&words[2])).expect("a relay that runs until it is killed");
        return ExitCode::SUCCESS;
    }
    let bench = Bench::start(&arguments);
    println!("{}, one CPU for the server, one for the generator and the backend", subject::cpu_model());
    println!("CPU µs of the server per operation: median (minimum to maximum) of {} slices\n", arguments.rounds);
    let mut all = serde_json::Map::new();
    for connections in [1, 64, 256] {
        bench.requests(connections, &mut all);
    }
    bench.handshakes(&mut all);
    bench.idle(&mut all);
    if let Some(path) = &arguments.json {
        std::fs::write(path, Value::Object(all).to_string()).expect("a file that can be written");
    }
    ExitCode::SUCCESS
}

/// The server under test is alone on CPU 0, and so is what it is compared with.
fn pin() {
    let pinned = core_affinity::set_for_current(core_affinity::CoreId { id: 0 });
    assert!(pinned, "CPU 0 may not be used here; see `taskset -p $$`");
}

/// All that runs during a measurement.
struct Bench<'a> {
    arguments: &'a Arguments,
    directory: tempfile::TempDir,
    subjects: Vec<Subject>,
    _backend: Process,
}

/// One relay.
struct Subject {
    name: &'static str,
    address: SocketAddr,
    process: Process,
}

impl Bench<'_> {
    fn start(arguments: &Arguments) -> Bench<'_> {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let root = directory.path();
        let made =
            Command::new(subject::load_program()).arg("pki").arg(root.join("pki")).stdout(Stdio::null()).status();
        assert!(made.is_ok_and(|status| status.success()), "no PKI");
        let (tcp, unix) = (subject::free_address(), root.join("backend.sock"));
        let backend = subject::backend(tcp, &unix);
        let addresses: Vec<SocketAddr> = (0..5).map(|_| subject::free_address()).collect();
        let unix = format!("unix:{}", unix.display());
        let subjects = vec![
            Subject {
                name: "countersign",
                address: addresses[0],
                process: subject::countersign(root, "io_uring", addresses[0], &tcp.to_string()),
            },
            Subject {
                name: "countersign, unix backend",
                address: addresses[1],
                process: subject::countersign(root, "io_uring", addresses[1], &unix),
            },
            Subject {
                name: "epoll by hand",
                address: addresses[2],
                process: subject::epoll_relay(root, addresses[2], tcp),
            },
            Subject {
                name: "over epoll",
                address: addresses[3],
                process: subject::countersign(root, "epoll", addresses[3], &tcp.to_string()),
            },
            Subject {
                name: "over epoll, unix backend",
                address: addresses[4],
                process: subject::countersign(root, "epoll", addresses[4], &unix),
            },
        ];
        Bench { arguments, directory, subjects, _backend: backend }
    }

    /// One slice against one subject; the report of the generator.
    fn slice(&self, subject: &Subject, words: &[&str]) -> Value {
        let mut command = Command::new(subject::load_program());
        command.args(words).arg(subject.address.to_string());
        command.arg("--pki").arg(self.directory.path().join("pki")).args(["--pid", &subject.process.pid().to_string()]);
        command.args(["--cpus", "1", "--cipher-suites", "TLS_AES_128_GCM_SHA256", "--groups", "X25519", "--json", "-"]);
        let output = command.stderr(Stdio::inherit()).output().expect("the generator");
        let report: Value = serde_json::from_slice(&output.stdout).unwrap_or(Value::Null);
        assert!(output.status.success(), "{command:?} failed: {report:#}");
        report
    }

    /// Interleaves slices of `words` over the subjects of these indices; CPU µs per operation.
    fn compare(&self, indices: &[usize], words: &[&str]) -> Vec<Series> {
        let mut series: Vec<Series> = indices.iter().map(|i| Series::new(self.subjects[*i].name)).collect();
        let words: Vec<&str> =
            words.iter().copied().chain(["--duration", &self.arguments.slice, "--warmup", "200ms"]).collect();
        for _ in 0..self.arguments.rounds {
            for (i, series) in indices.iter().zip(&mut series) {
                let report = self.slice(&self.subjects[*i], &words);
                series.push(report["server"]["cpu_us_per_operation"]["total"].as_f64().unwrap_or(f64::NAN));
            }
        }
        series
    }

    /// 1 KiB there and back over kept connections.
    fn requests(&self, connections: usize, all: &mut serde_json::Map<String, Value>) {
        let count = connections.to_string();
        let series = self.compare(&[0, 1, 2, 3, 4], &["request", "--size", "1KiB", "--connections", &count]);
        println!("1 KiB request over {connections} connections");
        for one in &series {
            println!("  {one}  {}", ratio(one, &series[2]));
            all.insert(format!("request_{connections}_{}", one.name), one.json());
        }
        println!("  epoll engine: {}, {}", ratio(&series[3], &series[0]), ratio(&series[4], &series[1]));
    }

    /// Handshakes, as multiples of what their cryptography alone costs.
    fn handshakes(&self, all: &mut serde_json::Map<String, Value>) {
        let floor = floor::measure();
        println!("floor: sign {:.1}, verify {:.1}, X25519 {:.1} µs", floor.sign, floor.verify, floor.agree);
        // `resumed` still agrees on a key, and signs nothing.
        for (name, words, least) in [
            ("full handshake", &["handshake"][..], floor.sign + floor.verify + floor.agree),
            ("resumed handshake", &["handshake", "--resume"][..], floor.agree),
        ] {
            let series = self.compare(&[0, 3], words);
            println!("{name}\n  {}  {:.2} × its floor of {least:.1}", series[0], series[0].median() / least);
            println!("  {}  {}", series[1], ratio(&series[1], &series[0]));
            all.insert(name.replace(' ', "_"), series[0].json());
            all.insert(format!("{}_epoll", name.replace(' ', "_")), series[1].json());
        }
    }

    /// CPU µs a second of a server that nobody talks to.
    fn cpu_at_rest(process: &Process) -> f64 {
        let family = Family::new(process.pid()).expect("a process of ours");
        // What the connections left behind is put away first.
        std::thread::sleep(Duration::from_secs(2));
        let before = family.sample();
        std::thread::sleep(Duration::from_secs(5));
        family.sample().since(&before).cores * 1e6
    }

    /// Memory of an idle connection and CPU of an idle server.
    fn idle(&self, all: &mut serde_json::Map<String, Value>) {
        let count = self.arguments.idle.to_string();
        let words = ["idle", "--connections", &count, "--duration", "5s", "--exchange", "1KiB"];
        // The one with the unix backend has seen least so far, so that little freed memory hides the growth.
        let report = self.slice(&self.subjects[1], &words);
        let each = &report["server"]["memory_per_connection"];
        let per_second = report["server"]["cores"].as_f64().unwrap_or(f64::NAN) * 1e6;
        println!("idle connection (of {count})");
        println!("  user memory   {:.2} KiB", each["rss"].as_f64().unwrap_or(f64::NAN) / 1024.0);
        println!("  CPU           {per_second:.0} µs a second, all of them together");
        let nothing = Self::cpu_at_rest(&self.subjects[1].process);
        println!("server without connections\n  CPU           {nothing:.0} µs a second");
        all.insert("cpu_us_per_second_at_rest".to_owned(), nothing.into());
        all.insert("idle".to_owned(), report["server"].clone());
    }
}
