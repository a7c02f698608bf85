//! Thousands of idle connections: each costs little memory, all stay alive, and none costs CPU time.

use crate::world::World;
use crate::world::backend::{Backend, Conversation};
use crate::world::client::ClientSpec;
use crate::world::config::ConfigText;
use crate::world::wait::{SOON, until};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

const WANTED: usize = 5000;

/// Raises this process's own limit of descriptors as far as it may go: how many it has then.
fn raise_descriptors() -> usize {
    let pid = std::process::id().to_string();
    let limit = |name: &str| {
        let output =
            Command::new("prlimit").args(["--pid", &pid, "--nofile", "--raw", "--noheadings", "-o", name]).output();
        output.ok().and_then(|output| String::from_utf8(output.stdout).ok()?.trim().parse::<usize>().ok())
    };
    if let Some(hard) = limit("HARD") {
        let _ = Command::new("prlimit").args(["--pid", &pid, &format!("--nofile={hard}:{hard}")]).status();
    }
    limit("SOFT").unwrap_or(1024)
}

#[test]
fn five_thousand_idle_connections_stay_open_and_cost_little() {
    // A client and a backend socket for each are in this process, beside what other tests use.
    let possible = raise_descriptors().saturating_sub(1000) / 2;
    let count = WANTED.min(possible);
    if count < WANTED {
        println!("only {count} connections: this process may not have more descriptors");
    }
    let held: Arc<Mutex<Vec<Conversation>>> = Arc::default();
    let keep = held.clone();
    let backend = Backend::tcp(Arc::new(move |conversation| keep.lock().unwrap().push(conversation)));
    let world = World::new();
    let server = world.serve(&ConfigText::new(&backend.server).limits("connections = 8000"));
    let config = ClientSpec::new(&world.pki).build();
    let open_one = || {
        let mut client =
            crate::world::client::Client::connect(&config, crate::world::pki::SERVER_NAME, server.address());
        client.handshake().unwrap_or_else(|ending| panic!("{ending:?}"));
        client
    };
    let warm: Vec<_> = (0..50).map(|_| open_one()).collect();
    assert!(until(SOON, || held.lock().unwrap().len() == warm.len()));
    let before = server.process.resident_kib();
    let mut clients: Vec<_> = (0..count).map(|_| open_one()).collect();
    clients.extend(warm);
    let arrived = until(SOON, || held.lock().unwrap().len() == clients.len());
    assert!(arrived, "{} of {} reached the backend", held.lock().unwrap().len(), clients.len());
    let after = server.process.resident_kib();
    let each = (after - before) as f64 / count as f64;
    println!("{count} idle connections: {before} KiB before, {after} KiB with them, {each:.1} KiB each");
    // The kernel's socket memory is not in it. Debug builds and allocator slack are: a generous bound against leaks of scale.
    assert!(each < 64.0, "{each} KiB each");

    let cpu = server.process.cpu_time();
    std::thread::sleep(Duration::from_secs(1));
    let idle = server.process.cpu_time() - cpu;
    println!("{idle:?} of CPU in an idle second");
    assert!(idle < Duration::from_millis(150), "{idle:?} of CPU while nothing happens");

    for conversation in held.lock().unwrap().iter_mut() {
        assert!(conversation.send(b"x"));
    }
    for client in &mut clients {
        assert_eq!(client.read_exactly(1).unwrap(), b"x");
    }
}
