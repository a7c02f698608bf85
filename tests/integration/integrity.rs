//! Every byte arrives once, in order and unchanged, in both directions at once, through tiny socket buffers and records
//! of every size.

use crate::world::World;
use crate::world::backend::{Backend, Conversation, Script};
use crate::world::client::{Client, ClientSpec, Ending, TLS12, TLS13};
use crate::world::config::ConfigText;
use crate::world::pki::SERVER_NAME;
use crate::world::wait::{SOON, uninterrupted};
use aws_lc_rs::digest::{Context, SHA256};
use socket2::{Domain, Socket, Type};
use std::io::{ErrorKind, Read, Write};
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::time::{Duration, Instant};

/// Bytes each way: 3 MiB, or as many MiB as `COUNTERSIGN_TEST_MIB` says.
static TOTAL: std::sync::LazyLock<usize> = std::sync::LazyLock::new(|| {
    std::env::var("COUNTERSIGN_TEST_MIB").map_or(3, |mib| mib.parse().expect("a number of MiB")) << 20
});
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

    /// Between 1 and `most` bytes: small and large sizes both often.
    fn chunk(&mut self, most: usize) -> Vec<u8> {
        let most = if self.below(2) == 0 { most.min(64) } else { most };
        let length = 1 + self.below(most);
        (0..length).map(|_| self.next().to_le_bytes()[3]).collect()
    }
}

/// Length and SHA-256 of what one side sent or received.
#[derive(Debug, PartialEq, Eq)]
struct Sum(usize, Vec<u8>);

struct Summing(usize, Context);

impl Summing {
    fn new() -> Summing {
        Summing(0, Context::new(&SHA256))
    }

    fn add(&mut self, bytes: &[u8]) {
        self.0 += bytes.len();
        self.1.update(bytes);
    }

    fn end(self) -> Sum {
        Sum(self.0, self.1.finish().as_ref().to_vec())
    }
}

/// Sends noise while it reads, with both ends summed up and told to the test.
fn noisy_backend(told: Sender<(Sum, Sum)>) -> Script {
    let told = std::sync::Mutex::new(told);
    Arc::new(move |conversation: Conversation| {
        let told = told.lock().unwrap().clone();
        let socket = conversation.socket();
        socket.set_send_buffer_size(TINY).unwrap();
        let (mut reading, mut writing) = (socket.try_clone().unwrap(), socket.try_clone().unwrap());
        let sender = std::thread::spawn(move || {
            let (mut noise, mut sum) = (Noise(0x5eed_0002), Summing::new());
            while sum.0 < *TOTAL {
                let chunk = noise.chunk(40_000);
                writing.write_all(&chunk).unwrap();
                sum.add(&chunk);
            }
            writing.shutdown(std::net::Shutdown::Write).unwrap();
            sum.end()
        });
        let (mut sum, mut buffer) = (Summing::new(), vec![0; 30_000]);
        while let Ok(read) = uninterrupted(|| reading.read(&mut buffer))
            && read > 0
        {
            sum.add(&buffer[..read]);
        }
        // The test may have failed and gone.
        let _ = told.send((sender.join().unwrap(), sum.end()));
    })
}

/// Writes and reads at once on one thread: the socket is non-blocking.
fn talk(mut client: Client, seed: u64) -> (Sum, Sum, Ending) {
    client.handshake().unwrap();
    client.tcp.set_nonblocking(true).unwrap();
    let (mut noise, mut sent, mut received) = (Noise(seed), Summing::new(), Summing::new());
    let (mut finished, mut ending) = (false, None);
    let mut deadline = Instant::now() + SOON;
    while ending.is_none() || !finished || client.tls.wants_write() {
        assert!(Instant::now() < deadline, "seed {seed:#x}: stuck at {} sent, {} received", sent.0, received.0);
        let mut moved = false;
        if !client.tls.wants_write() && !finished {
            if sent.0 < *TOTAL {
                let chunk = noise.chunk(40_000);
                client.tls.writer().write_all(&chunk).unwrap();
                sent.add(&chunk);
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
            deadline = Instant::now() + SOON;
        } else {
            std::thread::sleep(Duration::from_micros(200));
        }
    }
    (sent.end(), received.end(), ending.unwrap())
}

fn progress(result: std::io::Result<usize>) -> bool {
    match result {
        Ok(_) => true,
        Err(error) if error.kind() == ErrorKind::WouldBlock => false,
        Err(error) => panic!("{error}"),
    }
}

fn read_plain(client: &mut Client, sum: &mut Summing) -> Option<Ending> {
    let mut buffer = [0; 16 << 10];
    loop {
        match client.tls.reader().read(&mut buffer) {
            Ok(0) => return Some(Ending::CloseNotify),
            Ok(read) => sum.add(&buffer[..read]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return None,
            Err(error) => return Some(Ending::Other(error.to_string())),
        }
    }
}

fn both_ways(unix: bool, versions: &'static [&'static rustls::SupportedProtocolVersion]) {
    let world = World::new();
    let (tell, told) = channel();
    let script = noisy_backend(tell);
    let backend = if unix { Backend::unix(world.path(), script) } else { Backend::tcp_on(tiny(), script) };
    let server = world.serve(&ConfigText::new(&backend.server));
    let seed = 0x5eed_0001 ^ u64::from(std::process::id()) << 32;
    println!("seed {seed:#x}");
    let socket = tiny();
    socket.connect(&server.address().into()).unwrap();
    let client = Client::over(socket.into(), &ClientSpec::new(&world.pki).versions(versions).build(), SERVER_NAME);
    let (sent, received, ending) = talk(client, seed);
    let (backend_sent, backend_received) = told.recv_timeout(SOON).unwrap();
    assert_eq!(sent, backend_received, "client to backend");
    assert_eq!(backend_sent, received, "backend to client");
    assert_eq!(ending, Ending::CloseNotify);
    let line = server.wait_audit(|line| line["event"] == "closed");
    assert_eq!(line["bytes_in"].as_u64(), u64::try_from(sent.0).ok(), "{line}");
    assert_eq!(line["bytes_out"].as_u64(), u64::try_from(received.0).ok(), "{line}");
    assert_eq!(server.stop(), 0);
}

#[test]
fn every_byte_arrives_unchanged_both_ways_at_once_in_tls_13() {
    both_ways(false, TLS13);
}

#[test]
fn every_byte_arrives_unchanged_both_ways_at_once_in_tls_12() {
    both_ways(false, TLS12);
}

#[test]
fn every_byte_arrives_unchanged_both_ways_at_once_over_a_unix_socket() {
    both_ways(true, TLS13);
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
                    client.echo(&noise.chunk(5_000)).unwrap();
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
