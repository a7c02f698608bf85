//! Reading the end of a handshake and nothing behind it, so that nothing of that is in user space when the kernel takes over:
//! bytes are looked at where they lie, and only those that the handshake used up are taken away.

use super::super::Host;
use crate::config::limits;
use crate::sys::{Interest, Socket};
use std::io;
use std::rc::Rc;

/// What is there next, left in the socket; `None` at the end of the stream. No buffer is held while nothing comes.
pub(in super::super) async fn peek<H: Host>(host: &Rc<H>, client: &Socket) -> io::Result<Option<Vec<u8>>> {
    loop {
        client.ready(Interest::Read).await?;
        let mut bytes = host.shelf().take();
        bytes.resize(limits::HANDSHAKE_PEEK_BYTES, 0);
        let seen = client.peek_now(&mut bytes);
        let found = match seen {
            Ok(0) => Ok(None),
            Ok(count) => Ok(Some(bytes[..count].to_vec())),
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {
                host.shelf().give(bytes);
                continue;
            }
            Err(error) => Err(error),
        };
        host.shelf().give(bytes);
        return found;
    }
}

/// Takes away what was looked at and used up.
pub(in super::super) fn take_away(client: &Socket, mut count: usize) -> io::Result<()> {
    while count > 0 {
        match client.discard_now(count) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(gone) => count -= gone,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
