//! Backends under test control: TCP or unix, one thread a connection, everything that arrives kept.

use super::wait::{self, SOON};
use socket2::{Domain, SockAddr, Socket, Type};
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// How a connection's incoming direction ended, as the backend saw it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// An orderly end of stream.
    Fin,
    /// ECONNRESET.
    Reset,
}

/// What one connection brought.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    pub received: Vec<u8>,
    pub end: Option<End>,
}

/// One accepted connection, in the hands of a script.
pub struct Conversation {
    socket: Socket,
    seen: Arc<Mutex<Seen>>,
}

impl Conversation {
    /// One read; `None` at the end, whose kind is kept.
    pub fn read(&mut self) -> Option<Vec<u8>> {
        let mut buffer = [0u8; 16 << 10];
        let end = match wait::uninterrupted(|| self.socket.read(&mut buffer)) {
            Ok(0) => End::Fin,
            Ok(read) => {
                self.seen.lock().unwrap().received.extend_from_slice(&buffer[..read]);
                return Some(buffer[..read].to_vec());
            }
            Err(_) => End::Reset,
        };
        self.seen.lock().unwrap().end.get_or_insert(end);
        None
    }

    /// Reads to the end.
    pub fn drain(&mut self) {
        while self.read().is_some() {}
    }

    /// Writes all; a peer that has gone is no fault of the script's.
    pub fn send(&mut self, bytes: &[u8]) -> bool {
        self.socket.write_all(bytes).is_ok()
    }

    /// Ends the outgoing direction.
    pub fn finish(&self) {
        let _ = self.socket.shutdown(Shutdown::Write);
    }

    /// Closes with a reset (TCP).
    pub fn reset(self) {
        self.socket.set_linger(Some(Duration::ZERO)).unwrap();
    }

    /// The socket itself, for options.
    pub fn socket(&self) -> &Socket {
        &self.socket
    }
}

/// What a backend does with each connection.
pub type Script = Arc<dyn Fn(Conversation) + Send + Sync>;

/// Sends everything back, and ends when the client does.
pub fn echo() -> Script {
    Arc::new(|mut conversation| {
        while let Some(bytes) = conversation.read() {
            if !conversation.send(&bytes) {
                return;
            }
        }
        conversation.finish();
    })
}

/// Reads to the end, then ends too.
pub fn swallow() -> Script {
    Arc::new(|mut conversation| conversation.drain())
}

/// Sends `bytes` and ends its direction at once, then reads to the end.
pub fn send_then_finish(bytes: &'static [u8]) -> Script {
    Arc::new(move |mut conversation| {
        conversation.send(bytes);
        conversation.finish();
        conversation.drain();
    })
}

/// Reads to the end of the client's direction, and answers `bytes` only then.
pub fn answer_after_end(bytes: &'static [u8]) -> Script {
    Arc::new(move |mut conversation| {
        conversation.drain();
        conversation.send(bytes);
        conversation.finish();
    })
}

/// Waits for the first bytes, then resets the connection.
pub fn reset_after_first_bytes() -> Script {
    Arc::new(|mut conversation| {
        conversation.read();
        conversation.reset();
    })
}

/// A listening backend.
pub struct Backend {
    /// As written in `servers`.
    pub server: String,
    seen: Arc<Mutex<Vec<Arc<Mutex<Seen>>>>>,
    stopped: Arc<AtomicBool>,
    wake: SockAddr,
    domain: Domain,
    acceptor: Option<std::thread::JoinHandle<()>>,
}

impl Backend {
    /// On a port of the system's choosing.
    pub fn tcp(script: Script) -> Backend {
        Backend::tcp_on(Socket::new(Domain::IPV4, Type::STREAM, None).unwrap(), script)
    }

    /// The same with a socket whose options the test has set: accepted ones inherit them.
    pub fn tcp_on(socket: Socket, script: Script) -> Backend {
        let address: SocketAddr = "127.0.0.1:0".parse().unwrap();
        listening(&socket, &address.into());
        let local = socket.local_addr().unwrap().as_socket().unwrap();
        Backend::start(socket, Domain::IPV4, local.into(), local.to_string(), script)
    }

    /// On a unix socket in `dir`.
    pub fn unix(dir: &Path, script: Script) -> Backend {
        let path: PathBuf = dir.join("backend.sock");
        let address = SockAddr::unix(&path).unwrap();
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
        listening(&socket, &address);
        Backend::start(socket, Domain::UNIX, address, format!("unix:{}", path.display()), script)
    }

    fn start(listener: Socket, domain: Domain, wake: SockAddr, server: String, script: Script) -> Backend {
        let seen: Arc<Mutex<Vec<Arc<Mutex<Seen>>>>> = Arc::default();
        let stopped = Arc::new(AtomicBool::new(false));
        let (all, stop) = (seen.clone(), stopped.clone());
        let acceptor = std::thread::spawn(move || {
            while let Ok((socket, _)) = listener.accept() {
                if stop.load(Ordering::SeqCst) {
                    return;
                }
                let record: Arc<Mutex<Seen>> = Arc::default();
                all.lock().unwrap().push(record.clone());
                let script = script.clone();
                std::thread::spawn(move || script(Conversation { socket, seen: record }));
            }
        });
        Backend { server, seen, stopped, wake, domain, acceptor: Some(acceptor) }
    }

    /// Connections accepted so far.
    pub fn connections(&self) -> usize {
        self.seen.lock().unwrap().len()
    }

    /// What the `index`-th connection has brought so far.
    pub fn seen(&self, index: usize) -> Seen {
        let record = self.seen.lock().unwrap().get(index).cloned();
        record.map(|record| record.lock().unwrap().clone()).unwrap_or_default()
    }

    /// What the `index`-th connection had brought when it ended, waited for.
    pub fn wait_end(&self, index: usize) -> Seen {
        wait::until_some(SOON, || Some(self.seen(index)).filter(|seen| seen.end.is_some()))
            .unwrap_or_else(|| panic!("connection {index} did not end: {:?}", self.seen(index)))
    }

    /// What the `index`-th connection has brought once it is at least `count` bytes, waited for.
    pub fn wait_bytes(&self, index: usize, count: usize) -> Vec<u8> {
        wait::until_some(SOON, || Some(self.seen(index).received).filter(|received| received.len() >= count))
            .unwrap_or_else(|| panic!("connection {index} brought too little: {:?}", self.seen(index)))
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::SeqCst);
        // A connection of our own wakes the acceptor; where that fails the thread ends with the test process.
        if let Ok(socket) = Socket::new(self.domain, Type::STREAM, None)
            && socket.connect(&self.wake).is_ok()
            && let Some(acceptor) = self.acceptor.take()
        {
            let _ = acceptor.join();
        }
    }
}

fn listening(socket: &Socket, address: &SockAddr) {
    socket.bind(address).unwrap();
    socket.listen(1024).unwrap();
}

/// An address on which nothing listens: a connection is refused at once.
pub fn refusing_address() -> (Socket, String) {
    // Bound but not listening: nobody else can take the port while the socket lives.
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&"127.0.0.1:0".parse::<SocketAddr>().unwrap().into()).unwrap();
    let address = socket.local_addr().unwrap().as_socket().unwrap().to_string();
    (socket, address)
}
