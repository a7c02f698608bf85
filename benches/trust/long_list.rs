//! A CRL with very many entries: how long it takes to load, what memory it holds for one site and for many, and what one
//! lookup in it costs.

use crate::cpu_time;
use crate::figures::{Series, ratio};
use crate::world::{self, CLIENT_SERIAL, Shape, World};
use countersign::trust::{self, Presented, Reason};
use rustls_pki_types::UnixTime;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

/// Judgements in a row.
const ROW: usize = 200;
/// Sites that share the list.
const SITES: usize = 8;

pub fn measure(rounds: usize, entries: u64) {
    // Numbers of the generator's that are not the client's.
    let many: Vec<u64> = (CLIENT_SERIAL + 1..=CLIENT_SERIAL + entries).collect();
    let directory = tempfile::tempdir().expect("a temporary directory");
    world::write_files(directory.path(), &Shape { intermediates: 1, revoked: Some(many.clone()) });
    let size = std::fs::metadata(directory.path().join("clients.crl")).expect("the CRL").len();
    println!("\nA CRL with {entries} entries, {:.1} MB of PEM", size as f64 / 1e6);
    for sites in [1, SITES] {
        std::fs::write(directory.path().join("sites"), sites.to_string()).expect("a file that can be written");
        let this = std::env::current_exe().expect("a path");
        let told = Command::new(this).arg("--load").arg(directory.path()).status().expect("a process");
        assert!(told.success(), "the loading process failed");
    }
    lookups(rounds, many);
}

/// The loading process: tells what the CRL adds to a load of the same sites without it.
pub fn load_and_tell(directory: &Path) {
    let sites = std::fs::read_to_string(directory.join("sites")).expect("a number");
    let sites = sites.parse().expect("a number");
    let without = world::load(&world::configuration(directory, sites, false));
    let before = resident_kib();
    let (wall, cpu) = (Instant::now(), cpu_time());
    let with = world::load(&world::configuration(directory, sites, true));
    let (wall, cpu) = (wall.elapsed(), cpu_time() - cpu);
    let held = resident_kib().saturating_sub(before) as f64 / 1024.0;
    let entries: usize = with.policies()[0].crls().map(|crl| crl.entries).sum();
    println!(
        "{sites} site(s): loaded in {:.2} s ({:.2} s of CPU time); holds {held:.1} MiB, {:.0} bytes an entry",
        wall.as_secs_f64(),
        cpu.as_secs_f64(),
        held * 1024.0 * 1024.0 / entries as f64
    );
    drop((without, with));
}

fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("/proc");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("VmRSS");
    line.split_whitespace().next().and_then(|number| number.parse().ok()).expect("a number")
}

/// The same chain judged from scratch under a CRL of one entry and under the long one.
fn lookups(rounds: usize, many: Vec<u64>) {
    let worlds = [
        ("CRL of 1 entry", World::new(&Shape { intermediates: 1, revoked: Some(vec![CLIENT_SERIAL + 1]) })),
        ("long CRL", World::new(&Shape { intermediates: 1, revoked: Some(many) })),
    ];
    let mut series = worlds.each_ref().map(|(name, _)| Series::new(name));
    for _ in 0..rounds {
        for ((_, world), series) in worlds.iter().zip(&mut series) {
            let (policy, now) = (&world.snapshot.policies()[0], UnixTime::now());
            let presented = Presented { leaf: &world.chain[0], rest: &world.chain[1..] };
            let begun = cpu_time();
            for _ in 0..ROW {
                let decision = trust::evaluate(&presented, now, policy);
                assert_eq!(decision.verdict.expect("nobody revoked it").reason(), Reason::Ok);
            }
            series.push((cpu_time() - begun).as_secs_f64() * 1e6 / ROW as f64);
        }
    }
    println!("Judging a chain of 2 certificates from scratch, CPU µs (one lookup for each certificate):");
    println!("{}\n{}   {}", series[0], series[1], ratio(&series[1], &series[0]));
}
