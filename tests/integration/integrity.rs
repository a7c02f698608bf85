//! Every byte arrives once, in order and unchanged, in both directions at once, through tiny socket buffers and records
//! of every size.

use crate::world::backend::{Backend, Conversation, Script};
use crate::world::client::{Client, ClientSpec, Ending, TLS12, TLS13};
use crate::world::config::ConfigText;
use crate::world::pki::SERVER_NAME;
use crate::world::wait::{SOON, slowness, uninterrupted};
use crate::world::{World, goes_by_kernel};
use socket2::{Domain, Socket, Type};
use std::io::{ErrorKind, Read, Write};
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::time::{Duration, Instant};

/// Bytes each way: 3 MiB, or as many MiB as `COUNTERSIGN_TEST_MIB` says where this version goes through the kernel.
fn bytes_each_way(version: &str) -> usize {
    let told = std::env::var("COUNTERSIGN_TEST_MIB").ok().filter(|_| goes_by_kernel(version));
    told.map_or(3, |mib| mib.parse().expect("a number of MiB")) << 20
}

/// Socket buffers of both ends; the kernel rounds them up to its least.
const TINY: usize = 16 << 10;

/// With buffers of that size before the connection is made: were the window shrunk later, the sender's segments, cut for
/// the larger one, would no longer fit and go out at the kernel's probes alone, five a second.
fn tiny() -> Socket {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_send_buffer_size(TINY).unwrap();
    socket.set_recv_buffer_size(TINY).unwrap();
    socket
}

/// A stream of bytes and of sizes that a seed decides (xorshift).
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(bound).unwrap()).unwrap()
    }

    /// Between 1 and `most`: small and large sizes both often.
    fn size(&mut self, most: usize) -> usize {
        let most = if self.below(2) == 0 { most.min(64) } else { most };
        1 + self.below(most)
    }

    /// So many bytes.
    fn bytes(&mut self, length: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(length + 8);
        while bytes.len() < length {
            bytes.extend(self.next().to_le_bytes());
        }
        bytes.truncate(length);
        bytes
    }
}

/// A stream in which each byte is known by its place: noise that repeats, in blocks that begin with their own place, so
/// that what is lost, doubled or swapped is seen at the first byte, whole periods too. Both ends copy and compare it in
/// large pieces, which costs less than a sum over it.
struct Known {
    noise: Vec<u8>,
    at: usize,
}

/// Odd, so that blocks begin anywhere in a record.
const BLOCK: usize = 4093;
const BLOCKS: usize = 64;

impl Known {
    fn new(seed: u64) -> Known {
        Known { noise: Noise(seed).bytes(BLOCK * BLOCKS), at: 0 }
    }

    /// Calls `each` with every piece of the next `length` bytes that lies within one block, its place before.
    fn pieces(&mut self, length: usize, mut each: impl FnMut(usize, &[u8])) {
        let end = self.at + length;
        while self.at < end {
            let (start, within) = (self.at - self.at % BLOCK, self.at % BLOCK);
            let place = start % self.noise.len();
            self.noise[place..place + 8].copy_from_slice(&u64::try_from(start).unwrap().to_be_bytes());
            let count = (BLOCK - within).min(end - self.at);
            each(self.at, &self.noise[place + within..place + within + count]);
            self.at += count;
        }
    }

    /// The next bytes, put behind those in `out`.
    fn write(&mut self, length: usize, out: &mut Vec<u8>) {
        self.pieces(length, |_, piece| out.extend_from_slice(piece));
    }

    /// Holds that these are the next bytes.
    fn check(&mut self, what: &str, bytes: &[u8]) {
        let first = self.at;
        self.pieces(bytes.len(), |at, piece| {
            let came = &bytes[at - first..][..piece.len()];
            if came != piece {
                let wrong = came.iter().zip(piece).position(|(came, sent)| came != sent).unwrap();
                panic!("{what}: byte {} is another than was sent", at + wrong);
            }
        });
    }
}

#[test]
fn a_byte_that_is_lost_doubled_spoilt_or_out_of_its_place_is_noticed() {
    const PERIOD: usize = BLOCK * BLOCKS;
    let mut stream = Vec::new();
    Known::new(7).write(3 * PERIOD, &mut stream);
    let noticed = |bytes: &[u8]| {
        std::panic::catch_unwind(|| {
            bytes.chunks(10_007).fold(Known::new(7), |mut known, chunk| {
                known.check("here", chunk);
                known
            })
        })
        .is_err()
    };
    assert!(!noticed(&stream));
    let without = |from: usize, count: usize| [&stream[..from], &stream[from + count..]].concat();
    assert!(noticed(&without(100_001, 1)) && noticed(&without(5_000, PERIOD)), "lost");
    assert!(noticed(&[&stream[..70_000], &stream[60_000..]].concat()), "doubled");
    let mut spoilt = stream.clone();
    spoilt[PERIOD + 99] ^= 1;
    assert!(noticed(&spoilt), "spoilt");
    let mut swapped = stream.clone();
    swapped[..2 * PERIOD].rotate_left(PERIOD);
    assert!(noticed(&swapped), "swapped");
}

/// The seeds of what clients and backends send.
const UP: u64 = 0x5eed_0001;
const DOWN: u64 = 0x5eed_0002;

/// Sends while it reads and compares; how much it has read goes to the test.
fn noisy_backend(total: usize, told: Sender<usize>) -> Script {
    let told = std::sync::Mutex::new(told);
    Arc::new(move |conversation: Conversation| {
        let told = told.lock().unwrap().clone();
        let socket = conversation.socket();
        socket.set_send_buffer_size(TINY).unwrap();
        let (mut reading, mut writing) = (socket.try_clone().unwrap(), socket.try_clone().unwrap());
        let sender = std::thread::spawn(move || {
            let (mut sizes, mut known, mut chunk) = (Noise(DOWN), Known::new(DOWN), Vec::new());
            while known.at < total {
                chunk.clear();
                known.write(sizes.size(40_000).min(total - known.at), &mut chunk);
                writing.write_all(&chunk).unwrap();
            }
            writing.shutdown(std::net::Shutdown::Write).unwrap();
        });
        let (mut known, mut buffer) = (Known::new(UP), vec![0; 30_000]);
        while let Ok(read) = uninterrupted(|| reading.read(&mut buffer))
            && read > 0
        {
            known.check("at the backend", &buffer[..read]);
        }
        sender.join().unwrap();
        // The test may have failed and gone.
        let _ = told.send(known.at);
    })
}

/// Writes and reads at once on one thread: the socket is non-blocking. How much was read, and how that ended.
fn talk(mut client: Client, total: usize, seed: u64) -> (usize, Ending) {
    client.handshake().unwrap();
    client.tcp.set_nonblocking(true).unwrap();
    let (mut sizes, mut sent, mut received) = (Noise(seed), Known::new(UP), Known::new(DOWN));
    let (mut chunk, mut finished, mut ending) = (Vec::new(), false, None);
    let patience = SOON * slowness();
    let mut deadline = Instant::now() + patience;
    while ending.is_none() || !finished || client.tls.wants_write() {
        assert!(Instant::now() < deadline, "seed {seed:#x}: stuck at {} sent, {} received", sent.at, received.at);
        let mut moved = false;
        if !client.tls.wants_write() && !finished {
            if sent.at < total {
                chunk.clear();
                sent.write(sizes.size(40_000).min(total - sent.at), &mut chunk);
                client.tls.writer().write_all(&chunk).unwrap();
            } else {
                client.tls.send_close_notify();
                finished = true;
            }
        }
        if client.tls.wants_write() {
            moved |= progress(client.tls.write_tls(&mut client.tcp));
        }
        if ending.is_none() {
            moved |= progress(client.tls.read_tls(&mut client.tcp));
            client.tls.process_new_packets().unwrap();
            ending = read_plain(&mut client, &mut received);
        }
        if moved {
            deadline = Instant::now() + patience;
        } else {
            std::thread::sleep(Duration::from_micros(200));
        }
    }
    (received.at, ending.unwrap())
}

fn progress(result: std::io::Result<usize>) -> bool {
    match result {
        Ok(_) => true,
        Err(error) if error.kind() == ErrorKind::WouldBlock => false,
        Err(error) => panic!("{error}"),
    }
}

fn read_plain(client: &mut Client, known: &mut Known) -> Option<Ending> {
    let mut buffer = [0; 16 << 10];
    loop {
        match client.tls.reader().read(&mut buffer) {
            Ok(0) => return Some(Ending::CloseNotify),
            Ok(read) => known.check("at the client", &buffer[..read]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return None,
            Err(error) => return Some(Ending::Other(error.to_string())),
        }
    }
}

fn both_ways(unix: bool, versions: &'static [&'static rustls::SupportedProtocolVersion], suite: Option<&str>) {
    let world = World::new();
    let total = bytes_each_way(if versions == TLS12 { "1.2" } else { "1.3" });
    let (tell, told) = channel();
    let script = noisy_backend(total, tell);
    let backend = if unix { Backend::unix(world.path(), script) } else { Backend::tcp_on(tiny(), script) };
    let mut config = ConfigText::new(&backend.server);
    if let Some(suite) = suite {
        config = config.tls(&format!("cipher_suites = [\"{suite}\"]"));
    }
    let server = world.serve(&config);
    let seed = 0x5eed_0003 ^ u64::from(std::process::id()) << 32;
    println!("seed {seed:#x}");
    let socket = tiny();
    socket.connect(&server.address().into()).unwrap();
    let client = Client::over(socket.into(), &ClientSpec::new(&world.pki).versions(versions).build(), SERVER_NAME);
    let (start, address) = (Instant::now(), client.address);
    assert_eq!(talk(client, total, seed), (total, Ending::CloseNotify), "backend to client");
    assert_eq!(told.recv_timeout(SOON * slowness()), Ok(total), "client to backend");
    let line = server.audit_of(address, "closed");
    println!("{} MiB each way in {:?}: {}, {}", total >> 20, start.elapsed(), line["path"], line["tls"]);
    assert_eq!(line["bytes_in"].as_u64(), u64::try_from(total).ok(), "{line}");
    assert_eq!(line["bytes_out"].as_u64(), u64::try_from(total).ok(), "{line}");
    assert!(suite.is_none_or(|suite| line["tls"]["cipher"] == suite), "{line}");
    assert_eq!(server.stop(), 0);
}

#[test]
fn every_byte_arrives_unchanged_both_ways_at_once_in_tls_13() {
    both_ways(false, TLS13, None);
}

#[test]
fn every_byte_arrives_unchanged_both_ways_at_once_in_tls_12() {
    both_ways(false, TLS12, None);
}

#[test]
fn every_byte_arrives_unchanged_both_ways_at_once_over_a_unix_socket() {
    both_ways(true, TLS13, None);
}

#[test]
fn every_byte_arrives_unchanged_both_ways_at_once_in_every_suite_of_tls_13() {
    for suite in ["TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256"] {
        both_ways(false, TLS13, Some(suite));
    }
}

#[test]
fn every_byte_arrives_unchanged_both_ways_at_once_in_every_suite_of_tls_12() {
    for suite in ["AES_128_GCM_SHA256", "AES_256_GCM_SHA384", "CHACHA20_POLY1305_SHA256"] {
        both_ways(false, TLS12, Some(&format!("TLS_ECDHE_ECDSA_WITH_{suite}")));
    }
}

#[test]
fn twenty_connections_at_once_do_not_mix_their_bytes() {
    let world = World::new();
    let (server, _backend) = world.serve_before(crate::world::backend::echo());
    let spec = ClientSpec::new(&world.pki);
    std::thread::scope(|scope| {
        for number in 0..20u64 {
            let (spec, address) = (&spec, server.address());
            scope.spawn(move || {
                let mut client = spec.connect(address);
                let mut noise = Noise(0xabcd_0000 + number);
                for _ in 0..30 {
                    let length = noise.size(5_000);
                    client.echo(&noise.bytes(length)).unwrap();
                }
            });
        }
    });
    assert_eq!(server.stop(), 0);
}

#[test]
fn a_slow_reader_holds_the_other_side_back_and_memory_stays_small() {
    let world = World::new();
    let endless: Script = Arc::new(|mut conversation: Conversation| while conversation.send(&[7; 64 << 10]) {});
    let (server, _backend) = world.serve_before(endless);
    let mut client = ClientSpec::new(&world.pki).connect(server.address());
    client.handshake().unwrap();
    client.read_exactly(1 << 20).unwrap();
    let before = server.process.resident_kib();
    // Nothing is read now. What the server still takes from the backend has to stop at its bounds.
    let end = Instant::now() + Duration::from_secs(2);
    while Instant::now() < end {
        assert!(server.process.resident_kib() < before + (8 << 10), "it buffers without a bound");
        std::thread::sleep(Duration::from_millis(50));
    }
    client.read_exactly(8 << 20).unwrap();
}

#[test]
fn a_backend_that_does_not_read_holds_the_client_back_and_memory_stays_small() {
    let world = World::new();
    let held: std::sync::Mutex<Vec<Conversation>> = std::sync::Mutex::default();
    let deaf: Script = Arc::new(move |conversation| held.lock().unwrap().push(conversation));
    let (server, _backend) = world.serve_before(deaf);
    let fill = |client: &mut Client| {
        client.handshake().unwrap();
        client.tcp.set_write_timeout(Some(Duration::from_millis(300))).unwrap();
        let mut sent = 0;
        while sent < 256 << 20 && client.send(&[1; 64 << 10]).is_ok() {
            sent += 64 << 10;
        }
        assert!(sent < 256 << 20, "nothing held it back");
    };
    let spec = ClientSpec::new(&world.pki);
    let one = || {
        let mut client = spec.connect(server.address());
        fill(&mut client);
        client
    };
    // Side by side: each of them waits for the kernel's windows most of the time.
    let open = |count: usize| -> Vec<Client> {
        std::thread::scope(|scope| {
            let clients: Vec<_> = (0..count).map(|_| scope.spawn(one)).collect();
            clients.into_iter().map(|client| client.join().unwrap()).collect()
        })
    };
    let _warm = open(2);
    let before = server.process.resident_kib();
    let _stuck = open(16);
    let grown = server.process.resident_kib().saturating_sub(before);
    println!("{grown} KiB for 16 connections whose bytes nobody takes");
    assert!(grown < 10 << 10, "{grown} KiB for 16 connections whose bytes nobody takes");
}
