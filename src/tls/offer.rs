//! An own look at a ClientHello for the tickets that it brings: rustls shows none of it. What is found here says what a
//! handshake may cost, and so when its turn is; it decides nothing else, and whoever lies here gains nothing by it.

use crate::config::limits;
use std::borrow::Cow;

/// Handshake records and the ClientHello in them (RFC 8446 sections 4 and 5.1).
const RECORD_HANDSHAKE: u8 = 22;
const CLIENT_HELLO: u8 = 1;
/// Extensions: RFC 5077 and RFC 8446 section 4.2.
const SESSION_TICKET: u16 = 35;
const PRE_SHARED_KEY: u16 = 41;

/// The bytes of the first handshake message in these records, or what there is of it.
pub(super) fn message(records: &[u8]) -> Cow<'_, [u8]> {
    let mut whole: Cow<'_, [u8]> = Cow::Borrowed(&[]);
    let mut rest = records;
    while let Some(([RECORD_HANDSHAKE, _, _, high, low], body)) = rest.split_first_chunk::<5>() {
        let len = usize::from(u16::from_be_bytes([*high, *low])).min(body.len());
        let (body, later) = body.split_at(len);
        match whole.is_empty() {
            true => whole = Cow::Borrowed(body),
            false => whole.to_mut().extend_from_slice(body),
        }
        rest = later;
        if whole.first_chunk::<4>().is_some_and(|[_, a, b, c]| whole.len() >= 4 + number(&[*a, *b, *c])) {
            break;
        }
    }
    whole
}

/// The tickets of a ClientHello, as many as would be tried. Empty where it has none or cannot be read.
pub(super) fn tickets(message: &[u8]) -> Vec<&[u8]> {
    let mut found = Vec::new();
    let Some(mut extensions) = extensions(message) else { return found };
    while let Some((kind, rest)) = extensions.split_first_chunk::<2>()
        && let Some((value, rest)) = vector::<2>(rest)
    {
        extensions = rest;
        let kind = u16::from_be_bytes(*kind);
        match kind {
            SESSION_TICKET if !value.is_empty() => found.push(value),
            PRE_SHARED_KEY => found.extend(identities(value)),
            _ => {}
        }
    }
    found.truncate(limits::TICKETS_TRIED_MAX as usize);
    found
}

fn extensions(message: &[u8]) -> Option<&[u8]> {
    let ([CLIENT_HELLO, _, _, _], body) = message.split_first_chunk::<4>()? else { return None };
    // Version and random, then session id, suites and compression methods.
    let (_, rest) = body.split_at_checked(2 + 32)?;
    let (_, rest) = vector::<1>(rest)?;
    let (_, rest) = vector::<2>(rest)?;
    let (_, rest) = vector::<1>(rest)?;
    vector::<2>(rest).map(|(extensions, _)| extensions)
}

/// The identities of an offer of pre-shared keys; each is followed by four bytes of age.
fn identities(value: &[u8]) -> Vec<&[u8]> {
    let mut found = Vec::new();
    let mut list = vector::<2>(value).map_or(&[][..], |(list, _)| list);
    while found.len() < limits::TICKETS_TRIED_MAX as usize
        && let Some((identity, rest)) = vector::<2>(list)
        && let Some((_, rest)) = rest.split_at_checked(4)
    {
        found.push(identity);
        list = rest;
    }
    found
}

/// What follows a length of `N` bytes, and the rest.
fn vector<const N: usize>(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (len, rest) = bytes.split_first_chunk::<N>()?;
    rest.split_at_checked(number(len))
}

fn number(bytes: &[u8]) -> usize {
    bytes.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_len<const N: usize>(bytes: &[u8]) -> Vec<u8> {
        [&bytes.len().to_be_bytes()[8 - N..], bytes].concat()
    }

    fn hello(extensions: &[(u16, &[u8])]) -> Vec<u8> {
        let each = |(kind, value): &(u16, &[u8])| [&kind.to_be_bytes()[..], &with_len::<2>(value)].concat();
        let extensions: Vec<u8> = extensions.iter().flat_map(each).collect();
        let body =
            [&[3, 3][..], &[7; 32], &with_len::<1>(&[9; 32]), &[0, 2, 0x13, 1, 1, 0], &with_len::<2>(&extensions)];
        [&[1][..], &with_len::<3>(&body.concat())].concat()
    }

    fn psk(identities: &[&[u8]]) -> Vec<u8> {
        let list: Vec<u8> = identities.iter().flat_map(|one| [&with_len::<2>(one)[..], &[0; 4]].concat()).collect();
        [&with_len::<2>(&list)[..], &with_len::<2>(&[33; 33])].concat()
    }

    /// In records of `size` bytes.
    fn records(message: &[u8], size: usize) -> Vec<u8> {
        message.chunks(size).flat_map(|part| [&[22, 3, 1][..], &with_len::<2>(part)].concat()).collect()
    }

    #[test]
    fn tickets_of_both_versions_are_found_however_the_hello_is_cut_into_records() {
        let offer = psk(&[b"first", b"second"]);
        let whole = hello(&[(0, b"name"), (35, b"old"), (43, &[2, 3, 4]), (41, &offer)]);
        for size in [1, 7, 100, 1 << 14] {
            let bytes = [records(&whole, size), records(b"what comes behind", 5)].concat();
            assert_eq!(tickets(&message(&bytes)), [&b"old"[..], b"first", b"second"], "{size}");
        }
    }

    #[test]
    fn a_hello_without_a_ticket_brings_none_and_an_empty_ticket_is_none() {
        assert_eq!(tickets(&hello(&[(0, b"name"), (35, b"")])), Vec::<&[u8]>::new());
        assert_eq!(tickets(&hello(&[])), Vec::<&[u8]>::new());
    }

    #[test]
    fn hundreds_of_offers_are_not_looked_at() {
        let offer = psk(&[&b"one"[..]; 300]);
        assert_eq!(tickets(&hello(&[(41, &offer)])).len(), limits::TICKETS_TRIED_MAX as usize);
    }

    #[test]
    fn nothing_cut_short_or_spoilt_makes_it_fail() {
        let offer = psk(&[b"first"]);
        let whole = records(&hello(&[(0, b"name"), (41, &offer)]), 50);
        for end in 0..whole.len() {
            let _ = tickets(&message(&whole[..end]));
            let mut spoilt = whole.clone();
            spoilt[end] ^= 0xff;
            let _ = tickets(&message(&spoilt));
        }
    }
}
