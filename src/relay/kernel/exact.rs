//! Reading the end of a handshake record by record, so that nothing behind it is in user space when the kernel takes over.

use crate::sys::{Interest, Socket};
use std::io;

/// The next bytes, at most `wanted` (never 0); `None` at the end of the stream.
pub(in super::super) async fn receive_exactly(client: &Socket, wanted: usize) -> io::Result<Option<Vec<u8>>> {
    let mut bytes = vec![0; wanted];
    loop {
        match client.receive_now(&mut bytes) {
            Ok(0) => return Ok(None),
            Ok(read) => {
                bytes.truncate(read);
                return Ok(Some(bytes));
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => client.ready(Interest::Read).await?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}
