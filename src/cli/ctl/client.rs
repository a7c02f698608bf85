//! The conversation with the server.

use crate::cli::exit;
use crate::config::limits;
use crate::control::ctl::{Answer, Request};
use std::fmt;
use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Why there is no answer.
#[derive(Debug)]
pub struct Silence {
    socket: PathBuf,
    cause: Cause,
}

#[derive(Debug)]
enum Cause {
    /// Nobody to talk to.
    Connect(io::Error),
    /// Somebody, who does not answer.
    Answer(io::Error),
    /// An answer in no form that is known.
    Form(serde_json::Error),
}

/// Asks the server behind this socket.
pub fn ask(socket: &Path, request: &Request) -> Result<Answer, Silence> {
    let silence = |cause| Silence { socket: socket.to_owned(), cause };
    let stream = UnixStream::connect(socket).map_err(|error| silence(Cause::Connect(error)))?;
    let line = converse(&stream, request).map_err(|error| silence(Cause::Answer(error)))?;
    serde_json::from_slice(&line).map_err(|error| silence(Cause::Form(error)))
}

fn converse(stream: &UnixStream, request: &Request) -> io::Result<Vec<u8>> {
    stream.set_write_timeout(Some(limits::CTL_TIME_MAX))?;
    stream.set_read_timeout(Some(patience(request)))?;
    let mut line = serde_json::to_vec(request)?;
    line.push(b'\n');
    let mut writing = stream;
    // A server that refuses may close before it has read all: what it says counts.
    let written = writing.write_all(&line);
    let mut answer = Vec::new();
    BufReader::new(stream.take(limits::CTL_ANSWER_BYTES_MAX as u64)).read_until(b'\n', &mut answer)?;
    if answer.last() != Some(&b'\n') {
        written?;
        return Err(ErrorKind::UnexpectedEof.into());
    }
    Ok(answer)
}

fn patience(request: &Request) -> Duration {
    match request {
        Request::Reload => limits::CTL_RELOAD_TIME_MAX,
        _ => limits::CTL_TIME_MAX,
    }
}

impl Silence {
    /// An answer whose data is in no form that is known.
    pub fn of_form(socket: &Path, error: serde_json::Error) -> Silence {
        Silence { socket: socket.to_owned(), cause: Cause::Form(error) }
    }

    /// How the program ends for it.
    pub fn exit_code(&self) -> u8 {
        match &self.cause {
            Cause::Connect(error) if error.kind() == ErrorKind::PermissionDenied => exit::PERMISSION,
            _ => exit::UNAVAILABLE,
        }
    }
}

impl fmt::Display for Silence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let socket = self.socket.display();
        match &self.cause {
            Cause::Connect(error) => match error.kind() {
                ErrorKind::NotFound => write!(
                    f,
                    "there is no {socket}; is the server running, with [admin] in its configuration? name its socket with \
                     --socket, or its configuration with -c"
                ),
                ErrorKind::ConnectionRefused => {
                    write!(
                        f,
                        "nobody answers at {socket}: the server has ended; start it, or name another with --socket"
                    )
                }
                ErrorKind::PermissionDenied => {
                    write!(f, "{socket} may not be opened; run this as root or as the user that the server runs as")
                }
                _ => write!(f, "{socket} cannot be opened: {error}; name the server's socket with --socket"),
            },
            Cause::Answer(error) => match error.kind() {
                ErrorKind::WouldBlock | ErrorKind::TimedOut => {
                    write!(f, "the server at {socket} did not answer in time; see its log and /healthz")
                }
                _ => write!(f, "the server at {socket} closed without an answer ({error}); is it ending? see its log"),
            },
            Cause::Form(error) => {
                write!(f, "the answer from {socket} is not understood ({error}); are server and ctl of one version?")
            }
        }
    }
}
