//! Signatures over CRLs, verified from a digest: a list of a million entries is hashed once, at load, and the first
//! client of its issuer costs a worker one public-key operation, not the reading of forty megabytes.
//!
//! Certificates are verified by webpki; what is accepted here is the same set of algorithms (no SHA-1, RSA from 2048 bits).

use super::der::{self, Reader, tag};
use aws_lc_rs::digest::{self, Digest};
use aws_lc_rs::signature::{self, UnparsedPublicKey, VerificationAlgorithm};
use rustls_pki_types::{AlgorithmIdentifier, SignatureVerificationAlgorithm, SubjectPublicKeyInfoDer, alg_id};
use webpki::RawPublicKeyEntity;

/// Something signed: what was signed (as its digest where the algorithm allows), and the signature.
#[derive(Debug)]
pub(super) struct Signed {
    algorithm: Box<[u8]>,
    signature: Box<[u8]>,
    what: What,
}

#[derive(Debug)]
enum What {
    Digest(Digest),
    /// EdDSA and ML-DSA sign the message itself.
    Message(Box<[u8]>),
}

/// An algorithm of the signature, the key it goes with, and the code that verifies the two.
type Row = (AlgorithmIdentifier, AlgorithmIdentifier, &'static dyn VerificationAlgorithm);

/// Algorithms whose signatures can be verified from a digest.
static DIGESTED: [Row; 18] = [
    (alg_id::ECDSA_SHA256, alg_id::ECDSA_P256, &signature::ECDSA_P256_SHA256_ASN1),
    (alg_id::ECDSA_SHA256, alg_id::ECDSA_P384, &signature::ECDSA_P384_SHA256_ASN1),
    (alg_id::ECDSA_SHA256, alg_id::ECDSA_P521, &signature::ECDSA_P521_SHA256_ASN1),
    (alg_id::ECDSA_SHA384, alg_id::ECDSA_P256, &signature::ECDSA_P256_SHA384_ASN1),
    (alg_id::ECDSA_SHA384, alg_id::ECDSA_P384, &signature::ECDSA_P384_SHA384_ASN1),
    (alg_id::ECDSA_SHA384, alg_id::ECDSA_P521, &signature::ECDSA_P521_SHA384_ASN1),
    (alg_id::ECDSA_SHA512, alg_id::ECDSA_P256, &signature::ECDSA_P256_SHA512_ASN1),
    (alg_id::ECDSA_SHA512, alg_id::ECDSA_P384, &signature::ECDSA_P384_SHA512_ASN1),
    (alg_id::ECDSA_SHA512, alg_id::ECDSA_P521, &signature::ECDSA_P521_SHA512_ASN1),
    (alg_id::RSA_PKCS1_SHA256, alg_id::RSA_ENCRYPTION, &signature::RSA_PKCS1_2048_8192_SHA256),
    (alg_id::RSA_PKCS1_SHA384, alg_id::RSA_ENCRYPTION, &signature::RSA_PKCS1_2048_8192_SHA384),
    (alg_id::RSA_PKCS1_SHA512, alg_id::RSA_ENCRYPTION, &signature::RSA_PKCS1_2048_8192_SHA512),
    (RSA_SHA256_NO_PARAMETERS, alg_id::RSA_ENCRYPTION, &signature::RSA_PKCS1_2048_8192_SHA256),
    (RSA_SHA384_NO_PARAMETERS, alg_id::RSA_ENCRYPTION, &signature::RSA_PKCS1_2048_8192_SHA384),
    (RSA_SHA512_NO_PARAMETERS, alg_id::RSA_ENCRYPTION, &signature::RSA_PKCS1_2048_8192_SHA512),
    (alg_id::RSA_PSS_SHA256, alg_id::RSA_ENCRYPTION, &signature::RSA_PSS_2048_8192_SHA256),
    (alg_id::RSA_PSS_SHA384, alg_id::RSA_ENCRYPTION, &signature::RSA_PSS_2048_8192_SHA384),
    (alg_id::RSA_PSS_SHA512, alg_id::RSA_ENCRYPTION, &signature::RSA_PSS_2048_8192_SHA512),
];

/// sha256WithRSAEncryption and its kin without the NULL that RFC 4055 demands: some issuers forget it.
const RSA_SHA256_NO_PARAMETERS: AlgorithmIdentifier =
    AlgorithmIdentifier::from_slice(&[6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 11]);
const RSA_SHA384_NO_PARAMETERS: AlgorithmIdentifier =
    AlgorithmIdentifier::from_slice(&[6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 12]);
const RSA_SHA512_NO_PARAMETERS: AlgorithmIdentifier =
    AlgorithmIdentifier::from_slice(&[6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 13]);

/// Algorithms that need the message.
static WHOLE: [&dyn SignatureVerificationAlgorithm; 4] = [
    webpki::aws_lc_rs::ED25519,
    webpki::aws_lc_rs::ML_DSA_44,
    webpki::aws_lc_rs::ML_DSA_65,
    webpki::aws_lc_rs::ML_DSA_87,
];

impl Signed {
    /// `algorithm` is the content of the AlgorithmIdentifier. `None`: an algorithm that is not accepted.
    pub(super) fn new(algorithm: &[u8], message: &[u8], signature: &[u8]) -> Option<Signed> {
        let what = match digest_of(algorithm) {
            Some(digest) => What::Digest(digest::digest(digest, message)),
            None if WHOLE.iter().any(|known| known.signature_alg_id().as_ref() == algorithm) => {
                What::Message(message.into())
            }
            None => return None,
        };
        Some(Signed { algorithm: algorithm.into(), signature: signature.into(), what })
    }

    /// Whether the holder of this key (a whole SubjectPublicKeyInfo) signed it.
    pub(super) fn is_by(&self, spki: &[u8]) -> bool {
        match &self.what {
            What::Digest(digest) => self.digest_is_by(digest, spki),
            What::Message(message) => verify(&WHOLE, spki, &self.algorithm, message, &self.signature).is_ok(),
        }
    }

    fn digest_is_by(&self, digest: &Digest, spki: &[u8]) -> bool {
        let Ok(outer) = der::only(spki, tag::SEQUENCE) else { return false };
        let mut reader = Reader::new(outer.content);
        let Ok(key_algorithm) = reader.expect(tag::SEQUENCE) else { return false };
        let Ok(key) = reader.expect(tag::BIT_STRING).and_then(der::whole_bits) else { return false };
        DIGESTED
            .iter()
            .filter(|(signature, key, _)| {
                signature.as_ref() == &*self.algorithm && key.as_ref() == key_algorithm.content
            })
            .any(|(_, _, algorithm)| {
                UnparsedPublicKey::new(*algorithm, key).verify_digest(digest, &self.signature).is_ok()
            })
    }
}

fn digest_of(algorithm: &[u8]) -> Option<&'static digest::Algorithm> {
    let sha256 = [alg_id::ECDSA_SHA256, alg_id::RSA_PKCS1_SHA256, alg_id::RSA_PSS_SHA256, RSA_SHA256_NO_PARAMETERS];
    let sha384 = [alg_id::ECDSA_SHA384, alg_id::RSA_PKCS1_SHA384, alg_id::RSA_PSS_SHA384, RSA_SHA384_NO_PARAMETERS];
    let sha512 = [alg_id::ECDSA_SHA512, alg_id::RSA_PKCS1_SHA512, alg_id::RSA_PSS_SHA512, RSA_SHA512_NO_PARAMETERS];
    let is_in = |list: &[AlgorithmIdentifier]| list.iter().any(|known| known.as_ref() == algorithm);
    match () {
        () if is_in(&sha256) => Some(&digest::SHA256),
        () if is_in(&sha384) => Some(&digest::SHA384),
        () if is_in(&sha512) => Some(&digest::SHA512),
        () => None,
    }
}

/// Verifies one signature over a message with whichever of these algorithms fits it and the key.
pub(super) fn verify(
    algorithms: &[&dyn SignatureVerificationAlgorithm],
    spki: &[u8],
    algorithm: &[u8],
    message: &[u8],
    signature: &[u8],
) -> Result<(), webpki::Error> {
    let spki = SubjectPublicKeyInfoDer::from(spki);
    let key = RawPublicKeyEntity::try_from(&spki)?;
    let mut error = webpki::Error::InvalidSignatureForPublicKey;
    for candidate in algorithms.iter().filter(|known| known.signature_alg_id().as_ref() == algorithm) {
        match key.verify_signature(*candidate, message, signature) {
            Err(mismatch @ webpki::Error::UnsupportedSignatureAlgorithmForPublicKeyContext(_)) => error = mismatch,
            result => return result,
        }
    }
    Err(error)
}
