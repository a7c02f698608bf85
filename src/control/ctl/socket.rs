//! The socket in the file system and its connections.

use super::{Answer, Peer, Request};
use crate::config::{ADMIN_SOCKET, limits};
use crate::control::desk::Desk;
use crate::control::failure::{Exit, StartFailure};
use crate::control::handover::Described;
use crate::control::service::Service;
use socket2::{Domain, SockAddr, Socket, Type};
use std::collections::VecDeque;
use std::fs::{self, File, Permissions};
use std::io::{self, ErrorKind};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream as BlockingStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::task::AbortHandle;
use tokio::time::timeout;

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 64;

/// The socket's file; gone when this is dropped, unless somebody else's has taken its place.
#[derive(Debug)]
pub struct SocketFile {
    path: PathBuf,
    place: (u64, u64),
}

/// What opening the socket led to.
#[derive(Debug)]
pub enum Opened {
    Socket(SocketFile),
    /// It is where it is by default, its directory is missing or not ours, and nobody asked for it in so many words. The
    /// text is for the log.
    Nowhere(String),
}

/// Makes the socket, or goes on with one at that path that was handed over, and answers on it from now on.
pub fn open<S: Service>(
    path: &Path,
    desk: &Arc<Desk<S>>,
    handed: Option<std::os::unix::net::UnixListener>,
) -> Result<Opened, StartFailure> {
    let bound = match handed {
        None => bind(path),
        Some(listener) => adopt(path, listener),
    };
    let (listener, file) = match bound {
        Ok(bound) => bound,
        Err(Unbound { cause: Cause::NoDirectory | Cause::NotOurs, .. }) if path == Path::new(ADMIN_SOCKET) => {
            return Ok(Opened::Nowhere(format!(
                "no admin socket: {ADMIN_SOCKET} cannot be made; RuntimeDirectory=countersign in the unit makes its \
                 directory, or set admin.socket to another path, or to \"\" for none"
            )));
        }
        Err(unbound) => return Err(unbound.failure()),
    };
    let failed = |error| Unbound::other(path, error).failure();
    let duplicate = listener.try_clone().map_err(failed)?;
    let listener = UnixListener::from_std(listener).map_err(failed)?;
    let accepting = tokio::spawn(accept(listener, Arc::clone(desk))).abort_handle();
    desk.doors.add(Described::AdminSocket { path: path.to_owned() }, duplicate.into(), accepting);
    Ok(Opened::Socket(file))
}

/// Why there is no socket.
#[derive(Debug)]
struct Unbound {
    path: PathBuf,
    cause: Cause,
}

#[derive(Debug)]
enum Cause {
    /// Somebody answers there.
    InUse,
    /// There is something that is no socket.
    Taken,
    NoDirectory,
    NotOurs,
    Other(io::Error),
}

impl Unbound {
    fn other(path: &Path, error: io::Error) -> Unbound {
        let cause = match error.kind() {
            ErrorKind::AddrInUse => Cause::InUse,
            ErrorKind::NotFound => Cause::NoDirectory,
            ErrorKind::PermissionDenied => Cause::NotOurs,
            _ => Cause::Other(error),
        };
        Unbound { path: path.to_owned(), cause }
    }

    fn failure(&self) -> StartFailure {
        let path = self.path.display();
        let (exit, text) = match &self.cause {
            Cause::InUse => {
                (Exit::Unavailable, format!("another server answers at {path}; stop that one, or choose another path"))
            }
            Cause::Taken => (Exit::Config, format!("{path} is there and is no socket; choose another path")),
            Cause::NoDirectory => (
                Exit::Config,
                format!(
                    "the directory of {path} does not exist; make it (RuntimeDirectory= in a unit does), or choose another path"
                ),
            ),
            Cause::NotOurs => (
                Exit::Permission,
                format!(
                    "{path} may not be made; let the user that the service runs as write to its directory, or choose another path"
                ),
            ),
            Cause::Other(error) => (Exit::Os, format!("{path} cannot be made: {error}; choose another path")),
        };
        StartFailure::new(exit, format!("admin.socket: {text}"))
    }
}

/// Binds the path. A socket that a dead process left there gives way.
fn bind(path: &Path) -> Result<(std::os::unix::net::UnixListener, SocketFile), Unbound> {
    let other = |error| Unbound::other(path, error);
    let bound = match bind_new(path) {
        Err(error) if error.kind() == ErrorKind::AddrInUse => {
            clear(path)?;
            bind_new(path)
        }
        bound => bound,
    };
    let listener = bound.map_err(other)?;
    let of = fs::symlink_metadata(path).map_err(other)?;
    Ok((listener, SocketFile { path: path.to_owned(), place: (of.dev(), of.ino()) }))
}

/// Goes on with a socket of the process before, whose file this one's is now.
fn adopt(
    path: &Path,
    listener: std::os::unix::net::UnixListener,
) -> Result<(std::os::unix::net::UnixListener, SocketFile), Unbound> {
    let other = |error| Unbound::other(path, error);
    listener.set_nonblocking(true).map_err(other)?;
    let of = fs::symlink_metadata(path).map_err(other)?;
    Ok((listener, SocketFile { path: path.to_owned(), place: (of.dev(), of.ino()) }))
}

/// The mode is set before the bind, which then makes the file with it: there is no moment at which others could connect.
fn bind_new(path: &Path) -> io::Result<std::os::unix::net::UnixListener> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    let file = File::from(OwnedFd::from(socket));
    file.set_permissions(Permissions::from_mode(0o600))?;
    let socket = Socket::from(OwnedFd::from(file));
    socket.bind(&SockAddr::unix(path)?)?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

/// Takes a socket away that nobody answers on.
fn clear(path: &Path) -> Result<(), Unbound> {
    let unbound = |cause| Unbound { path: path.to_owned(), cause };
    let of = match fs::symlink_metadata(path) {
        Ok(of) => of,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(Unbound::other(path, error)),
    };
    if !of.file_type().is_socket() {
        return Err(unbound(Cause::Taken));
    }
    match BlockingStream::connect(path) {
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => {}
        Err(error) if error.kind() == ErrorKind::PermissionDenied => return Err(unbound(Cause::NotOurs)),
        _ => return Err(unbound(Cause::InUse)),
    }
    fs::remove_file(path).map_err(|error| Unbound::other(path, error))
}

impl SocketFile {
    /// The file stays: it is another process's now.
    pub fn leave(mut self) {
        self.place = (0, 0);
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if fs::symlink_metadata(&self.path).is_ok_and(|of| (of.dev(), of.ino()) == self.place) {
            // Nothing depends on it: the next start clears it away.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Accepts without end. Where too many clients are there, the oldest gives way.
async fn accept<S: Service>(listener: UnixListener, desk: Arc<Desk<S>>) {
    let mut open: VecDeque<AbortHandle> = VecDeque::new();
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                open.retain(|task| !task.is_finished());
                while open.len() >= limits::CTL_CONNECTIONS_MAX {
                    if let Some(oldest) = open.pop_front() {
                        oldest.abort();
                    }
                }
                open.push_back(tokio::spawn(converse(stream, Arc::clone(&desk))).abort_handle());
            }
            Err(error) => {
                tracing::debug!(%error, "an admin connection cannot be accepted");
                tokio::time::sleep(limits::ADMIN_ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Answers the requests of one client, one after the other.
async fn converse<S: Service>(stream: UnixStream, desk: Arc<Desk<S>>) {
    let Ok(credentials) = stream.peer_cred() else { return };
    let peer = Peer { uid: credentials.uid(), pid: credentials.pid().unwrap_or(0) };
    let (reading, mut writing) = stream.into_split();
    let mut reading = BufReader::new(reading);
    while let Some(request) = next_request(&mut reading).await {
        let (answer, last) = match request {
            Ok(request) => (answer(&desk, request, peer).await, false),
            Err(problem) => (Answer::refused(problem), true),
        };
        let Ok(mut line) = serde_json::to_vec(&answer) else { return };
        line.push(b'\n');
        let sent = timeout(limits::CTL_TIME_MAX, writing.write_all(&line)).await;
        if last || !matches!(sent, Ok(Ok(()))) {
            return;
        }
    }
}

/// The answer, made by a task of its own: a client that is pushed out or goes away does not stop half way what it began.
async fn answer<S: Service>(desk: &Arc<Desk<S>>, request: Request, peer: Peer) -> Answer {
    let desk = Arc::clone(desk);
    let answered = tokio::spawn(async move { desk.answer(request, peer).await });
    answered.await.unwrap_or_else(|_| Answer::refused("a fault of ours: the log says where; please report it"))
}

/// The next request, or why it is none; `None` where the client is done, or too slow.
async fn next_request(reading: &mut (impl AsyncBufReadExt + Unpin)) -> Option<Result<Request, String>> {
    let mut line = Vec::new();
    let mut limited = reading.take(limits::CTL_REQUEST_BYTES_MAX as u64);
    let read = timeout(limits::CTL_TIME_MAX, limited.read_until(b'\n', &mut line)).await;
    match read {
        Ok(Ok(0) | Err(_)) | Err(_) => return None,
        Ok(Ok(_)) if line.last() == Some(&b'\n') => {}
        Ok(Ok(_)) if line.len() >= limits::CTL_REQUEST_BYTES_MAX => {
            return Some(Err(format!("the request is longer than {} bytes", limits::CTL_REQUEST_BYTES_MAX)));
        }
        // The end of the stream ends a line too.
        Ok(Ok(_)) => {}
    }
    Some(serde_json::from_slice(&line).map_err(|error| {
        format!("the request is not understood: {error}; client and server should have the same version")
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode_of(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn the_socket_is_for_its_owner_alone_and_goes_with_the_process() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("admin.sock");
        let (_listener, file) = bind(&path).unwrap();
        assert_eq!(mode_of(&path), 0o600);
        drop(file);
        assert!(!path.exists());
    }

    #[test]
    fn a_socket_of_a_dead_process_gives_way_and_one_of_a_live_process_does_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("admin.sock");
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        let (listener, file) = bind(&path).unwrap();
        assert_eq!(mode_of(&path), 0o600);
        let failure = bind(&path).unwrap_err().failure();
        assert_eq!(failure.code, 69, "{failure}");
        assert!(path.exists(), "the live one keeps its socket");
        drop((listener, file));
        bind(&path).unwrap();
    }

    #[test]
    fn what_is_no_socket_stays_and_a_missing_directory_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        fs::write(&path, "precious").unwrap();
        assert_eq!(bind(&path).unwrap_err().failure().code, 78);
        assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
        let failure = bind(&dir.path().join("none/admin.sock")).unwrap_err().failure();
        assert_eq!(failure.code, 78);
        assert!(failure.message.contains("make it"), "{failure}");
    }

    #[test]
    fn a_socket_that_took_the_place_of_ours_is_not_removed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("admin.sock");
        let (_listener, file) = bind(&path).unwrap();
        fs::rename(&path, dir.path().join("old")).unwrap();
        let (_other, _others) = bind(&path).unwrap();
        drop(file);
        assert!(path.exists());
    }
}
