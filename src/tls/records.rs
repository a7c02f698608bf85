//! Drives rustls's unbuffered connection over a buffer of records: what it says goes out, what it decrypts comes in.
//!
//! The rules of that API that are easy to break are kept here alone: discard after every call, on errors too; call again
//! after an error to get the alert; the bytes of a half-joined handshake message must be shown again, in place, at the
//! next call, whatever that call is for.

use super::scope;
use rustls::Error;
use rustls::server::{ServerConnectionData, UnbufferedServerConnection};
use rustls::unbuffered::{
    ConnectionState, EncodeError, EncodeTlsData, EncryptError, InsufficientSizeError, UnbufferedStatus, WriteTraffic,
};

/// Bytes that one record adds at most: header, explicit nonce (TLS 1.2) or content type (1.3), tag.
const RECORD_OVERHEAD: usize = 5 + 8 + 1 + 16;
/// Plaintext of a full record.
const RECORD_PLAIN: usize = 16 << 10;
/// Room for what rustls puts before the data: a KeyUpdate, an alert.
const QUEUED_ROOM: usize = 128;

/// How far one drive came.
#[derive(Debug, Default)]
pub(super) struct Drive {
    /// Bytes at the front of the buffer that are done with.
    pub used: usize,
    /// The peer's close_notify came; nothing behind it counts.
    pub peer_closed: bool,
}

/// Takes every whole record of `input`. Plaintext is appended to `plain`, records to send to `out`; both also when it
/// ends in an error.
pub(super) fn drive(
    tls: &mut UnbufferedServerConnection,
    input: &mut [u8],
    plain: &mut Vec<u8>,
    out: &mut Vec<u8>,
) -> Result<Drive, Error> {
    let mut done = Drive::default();
    loop {
        let UnbufferedStatus { discard, state, .. } = tls.process_tls_records(&mut input[done.used..]);
        let more = match state? {
            ConnectionState::EncodeTlsData(mut encode) => {
                encode_into(&mut encode, out);
                // What was computed so far was our own flight.
                let _ = scope::with(|handshake| handshake.finished_compared = false);
                true
            }
            ConnectionState::TransmitTlsData(transmit) => {
                transmit.done();
                true
            }
            ConnectionState::ReadTraffic(mut traffic) => {
                while let Some(record) = traffic.next_record() {
                    plain.extend_from_slice(record?.payload);
                }
                true
            }
            ConnectionState::PeerClosed => {
                done.peer_closed = true;
                true
            }
            ConnectionState::BlockedHandshake | ConnectionState::WriteTraffic(_) | ConnectionState::Closed => false,
            // Early data is off, so nothing else can come.
            _ => return Err(Error::General("rustls is in a state that it was not configured for".to_owned())),
        };
        done.used += discard;
        if !more {
            return Ok(done);
        }
    }
}

/// Takes out what rustls still wants to send after an error: the alert, and what was queued before it. Returns where in
/// `out` the last record begins, if any came.
pub(super) fn drain_after_error(tls: &mut UnbufferedServerConnection, out: &mut Vec<u8>) -> Option<usize> {
    let mut last = None;
    while tls.wants_write() {
        let UnbufferedStatus { state, .. } = tls.process_tls_records(&mut []);
        match state {
            Ok(ConnectionState::EncodeTlsData(mut encode)) => {
                last = Some(out.len());
                encode_into(&mut encode, out);
            }
            // Plaintext that came before the error was taken already; queued records come before anything else.
            _ => break,
        }
    }
    last
}

/// Appends `data` as records. `carry` is what was received and not used up yet.
pub(super) fn encrypt(
    tls: &mut UnbufferedServerConnection,
    carry: &mut [u8],
    data: &[u8],
    out: &mut Vec<u8>,
) -> Result<(), WriteError> {
    let records = data.len() / RECORD_PLAIN + 1;
    let room = data.len() + records * RECORD_OVERHEAD + QUEUED_ROOM;
    write(tls, carry, room, out, |traffic, space| traffic.encrypt(data, space))
}

/// Appends a close_notify.
pub(super) fn close_notify(
    tls: &mut UnbufferedServerConnection,
    carry: &mut [u8],
    out: &mut Vec<u8>,
) -> Result<(), WriteError> {
    write(tls, carry, QUEUED_ROOM, out, |traffic, space| traffic.queue_close_notify(space))
}

/// Why nothing was written.
#[derive(Debug)]
pub(super) enum WriteError {
    Tls(Error),
    /// TLS 1.2 keys have a limit of records and cannot be changed.
    Exhausted,
    /// The handshake is not done, or close_notify was sent.
    NotOpen,
}

fn write(
    tls: &mut UnbufferedServerConnection,
    carry: &mut [u8],
    room: usize,
    out: &mut Vec<u8>,
    mut operation: impl FnMut(&mut WriteTraffic<'_, ServerConnectionData>, &mut [u8]) -> Result<usize, EncryptError>,
) -> Result<(), WriteError> {
    let mut room = room;
    loop {
        // A second attempt needs nothing but room, yet rustls gives the state away only through a call.
        let UnbufferedStatus { state, .. } = tls.process_tls_records(&mut *carry);
        match state.map_err(WriteError::Tls)? {
            ConnectionState::WriteTraffic(mut traffic) => {
                let start = out.len();
                out.resize(start + room, 0);
                let written = operation(&mut traffic, &mut out[start..]);
                out.truncate(start + *written.as_ref().unwrap_or(&0));
                match written {
                    Ok(_) => return Ok(()),
                    Err(EncryptError::InsufficientSize(InsufficientSizeError { required_size }))
                        if required_size > room =>
                    {
                        room = required_size;
                    }
                    Err(_) => return Err(WriteError::Exhausted),
                }
            }
            ConnectionState::EncodeTlsData(mut encode) => encode_into(&mut encode, out),
            ConnectionState::TransmitTlsData(transmit) => transmit.done(),
            // Whatever else there is to read waits for the next input.
            _ => return Err(WriteError::NotOpen),
        }
    }
}

fn encode_into(encode: &mut EncodeTlsData<'_, ServerConnectionData>, out: &mut Vec<u8>) {
    let start = out.len();
    let Err(EncodeError::InsufficientSize(InsufficientSizeError { required_size })) = encode.encode(&mut []) else {
        return;
    };
    out.resize(start + required_size, 0);
    if encode.encode(&mut out[start..]).is_err() {
        out.truncate(start);
    }
}

/// Bytes that are missing to the record at the front of `carry`; everything, if it holds a whole one, which rustls then
/// keeps as part of a longer message.
pub(super) fn missing(carry: &[u8]) -> usize {
    match carry {
        [_, _, _, high, low, ..] => {
            let whole = 5 + usize::from(u16::from_be_bytes([*high, *low]));
            match whole.checked_sub(carry.len()) {
                None | Some(0) => usize::MAX,
                Some(missing) => missing,
            }
        }
        short => 5 - short.len(),
    }
}

/// How many bytes of `input` belong to the record that `carry` ends in or, behind whole ones, to the next; 0 of nothing.
pub(super) fn to_the_end(mut carry: &[u8], input: &[u8]) -> usize {
    while let [_, _, _, high, low, rest @ ..] = carry
        && let Some((_, next)) = rest.split_at_checked(usize::from(u16::from_be_bytes([*high, *low])))
    {
        carry = next;
    }
    let byte = |at: usize| carry.get(at).or_else(|| input.get(at.checked_sub(carry.len())?)).copied();
    match (byte(3), byte(4)) {
        (Some(high), Some(low)) => {
            let whole = 5 + usize::from(u16::from_be_bytes([high, low]));
            input.len().min(whole.saturating_sub(carry.len()))
        }
        _ => input.len(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_never_passes_the_end_of_a_record_also_behind_whole_ones() {
        let input = [22, 3, 3, 0, 2, 9, 9, 22, 3, 3, 0, 1];
        assert_eq!(to_the_end(&[], &input), 7);
        assert_eq!(to_the_end(&[], &input[..4]), 4);
        assert_eq!(to_the_end(&[], &input[..6]), 6);
        assert_eq!(to_the_end(&input[..3], &input[3..]), 4);
        assert_eq!(to_the_end(&input[..5], &input[5..]), 2);
        assert_eq!(to_the_end(&input[..6], &input[6..]), 1);
        assert_eq!(to_the_end(&input[..7], &input[7..]), 5);
        assert_eq!(to_the_end(&input[..9], &input[9..]), 3);
        assert_eq!(to_the_end(&[22, 3, 3, 0, 0], &input), 7);
        assert_eq!(to_the_end(&[], &[22, 3, 3, 0, 0, 22]), 5);
        assert_eq!(to_the_end(&[], &[]), 0);
    }

    #[test]
    fn first_the_header_is_missing_then_the_rest_of_the_record_then_there_is_no_telling() {
        assert_eq!(missing(&[]), 5);
        assert_eq!(missing(&[23, 3, 3]), 2);
        assert_eq!(missing(&[23, 3, 3, 0, 3]), 3);
        assert_eq!(missing(&[23, 3, 3, 0, 3, 9, 9]), 1);
        assert_eq!(missing(&[22, 3, 3, 0, 1, 9]), usize::MAX);
    }
}
