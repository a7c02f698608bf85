//! `backend`: the plain server that stands behind what is measured. It does as little as it can, on rings of its own.

use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};
use std::{fs, io, thread};

use socket2::{Domain, Protocol, Socket, Type};
use tokio_uring::net::TcpStream;

use crate::load::args::{BackendArgs, BackendMode};
use crate::load::target::Reach;
use crate::load::{Refusal, drive, exit, limits, signal};

mod proxy;
mod talk;

/// How a connection is treated.
#[derive(Clone, Debug)]
pub struct Manner {
    pub mode: BackendMode,
    /// A PROXY v2 header comes first.
    pub proxy: bool,
    /// The whole answer of the "http" mode.
    answer: Arc<[u8]>,
}

impl Manner {
    pub fn new(mode: BackendMode, proxy: bool, size: usize) -> Manner {
        let mut answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {size}\r\n\r\n").into_bytes();
        answer.resize(answer.len() + size, b'x');
        Manner { mode, proxy, answer: answer.into() }
    }
}

/// Serves until a signal, or for the time given.
pub fn serve(args: &BackendArgs) -> Result<u8, Refusal> {
    let manner = Manner::new(args.mode, args.proxy, args.size);
    let cpus = args.cpus.as_ref().map(|cpus| cpus.0.clone()).unwrap_or_default();
    let backend = Backend::start(&args.listen, Reach::new(args.yes_remote), &manner, args.threads, &cpus)?;
    let (end, ended) = mpsc::channel();
    let signalled = end.clone();
    signal::on_interrupts(move |_| {
        // The receiver goes away only when the program ends.
        let _ = signalled.send(());
    })?;
    let mode = format!("{:?}", args.mode).to_lowercase();
    eprintln!("ready listen={} mode={mode} threads={}", backend.addresses.join(","), args.threads);
    // `end` is held here, so that only a signal or the time ends the wait.
    let _ = match args.duration {
        Some(duration) => ended.recv_timeout(duration).is_ok(),
        None => ended.recv().is_ok(),
    };
    drop(end);
    Ok(exit::OK)
}

/// A running backend. Its threads end with the process; its unix sockets are removed when this is dropped.
#[derive(Debug)]
pub struct Backend {
    /// Where it listens, with the port that the kernel chose.
    pub addresses: Vec<String>,
    paths: Vec<PathBuf>,
}

impl Drop for Backend {
    fn drop(&mut self) {
        for path in &self.paths {
            // Somebody else may have removed it: then it is gone, as it should be.
            let _ = fs::remove_file(path);
        }
    }
}

impl Backend {
    /// Binds every address on every thread and starts.
    pub fn start(
        listen: &[String],
        reach: Reach,
        manner: &Manner,
        threads: usize,
        cpus: &[usize],
    ) -> Result<Backend, Refusal> {
        let mut backend = Backend { addresses: Vec::new(), paths: Vec::new() };
        let mut doors: Vec<Vec<Door>> = (0..threads).map(|_| Vec::new()).collect();
        for written in listen {
            match written.strip_prefix("unix:") {
                Some(path) => backend.open_unix(Path::new(path), &mut doors)?,
                None => backend.open_tcp(written, reach, &mut doors)?,
            }
        }
        for (index, doors) in doors.into_iter().enumerate() {
            let (manner, cpu) = (manner.clone(), cpus.get(index % cpus.len().max(1)).copied());
            let (started, ready) = mpsc::channel();
            thread::Builder::new()
                .name(format!("backend-{index}"))
                .spawn(move || run(doors, manner, cpu, &started))
                .map_err(|e| Refusal::new(exit::OS, format!("no thread: {e}; see `ulimit -u`")))?;
            ready.recv().map_err(|_| Refusal::new(exit::INTERNAL, "a backend thread died, please report it"))??;
        }
        Ok(backend)
    }

    fn open_tcp(&mut self, written: &str, reach: Reach, doors: &mut [Vec<Door>]) -> Result<(), Refusal> {
        let mut address: SocketAddr =
            written.parse().map_err(|_| Refusal::usage(format!("--listen {written:?}: write IP:PORT or unix:PATH")))?;
        reach.permit(address.ip(), written)?;
        // Several threads share the port, which a stranger's socket could join as well: first see that it is free.
        let shared = doors.len() > 1;
        if shared {
            bound_tcp(address, Port::Alone).map_err(|e| cannot_listen(written, &e))?;
        }
        for doors in doors {
            let port = if shared { Port::Shared } else { Port::Alone };
            let listener = listen_tcp(address, port).map_err(|e| cannot_listen(written, &e))?;
            // The other threads share the port that the first one got.
            address = listener.local_addr().map_err(|e| cannot_listen(written, &e))?;
            doors.push(Door::Tcp(listener));
        }
        self.addresses.push(address.to_string());
        Ok(())
    }

    fn open_unix(&mut self, path: &Path, doors: &mut [Vec<Door>]) -> Result<(), Refusal> {
        let failed = |e: io::Error| cannot_listen(&path.display().to_string(), &e);
        remove_stale(path);
        let listener = UnixListener::bind(path).map_err(failed)?;
        listener.set_nonblocking(true).map_err(failed)?;
        self.paths.push(path.to_path_buf());
        self.addresses.push(format!("unix:{}", path.display()));
        for doors in doors {
            doors.push(Door::Unix(listener.try_clone().map_err(failed)?));
        }
        Ok(())
    }
}

/// One listening socket of one thread.
enum Door {
    Tcp(TcpListener),
    Unix(UnixListener),
}

/// Whether other sockets may listen on the same port.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Port {
    Alone,
    Shared,
}

fn bound_tcp(address: SocketAddr, port: Port) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(port == Port::Shared)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

fn listen_tcp(address: SocketAddr, port: Port) -> io::Result<TcpListener> {
    let socket = bound_tcp(address, port)?;
    // Accepted sockets inherit it.
    socket.set_tcp_nodelay(true)?;
    socket.listen(limits::BACKLOG)?;
    Ok(socket.into())
}

/// A socket file that nobody listens on is in the way; one that somebody answers is not ours to remove.
fn remove_stale(path: &Path) {
    let is_socket = fs::symlink_metadata(path).is_ok_and(|m| m.file_type().is_socket());
    if is_socket && UnixStream::connect(path).is_err_and(|e| e.kind() == io::ErrorKind::ConnectionRefused) {
        // If it cannot be removed, binding says so.
        let _ = fs::remove_file(path);
    }
}

fn cannot_listen(written: &str, error: &io::Error) -> Refusal {
    let code = match error.kind() {
        io::ErrorKind::PermissionDenied => exit::PERMISSION,
        _ => exit::UNAVAILABLE,
    };
    Refusal::new(code, format!("cannot listen on {written}: {error}; choose another with --listen"))
}

/// One thread's life.
fn run(doors: Vec<Door>, manner: Manner, cpu: Option<usize>, started: &mpsc::Sender<Result<(), Refusal>>) {
    let outcome = cpu.map_or(Ok(()), drive::pin).and_then(|()| {
        drive::runtime(async {
            // The starter waits for this, and goes away only with the process.
            let _ = started.send(Ok(()));
            let doors: Vec<_> = doors.into_iter().map(|door| tokio_uring::spawn(keep(door, manner.clone()))).collect();
            for door in doors {
                let _ = door.await;
            }
        })
    });
    if let Err(refusal) = outcome {
        let _ = started.send(Err(refusal));
    }
}

/// Accepts for ever. What cannot be accepted now, for want of descriptors, is tried again in a moment.
async fn keep(door: Door, manner: Manner) {
    match door {
        Door::Tcp(listener) => {
            let listener = tokio_uring::net::TcpListener::from_std(listener);
            loop {
                let accepted = listener.accept().await.map(|(stream, _)| stream);
                welcome(accepted, &manner).await;
            }
        }
        // tokio-uring's own unix listener asks for SO_REUSEPORT, which kernels from 6.13 on refuse to unix sockets.
        Door::Unix(listener) => {
            let Ok(listener) = tokio::net::UnixListener::from_std(listener) else { return };
            loop {
                let accepted = listener.accept().await.and_then(|(stream, _)| blocking(stream));
                welcome(accepted, &manner).await;
            }
        }
    }
}

async fn welcome(accepted: io::Result<TcpStream>, manner: &Manner) {
    match accepted {
        Ok(stream) => drop(tokio_uring::spawn(talk::talk(stream, manner.clone()))),
        Err(_) => tokio::time::sleep(limits::ERROR_PAUSE).await,
    }
}

/// The ring waits for readiness itself. A stream is a stream: only reads, writes and shutdowns follow, which know no addresses.
fn blocking(stream: tokio::net::UnixStream) -> io::Result<TcpStream> {
    let stream = stream.into_std()?;
    stream.set_nonblocking(false)?;
    Ok(TcpStream::from_std(OwnedFd::from(stream).into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::net::Shutdown;

    fn start(mode: BackendMode, proxy: bool) -> std::net::TcpStream {
        let manner = Manner::new(mode, proxy, 10);
        let listen = ["127.0.0.1:0".to_owned()];
        let backend = Backend::start(&listen, Reach::LoopbackOnly, &manner, 1, &[]).unwrap();
        std::net::TcpStream::connect(&backend.addresses[0]).unwrap()
    }

    fn all_of(stream: &mut impl Read) -> Vec<u8> {
        let mut all = Vec::new();
        stream.read_to_end(&mut all).unwrap();
        all
    }

    #[test]
    fn an_echo_returns_what_came_and_ends_when_its_client_has() {
        let mut stream = start(BackendMode::Echo, false);
        let sent: Vec<u8> = (0..300_000u32).map(|i| i as u8).collect();
        let (mut writer, copy) = (stream.try_clone().unwrap(), sent.clone());
        let sender = thread::spawn(move || {
            writer.write_all(&copy).unwrap();
            writer.shutdown(Shutdown::Write).unwrap();
        });
        assert_eq!(all_of(&mut stream), sent);
        sender.join().unwrap();
    }

    #[test]
    fn a_sink_swallows_and_a_stream_sends_until_its_client_ends() {
        let mut sink = start(BackendMode::Sink, false);
        sink.write_all(&[1; 100_000]).unwrap();
        sink.shutdown(Shutdown::Write).unwrap();
        assert!(all_of(&mut sink).is_empty());
        let mut stream = start(BackendMode::Stream, false);
        let mut some = vec![0; 1_000_000];
        stream.read_exact(&mut some).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        // It ends, by a reset if bytes were on their way.
        let _ = io::copy(&mut stream, &mut io::sink());
    }

    #[test]
    fn http_answers_each_request_of_a_pipeline_and_refuses_what_is_none() {
        let mut stream = start(BackendMode::Http, false);
        stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let answers = String::from_utf8(all_of(&mut stream)).unwrap();
        assert_eq!(answers.matches("HTTP/1.1 200 OK").count(), 2, "{answers}");
        assert!(answers.ends_with("\r\n\r\nxxxxxxxxxx"));
        let mut stream = start(BackendMode::Http, false);
        stream.write_all(b"\x16\x03\x01 hello\r\n\r\n").unwrap();
        assert!(all_of(&mut stream).starts_with(b"HTTP/1.1 400"));
    }

    #[test]
    fn a_proxy_header_is_taken_off_and_demanded() {
        let mut stream = start(BackendMode::Echo, true);
        let mut header = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c".to_vec();
        header.extend_from_slice(&[127, 0, 0, 1, 127, 0, 0, 2, 0, 1, 0, 2]);
        for byte in header.into_iter().chain(*b"hello") {
            stream.write_all(&[byte]).unwrap();
        }
        stream.shutdown(Shutdown::Write).unwrap();
        assert_eq!(all_of(&mut stream), b"hello");
        let mut stream = start(BackendMode::Echo, true);
        stream.write_all(b"hello, this is no header").unwrap();
        let mut answer = Vec::new();
        // The connection ends without a byte; unread ones make that a reset.
        let _ = stream.read_to_end(&mut answer);
        assert!(answer.is_empty());
    }

    #[test]
    fn a_unix_socket_serves_as_well_and_a_stale_one_is_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("backend.sock");
        drop(UnixListener::bind(&path).unwrap());
        let listen = [format!("unix:{}", path.display())];
        let manner = Manner::new(BackendMode::Echo, false, 1);
        let backend = Backend::start(&listen, Reach::LoopbackOnly, &manner, 1, &[]).unwrap();
        let mut stream = UnixStream::connect(&path).unwrap();
        stream.write_all(b"hello").unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        assert_eq!(all_of(&mut stream), b"hello");
        assert!(Backend::start(&listen, Reach::LoopbackOnly, &manner, 1, &[]).is_err(), "one that is in use is not");
        drop(backend);
        assert!(!path.exists());
    }

    #[test]
    fn a_port_that_is_in_use_is_refused_and_the_threads_of_one_backend_share_theirs() {
        let manner = Manner::new(BackendMode::Echo, false, 1);
        for threads in [1, 2] {
            let listen = ["127.0.0.1:0".to_owned()];
            let first = Backend::start(&listen, Reach::LoopbackOnly, &manner, threads, &[]).unwrap();
            for more in [1, 2] {
                let again = Backend::start(&first.addresses, Reach::LoopbackOnly, &manner, more, &[]);
                assert_eq!(again.unwrap_err().code, exit::UNAVAILABLE, "{threads} and {more} threads");
            }
        }
    }

    #[test]
    fn an_address_outside_loopback_is_refused() {
        let manner = Manner::new(BackendMode::Echo, false, 1);
        let refusal = Backend::start(&["0.0.0.0:0".to_owned()], Reach::LoopbackOnly, &manner, 1, &[]).unwrap_err();
        assert_eq!(refusal.code, exit::USAGE);
    }
}
