//! Kinds of keys, and their way to PEM and back.

use super::failure::PkiError;
use super::files;
use aws_lc_rs::signature::Ed25519KeyPair;
use clap::ValueEnum;
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_ED25519, PKCS_RSA_SHA256, RsaKeySize};
use rustls_pki_types::PrivatePkcs8KeyDer;
use std::path::Path;
use zeroize::Zeroizing;

/// A kind of key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum KeyType {
    P256,
    P384,
    Ed25519,
    Rsa2048,
    Rsa3072,
    Rsa4096,
}

/// A new key.
pub(super) fn generate(kind: KeyType) -> Result<KeyPair, PkiError> {
    let key = match kind {
        KeyType::P256 => KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?,
        KeyType::P384 => KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384)?,
        KeyType::Ed25519 => generate_ed25519()?,
        KeyType::Rsa2048 => KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048)?,
        KeyType::Rsa3072 => KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_3072)?,
        KeyType::Rsa4096 => KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_4096)?,
    };
    Ok(key)
}

/// In PKCS #8's first version: OpenSSL 3.0 cannot read the second one, which rcgen would write.
fn generate_ed25519() -> Result<KeyPair, PkiError> {
    let failed = |_| PkiError::from(rcgen::Error::KeyGenerationUnavailable);
    let document = Ed25519KeyPair::generate().and_then(|key| key.to_pkcs8v1()).map_err(failed)?;
    Ok(KeyPair::from_pkcs8_der_and_sign_algo(&PrivatePkcs8KeyDer::from(document.as_ref()), &PKCS_ED25519)?)
}

/// The key's file.
pub(super) fn to_pem(key: &KeyPair) -> Zeroizing<String> {
    Zeroizing::new(key.serialize_pem())
}

/// The key that a file holds.
pub(super) fn load(path: &Path) -> Result<KeyPair, PkiError> {
    let bytes = Zeroizing::new(files::read(path)?);
    std::str::from_utf8(&bytes).ok().and_then(|pem| KeyPair::from_pem(pem).ok()).ok_or_else(|| {
        PkiError::broken_file(path, "no private key", "restore the file, or make a new CA with pki init")
    })
}

/// So many bytes from the operating system's generator.
pub(super) fn random<const N: usize>() -> Result<[u8; N], PkiError> {
    let mut bytes = [0; N];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| PkiError::from(rcgen::Error::RingUnspecified))?;
    Ok(bytes)
}
