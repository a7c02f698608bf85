//! Minutes of everything at once (an hour by hand): full and resumed handshakes, refusals, bulk, resets, idle
//! connections, reloads, scrapes. Memory and descriptors are as flat at the end as after warming up.
//!
//!     SOAK_SECONDS=3600 COUNTERSIGN_BIN=target/release/countersign cargo test --test integration soak -- --ignored

use crate::world::World;
use crate::world::backend::{Backend, echo};
use crate::world::client::{Client, ClientSpec, TLS12, TLS13, Tickets};
use crate::world::config::ConfigText;
use crate::world::http::try_get;
use crate::world::pki::{Ca, LeafSpec, SERVER_NAME};
use crate::world::server::Server;
use crate::world::wait::{SOON, until};
use rustls::ClientConfig;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Connections that stay open from the beginning to the end.
const IDLE: usize = 50;
/// Memory may grow by this much from the end of warming up: allocators keep pages, caches fill.
const GROWTH_KIB_MAX: u64 = 12 << 10;
/// Of the time, before the first measurement: caches, queues and the allocator's arenas have filled then.
const WARM_UP_SHARE: f64 = 0.35;

fn duration() -> Duration {
    let seconds = std::env::var("SOAK_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(20);
    Duration::from_secs(seconds)
}

/// What visitors share.
struct Visits {
    address: SocketAddr,
    fresh: Vec<Arc<ClientConfig>>,
    resuming: Vec<Arc<ClientConfig>>,
    refused: Vec<Arc<ClientConfig>>,
    over: AtomicBool,
    done: AtomicU64,
}

impl Visits {
    fn new(world: &World, address: SocketAddr) -> Visits {
        let stranger = Ca::root("Strangers").leaf(&LeafSpec::client("stranger"));
        let both = |spec: fn(&World) -> ClientSpec| [TLS12, TLS13].map(|versions| spec(world).versions(versions));
        let resuming = both(|world| ClientSpec::new(&world.pki));
        Visits {
            address,
            fresh: both(|world| ClientSpec::new(&world.pki)).iter().map(ClientSpec::build).collect(),
            resuming: resuming.into_iter().map(|spec| spec.tickets(&Tickets::new()).build()).collect(),
            refused: vec![ClientSpec::anonymous(&world.pki).build(), ClientSpec::with(&world.pki, &stranger).build()],
            over: AtomicBool::new(false),
            done: AtomicU64::new(0),
        }
    }

    /// One visit after the other until it is over.
    fn run(&self, seed: usize) {
        let bulk = vec![b'b'; 200_000];
        let mut number = seed;
        while !self.over.load(Ordering::Relaxed) {
            number += 1;
            let pick = |configs: &[Arc<ClientConfig>]| configs[number / 7 % configs.len()].clone();
            let visit = |config| Client::connect(&config, SERVER_NAME, self.address);
            match number % 7 {
                0 | 1 => visit(pick(&self.fresh)).echo(b"full").unwrap(),
                2..=4 => visit(pick(&self.resuming)).echo(b"resumed").unwrap(),
                5 => assert!(visit(pick(&self.refused)).echo(b"x").is_err()),
                _ => {
                    let mut client = visit(pick(&self.resuming));
                    client.echo(&bulk).unwrap();
                    client.close_notify();
                    client.read_to_end();
                }
            }
            self.done.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Memory and descriptors with the same connections open.
fn measure(server: &Server) -> (u64, usize) {
    let open = || {
        let status = server.ctl_json(&["status"]);
        status["totals"]["connections"].as_u64().unwrap()
    };
    assert!(until(SOON, || open() == IDLE as u64), "{} connections are open, not {IDLE}", open());
    (server.process.resident_kib(), server.process.descriptors())
}

/// Visits from several sides, with a reload and a scrape once in a while, for this long.
fn bustle(server: &Server, admin: SocketAddr, visits: &Visits, time: Duration) {
    visits.over.store(false, Ordering::Relaxed);
    let end = Instant::now() + time;
    std::thread::scope(|scope| {
        for seed in 0..4 {
            scope.spawn(move || visits.run(seed * 1000));
        }
        let stop_at_end = StopAtEnd(visits);
        while Instant::now() < end {
            assert!(try_get(admin, "/metrics").is_some_and(|(code, _)| code == 200));
            server.ctl_done(&["reload"]);
            std::thread::sleep(Duration::from_millis(500).min(end.saturating_duration_since(Instant::now())));
        }
        drop(stop_at_end);
    });
}

/// Ends the visits, after a failed assertion too.
struct StopAtEnd<'v>(&'v Visits);

impl Drop for StopAtEnd<'_> {
    fn drop(&mut self) {
        self.0.over.store(true, Ordering::Relaxed);
    }
}

#[test]
#[ignore = "minutes: SOAK_SECONDS"]
fn memory_and_descriptors_stay_flat_while_everything_happens_at_once() {
    let world = World::new();
    let backend = Backend::tcp(echo());
    let server = world.serve(&ConfigText::new(&backend.server).admin());
    if !server.process.shows_descriptors() {
        return;
    }
    let admin = server.ready_value("admin").unwrap().parse().unwrap();
    let spec = ClientSpec::new(&world.pki);
    let mut idle: Vec<Client> = (0..IDLE).map(|_| spec.connect(server.address())).collect();
    idle.iter_mut().for_each(|client| client.echo(b"early").unwrap());
    let visits = Visits::new(&world, server.address());
    let time = duration();
    bustle(&server, admin, &visits, time.mul_f64(WARM_UP_SHARE));
    let (kib, descriptors) = measure(&server);
    let warm = visits.done.load(Ordering::Relaxed);
    bustle(&server, admin, &visits, time.mul_f64(1.0 - WARM_UP_SHARE));
    let (kib_after, descriptors_after) = measure(&server);
    let done = visits.done.load(Ordering::Relaxed);
    println!(
        "{done} visits ({warm} to warm up): {kib} KiB, then {kib_after} KiB; {descriptors} descriptors, then {descriptors_after}"
    );
    assert!(kib_after <= kib + GROWTH_KIB_MAX, "memory grows: {kib} KiB, then {kib_after} KiB, in {done} visits");
    assert!(descriptors_after <= descriptors + 2, "descriptors leak: {descriptors}, then {descriptors_after}");
    idle.iter_mut().for_each(|client| client.echo(b"late").unwrap());
    let text = try_get(admin, "/metrics").unwrap().1;
    for quiet in ["countersign_audit_dropped_total 0\n", "countersign_identities_overlooked_total 0\n"] {
        assert!(text.contains(quiet), "{quiet} in {text}");
    }
    drop(idle);
    assert_eq!(server.stop(), 0);
}
