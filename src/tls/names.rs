//! Names of suites, groups and schemes in the spellings that others expect: IANA, OpenSSL. Tables only.

use rustls::crypto::SupportedKxGroup;
use rustls::crypto::aws_lc_rs::{cipher_suite, kx_group};
use rustls::{CipherSuite, NamedGroup, SignatureScheme, SupportedCipherSuite};

/// A suite with its IANA name and its OpenSSL name.
type SuiteRow = (SupportedCipherSuite, &'static str, &'static str);

/// Every suite that we speak, in our default order.
///
/// AES-128-GCM with SHA-256 stands first: 128 bits are beyond reach, and the key schedule costs a handshake less with
/// SHA-256 than with SHA-384. ECDSA before RSA, because the ECDSA certificate is offered first.
pub(super) static SUITES: [SuiteRow; 9] = [
    (cipher_suite::TLS13_AES_128_GCM_SHA256, "TLS_AES_128_GCM_SHA256", "TLS_AES_128_GCM_SHA256"),
    (cipher_suite::TLS13_AES_256_GCM_SHA384, "TLS_AES_256_GCM_SHA384", "TLS_AES_256_GCM_SHA384"),
    (cipher_suite::TLS13_CHACHA20_POLY1305_SHA256, "TLS_CHACHA20_POLY1305_SHA256", "TLS_CHACHA20_POLY1305_SHA256"),
    (
        cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
        "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
        "ECDHE-ECDSA-AES128-GCM-SHA256",
    ),
    (
        cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
        "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
        "ECDHE-ECDSA-AES256-GCM-SHA384",
    ),
    (
        cipher_suite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
        "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
        "ECDHE-ECDSA-CHACHA20-POLY1305",
    ),
    (
        cipher_suite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
        "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
        "ECDHE-RSA-AES128-GCM-SHA256",
    ),
    (
        cipher_suite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
        "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384",
        "ECDHE-RSA-AES256-GCM-SHA384",
    ),
    (
        cipher_suite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
        "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256",
        "ECDHE-RSA-CHACHA20-POLY1305",
    ),
];

/// Key exchange groups that we speak; the first four are the default, in their order.
pub(super) static GROUPS: [(&'static dyn SupportedKxGroup, &str); 7] = [
    (kx_group::X25519MLKEM768, "X25519MLKEM768"),
    (kx_group::X25519, "X25519"),
    (kx_group::SECP256R1, "secp256r1"),
    (kx_group::SECP384R1, "secp384r1"),
    (kx_group::SECP256R1MLKEM768, "SecP256r1MLKEM768"),
    (kx_group::MLKEM768, "MLKEM768"),
    (kx_group::MLKEM1024, "MLKEM1024"),
];

/// How many of [`GROUPS`] a site has that names none.
pub(super) const GROUPS_DEFAULT: usize = 4;

/// The suite with this IANA (or OpenSSL) name.
pub(super) fn suite_by_name(name: &str) -> Option<SupportedCipherSuite> {
    SUITES.iter().find(|(_, iana, openssl)| *iana == name || *openssl == name).map(|(suite, ..)| *suite)
}

/// The group with this IANA name, any case; OpenSSL's `P-256` spelling is taken too.
pub(super) fn group_by_name(name: &str) -> Option<&'static dyn SupportedKxGroup> {
    let name = match name {
        "P-256" | "prime256v1" => "secp256r1",
        "P-384" => "secp384r1",
        other => other,
    };
    GROUPS.iter().find(|(_, iana)| iana.eq_ignore_ascii_case(name)).map(|(group, _)| *group)
}

/// IANA name of a suite that one of our connections uses.
pub(super) fn iana_cipher_name(suite: CipherSuite) -> &'static str {
    let row = SUITES.iter().find(|(ours, ..)| ours.suite() == suite);
    row.map_or_else(|| suite.as_str().unwrap_or("unknown"), |(_, iana, _)| iana)
}

/// What OpenSSL and HAProxy call the suite with this IANA name (PROXY v2 TLV 0x23); an unknown name is given back.
pub fn openssl_cipher_name(iana: &'static str) -> &'static str {
    SUITES.iter().find(|(_, name, _)| *name == iana).map_or(iana, |(.., openssl)| openssl)
}

/// IANA name of a key exchange group.
pub(super) fn group_name(group: NamedGroup) -> &'static str {
    let row = GROUPS.iter().find(|(ours, _)| ours.name() == group);
    row.map_or_else(|| group.as_str().unwrap_or("unknown"), |(_, iana)| iana)
}

/// IANA name of a signature scheme (RFC 8446 section 4.2.3), as PROXY v2 TLV 0x27 has it.
pub(super) fn scheme_name(scheme: SignatureScheme) -> &'static str {
    match scheme {
        SignatureScheme::RSA_PKCS1_SHA256 => "rsa_pkcs1_sha256",
        SignatureScheme::RSA_PKCS1_SHA384 => "rsa_pkcs1_sha384",
        SignatureScheme::RSA_PKCS1_SHA512 => "rsa_pkcs1_sha512",
        SignatureScheme::ECDSA_NISTP256_SHA256 => "ecdsa_secp256r1_sha256",
        SignatureScheme::ECDSA_NISTP384_SHA384 => "ecdsa_secp384r1_sha384",
        SignatureScheme::ECDSA_NISTP521_SHA512 => "ecdsa_secp521r1_sha512",
        SignatureScheme::RSA_PSS_SHA256 => "rsa_pss_rsae_sha256",
        SignatureScheme::RSA_PSS_SHA384 => "rsa_pss_rsae_sha384",
        SignatureScheme::RSA_PSS_SHA512 => "rsa_pss_rsae_sha512",
        SignatureScheme::ED25519 => "ed25519",
        SignatureScheme::ML_DSA_44 => "mldsa44",
        SignatureScheme::ML_DSA_65 => "mldsa65",
        SignatureScheme::ML_DSA_87 => "mldsa87",
        _ => "unknown",
    }
}

/// OpenSSL's long name of the algorithm that signed a certificate (PROXY v2 TLV 0x24).
pub(super) fn signature_algorithm_name(oid: &str) -> &'static str {
    match oid {
        "1.2.840.113549.1.1.5" => "RSA-SHA1",
        "1.2.840.113549.1.1.11" => "RSA-SHA256",
        "1.2.840.113549.1.1.12" => "RSA-SHA384",
        "1.2.840.113549.1.1.13" => "RSA-SHA512",
        "1.2.840.113549.1.1.10" => "RSASSA-PSS",
        "1.2.840.10045.4.3.2" => "ecdsa-with-SHA256",
        "1.2.840.10045.4.3.3" => "ecdsa-with-SHA384",
        "1.2.840.10045.4.3.4" => "ecdsa-with-SHA512",
        "1.3.101.112" => "ED25519",
        "2.16.840.1.101.3.4.3.17" => "ML-DSA-44",
        "2.16.840.1.101.3.4.3.18" => "ML-DSA-65",
        "2.16.840.1.101.3.4.3.19" => "ML-DSA-87",
        _ => "UNDEF",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_suite_is_found_under_both_of_its_names_and_named_back() {
        for (suite, iana, openssl) in &SUITES {
            assert_eq!(suite_by_name(iana).map(|s| s.suite()), Some(suite.suite()));
            assert_eq!(suite_by_name(openssl).map(|s| s.suite()), Some(suite.suite()));
            assert_eq!(iana_cipher_name(suite.suite()), *iana);
            assert_eq!(openssl_cipher_name(iana), *openssl);
        }
        assert!(suite_by_name("TLS_RSA_WITH_RC4_128_MD5").is_none());
    }

    #[test]
    fn every_group_is_found_by_its_name_and_named_back() {
        for (group, iana) in &GROUPS {
            assert_eq!(group_by_name(iana).map(|g| g.name()), Some(group.name()));
            assert_eq!(group_name(group.name()), *iana);
        }
        assert_eq!(group_by_name("P-256").map(|g| g.name()), Some(NamedGroup::secp256r1));
        assert!(group_by_name("sect571r1").is_none());
    }

    #[test]
    fn our_table_of_suites_misses_none_that_rustls_has() {
        for suite in rustls::crypto::aws_lc_rs::ALL_CIPHER_SUITES {
            assert!(SUITES.iter().any(|(ours, ..)| ours.suite() == suite.suite()), "{:?}", suite.suite());
        }
    }
}
