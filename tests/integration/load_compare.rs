//! `countersign-load compare` with slices too short to mean anything: who takes part, what is told, what is left behind.

use crate::world::process::{Output, Process};
use crate::world::server;
use crate::world::wait::until;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// A comparison starts every program anew for each scenario, on a machine that may be busy.
const LONG: Duration = Duration::from_secs(120);

fn compare(dir: &Path, words: &[&str]) -> Command {
    let load = match std::env::var_os("COUNTERSIGN_BIN") {
        Some(_) => server::binary().with_file_name("countersign-load"),
        None => PathBuf::from(env!("CARGO_BIN_EXE_countersign-load")),
    };
    let mut command = Command::new(load);
    command.env("TMPDIR", dir).args(["compare", "--quiet", "--slices", "2", "--slice", "100ms", "--idle", "20"]);
    command.arg("--countersign").arg(server::binary()).args(words);
    command
}

fn finished(mut command: Command) -> Output {
    let mut process = Process::spawn(&mut command);
    let status = process.wait(LONG).unwrap_or_else(|| panic!("{command:?} did not end"));
    Output { code: status.code(), stdout: process.stdout.text(), stderr: process.stderr.text() }
}

fn rows(report: &Value) -> Vec<&Value> {
    report["scenarios"].as_array().unwrap().iter().collect()
}

/// The command line of Countersign, as a peer under another name.
fn itself() -> String {
    format!(
        "again='{}' run --listen {{listen}} --backend {{backend}} --certificate {{certificate}} --key {{key}} --client-ca \
         {{client_ca}}",
        server::binary().display()
    )
}

fn is_empty(dir: &Path) -> bool {
    std::fs::read_dir(dir).unwrap().next().is_none()
}

#[test]
fn every_scenario_measures_the_program_beside_its_floor_and_a_peer_by_command() {
    let (dir, written) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (again, page) = (itself(), written.path().join("page.html"));
    let words = ["--only", "countersign,again", "--peer", &again, "--json", "-", "--html", page.to_str().unwrap()];
    let output = finished(compare(dir.path(), &words));
    assert_eq!(output.code, Some(0), "{}", output.text());
    let report: Value = serde_json::from_str(&output.stdout).unwrap();
    assert_eq!(rows(&report).len(), 10);
    for row in rows(&report) {
        let entries = row["entries"].as_array().unwrap();
        assert_eq!(entries.len(), 2, "{row:#}");
        assert_eq!((&entries[0]["peer"], &entries[1]["peer"]), (&"countersign".into(), &"again".into()));
        let slices = entries[0]["slices"].as_array().unwrap().len();
        assert_eq!(slices, 2, "{row:#}");
        assert!(entries[0]["ratio"].is_null() && entries[1]["ratio"]["median"].is_number(), "{row:#}");
        let name = row["name"].as_str().unwrap();
        assert_eq!(row["floor_figure"].is_number(), name != "idle", "{row:#}");
        if name != "idle" {
            assert!(entries[0]["figure"]["median"].as_f64().unwrap() > 0.0, "{row:#}");
            assert!(entries[0]["slices"][0]["operations"].as_u64().unwrap() > 0, "{row:#}");
        }
        if name == "resume" {
            assert_eq!(entries[0]["slices"][0]["resumed"], entries[0]["slices"][0]["operations"], "{row:#}");
        }
    }
    assert!(is_empty(dir.path()), "the scratch directory is still there");
    let page = std::fs::read_to_string(&page).unwrap();
    assert_eq!(page.matches("<section").count(), 11, "one for each scenario, and the ratios");
    assert!(page.contains("again") && page.ends_with("</html>\n"));
    for outside in ["http:", "https:", "url(", "<script", "<link", "src="] {
        assert!(!page.contains(outside), "{outside}");
    }
}

#[test]
fn peers_that_are_there_take_part_and_those_that_are_not_are_named_with_their_package() {
    let dir = tempfile::tempdir().unwrap();
    let words = ["--scenario", "handshake,unix-64", "--json", "-"];
    let output = finished(compare(dir.path(), &words));
    let report: Value = serde_json::from_str(&output.stdout).unwrap_or_else(|_| panic!("{}", output.text()));
    let names = |list: &Value, key: &str| -> Vec<String> {
        list.as_array().unwrap().iter().map(|one| one[key].as_str().unwrap().to_owned()).collect()
    };
    let mut all = [names(&report["peers"], "name"), names(&report["missing"], "name")].concat();
    all.sort();
    assert_eq!(all, ["countersign", "envoy", "haproxy", "hitch", "nginx", "stunnel"]);
    for missing in report["missing"].as_array().unwrap() {
        assert!(missing["why"].as_str().unwrap().contains("install"), "{missing}");
    }
    for row in rows(&report) {
        assert_eq!(names(&row["entries"], "peer"), names(&report["peers"], "name"), "left out: {}", row["left_out"]);
    }
    assert_eq!(output.code, Some(0), "{}", output.text());
}

#[test]
fn a_peer_that_does_not_start_is_left_out_with_its_last_words_and_the_others_go_on() {
    let dir = tempfile::tempdir().unwrap();
    let words = [
        "--only",
        "countersign,mute",
        "--peer",
        "mute=sh -c 'echo no {listen} for me; exit 9'",
        "--scenario",
        "request-1",
    ];
    let output = finished(compare(dir.path(), &words));
    assert_eq!(output.code, Some(1), "{}", output.text());
    assert!(output.stdout.contains("left out: it ended (exit status: 9); it said: no 127.0.0.1:"), "{}", output.text());
    assert!(output.stdout.contains("countersign"), "{}", output.text());
    let output = finished(compare(dir.path(), &["--only", "mute", "--peer", "mute=sh -c 'exit 9' {listen}"]));
    assert_eq!(output.code, Some(69), "{}", output.text());
}

#[test]
fn names_that_are_none_are_refused_with_the_nearest() {
    let dir = tempfile::tempdir().unwrap();
    for (words, nearest) in [
        (["--scenario", "handshakes"], "did you mean handshake?"),
        (["--only", "nginks"], "did you mean nginx?"),
        (["--peer", "x=run"], "{listen}"),
        (["--cpus", "4000"], "CPU 4000"),
    ] {
        let output = finished(compare(dir.path(), &words));
        assert_eq!(output.code, Some(64), "{}", output.text());
        assert!(output.stderr.contains(nearest), "{}", output.text());
    }
    assert!(is_empty(dir.path()));
}

#[test]
fn an_interrupt_ends_the_programs_and_still_tells_what_was_measured() {
    let dir = tempfile::tempdir().unwrap();
    let pid = dir.path().join("pid");
    let peer = format!("deaf=sh -c 'echo $$ > {}; trap : TERM; while :; do sleep 0.1; done' {{listen}}", pid.display());
    let mut process = Process::spawn(&mut compare(dir.path(), &["--only", "countersign,deaf", "--peer", &peer]));
    assert!(until(LONG, || pid.exists()), "the second program was never started");
    process.signal("INT");
    assert!(process.wait(LONG).is_some(), "{}", process.stderr.text());
    let shell = std::fs::read_to_string(&pid).unwrap();
    let gone = || !Path::new("/proc").join(shell.trim()).exists();
    assert!(until(LONG, gone), "{shell} still runs");
    assert!(process.stdout.text().contains("interrupted"), "{}", process.stdout.text());
}
