//! Tickets that are not ours, or no longer: forged, cut, spoilt. None resumes anything; the client is asked for its
//! certificate as if it had brought none.

use super::hello::{extensions_at, long};
use super::raw::Kit;
use super::record::{HANDSHAKE, VERSIONS, Version, last_alert, message, messages, plain, records};
use super::siege::{Bounds, Siege};
use crate::world::client::Tickets;
use crate::world::process::sanitizer_factor;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

const PRE_SHARED_KEY: u16 = 41;
const SESSION_TICKET: u16 = 35;

/// A hello whose ticket can be replaced.
struct Offer {
    version: Version,
    /// Up to the extensions.
    head: Vec<u8>,
    extensions: Vec<(u16, Vec<u8>)>,
    ticket: Vec<u8>,
    /// Obfuscated; TLS 1.3 alone.
    age: Vec<u8>,
    binder: Vec<u8>,
}

impl Offer {
    /// From the hello of a client that has a ticket.
    fn of(version: Version, hello: &[u8]) -> Offer {
        let body = &hello[4..];
        let at = extensions_at(body);
        let mut rest = &body[at + 2..];
        let mut extensions = Vec::new();
        while let [a, b, c, d, next @ ..] = rest {
            let (extension, next) = next.split_at(usize::from(u16::from_be_bytes([*c, *d])));
            extensions.push((u16::from_be_bytes([*a, *b]), extension.to_vec()));
            rest = next;
        }
        let kind = if version == Version::Tls13 { PRE_SHARED_KEY } else { SESSION_TICKET };
        let body_of = extensions.iter().find(|(known, _)| *known == kind).expect("no ticket is offered").1.clone();
        let (ticket, age, binder) = match version {
            Version::Tls12 => (body_of, Vec::new(), Vec::new()),
            Version::Tls13 => {
                let length = usize::from(u16::from_be_bytes([body_of[2], body_of[3]]));
                let (ticket, rest) = body_of[4..].split_at(length);
                (ticket.to_vec(), rest[..4].to_vec(), rest[4 + 3..].to_vec())
            }
        };
        assert!(ticket.len() > 50, "a ticket of {} bytes", ticket.len());
        Offer { version, head: body[..at].to_vec(), extensions, ticket, age, binder }
    }

    /// The records of the hello with this ticket and binder.
    fn with(&self, ticket: &[u8], binder: &[u8]) -> Vec<u8> {
        self.with_all(&[ticket.to_vec()], binder)
    }

    /// The same with several tickets, each with the same binder; in TLS 1.2 there can be but one.
    fn with_all(&self, tickets: &[Vec<u8>], binder: &[u8]) -> Vec<u8> {
        let mut list = Vec::new();
        for (kind, body) in &self.extensions {
            let body = match *kind {
                PRE_SHARED_KEY => {
                    let identity = |ticket: &Vec<u8>| [long(ticket), self.age.clone()].concat();
                    let identities: Vec<u8> = tickets.iter().flat_map(identity).collect();
                    let binders = [&[u8::try_from(binder.len()).unwrap()], binder].concat().repeat(tickets.len());
                    [long(&identities), long(&binders)].concat()
                }
                SESSION_TICKET if self.version == Version::Tls12 => tickets[0].clone(),
                _ => body.clone(),
            };
            list.extend([kind.to_be_bytes().to_vec(), long(&body)].concat());
        }
        let hello = message(1, &[self.head.clone(), long(&list)].concat());
        hello.chunks(16 << 10).flat_map(|chunk| plain(HANDSHAKE, chunk)).collect()
    }
}

/// What a server made of a hello.
#[derive(Debug, PartialEq, Eq)]
enum Answer {
    Resumed,
    Full,
    Alert(u8),
}

/// Sends a hello alone, and reads what comes of it.
fn ask(siege: &mut Siege, version: Version, hello: &[u8], what: &str) -> Answer {
    let mut tcp = TcpStream::connect(siege.address()).unwrap();
    tcp.set_read_timeout(Some(crate::world::wait::SOON)).unwrap();
    let client: SocketAddr = tcp.local_addr().unwrap();
    tcp.write_all(hello).unwrap();
    tcp.shutdown(Shutdown::Write).unwrap();
    let mut answer = Vec::new();
    let _ = tcp.read_to_end(&mut answer);
    let alert = last_alert(&answer);
    siege.refused(client, alert, format!("{what}, {version:?}"));
    if let Some(alert) = alert {
        return Answer::Alert(alert);
    }
    let plaintext: Vec<u8> = records(&answer)
        .iter()
        .take_while(|(kind, _)| *kind == HANDSHAKE)
        .flat_map(|(_, body)| body.to_vec())
        .collect();
    let all = messages(&plaintext);
    assert_eq!(all.first().map(|hello| hello[0]), Some(2), "{what}: no ServerHello: {answer:02x?}");
    let resumed = match version {
        Version::Tls12 => all.iter().all(|message| message[0] != super::raw::CERTIFICATE),
        Version::Tls13 => offers_back(&all[0][4..]),
    };
    if resumed { Answer::Resumed } else { Answer::Full }
}

/// Whether a ServerHello takes the offered session.
fn offers_back(body: &[u8]) -> bool {
    let mut rest = &body[35 + usize::from(body[34]) + 3 + 2..];
    while let [a, b, c, d, next @ ..] = rest {
        if u16::from_be_bytes([*a, *b]) == PRE_SHARED_KEY {
            return true;
        }
        rest = &next[usize::from(u16::from_be_bytes([*c, *d]))..];
    }
    false
}

/// The hello of a client that was here before.
fn offer(siege: &mut Siege, version: Version) -> Offer {
    let tickets = Tickets::new();
    let kit = Kit::with(&siege.world.pki, version, &siege.world.pki.client, Some(&tickets));
    let (raw, _) = kit.open(siege.address());
    siege.admitted(raw.address(), "fetches a ticket");
    raw.reset();
    let raw = kit.connect(siege.address());
    siege.silent(raw.address());
    Offer::of(version, raw.hello_message())
}

#[test]
fn a_ticket_that_is_not_whole_and_ours_resumes_nothing() {
    let mut siege = Siege::lay();
    for version in VERSIONS {
        let offer = offer(&mut siege, version);
        let genuine = offer.with(&offer.ticket, &offer.binder);
        assert_eq!(ask(&mut siege, version, &genuine, "the genuine ticket"), Answer::Resumed);
        let step = (offer.ticket.len() / 100).max(1);
        for place in (0..offer.ticket.len()).step_by(step) {
            let mut spoilt = offer.ticket.clone();
            spoilt[place] ^= 1 << (place % 8);
            let what = format!("bit of byte {place} flipped");
            assert_eq!(ask(&mut siege, version, &offer.with(&spoilt, &offer.binder), &what), Answer::Full, "{what}");
        }
        for cut in (1..offer.ticket.len()).step_by(step) {
            let what = format!("cut to {cut} bytes");
            let hello = offer.with(&offer.ticket[..cut], &offer.binder);
            assert_eq!(ask(&mut siege, version, &hello, &what), Answer::Full, "{what}");
        }
        let doubled = [&offer.ticket[..], &offer.ticket].concat();
        let longer = [&offer.ticket[..], &[0]].concat();
        let shifted = [&[0], &offer.ticket[..]].concat();
        let renamed = [&[7; 16], &offer.ticket[16..]].concat();
        let zeroes = [&offer.ticket[..16], &vec![0; offer.ticket.len() - 16]].concat();
        let long = vec![9; 14_000];
        for forged in [&doubled, &longer, &shifted, &renamed, &zeroes, &long, &vec![0; 32]] {
            let what = format!("a forged ticket of {} bytes", forged.len());
            assert_eq!(ask(&mut siege, version, &offer.with(forged, &offer.binder), &what), Answer::Full, "{what}");
        }
        assert_eq!(ask(&mut siege, version, &genuine, "the genuine ticket again"), Answer::Resumed);
    }
    siege.end("tickets", &Bounds { cpu: Duration::from_secs(20), memory_kib: 24 << 10 });
}

/// Each has the name of a key that is ours, and so is worth a try.
#[test]
fn as_many_spoilt_copies_of_a_genuine_ticket_as_a_hello_holds_cost_little() {
    let mut siege = Siege::lay();
    let offer = offer(&mut siege, Version::Tls13);
    let copies = 30_000 / (offer.ticket.len() + offer.binder.len() + 7);
    let spoilt = |copy: usize| {
        let mut ticket = offer.ticket.clone();
        let place = ticket.len() - 1 - copy % 64;
        ticket[place] ^= 1 << (copy % 8);
        ticket
    };
    let tickets: Vec<Vec<u8>> = (0..copies).map(spoilt).collect();
    let hello = offer.with_all(&tickets, &offer.binder);
    let before = siege.cpu();
    for round in 0..50 {
        let what = format!("{copies} spoilt copies, round {round}");
        assert_eq!(ask(&mut siege, Version::Tls13, &hello, &what), Answer::Full, "{what}");
    }
    let each = (siege.cpu() - before) / 50;
    println!("{each:?} of CPU for a hello with {copies} tickets of {} bytes", offer.ticket.len());
    assert!(copies >= 20, "{copies} are no flood");
    assert!(each < Duration::from_millis(60) * sanitizer_factor(), "{each:?} for one hello");
    siege.end("spoilt copies", &Bounds { cpu: Duration::from_secs(10), memory_kib: 16 << 10 });
}

#[test]
fn a_genuine_ticket_without_its_key_opens_nothing() {
    let mut siege = Siege::lay();
    let offer = offer(&mut siege, Version::Tls13);
    for place in 0..offer.binder.len() {
        let mut binder = offer.binder.clone();
        binder[place] ^= 0x80;
        let what = format!("byte {place} of the binder spoilt");
        let answer = ask(&mut siege, Version::Tls13, &offer.with(&offer.ticket, &binder), &what);
        assert_eq!(answer, Answer::Alert(51), "{what}");
    }
    siege.end("binders", &Bounds { cpu: Duration::from_secs(5), memory_kib: 16 << 10 });
}
