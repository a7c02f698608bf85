//! The system journal as a target: one datagram an entry, in systemd's native protocol (systemd.io/JOURNAL_NATIVE_PROTOCOL).
//!
//! The line is the entry's MESSAGE, whole. What people filter by is a field beside it, so that `journalctl
//! COUNTERSIGN_REASON=expired` finds it. A line is at most 40 KiB and the send buffer is made larger than that, so no
//! entry needs a file of its own.

use crate::config::limits;
use serde::Deserialize;
use socket2::SockRef;
use std::io;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};

/// Where the journal listens.
pub const SOCKET: &str = "/run/systemd/journal/socket";

/// Bytes of the send buffer: some of the longest lines, whatever the host's default.
const SEND_BUFFER: usize = 8 * limits::AUDIT_LINE_BYTES_MAX;

/// An open journal.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    socket: UnixDatagram,
}

/// What of a line is a field of its own.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Heads {
    event: Option<String>,
    conn_id: Option<String>,
    listener: Option<String>,
    site: Option<String>,
    client: Option<String>,
    identity: Option<String>,
    reason: Option<String>,
}

impl Journal {
    /// Connects; the journal must be there.
    pub fn open(path: &Path) -> io::Result<Journal> {
        Ok(Journal { path: path.to_owned(), socket: connect(path)? })
    }

    /// Connects again, for a journal that was started anew.
    pub fn reopen(&mut self) -> io::Result<()> {
        self.socket = connect(&self.path)?;
        Ok(())
    }

    /// Sends one line, given without its newline.
    pub fn send(&self, line: &[u8]) -> io::Result<()> {
        self.socket.send(&entry(line)).map(drop)
    }
}

fn connect(path: &Path) -> io::Result<UnixDatagram> {
    let socket = UnixDatagram::unbound()?;
    // With less, long lines alone are in danger: those are told when they come.
    let _ = SockRef::from(&socket).set_send_buffer_size(SEND_BUFFER);
    socket.connect(path)?;
    Ok(socket)
}

fn entry(line: &[u8]) -> Vec<u8> {
    let heads: Heads = serde_json::from_slice(line).unwrap_or_default();
    let event = heads.event.as_deref().unwrap_or_default();
    // Notice for what an operator may want to see without asking, information for the rest (syslog(3)).
    let priority = if matches!(event, "refused" | "admin") { b'5' } else { b'6' };
    let mut entry = Vec::with_capacity(line.len() + 512);
    field("PRIORITY", &[priority], &mut entry);
    field("SYSLOG_IDENTIFIER", b"countersign", &mut entry);
    let fields = [
        ("COUNTERSIGN_EVENT", &heads.event),
        ("COUNTERSIGN_CONN_ID", &heads.conn_id),
        ("COUNTERSIGN_LISTENER", &heads.listener),
        ("COUNTERSIGN_SITE", &heads.site),
        ("COUNTERSIGN_CLIENT", &heads.client),
        ("COUNTERSIGN_IDENTITY", &heads.identity),
        ("COUNTERSIGN_REASON", &heads.reason),
    ];
    for (name, value) in fields {
        if let Some(value) = value {
            field(name, value.as_bytes(), &mut entry);
        }
    }
    field("MESSAGE", line, &mut entry);
    entry
}

/// Appends a field. The form with a length carries any bytes, so that no value can begin a field of its own.
fn field(name: &str, value: &[u8], entry: &mut Vec<u8>) {
    entry.extend_from_slice(name.as_bytes());
    if value.iter().any(|byte| *byte < b' ') {
        entry.push(b'\n');
        entry.extend_from_slice(&(value.len() as u64).to_le_bytes());
    } else {
        entry.push(b'=');
    }
    entry.extend_from_slice(value);
    entry.push(b'\n');
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    /// The fields of an entry, as the journal reads them.
    fn fields(mut entry: &[u8]) -> BTreeMap<String, Vec<u8>> {
        let mut fields = BTreeMap::new();
        while !entry.is_empty() {
            let end = entry.iter().position(|byte| *byte == b'\n').unwrap();
            let (head, rest) = (&entry[..end], &entry[end + 1..]);
            let (name, value, rest) = match head.iter().position(|byte| *byte == b'=') {
                Some(equals) => (&head[..equals], &head[equals + 1..], rest),
                None => {
                    let (length, rest) = rest.split_at(8);
                    let length = u64::from_le_bytes(length.try_into().unwrap()) as usize;
                    (head, &rest[..length], &rest[length + 1..])
                }
            };
            let name = String::from_utf8(name.to_vec()).unwrap();
            assert!(fields.insert(name.clone(), value.to_vec()).is_none(), "{name} twice");
            entry = rest;
        }
        fields
    }

    #[test]
    fn a_line_is_the_message_and_what_people_filter_by_are_fields() {
        let line = br#"{"event":"refused","conn_id":"01","listener":"public","site":null,"reason":"expired"}"#;
        let fields = fields(&entry(line));
        assert_eq!(fields["MESSAGE"], line);
        assert_eq!(fields["COUNTERSIGN_EVENT"], b"refused");
        assert_eq!(fields["COUNTERSIGN_REASON"], b"expired");
        assert_eq!(fields["PRIORITY"], b"5");
        assert!(!fields.contains_key("COUNTERSIGN_SITE"));
    }

    #[test]
    fn a_name_with_a_newline_begins_no_field() {
        let line = br#"{"event":"accepted","identity":"cn:x\nPRIORITY=0\nFORGED=1","client":"\u0001"}"#;
        let fields = fields(&entry(line));
        assert_eq!(fields["COUNTERSIGN_IDENTITY"], b"cn:x\nPRIORITY=0\nFORGED=1");
        assert_eq!(fields["PRIORITY"], b"6");
        assert!(!fields.contains_key("FORGED"));
    }

    #[test]
    fn what_is_no_json_is_still_an_entry() {
        assert_eq!(fields(&entry(b"odd"))["MESSAGE"], b"odd");
    }

    #[test]
    fn the_longest_line_goes_in_one_entry_and_a_journal_started_anew_is_found() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        assert!(Journal::open(&path).is_err());
        let listening = UnixDatagram::bind(&path).unwrap();
        let mut journal = Journal::open(&path).unwrap();
        let line = vec![b'x'; limits::AUDIT_LINE_BYTES_MAX - 1];
        journal.send(&line).unwrap();
        let mut received = vec![0; 1 << 20];
        let length = listening.recv(&mut received).unwrap();
        assert_eq!(fields(&received[..length])["MESSAGE"], line);
        drop(listening);
        assert!(journal.send(b"nobody hears").is_err());
        std::fs::remove_file(&path).unwrap();
        let listening = UnixDatagram::bind(&path).unwrap();
        journal.reopen().unwrap();
        journal.send(b"heard").unwrap();
        let length = listening.recv(&mut received).unwrap();
        assert_eq!(fields(&received[..length])["MESSAGE"], b"heard");
    }
}
