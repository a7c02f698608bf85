//! Reads what rustls puts into a ticket: its private encoding of a session, of which we need the server name and the
//! client's chain before rustls uses them.
//!
//! The layout is that of rustls 0.23 (`msgs/persist.rs`), which is pinned. Should it ever change, reading fails, the
//! ticket is declined, and tests here and in the session say so: nothing is let in by a misreading, because the chain
//! found here must have the digest that our own part of the ticket names.

use rustls_pki_types::CertificateDer;

/// The parts of a session that decide whether a ticket may be used.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct SessionValue<'a> {
    pub sni: Option<&'a str>,
    /// Empty: a client without certificate.
    pub chain: Vec<CertificateDer<'a>>,
}

impl<'a> SessionValue<'a> {
    /// `None` where the bytes are not laid out as rustls 0.23 does.
    pub(super) fn parse(bytes: &'a [u8]) -> Option<SessionValue<'a>> {
        let mut rest = bytes;
        let sni = match take(&mut rest, 1)? {
            [0] => None,
            [1] => Some(std::str::from_utf8(take_vector(&mut rest, 1)?).ok()?),
            _ => return None,
        };
        let _version = take(&mut rest, 2)?;
        let _suite = take(&mut rest, 2)?;
        let _secret = take_vector(&mut rest, 1)?;
        let _extended_master_secret = take(&mut rest, 1)?;
        let chain = match take(&mut rest, 1)? {
            [0] => Vec::new(),
            [1] => parse_chain(take_vector(&mut rest, 3)?)?,
            _ => return None,
        };
        match take(&mut rest, 1)? {
            [0] => {}
            [1] => drop(take_vector(&mut rest, 1)?),
            _ => return None,
        }
        let _application_data = take_vector(&mut rest, 2)?;
        let _created_and_age_offset = take(&mut rest, 8 + 4)?;
        rest.is_empty().then_some(SessionValue { sni, chain })
    }
}

/// rustls writes no chain at all for a client without certificate; an empty one is none of its making.
fn parse_chain(mut list: &[u8]) -> Option<Vec<CertificateDer<'_>>> {
    let mut chain = Vec::new();
    while !list.is_empty() {
        chain.push(CertificateDer::from(take_vector(&mut list, 3)?));
    }
    (!chain.is_empty()).then_some(chain)
}

fn take<'a>(rest: &mut &'a [u8], len: usize) -> Option<&'a [u8]> {
    let (taken, left) = rest.split_at_checked(len)?;
    *rest = left;
    Some(taken)
}

/// A TLS vector with a length of `width` bytes before it.
fn take_vector<'a>(rest: &mut &'a [u8], width: usize) -> Option<&'a [u8]> {
    let len = take(rest, width)?.iter().fold(0, |len, byte| len << 8 | usize::from(*byte));
    take(rest, len)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// With a name, a TLS 1.2 session, a chain of two, ALPN `ab`, no application data.
    fn full() -> Vec<u8> {
        let mut bytes = vec![1, 3, b'a', b'.', b'b', 3, 3, 0xc0, 0x2b, 2, 9, 9, 1];
        bytes.extend([1, 0, 0, 10, 0, 0, 2, 7, 7, 0, 0, 2, 8, 8]);
        bytes.extend([1, 2, b'a', b'b', 0, 0]);
        bytes.extend([0; 12]);
        bytes
    }

    #[test]
    fn reads_the_name_and_the_chain() {
        let bytes = full();
        let value = SessionValue::parse(&bytes).unwrap();
        assert_eq!(value.sni, Some("a.b"));
        assert_eq!(value.chain, [CertificateDer::from(vec![7, 7]), CertificateDer::from(vec![8, 8])]);
    }

    #[test]
    fn reads_a_session_without_name_chain_or_protocol() {
        let mut bytes = vec![0, 3, 4, 0x13, 1, 1, 9, 0, 0, 0, 0, 0];
        bytes.extend([0; 12]);
        assert_eq!(SessionValue::parse(&bytes), Some(SessionValue { sni: None, chain: Vec::new() }));
    }

    #[test]
    fn refuses_every_cut_and_any_addition() {
        let bytes = full();
        for i in 0..bytes.len() {
            assert_eq!(SessionValue::parse(&bytes[..i]), None, "cut at {i}");
        }
        assert_eq!(SessionValue::parse(&[bytes, vec![0]].concat()), None);
    }

    #[test]
    fn refuses_an_empty_chain_that_claims_to_be_one() {
        let mut bytes = vec![0, 3, 4, 0x13, 1, 1, 9, 0, 1, 0, 0, 0, 0, 0, 0];
        bytes.extend([0; 12]);
        assert_eq!(SessionValue::parse(&bytes), None);
    }
}
