//! The clients that were let in, by certificate: when each was last seen and when it runs out. For the metrics, `ctl
//! identities`, `/status` and `top`; kept with the audit off too. Bounded: who was not seen for longest gives way.
//!
//! An identity may have several certificates, for its holders renew one after the other, each on its own host. One that
//! has a successor counts until it was not seen for [`REPLACED_AFTER`]: sessions resume for half a day.

use super::state::State;
use super::text::cut;
use crate::config::limits;
use crate::worker::{Sighting, Sightings};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A certificate that a later one of the same identity follows is done with once it was not seen for so long.
pub const REPLACED_AFTER: Duration = Duration::from_secs(24 * 3600);
/// Certificates that ran out this long ago are forgotten.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(30 * 24 * 3600);
/// How fast work done is forgotten where the busiest are asked for.
const HALF_LIFE: Duration = Duration::from_secs(60);
/// Bytes that count as much as a handshake.
const BYTES_LIKE_A_HANDSHAKE: f64 = 1e6;
/// Between looks whether the workers have answered.
const LOOK_AGAIN: Duration = Duration::from_millis(1);

/// The memory.
#[derive(Debug, Default)]
pub struct Clients {
    book: Mutex<Book>,
}

#[derive(Debug, Default)]
struct Book {
    /// By the SHA-256 of the certificate.
    certificates: HashMap<[u8; 32], Client>,
    /// Sightings that found no room, here or at a worker.
    overlooked: u64,
}

/// One certificate of a client.
#[derive(Debug, Clone, PartialEq)]
pub struct Client {
    /// Cut, as are the other names.
    pub identity: String,
    pub subject: String,
    pub issuer: String,
    pub serial: String,
    pub sha256: [u8; 32],
    /// Seconds since the Unix epoch.
    pub not_after: i64,
    pub first_seen: SystemTime,
    pub last_seen: SystemTime,
    pub handshakes: u64,
    pub bytes_in: u64,
    pub bytes_out: u64,
    /// Handshakes of late, bytes counted too; halves every [`HALF_LIFE`]. As of `last_seen`.
    bustle: f64,
}

impl Clients {
    /// Adds what workers have seen.
    pub fn note(&self, sightings: Sightings) {
        let mut book = self.book();
        book.overlooked += sightings.overlooked;
        for (sha256, sighting) in sightings.clients {
            book.note(sha256, &sighting);
        }
        book.make_room();
    }

    /// Sightings that found no room.
    pub fn overlooked(&self) -> u64 {
        self.book().overlooked
    }

    /// All certificates.
    pub fn all(&self) -> Vec<Client> {
        self.book().certificates.values().cloned().collect()
    }

    /// Of each identity the certificate that runs out first of those still in use, the soonest first; none that ran out
    /// already.
    pub fn expiring(&self, now: SystemTime) -> Vec<Client> {
        let book = self.book();
        let newest = book.newest_ends();
        let now_seconds = seconds(now);
        let mut first: HashMap<&str, &Client> = HashMap::new();
        for client in book.certificates.values().filter(|client| client.not_after > now_seconds) {
            let followed = newest.get(client.identity.as_str()).is_some_and(|end| *end > client.not_after);
            let gone = now.duration_since(client.last_seen).is_ok_and(|past| past >= REPLACED_AFTER);
            if followed && gone {
                continue;
            }
            let known = first.entry(&client.identity).or_insert(client);
            if client.not_after < known.not_after {
                *known = client;
            }
        }
        let mut expiring: Vec<Client> = first.into_values().cloned().collect();
        expiring.sort_unstable_by(|one, other| {
            (one.not_after, &one.identity, one.sha256).cmp(&(other.not_after, &other.identity, other.sha256))
        });
        expiring
    }

    /// One entry for each identity, with the sums over its certificates and the last one's names; the busiest of late
    /// first.
    pub fn busiest(&self, now: SystemTime) -> Vec<Client> {
        let book = self.book();
        let mut identities: HashMap<&str, Client> = HashMap::new();
        for client in book.certificates.values() {
            let bustle = client.bustle_at(now);
            match identities.get_mut(client.identity.as_str()) {
                None => drop(identities.insert(&client.identity, Client { bustle, ..client.clone() })),
                Some(known) => known.join(client, bustle),
            }
        }
        let mut busiest: Vec<Client> = identities.into_values().collect();
        busiest.sort_unstable_by(|one, other| {
            other.bustle.total_cmp(&one.bustle).then_with(|| one.identity.cmp(&other.identity))
        });
        busiest
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Book {
    fn note(&mut self, sha256: [u8; 32], sighting: &Sighting) {
        let client = self.certificates.entry(sha256).or_insert_with(|| Client::of(sighting));
        client.identity = cut(&sighting.identity, limits::CLIENT_TEXT_BYTES_MAX);
        let before = client.bustle_at(sighting.last);
        client.last_seen = client.last_seen.max(sighting.last);
        let bytes = (sighting.bytes_in + sighting.bytes_out) as f64;
        client.bustle = before + sighting.handshakes as f64 + bytes / BYTES_LIKE_A_HANDSHAKE;
        client.handshakes += sighting.handshakes;
        client.bytes_in += sighting.bytes_in;
        client.bytes_out += sighting.bytes_out;
    }

    /// When the last certificate of each identity runs out.
    fn newest_ends(&self) -> HashMap<&str, i64> {
        let mut newest: HashMap<&str, i64> = HashMap::new();
        for client in self.certificates.values() {
            let end = newest.entry(&client.identity).or_insert(client.not_after);
            *end = client.not_after.max(*end);
        }
        newest
    }

    /// Past the bound, an eighth goes at once, so that a full book is not sorted at each look.
    fn make_room(&mut self) {
        if self.certificates.len() <= limits::CLIENTS_KEPT_MAX {
            return;
        }
        let mut by_age: Vec<(SystemTime, [u8; 32])> =
            self.certificates.iter().map(|(sha256, client)| (client.last_seen, *sha256)).collect();
        by_age.sort_unstable();
        let surplus = self.certificates.len() - limits::CLIENTS_KEPT_MAX + limits::CLIENTS_KEPT_MAX / 8;
        for (_, sha256) in by_age.into_iter().take(surplus) {
            self.certificates.remove(&sha256);
            self.overlooked += 1;
        }
    }

    fn forget_ended(&mut self, now: SystemTime) {
        let horizon = seconds(now).saturating_sub_unsigned(FORGOTTEN_AFTER.as_secs());
        self.certificates.retain(|_, client| client.not_after > horizon);
    }
}

impl Client {
    fn of(sighting: &Sighting) -> Client {
        let leaf = &sighting.leaf;
        let name = |text: &str| cut(text, limits::CLIENT_TEXT_BYTES_MAX);
        Client {
            identity: name(&sighting.identity),
            subject: name(&leaf.subject),
            issuer: name(&leaf.issuer),
            serial: name(&leaf.serial),
            sha256: leaf.sha256,
            not_after: leaf.not_after,
            first_seen: sighting.last,
            last_seen: sighting.last,
            handshakes: 0,
            bytes_in: 0,
            bytes_out: 0,
            bustle: 0.0,
        }
    }

    fn bustle_at(&self, now: SystemTime) -> f64 {
        let past = now.duration_since(self.last_seen).unwrap_or_default();
        self.bustle * 0.5f64.powf(past.as_secs_f64() / HALF_LIFE.as_secs_f64())
    }

    /// Takes another certificate of the same identity in.
    fn join(&mut self, other: &Client, bustle: f64) {
        let sums =
            (self.handshakes + other.handshakes, self.bytes_in + other.bytes_in, self.bytes_out + other.bytes_out);
        let (bustle, first_seen) = (self.bustle + bustle, self.first_seen.min(other.first_seen));
        if other.last_seen > self.last_seen {
            *self = other.clone();
        }
        (self.handshakes, self.bytes_in, self.bytes_out) = sums;
        (self.bustle, self.first_seen) = (bustle, first_seen);
    }
}

impl State {
    /// Asks the workers whom they have let in; those that do not answer in time are asked again the next time.
    pub async fn ask_for_clients(&self) {
        let Some(ask) = &self.ask_seen else { return };
        let workers = self.generation().counters.len();
        let answers = ask();
        let at_latest = tokio::time::Instant::now() + limits::CLIENTS_ANSWER_TIME_MAX;
        let mut answered = 0;
        while answered < workers {
            match answers.try_recv() {
                Ok(sightings) => {
                    answered += 1;
                    self.clients.note(sightings);
                }
                Err(std::sync::mpsc::TryRecvError::Empty) if tokio::time::Instant::now() < at_latest => {
                    tokio::time::sleep(LOOK_AGAIN).await;
                }
                Err(_) => return,
            }
        }
    }

    /// Asks from time to time, without end, so that the workers have room.
    pub async fn look_at_clients(self: Arc<Self>) {
        loop {
            tokio::time::sleep(limits::CLIENTS_LOOK_EVERY).await;
            self.ask_for_clients().await;
            self.clients.book().forget_ended(SystemTime::now());
        }
    }
}

/// Since the Unix epoch.
pub fn seconds(at: SystemTime) -> i64 {
    i64::try_from(at.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trust::Leaf;

    const DAY: u64 = 24 * 3600;

    fn at(day: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(20_000 * DAY + day * DAY)
    }

    /// A certificate of `identity` that was seen on `day` and runs out on `ends`.
    fn seen(identity: &str, number: u32, day: u64, ends: u64) -> Sightings {
        let mut sha256 = [0; 32];
        sha256[..4].copy_from_slice(&number.to_be_bytes());
        let leaf = Leaf {
            der: Vec::new(),
            subject: format!("CN={identity}"),
            issuer: "CN=CA".into(),
            serial: number.to_string(),
            not_before: 0,
            not_after: seconds(at(ends)),
            sha256,
            spki_sha256: [0; 32],
            san: Vec::new(),
            cn: None,
        };
        let (identity, leaf) = (Arc::from(identity), Arc::new(leaf));
        let sighting = Sighting { identity, leaf, last: at(day), handshakes: 1, bytes_in: 2, bytes_out: 3 };
        Sightings { clients: HashMap::from([(sha256, sighting)]), overlooked: 0 }
    }

    fn serials(clients: &[Client]) -> Vec<&str> {
        clients.iter().map(|client| client.serial.as_str()).collect()
    }

    #[test]
    fn whoever_runs_out_first_comes_first_and_once() {
        let clients = Clients::default();
        for (identity, number, ends) in [("dns:b", 1, 30), ("dns:a", 2, 10), ("dns:c", 3, 20)] {
            clients.note(seen(identity, number, 0, ends));
            clients.note(seen(identity, number, 1, ends));
        }
        let expiring = clients.expiring(at(1));
        assert_eq!(serials(&expiring), ["2", "3", "1"]);
        assert_eq!((expiring[0].handshakes, expiring[0].bytes_in, expiring[0].bytes_out), (2, 4, 6));
        assert_eq!((expiring[0].first_seen, expiring[0].last_seen), (at(0), at(1)));
    }

    #[test]
    fn a_renewed_certificate_takes_the_place_of_the_old_one_after_a_day() {
        let clients = Clients::default();
        clients.note(seen("dns:a", 1, 0, 10));
        clients.note(seen("dns:a", 2, 0, 90));
        assert_eq!(serials(&clients.expiring(at(0))), ["1"], "another host may still have the old one");
        assert_eq!(serials(&clients.expiring(at(1))), ["2"]);
        clients.note(seen("dns:a", 1, 2, 10));
        assert_eq!(serials(&clients.expiring(at(2))), ["1"], "somebody has not renewed");
    }

    #[test]
    fn one_that_was_not_renewed_stays_until_it_ran_out() {
        let clients = Clients::default();
        clients.note(seen("dns:a", 1, 0, 10));
        assert_eq!(serials(&clients.expiring(at(9))), ["1"]);
        assert_eq!(serials(&clients.expiring(at(10))), [""; 0]);
        clients.book().forget_ended(at(39));
        assert_eq!(clients.all().len(), 1);
        clients.book().forget_ended(at(41));
        assert_eq!(clients.all().len(), 0);
    }

    #[test]
    fn the_busiest_of_late_come_first_with_the_sums_of_all_their_certificates() {
        let clients = Clients::default();
        for _ in 0..5 {
            clients.note(seen("dns:was-busy", 1, 0, 90));
        }
        for number in 2..4 {
            clients.note(seen("dns:is-busy", number, 1, 90));
        }
        let busiest = clients.busiest(at(1));
        let names: Vec<&str> = busiest.iter().map(|client| client.identity.as_str()).collect();
        assert_eq!(names, ["dns:is-busy", "dns:was-busy"]);
        assert_eq!((busiest[0].handshakes, busiest[0].bytes_in), (2, 4));
        assert_eq!(busiest[1].handshakes, 5);
    }

    #[test]
    fn a_full_book_forgets_whom_it_has_not_seen_for_longest() {
        let clients = Clients::default();
        let over = limits::CLIENTS_KEPT_MAX as u32 + 1;
        let mut many = Sightings::default();
        for number in 0..over {
            many.clients.extend(seen("dns:x", number, u64::from(number > 0), 100).clients);
        }
        clients.note(many);
        let all = clients.all();
        assert!(all.len() <= limits::CLIENTS_KEPT_MAX);
        assert!(all.iter().all(|client| client.serial != "0"), "the oldest is gone");
        assert_eq!(clients.overlooked() + all.len() as u64, u64::from(over));
    }

    #[test]
    fn a_long_name_is_cut() {
        let clients = Clients::default();
        clients.note(seen(&format!("uri:{}", "é".repeat(2000)), 1, 0, 1));
        assert!(clients.all()[0].identity.len() <= limits::CLIENT_TEXT_BYTES_MAX + '…'.len_utf8());
    }
}
