//! The keys that seal session tickets: which one is current, which older ones still open, AES-256-GCM-SIV around bytes.
//!
//! What is inside a ticket, and whether it may be used, is not decided here. Readers never wait: the ring of keys is
//! replaced whole. Key bytes are wiped when the key is dropped (random ones are kept until then, to be handed over to a
//! new process; derived ones only until the cipher holds them), and so is the cipher's own copy (aws-lc cleanses what it
//! frees). Keeping them out of core dumps needs `madvise`, which only `sys` may call: run with
//! core dumps off (`LimitCORE=0`, or `PR_SET_DUMPABLE`).

use crate::config::limits;
use arc_swap::ArcSwap;
use aws_lc_rs::aead::{AES_256_GCM_SIV, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::hkdf;
use rustls_pki_types::UnixTime;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use zeroize::Zeroizing;

const NAME_LEN: usize = 16;
const TAG_LEN: usize = 16;
const HEAD_LEN: usize = NAME_LEN + NONCE_LEN;
/// Binds a ticket to this format, beside the key's name.
const CONTEXT: &[u8] = b"countersign ticket 1";
/// What a fleet's key is derived for; a change of format changes it.
const DERIVATION: &[u8] = b"countersign ticket key 1";

/// A secret that several hosts share, at least [`limits::TICKET_SECRET_BYTES_MIN`] bytes; wiped on drop.
pub struct Secret(Zeroizing<Vec<u8>>);

impl Secret {
    /// The fewest bytes of one.
    pub const BYTES_MIN: usize = limits::TICKET_SECRET_BYTES_MIN;

    /// `None` where it is too short to be one.
    pub fn new(bytes: Vec<u8>) -> Option<Secret> {
        let bytes = Zeroizing::new(bytes);
        (bytes.len() >= limits::TICKET_SECRET_BYTES_MIN).then_some(Secret(bytes))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// No randomness, or the cipher would not start: ours to tell, never the peer's fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoKeys;

impl fmt::Display for NoKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no ticket key could be made; see whether the system's random source works")
    }
}

impl std::error::Error for NoKeys {}

/// Ticket keys of the whole process; every worker holds the same `Arc`.
pub struct TicketKeys {
    source: Source,
    rotate_secs: u64,
    keep: usize,
    ring: ArcSwap<Ring>,
}

/// Where the next key comes from.
enum Source {
    Random,
    /// The first makes tickets, all open them.
    Secrets(Vec<Secret>),
}

/// The keys of one period. `keys[0]` seals.
struct Ring {
    keys: Vec<Arc<Key>>,
    /// Random keys: when `keys[0]` was made. Derived keys: the begin of their period.
    since: u64,
}

struct Key {
    name: [u8; NAME_LEN],
    cipher: LessSafeKey,
    /// Of random keys: name and key, for [`TicketKeys::export`].
    material: Option<Material>,
}

/// A key's name and bytes; wiped on drop. Boxed, so that moving it leaves no copy.
type Material = Box<Zeroizing<[u8; MATERIAL_LEN]>>;

const MATERIAL_LEN: usize = NAME_LEN + 32;

impl TicketKeys {
    /// Keys of this process alone: a new random one each `rotate`, `keep` older ones still accepted.
    pub fn random(now: UnixTime, rotate: Duration, keep: u32) -> Result<TicketKeys, NoKeys> {
        let ring = Ring { keys: vec![Arc::new(Key::random()?)], since: now.as_secs() };
        Ok(TicketKeys::with(Source::Random, rotate, keep, ring))
    }

    /// Keys that every host with the same secrets derives alike: key `n` is for the `n`-th `rotate` since 1970. The one
    /// of the next period is accepted already (clocks differ), and `keep` of the past.
    pub fn from_secrets(
        secrets: Vec<Secret>,
        now: UnixTime,
        rotate: Duration,
        keep: u32,
    ) -> Result<TicketKeys, NoKeys> {
        let mut keys = TicketKeys::with(Source::Random, rotate, keep, Ring { keys: Vec::new(), since: 0 });
        let ring = keys.derive(&secrets, now.as_secs() / keys.rotate_secs)?;
        keys.source = Source::Secrets(secrets);
        keys.ring.store(Arc::new(ring));
        Ok(keys)
    }

    fn with(source: Source, rotate: Duration, keep: u32, ring: Ring) -> TicketKeys {
        TicketKeys {
            source,
            rotate_secs: rotate.as_secs().max(1),
            keep: keep.min(limits::TICKET_KEYS_KEPT_MAX) as usize,
            ring: ArcSwap::from_pointee(ring),
        }
    }

    /// Makes the key of the present period if it is time; sealing and opening do so by themselves. Call it now and then
    /// where no clients come, so that old keys do not linger.
    pub fn rotate_if_due(&self, now: UnixTime) {
        let now = now.as_secs();
        let ring = self.ring.load();
        if !self.is_due(&ring, now) {
            return;
        }
        let next = match &self.source {
            Source::Random => self.after(&ring, now),
            Source::Secrets(secrets) => self.derive(secrets, now / self.rotate_secs),
        };
        if let Ok(next) = next {
            // A worker that came first has made the same step; its ring stands.
            self.ring.compare_and_swap(&*ring, Arc::new(next));
        }
    }

    /// Starts a new random key at once (`ctl tickets rotate`). `false` where keys are derived from shared secrets:
    /// rotating those means changing the secret on every host.
    pub fn rotate(&self, now: UnixTime) -> Result<bool, NoKeys> {
        if matches!(self.source, Source::Secrets(_)) {
            return Ok(false);
        }
        let ring = self.ring.load();
        let next = Arc::new(self.after(&ring, now.as_secs())?);
        self.ring.compare_and_swap(&*ring, next);
        Ok(true)
    }

    /// The random keys, for another process of ours and nobody else; `None` where they are derived: that process derives
    /// the same.
    pub fn export(&self) -> Option<Zeroizing<Vec<u8>>> {
        if matches!(self.source, Source::Secrets(_)) {
            return None;
        }
        let ring = self.ring.load();
        // Room for all at once: a vector that grows leaves its old bytes behind.
        let mut bytes = Zeroizing::new(Vec::with_capacity(8 + ring.keys.len() * MATERIAL_LEN));
        bytes.extend_from_slice(&ring.since.to_be_bytes());
        for material in ring.keys.iter().filter_map(|key| key.material.as_ref()) {
            bytes.extend_from_slice(&material[..]);
        }
        Some(bytes)
    }

    /// Takes the place of random keys by those that another process exported, as many as this one keeps. False, and
    /// nothing is changed, where keys are derived or the bytes are none of ours.
    pub fn adopt(&self, exported: &[u8]) -> bool {
        let Some((since, keys)) = exported.split_first_chunk::<8>() else { return false };
        let fits = !keys.is_empty() && keys.len() % MATERIAL_LEN == 0;
        if matches!(self.source, Source::Secrets(_)) || !fits {
            return false;
        }
        let keys = keys.chunks_exact(MATERIAL_LEN).take(self.keep + 1).map(|bytes| {
            let mut material: Material = Box::new(Zeroizing::new([0; MATERIAL_LEN]));
            material.copy_from_slice(bytes);
            Key::random_of(material).map(Arc::new)
        });
        let Ok(keys) = keys.collect::<Result<Vec<_>, _>>() else { return false };
        self.ring.store(Arc::new(Ring { keys, since: u64::from_be_bytes(*since) }));
        true
    }

    /// How long the sealing key has been in use.
    pub fn age(&self, now: UnixTime) -> Duration {
        Duration::from_secs(now.as_secs().saturating_sub(self.ring.load().since))
    }

    /// Seals `head` and `body` together: key name (16 bytes), nonce (12), ciphertext, tag (16; AES-256-GCM-SIV,
    /// RFC 8452). `None` only where the random source fails.
    pub fn seal(&self, head: &[u8], body: &[u8], now: UnixTime) -> Option<Vec<u8>> {
        self.rotate_if_due(now);
        let ring = self.ring.load();
        let key = ring.keys.first()?;
        let mut nonce = [0; NONCE_LEN];
        aws_lc_rs::rand::fill(&mut nonce).ok()?;
        let mut ticket = Vec::with_capacity(HEAD_LEN + head.len() + body.len() + TAG_LEN);
        ticket.extend_from_slice(&key.name);
        ticket.extend_from_slice(&nonce);
        ticket.extend_from_slice(head);
        ticket.extend_from_slice(body);
        let nonce = Nonce::assume_unique_for_key(nonce);
        let sealed = key.cipher.seal_in_place_separate_tag(nonce, Aad::from(key.context()), &mut ticket[HEAD_LEN..]);
        ticket.extend_from_slice(sealed.ok()?.as_ref());
        Some(ticket)
    }

    /// What was sealed, if one of our keys sealed it.
    pub fn open(&self, ticket: &[u8], now: UnixTime) -> Option<Zeroizing<Vec<u8>>> {
        self.rotate_if_due(now);
        let (name, rest) = ticket.split_at_checked(NAME_LEN)?;
        let (nonce, sealed) = rest.split_at_checked(NONCE_LEN)?;
        let ring = self.ring.load();
        let key = ring.keys.iter().find(|key| key.name == name)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let mut plain = Zeroizing::new(sealed.to_vec());
        let len = key.cipher.open_in_place(nonce, Aad::from(key.context()), &mut plain).ok()?.len();
        plain.truncate(len);
        Some(plain)
    }

    /// A clock that went back is as much a reason as one that went on: a key must not live on because the clock once
    /// stood in the future.
    fn is_due(&self, ring: &Ring, now: u64) -> bool {
        match &self.source {
            Source::Random => {
                now >= ring.since.saturating_add(self.rotate_secs)
                    || now.saturating_add(limits::TICKET_CLOCK_SKEW_SECS) < ring.since
            }
            Source::Secrets(_) => now / self.rotate_secs != ring.since / self.rotate_secs,
        }
    }

    fn after(&self, ring: &Ring, now: u64) -> Result<Ring, NoKeys> {
        let mut keys = vec![Arc::new(Key::random()?)];
        keys.extend(ring.keys.iter().take(self.keep).cloned());
        Ok(Ring { keys, since: now })
    }

    fn derive(&self, secrets: &[Secret], period: u64) -> Result<Ring, NoKeys> {
        let oldest = period.saturating_sub(self.keep as u64);
        // The present period first: its first key seals.
        let periods = std::iter::once(period).chain(std::iter::once(period + 1)).chain((oldest..period).rev());
        let mut keys = Vec::new();
        for period in periods {
            for secret in secrets {
                keys.push(Arc::new(Key::derived(secret, self.rotate_secs, period)?));
            }
        }
        Ok(Ring { keys, since: period * self.rotate_secs })
    }
}

impl fmt::Debug for TicketKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TicketKeys").field("keys", &self.ring.load().keys.len()).finish_non_exhaustive()
    }
}

impl Key {
    fn random() -> Result<Key, NoKeys> {
        let mut material: Material = Box::new(Zeroizing::new([0; MATERIAL_LEN]));
        aws_lc_rs::rand::fill(&mut material[..]).map_err(|_| NoKeys)?;
        Key::random_of(material)
    }

    fn random_of(material: Material) -> Result<Key, NoKeys> {
        let key = Key::from_material(&material)?;
        Ok(Key { material: Some(material), ..key })
    }

    fn derived(secret: &Secret, rotate_secs: u64, period: u64) -> Result<Key, NoKeys> {
        struct Len;
        impl hkdf::KeyType for Len {
            fn len(&self) -> usize {
                MATERIAL_LEN
            }
        }
        let (rotate, period) = (rotate_secs.to_be_bytes(), period.to_be_bytes());
        let info = [DERIVATION, &rotate, &period];
        let extracted = hkdf::Salt::new(hkdf::HKDF_SHA256, &[]).extract(&secret.0);
        let mut material = Zeroizing::new([0; MATERIAL_LEN]);
        extracted.expand(&info, Len).and_then(|okm| okm.fill(&mut *material)).map_err(|_| NoKeys)?;
        Key::from_material(&material)
    }

    fn from_material(material: &[u8; MATERIAL_LEN]) -> Result<Key, NoKeys> {
        let (name, key) = material.split_at(NAME_LEN);
        let cipher = LessSafeKey::new(UnboundKey::new(&AES_256_GCM_SIV, key).map_err(|_| NoKeys)?);
        Ok(Key { name: name.try_into().map_err(|_| NoKeys)?, cipher, material: None })
    }

    fn context(&self) -> [u8; CONTEXT.len() + NAME_LEN] {
        let mut context = [0; CONTEXT.len() + NAME_LEN];
        context[..CONTEXT.len()].copy_from_slice(CONTEXT);
        context[CONTEXT.len()..].copy_from_slice(&self.name);
        context
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    fn at(secs: u64) -> UnixTime {
        UnixTime::since_unix_epoch(Duration::from_secs(secs))
    }

    fn secret(byte: u8) -> Secret {
        Secret::new(vec![byte; 32]).unwrap()
    }

    fn opens(keys: &TicketKeys, ticket: &[u8], now: u64) -> bool {
        keys.open(ticket, at(now)).is_some_and(|plain| *plain == b"headbody")
    }

    #[test]
    fn what_was_sealed_opens_and_nothing_that_was_changed() {
        let keys = TicketKeys::random(at(0), HOUR, 2).unwrap();
        let ticket = keys.seal(b"head", b"body", at(1)).unwrap();
        assert!(opens(&keys, &ticket, 2));
        for i in 0..ticket.len() {
            let mut changed = ticket.clone();
            changed[i] ^= 1;
            assert!(keys.open(&changed, at(2)).is_none(), "byte {i}");
            assert!(keys.open(&ticket[..i], at(2)).is_none(), "cut at {i}");
        }
    }

    #[test]
    fn a_key_opens_for_keep_periods_after_its_own_and_then_no_more() {
        let keys = TicketKeys::random(at(0), HOUR, 2).unwrap();
        let ticket = keys.seal(b"head", b"body", at(10)).unwrap();
        assert!(opens(&keys, &ticket, 3600), "one period later");
        assert!(opens(&keys, &ticket, 7200), "two periods later");
        assert!(!opens(&keys, &ticket, 10_800), "three periods later");
    }

    #[test]
    fn a_clock_set_back_by_a_day_starts_a_new_key() {
        let keys = TicketKeys::random(at(100_000), HOUR, 2).unwrap();
        assert_eq!(keys.age(at(100_060)), Duration::from_secs(60));
        keys.rotate_if_due(at(13_600));
        assert_eq!(keys.age(at(13_600)), Duration::ZERO);
        keys.rotate_if_due(at(13_590));
        assert_eq!(keys.age(at(13_600)), Duration::ZERO, "a worker whose clock is a little behind changes nothing");
    }

    #[test]
    fn the_operator_may_rotate_random_keys_but_not_derived_ones() {
        let keys = TicketKeys::random(at(0), HOUR, 1).unwrap();
        let ticket = keys.seal(b"head", b"body", at(1)).unwrap();
        assert_eq!(keys.rotate(at(2)), Ok(true));
        assert!(opens(&keys, &ticket, 3));
        assert_eq!(keys.rotate(at(3)), Ok(true));
        assert!(!opens(&keys, &ticket, 4));
        let derived = TicketKeys::from_secrets(vec![secret(1)], at(0), HOUR, 1).unwrap();
        assert_eq!(derived.rotate(at(1)), Ok(false));
    }

    #[test]
    fn keys_that_were_handed_over_open_what_their_first_owner_sealed_and_go_on_from_their_age() {
        let old = TicketKeys::random(at(0), HOUR, 2).unwrap();
        let first = old.seal(b"head", b"body", at(1)).unwrap();
        old.rotate(at(1800)).unwrap();
        let second = old.seal(b"head", b"body", at(1801)).unwrap();
        let new = TicketKeys::random(at(2000), HOUR, 2).unwrap();
        assert!(!opens(&new, &second, 2000));
        assert!(new.adopt(&old.export().unwrap()));
        assert!(opens(&new, &first, 2000) && opens(&new, &second, 2000));
        assert_eq!(new.age(at(2000)), Duration::from_secs(200));
        assert!(opens(&old, &new.seal(b"head", b"body", at(2001)).unwrap(), 2001), "back as well");
        let fewer = TicketKeys::random(at(2000), HOUR, 0).unwrap();
        assert!(fewer.adopt(&old.export().unwrap()));
        assert!(!opens(&fewer, &first, 2000) && opens(&fewer, &second, 2000), "no more than are kept");
    }

    #[test]
    fn bytes_that_are_no_keys_and_derived_keys_change_nothing() {
        let keys = TicketKeys::random(at(0), HOUR, 2).unwrap();
        let ticket = keys.seal(b"head", b"body", at(1)).unwrap();
        let exported = keys.export().unwrap();
        for bytes in [&b""[..], &exported[..8], &exported[..exported.len() - 1]] {
            assert!(!keys.adopt(bytes));
        }
        assert!(opens(&keys, &ticket, 2));
        let derived = TicketKeys::from_secrets(vec![secret(1)], at(0), HOUR, 1).unwrap();
        assert!(derived.export().is_none() && !derived.adopt(&exported));
    }

    #[test]
    fn hosts_with_the_same_secret_open_each_others_tickets_also_after_a_restart_and_a_clock_ahead() {
        let a = TicketKeys::from_secrets(vec![secret(1)], at(7200), HOUR, 1).unwrap();
        let b = TicketKeys::from_secrets(vec![secret(1)], at(7190), HOUR, 1).unwrap();
        let ticket = a.seal(b"head", b"body", at(7200)).unwrap();
        assert!(opens(&b, &ticket, 7190), "its clock still stands in the period before");
        assert!(opens(&b, &ticket, 7300));
        assert!(opens(&b, &ticket, 10_800));
        assert!(!opens(&b, &ticket, 14_400), "older than `keep` allows");
    }

    #[test]
    fn the_first_secret_seals_and_the_others_open() {
        let old = TicketKeys::from_secrets(vec![secret(1)], at(0), HOUR, 1).unwrap();
        let both = TicketKeys::from_secrets(vec![secret(2), secret(1)], at(0), HOUR, 1).unwrap();
        let new = TicketKeys::from_secrets(vec![secret(2)], at(0), HOUR, 1).unwrap();
        assert!(opens(&both, &old.seal(b"head", b"body", at(1)).unwrap(), 2));
        let ticket = both.seal(b"head", b"body", at(1)).unwrap();
        assert!(opens(&new, &ticket, 2));
        assert!(!opens(&old, &ticket, 2));
    }

    #[test]
    fn a_short_secret_is_none() {
        assert!(Secret::new(vec![7; 31]).is_none());
        assert!(Secret::new(vec![7; 32]).is_some());
    }
}
