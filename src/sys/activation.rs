//! Sockets that the service manager opened and passed on (sd_listen_fds(3)): descriptors from 3 on, counted and named by
//! the environment, and meant for the process whose id it says.

use rustix::io::{FdFlags, fcntl_setfd};
use socket2::{Domain, Protocol, SockRef, Type};
use std::io;
use std::net::TcpListener;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};

const FIRST: RawFd = 3;
/// What systemd calls one that has no name.
const NAMELESS: &str = "unknown";

/// One of them.
#[derive(Debug)]
pub struct Passed {
    pub name: String,
    /// Else what it is, for the operator.
    pub socket: Result<TcpListener, String>,
}

/// Takes what was passed to the process `pid`, by the values that `variable` has; from here on it is closed on exec. Call
/// it once in a process, before anything else may have opened these descriptors.
///
/// # Errors
/// The variables do not make sense, or name more than `most` descriptors or one that is not there.
pub fn passed_sockets(pid: u32, variable: impl Fn(&str) -> Option<String>, most: usize) -> Result<Vec<Passed>, String> {
    let (Some(whose), Some(count)) = (variable("LISTEN_PID"), variable("LISTEN_FDS")) else { return Ok(Vec::new()) };
    if whose.parse() != Ok(pid) {
        return Ok(Vec::new());
    }
    let count: usize = match count.parse() {
        Ok(count) if count <= most => count,
        _ => return Err(format!("LISTEN_FDS={count} is no number of sockets up to {most}; unset it")),
    };
    let names = variable("LISTEN_FDNAMES").unwrap_or_default();
    let mut names = names.split(':').filter(|_| !names.is_empty());
    let take = |number: RawFd| {
        let name = names.next().unwrap_or(NAMELESS).to_owned();
        let descriptor = inherited(number)
            .map_err(|error| format!("LISTEN_FDS={count} includes descriptor {number}, and that is none: {error}"))?;
        Ok(Passed { name, socket: listening(descriptor) })
    };
    (FIRST..).take(count).map(take).collect()
}

fn inherited(number: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: a system call without pointers; a number that is no descriptor is answered by EBADF.
    if unsafe { libc::fcntl(number, libc::F_GETFD) } < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor is open, and the caller says that nobody else in this process owns it.
    let descriptor = unsafe { OwnedFd::from_raw_fd(number) };
    fcntl_setfd(&descriptor, FdFlags::CLOEXEC)?;
    Ok(descriptor)
}

/// The descriptor as what clients can connect to by TCP, or what it is in place of that.
fn listening(descriptor: OwnedFd) -> Result<TcpListener, String> {
    let socket = SockRef::from(&descriptor);
    let tell = |what: &str, help: &str| Err(format!("is {what}; {help}"));
    let Ok(kind) = socket.r#type() else {
        return tell("no socket", "write ListenStream=IP:port in the socket unit");
    };
    match socket.domain() {
        Ok(Domain::IPV4 | Domain::IPV6) => {}
        Ok(Domain::UNIX) => return tell("a unix socket", "clients come by TCP: write ListenStream=IP:port"),
        _ => return tell("of a family other than IPv4 and IPv6", "write ListenStream=IP:port"),
    }
    if kind == Type::DGRAM {
        return tell("a datagram socket", "write ListenStream= in place of ListenDatagram=");
    }
    if kind != Type::STREAM || socket.protocol().ok().flatten() != Some(Protocol::TCP) {
        return tell("of a protocol other than TCP", "write ListenStream=IP:port without SocketProtocol=");
    }
    if !socket.is_listener().unwrap_or(false) {
        return tell("a connection and does not listen", "write Accept=no in the socket unit");
    }
    Ok(TcpListener::from(descriptor))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpStream, UdpSocket};
    use std::os::unix::net::UnixListener;

    fn of(values: &'static [(&str, &str)]) -> Result<Vec<Passed>, String> {
        passed_sockets(7, |key| values.iter().find(|(known, _)| *known == key).map(|(_, value)| (*value).to_owned()), 9)
    }

    #[test]
    fn what_is_meant_for_another_process_is_left_alone() {
        assert_eq!(of(&[]).unwrap().len(), 0);
        assert_eq!(of(&[("LISTEN_FDS", "2")]).unwrap().len(), 0);
        assert_eq!(of(&[("LISTEN_PID", "8"), ("LISTEN_FDS", "2")]).unwrap().len(), 0);
        assert_eq!(of(&[("LISTEN_PID", "7"), ("LISTEN_FDS", "0")]).unwrap().len(), 0);
    }

    #[test]
    fn numbers_that_make_no_sense_are_refused() {
        for count in ["x", "-1", "10", ""] {
            let values = [("LISTEN_PID", "7"), ("LISTEN_FDS", count)];
            let value =
                |key: &str| values.iter().find(|(known, _)| *known == key).map(|(_, value)| (*value).to_owned());
            assert!(passed_sockets(7, value, 9).unwrap_err().contains("LISTEN_FDS"), "{count:?}");
        }
    }

    #[test]
    fn a_listening_tcp_socket_is_taken_and_all_else_is_called_by_its_name() {
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = tcp.local_addr().unwrap();
        let connection = TcpStream::connect(address).unwrap();
        assert_eq!(listening(tcp.into()).unwrap().local_addr().unwrap(), address);
        let dir = tempfile::tempdir().unwrap();
        let unix = UnixListener::bind(dir.path().join("s")).unwrap();
        let file = std::fs::File::open(dir.path()).unwrap();
        for (wrong, what) in [
            (OwnedFd::from(connection), "is a connection"),
            (UdpSocket::bind("127.0.0.1:0").unwrap().into(), "is a datagram socket"),
            (unix.into(), "is a unix socket"),
            (file.into(), "is no socket"),
        ] {
            let told = listening(wrong).unwrap_err();
            assert!(told.starts_with(what), "{told}");
        }
    }
}
