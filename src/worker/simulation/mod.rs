//! Whole connections through a whole worker, on a kernel that a seed directs: rustls clients on one side, scripted
//! backends on the other, and between them the very accept loops, balancer, relay and TLS that the program runs.
//!
//! `script` rolls what happens, `world` plays it, `verdict` judges it, `runner` does so by the thousand. A failing seed
//! prints itself and plays again: `SIM_SEED=n SIM_TRACE=1 cargo test --lib simulation::one_seed -- --nocapture`. The slow
//! lane: `SIM_SEEDS=1000000 cargo test --release --lib simulation::a_million -- --ignored --nocapture`.

mod backend;
mod client;
mod conduct;
mod fixture;
mod identities;
mod pattern;
mod pki;
mod runner;
mod script;
mod statistics;
mod verdict;
mod world;

use crate::sys::scripted::Canary;
use crate::wire::audit::CloseReason;
use script::{Ending, Mood, Order};
use std::time::Duration;

/// Seeds of the fast lane.
const FAST_LANE: u64 = 1500;
/// Seeds after which a canary must have been caught.
const CANARY_SEEDS: u64 = 300;

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{variable} is no number: {text}")))
}

#[test]
fn every_seed_keeps_the_rules() {
    let statistics = runner::run(0..FAST_LANE, false);
    statistics.print();
    // Rules that nothing puts to the test would be kept by anything.
    let reached = [
        "closed Done",
        "closed Truncated",
        "closed ClientReset",
        "closed BackendReset",
        "closed IdleTimeout",
        "closed BackendUnavailable",
        "closed TlsError",
        "closed Drained",
        "closed NoLongerAdmitted",
        "refused NoCert",
        "refused Expired",
        "refused IdentityBlocked",
        "refused UnknownIssuer",
        "refused BadSignature",
        "refused SniUnknown",
        "refused NotTls",
        "refused TcpReset",
        "refused Timeout",
        "order Distrust",
        "order Unblock",
        "client is served by the next server",
        "accepted full",
        "accepted resumed",
        "client sees close_notify",
        "client sees reset",
        "client sees alert",
        "client sees a cut",
        "backend sees FIN",
        "backend sees reset",
    ];
    let missed: Vec<&str> = reached.into_iter().filter(|what| statistics.of(what) == 0).collect();
    assert!(missed.is_empty(), "no seed came to: {missed:?}");
}

/// The slow lane. `SIM_SEEDS` says how many, `SIM_START` from which on: by default another range at each time.
#[test]
#[ignore = "minutes to hours: run it by name"]
fn a_million_seeds_keep_the_rules() {
    let since_1970 = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let start = number("SIM_START").unwrap_or(since_1970.as_secs() << 20);
    let seeds = number("SIM_SEEDS").unwrap_or(1_000_000);
    eprintln!("seeds from {start} on");
    runner::run(start..start + seeds, true).print();
}

/// Plays `SIM_SEED` again, with every step where `SIM_TRACE` is set.
#[test]
fn one_seed() {
    if let Some(seed) = number("SIM_SEED") {
        runner::replay(seed, std::env::var_os("SIM_TRACE").is_some());
    }
}

#[test]
fn a_seed_repeats_itself() {
    for seed in 0..100 {
        let play = || {
            let aftermath = runner::check(seed, |_| ()).0.unwrap();
            let ends: Vec<_> =
                aftermath.records.iter().map(|r| (r.event, r.close_reason, r.bytes_in, r.bytes_out)).collect();
            (aftermath.turns, aftermath.time, ends)
        };
        assert_eq!(play(), play(), "seed {seed}");
    }
}

/// Seeds that found something once: handshakes that were judged by an old value because the worker was told to exit;
/// whoever was held at a full listener when the world ended; a notice of the end that was cut in two; orders
/// that were given in another order than they have.
#[test]
fn what_seeds_have_found_stays_mended() {
    for seed in [1_070_865, 1_296_552, 1_173_145, 1_217_350, 1_286_964, 1_478_102, 1_648_125] {
        assert_eq!(runner::check(seed, |_| ()).1, Vec::<String>::new(), "seed {seed}");
    }
}

/// Found by a seed: a send that fails on a connection that lives (ENOMEM, ENOBUFS) was followed by a FIN toward the
/// backend, and by records toward the client that came after one that was missing.
#[test]
fn a_send_that_fails_for_want_of_memory_is_not_followed_by_an_orderly_end() {
    for seed in 0..300 {
        let (_, wrong) = runner::check(seed, |script| {
            script.mood = Mood::Wild;
            script.faults.fails = 100;
        });
        assert_eq!(wrong, Vec::<String>::new(), "seed {seed}");
    }
}

/// Found by a seed: a door that closed while descriptors were short held whom it had taken until all were taken, and so
/// kept the descriptors that the others were waiting for.
#[test]
fn whoever_waits_at_a_door_that_closes_is_served_though_descriptors_are_short() {
    for seed in 0..200 {
        let (_, wrong) = runner::check(seed, |script| {
            script.mood = Mood::Wild;
            script.faults.descriptors_max = 1 + seed as usize % 3;
            script.orders = vec![(Duration::from_millis(1 + seed), Order::StopAccepting)];
        });
        assert_eq!(wrong, Vec::<String>::new(), "seed {seed}");
    }
}

/// Somebody sets the wall clock, in the middle of things: by a day, or past the end or before the beginning of every
/// certificate, the clients' clocks with it. Deadlines run on; who is open and outlives their certificate ends for that, and
/// nobody else does.
#[test]
fn a_wall_clock_that_jumps_stops_no_deadline_and_ends_only_whom_it_should() {
    const DAY: i64 = 86_400;
    const YEAR: i64 = 365 * DAY;
    for (jump, expires) in [(DAY, false), (-DAY, false), (-2 * YEAR, false), (11 * YEAR, true)] {
        let mut expired = 0;
        for seed in 0..150 {
            let (aftermath, wrong) = runner::check(seed, |script| {
                if script.mood == Mood::Calm {
                    script.mood = Mood::Rough;
                }
                script.jump = Some((Duration::from_millis(seed * 17), jump));
                script.clients.iter_mut().for_each(|client| client.ending = Ending::Stay);
            });
            let aftermath = aftermath.unwrap();
            // Past a certificate's time a client may itself turn away: what a connection must be then is not told here.
            let wrong = if jump.abs() > DAY { aftermath.complaints } else { wrong };
            assert_eq!(wrong, Vec::<String>::new(), "seed {seed}, jump {jump}");
            let ends = aftermath.records.iter().filter_map(|record| record.close_reason);
            expired += ends.filter(|reason| *reason == CloseReason::CertificateExpired).count();
        }
        assert_eq!(expired > 0, expires, "{expired} connections ended with their certificate, jump {jump}");
    }
}

/// Each deliberate fault of the kernel breaks a rule, in a world where everybody else keeps to them.
#[test]
fn the_canary_is_caught() {
    for canary in Canary::ALL {
        let caught = (0..CANARY_SEEDS).find_map(|seed| {
            let (aftermath, wrong) = runner::check(seed, |script| script.faults.canary = Some(canary));
            let calm = aftermath.is_some_and(|aftermath| aftermath.script.mood == Mood::Calm);
            let wanted = calm || canary == Canary::SoftensReset;
            (wanted && !wrong.is_empty()).then_some((seed, wrong))
        });
        let (seed, wrong) = caught.unwrap_or_else(|| panic!("{canary:?} was not seen in {CANARY_SEEDS} seeds"));
        eprintln!("{canary:?} seen at seed {seed}: {}", wrong[0]);
    }
}
