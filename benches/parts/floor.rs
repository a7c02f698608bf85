//! The floor: what the cryptography alone costs on this CPU, by the library that TLS uses. A handshake and a byte are read as
//! multiples of these, measured in the same run.

use std::hint::black_box;

use aws_lc_rs::aead::{AES_128_GCM, AES_256_GCM, Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::agreement::{self, EphemeralPrivateKey, UnparsedPublicKey as PeerKey, X25519};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1, ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair, UnparsedPublicKey,
};
use aws_lc_rs::{digest, hmac};
use criterion::{BenchmarkId, Criterion, Throughput};

/// One full handshake signs once, verifies once or (without a chain cache) once more for each certificate, and agrees once.
pub fn handshake(criterion: &mut Criterion) {
    let random = SystemRandom::new();
    let document = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &random).expect("a key");
    let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, document.as_ref()).expect("the same key");
    let message = [5u8; 130];
    let signature = key.sign(&random, &message).expect("a signature");
    let public = UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, key.public_key().as_ref());
    let peer =
        EphemeralPrivateKey::generate(&X25519, &random).expect("a key").compute_public_key().expect("its public half");

    let mut group = criterion.benchmark_group("floor");
    group.bench_function("sign_p256", |b| b.iter(|| key.sign(&random, black_box(&message)).expect("a signature")));
    group.bench_function("verify_p256", |b| {
        b.iter(|| public.verify(black_box(&message), signature.as_ref()).expect("good"))
    });
    group.bench_function("agree_x25519", |b| {
        b.iter(|| {
            let own = EphemeralPrivateKey::generate(&X25519, &random).expect("a key");
            let share = own.compute_public_key().expect("its public half");
            let peer = PeerKey::new(&X25519, peer.as_ref());
            agreement::agree_ephemeral(own, peer, (), |secret| Ok::<u8, ()>(secret[0])).expect("a secret");
            share
        })
    });
    for (name, algorithm) in [("sha256", &digest::SHA256), ("sha384", &digest::SHA384)] {
        group.bench_function(BenchmarkId::new(name, 1024), |b| {
            b.iter(|| digest::digest(algorithm, black_box(&[1; 1024])))
        });
    }
    for (name, algorithm) in [("hmac_sha256", hmac::HMAC_SHA256), ("hmac_sha384", hmac::HMAC_SHA384)] {
        let key = hmac::Key::new(algorithm, &[3; 32]);
        group.bench_function(name, |b| b.iter(|| hmac::sign(&key, black_box(&[1; 64]))));
    }
    group.finish();
}

/// Sealing and opening records.
pub fn records(criterion: &mut Criterion) {
    let algorithms =
        [("aes128gcm", &AES_128_GCM), ("aes256gcm", &AES_256_GCM), ("chacha20poly1305", &CHACHA20_POLY1305)];
    let mut group = criterion.benchmark_group("floor/seal");
    for (name, algorithm) in algorithms {
        let key = LessSafeKey::new(UnboundKey::new(algorithm, &[9; 32][..algorithm.key_len()]).expect("a key"));
        for size in [64usize, 1024, 16 * 1024] {
            let mut record = vec![1u8; size];
            group.throughput(Throughput::Bytes(size as u64));
            group.bench_function(BenchmarkId::new(name, size), |b| {
                b.iter(|| {
                    let nonce = Nonce::assume_unique_for_key([0; 12]);
                    key.seal_in_place_separate_tag(nonce, Aad::from([0u8; 5]), black_box(&mut record)).expect("sealed")
                })
            });
        }
    }
    group.finish();
}
