//! Many clients that hold on to what they have: half-open handshakes by the thousand, readers that do not read.

use super::raw::{Kit, Raw};
use super::record::{VERSIONS, Version};
use super::siege::{Bounds, Siege};
use crate::world::backend::{Script, echo};
use crate::world::wait::{SOON, until};
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

const HALF_OPEN: usize = 1000;
const TIMEOUT: Duration = Duration::from_secs(4);

/// Whether the server has ended this connection.
fn ended(tcp: &mut TcpStream) -> bool {
    let mut buffer = [0; 4096];
    loop {
        match tcp.read(&mut buffer) {
            Ok(0) => return true,
            Ok(_) => {}
            Err(error) => return error.kind() != ErrorKind::WouldBlock,
        }
    }
}

/// Waits until the server has ended them all, while `meanwhile` does what it likes with each that is left.
fn reaped(mut crowd: Vec<TcpStream>, start: Instant, mut meanwhile: impl FnMut(usize, &mut TcpStream)) {
    crowd.iter().for_each(|tcp| tcp.set_nonblocking(true).unwrap());
    let mut left: Vec<(usize, TcpStream)> = crowd.drain(..).enumerate().collect();
    let all = until(SOON, || {
        left.retain_mut(|(index, tcp)| {
            meanwhile(*index, tcp);
            !ended(tcp)
        });
        left.is_empty()
    });
    assert!(all, "{} are still open {:?} after the first", left.len(), start.elapsed());
    assert!(start.elapsed() > TIMEOUT - Duration::from_millis(500), "they were cut off too early");
}

fn in_flight(siege: &Siege) -> f64 {
    siege.metric("countersign_handshakes_in_flight")
}

#[test]
fn a_thousand_half_open_handshakes_are_reaped_by_the_deadline_however_they_dribble() {
    let mut siege = Siege::with(echo(), |config| config.limits("handshake_timeout = \"4s\""));
    let kit = Kit::new(&siege.world.pki, Version::Tls13);
    let hello = kit.connect(siege.address()).hello;
    let start = Instant::now();
    let mut crowd = Vec::new();
    for index in 0..HALF_OPEN {
        let mut tcp = TcpStream::connect(siege.address()).unwrap();
        let sent = [0, 1, hello.len() - 1, 1][index % 4];
        tcp.write_all(&hello[..sent]).unwrap();
        match sent {
            0 => siege.silent(tcp.local_addr().unwrap()),
            _ => siege.refused(tcp.local_addr().unwrap(), None, format!("{sent} bytes of a hello")),
        }
        crowd.push(tcp);
    }
    // Where making them took too long, the first are reaped already.
    if start.elapsed() < TIMEOUT / 2 {
        let most = until(TIMEOUT / 2, || in_flight(&siege) >= HALF_OPEN as f64 * 0.9);
        assert!(most, "only {} in flight", in_flight(&siege));
    }
    let mut next = vec![1; HALF_OPEN];
    reaped(crowd, start, |index, tcp| {
        // A byte now and then buys no time. The last one is never sent.
        if index % 4 == 3 && next[index] < hello.len() - 1 && tcp.write_all(&hello[next[index]..=next[index]]).is_ok() {
            next[index] += 1;
        }
    });
    assert!(until(SOON, || in_flight(&siege) <= 1.0), "{} are still in flight", in_flight(&siege));
    siege.end("a thousand half-open", &Bounds { cpu: Duration::from_secs(10), memory_kib: 48 << 10 });
}

#[test]
fn hundreds_that_stop_before_their_certificate_are_reaped_too() {
    let mut siege = Siege::with(echo(), |config| config.limits("handshake_timeout = \"4s\""));
    let start = Instant::now();
    let mut crowd = Vec::new();
    for version in VERSIONS {
        let kit = Kit::new(&siege.world.pki, version);
        for _ in 0..100 {
            let raw = kit.greet(siege.address());
            siege.refused(raw.address(), None, "stops before its certificate");
            crowd.push(raw.client.tcp);
        }
    }
    reaped(crowd, start, |_, _| {});
    assert!(until(SOON, || in_flight(&siege) <= 1.0), "{} are still in flight", in_flight(&siege));
    siege.end("hundreds half-way", &Bounds { cpu: Duration::from_secs(10), memory_kib: 32 << 10 });
}

/// Sends without end.
fn endless() -> Script {
    Arc::new(|mut conversation| while conversation.send(&[b'e'; 64 << 10]) {})
}

#[test]
fn readers_that_do_not_read_cost_their_backend_time_and_the_server_no_memory() {
    let mut siege = Siege::with(endless(), |config| config);
    let mut readers = Vec::new();
    for version in VERSIONS {
        let kit = Kit::new(&siege.world.pki, version);
        for _ in 0..20 {
            let mut raw = kit.greet(siege.address());
            raw.client.handshake().unwrap();
            siege.admitted(raw.address(), "does not read");
            readers.push(raw);
        }
    }
    assert!(until(SOON, || siege.backend.connections() == readers.len()));
    // What the sockets hold fills within moments; from then on nothing moves.
    let still = until(SOON, || {
        let before = siege.metric("countersign_bytes_total");
        std::thread::sleep(Duration::from_millis(300));
        // The probe moves a few bytes.
        siege.metric("countersign_bytes_total") - before < 10_000.0
    });
    assert!(still, "bytes go on moving to nobody");
    let (cpu, start) = (siege.cpu(), Instant::now());
    std::thread::sleep(Duration::from_secs(1));
    let (spent, passed) = (siege.cpu() - cpu, start.elapsed());
    println!("{spent:?} of CPU in {passed:?} with forty readers that do not read");
    assert!(spent < passed.mul_f64(0.8), "{spent:?} of CPU in {passed:?} of standing still");
    readers.into_iter().for_each(Raw::reset);
    siege.end("readers that do not read", &Bounds { cpu: Duration::from_secs(15), memory_kib: 64 << 10 });
}

#[test]
fn writers_of_a_byte_at_a_time_hold_nobody_up() {
    let mut siege = Siege::lay();
    let mut writers = Vec::new();
    for kit in Kit::both(&siege.world.pki) {
        for _ in 0..20 {
            let (raw, mut sealer) = kit.open(siege.address());
            siege.admitted(raw.address(), "writes slowly");
            let record = sealer.seal(super::record::DATA, b"slowly but surely");
            writers.push((raw, record));
        }
    }
    let longest = writers.iter().map(|(_, record)| record.len()).max().unwrap();
    for place in 0..longest {
        for (raw, record) in &mut writers {
            if let Some(byte) = record.get(place..=place) {
                raw.send(byte).unwrap();
            }
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    for (raw, _) in &mut writers {
        assert_eq!(raw.client.read_exactly(17).unwrap(), b"slowly but surely");
    }
    drop(writers);
    siege.end("slow writers", &Bounds { cpu: Duration::from_secs(10), memory_kib: 24 << 10 });
}
