//! What the cryptography alone costs on this CPU, now: the floor that every handshake and every byte is a multiple of.

use std::hint::black_box;
use std::time::{Duration, Instant};

use aws_lc_rs::aead::{AES_128_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::agreement::{EphemeralPrivateKey, UnparsedPublicKey as PeerKey, X25519, agree_ephemeral};
use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::error::Unspecified;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1, ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair, UnparsedPublicKey,
};
use serde::Serialize;

use crate::load::{Refusal, drive, exit, limits};

/// Sizes that the AEAD and the hash are measured at: a short message, a request, a full record.
pub const SIZES: [usize; 3] = [64, 1024, 16 * 1024];

/// Microseconds of one operation of aws-lc: P-256, X25519, AES-128-GCM, SHA-256.
#[derive(Clone, Debug, Serialize)]
pub struct Floor {
    pub sign_us: f64,
    pub verify_us: f64,
    /// Making a key and agreeing with it.
    pub agree_us: f64,
    pub sizes: Vec<PerSize>,
}

/// Costs of a message of `bytes`.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct PerSize {
    pub bytes: usize,
    pub seal_us: f64,
    pub open_us: f64,
    pub hash_us: f64,
}

impl Floor {
    /// Measures on `cpu`, on a thread of its own; takes a fifth of a second.
    pub fn measure_on(cpu: usize) -> Result<Floor, Refusal> {
        let thread = std::thread::spawn(move || {
            drive::pin(cpu)?;
            Floor::measure()
                .map_err(|Unspecified| Refusal::new(exit::INTERNAL, "aws-lc refused its own keys, please report it"))
        });
        thread.join().unwrap_or_else(|_| Err(Refusal::new(exit::INTERNAL, "the measurement of the floor died")))
    }

    /// Measures here.
    pub fn measure() -> Result<Floor, Unspecified> {
        let random = SystemRandom::new();
        let document = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &random)?;
        let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, document.as_ref())?;
        // As long as what a CertificateVerify signs: 64 spaces, a context, a hash.
        let message = [5; 130];
        let signature = key.sign(&random, &message)?;
        let public = UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, key.public_key().as_ref());
        let peer = EphemeralPrivateKey::generate(&X25519, &random)?.compute_public_key()?;
        Ok(Floor {
            sign_us: micros(|| key.sign(&random, &message).map(drop))?,
            verify_us: micros(|| public.verify(&message, signature.as_ref()))?,
            agree_us: micros(|| {
                let own = EphemeralPrivateKey::generate(&X25519, &random)?;
                own.compute_public_key()?;
                agree_ephemeral(own, PeerKey::new(&X25519, peer.as_ref()), Unspecified, |_| Ok(()))
            })?,
            sizes: SIZES.iter().map(|bytes| sized(*bytes)).collect::<Result<_, _>>()?,
        })
    }

    /// The floor of a full handshake on the server's side: a signature made, the client's one verified, a key agreed. The
    /// chains' signatures are not in it: who has seen a chain may remember it.
    pub fn full_handshake(&self) -> f64 {
        self.sign_us + self.verify_us + self.agree_us
    }

    /// The floor of a resumed handshake.
    pub fn resumed_handshake(&self) -> f64 {
        self.agree_us
    }

    /// Opening and sealing a record of `bytes`, one of [`SIZES`].
    pub fn echo(&self, bytes: usize) -> f64 {
        self.of(bytes).map_or(0.0, |s| s.seal_us + s.open_us)
    }

    /// Milliseconds to seal a GiB in full records.
    pub fn seal_gib_ms(&self) -> f64 {
        self.of(16 * 1024).map_or(0.0, |s| s.seal_us * 65.536)
    }

    /// Milliseconds to open a GiB in full records.
    pub fn open_gib_ms(&self) -> f64 {
        self.of(16 * 1024).map_or(0.0, |s| s.open_us * 65.536)
    }

    fn of(&self, bytes: usize) -> Option<&PerSize> {
        self.sizes.iter().find(|s| s.bytes == bytes)
    }
}

fn sized(bytes: usize) -> Result<PerSize, Unspecified> {
    let key = LessSafeKey::new(UnboundKey::new(&AES_128_GCM, &[7; 16])?);
    let nonce = || Nonce::assume_unique_for_key([1; 12]);
    let mut plain = vec![3; bytes];
    let tag = key.seal_in_place_separate_tag(nonce(), Aad::empty(), &mut plain)?;
    let mut sealed = plain.clone();
    sealed.extend_from_slice(tag.as_ref());
    let mut buffer = sealed.clone();
    Ok(PerSize {
        bytes,
        seal_us: micros(|| key.seal_in_place_separate_tag(nonce(), Aad::empty(), &mut plain).map(drop))?,
        open_us: micros(|| {
            // What was opened is plaintext: the next one needs the ciphertext again, which costs little beside opening it.
            buffer.copy_from_slice(&sealed);
            key.open_in_place(nonce(), Aad::empty(), &mut buffer).map(drop)
        })?,
        hash_us: micros(|| {
            black_box(digest(&SHA256, black_box(&sealed[..bytes])));
            Ok(())
        })?,
    })
}

/// The tenth percentile of many short rows: what disturbs makes a row slower, never faster.
fn micros(mut operation: impl FnMut() -> Result<(), Unspecified>) -> Result<f64, Unspecified> {
    const ROW: u32 = 10;
    let (mut rows, end) = (Vec::new(), Instant::now() + limits::FLOOR_TIME);
    while rows.len() < 20 || (Instant::now() < end && rows.len() < 2000) {
        let begun = Instant::now();
        for _ in 0..ROW {
            operation()?;
        }
        rows.push(begun.elapsed());
    }
    rows.sort();
    let tenth: Duration = rows[rows.len() / 10];
    Ok(tenth.as_secs_f64() * 1e6 / f64::from(ROW))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_operation_costs_something_and_the_floors_are_their_sums() {
        let floor = Floor::measure().unwrap();
        assert!(floor.sign_us > 0.0 && floor.verify_us > 0.0 && floor.agree_us > 0.0, "{floor:?}");
        assert!(floor.sizes.iter().all(|s| s.seal_us > 0.0 && s.open_us > 0.0 && s.hash_us > 0.0), "{floor:?}");
        assert!(floor.full_handshake() > floor.resumed_handshake());
        assert!(floor.echo(1024) > 0.0 && floor.seal_gib_ms() > 0.0 && floor.open_gib_ms() > 0.0);
        assert_eq!(floor.echo(5), 0.0, "a size that was not measured has no floor");
    }
}
