//! `countersign demo`: from nothing to a request that works, by pasting what it prints.

use crate::world::World;
use crate::world::process::{Process, needs, run};
use crate::world::server::command;
use crate::world::wait::{SOON, until_some};
use std::process::Command;

/// The first `curl` line of what the demo printed, waited for.
fn curl_line(demo: &mut Process) -> String {
    until_some(SOON, || {
        let printed = [demo.stdout.all(), demo.stderr.all()].concat();
        let line = printed.iter().map(|line| line.trim()).find(|line| line.starts_with("curl ")).map(str::to_owned);
        assert!(line.is_some() || demo.ended().is_none(), "it ended:\n{}", printed.join("\n"));
        line
    })
    .unwrap_or_else(|| panic!("no curl line:\n{}\n{}", demo.stdout.text(), demo.stderr.text()))
}

#[test]
fn the_curl_line_that_it_prints_works_as_it_stands() {
    if !needs("curl") {
        return;
    }
    let world = World::new();
    for dir in ["made", "with a space"] {
        let mut demo = Process::spawn(command(world.path()).args(["demo", "--dir", dir, "--listen", "127.0.0.1:0"]));
        let line = curl_line(&mut demo);
        // From another directory: the line has to work wherever it is pasted.
        let output = run(Command::new("sh").current_dir("/").env_remove("https_proxy").args(["-c", &line]));
        assert_eq!(output.code, Some(0), "{line}\n{}", output.text());
        assert!(!output.stdout.is_empty(), "{line}\n{}", output.text());
        let anonymous: String = without_certificate(&line);
        let refused = run(Command::new("sh").current_dir("/").args(["-c", &anonymous]));
        assert_ne!(refused.code, Some(0), "{anonymous}\n{}", refused.text());
        demo.signal("INT");
        let status = demo.wait(SOON).expect("it ends on SIGINT");
        assert_eq!(status.code(), Some(0), "{}", demo.stderr.text());
        assert!(!demo.stderr.text().contains("panicked"), "{}", demo.stderr.text());
    }
}

/// The same line without its `--cert` and `--key`.
fn without_certificate(line: &str) -> String {
    // A quoted path is one word: the shell itself takes the line apart.
    let script = format!(
        "set -- {line}; out=; while [ $# -gt 0 ]; do case $1 in --cert|--key|-E) shift 2;; *) printf \"'%s' \" \"$1\"; shift;; esac; done"
    );
    run(Command::new("sh").args(["-c", &script])).stdout
}

#[test]
fn it_starts_again_over_what_it_made_before() {
    let world = World::new();
    for round in 0..2 {
        let mut demo = Process::spawn(command(world.path()).args(["demo", "--dir", "made", "--listen", "127.0.0.1:0"]));
        let line = curl_line(&mut demo);
        if needs("curl") {
            let output = run(Command::new("sh").args(["-c", &line]));
            assert_eq!(output.code, Some(0), "round {round}: {line}\n{}", output.text());
        }
        demo.signal("TERM");
        assert_eq!(demo.wait(SOON).and_then(|status| status.code()), Some(0), "{}", demo.stderr.text());
    }
}
