//! Names of cipher suites and groups, as operators write them, to the names that `tls` knows.

use super::model::TlsVersion;
use super::nearest::nearest;
use super::report::Problem;

/// A cipher suite that our provider has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Suite {
    pub iana: &'static str,
    openssl: &'static str,
    /// A suite belongs to one version only.
    pub version: TlsVersion,
}

const fn tls13(iana: &'static str) -> Suite {
    // OpenSSL took the IANA names for TLS 1.3.
    Suite { iana, openssl: iana, version: TlsVersion::Tls13 }
}

const fn tls12(iana: &'static str, openssl: &'static str) -> Suite {
    Suite { iana, openssl, version: TlsVersion::Tls12 }
}

const SUITES: &[Suite] = &[
    tls13("TLS_AES_256_GCM_SHA384"),
    tls13("TLS_AES_128_GCM_SHA256"),
    tls13("TLS_CHACHA20_POLY1305_SHA256"),
    tls12("TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384", "ECDHE-ECDSA-AES256-GCM-SHA384"),
    tls12("TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256", "ECDHE-ECDSA-AES128-GCM-SHA256"),
    tls12("TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256", "ECDHE-ECDSA-CHACHA20-POLY1305"),
    tls12("TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384", "ECDHE-RSA-AES256-GCM-SHA384"),
    tls12("TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", "ECDHE-RSA-AES128-GCM-SHA256"),
    tls12("TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256", "ECDHE-RSA-CHACHA20-POLY1305"),
];

/// A key exchange group: its name, whether TLS 1.2 can use it, and its other names.
struct Group {
    name: &'static str,
    versions: Versions,
    others: &'static [&'static str],
}

/// The protocol versions that a group is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Versions {
    Both,
    /// Those with ML-KEM.
    Tls13Only,
}

const GROUPS: &[Group] = &[
    Group { name: "X25519MLKEM768", versions: Versions::Tls13Only, others: &[] },
    Group { name: "X25519", versions: Versions::Both, others: &[] },
    Group { name: "secp256r1", versions: Versions::Both, others: &["P-256", "prime256v1"] },
    Group { name: "secp384r1", versions: Versions::Both, others: &["P-384"] },
    Group { name: "SecP256r1MLKEM768", versions: Versions::Tls13Only, others: &[] },
    Group { name: "MLKEM768", versions: Versions::Tls13Only, others: &[] },
    Group { name: "MLKEM1024", versions: Versions::Tls13Only, others: &[] },
];

/// The suite of this IANA or OpenSSL name, any case.
pub(super) fn suite(text: &str) -> Result<Suite, Problem> {
    let is = |suite: &&Suite| [suite.iana, suite.openssl].iter().any(|name| name.eq_ignore_ascii_case(text));
    SUITES.iter().find(is).copied().ok_or_else(|| {
        let names = SUITES.iter().flat_map(|suite| [suite.iana, suite.openssl]);
        let help = match nearest(text, names) {
            Some(near) => format!("did you mean {near:?}?"),
            None => format!("known: {}", SUITES.iter().map(|suite| suite.iana).collect::<Vec<_>>().join(", ")),
        };
        Problem::new(format!("{text:?} is not a cipher suite offered here"), help)
    })
}

/// The group of this name, any case, and the versions that can use it.
pub(super) fn group(text: &str) -> Result<(&'static str, Versions), Problem> {
    let is = |group: &&Group| {
        group.name.eq_ignore_ascii_case(text) || group.others.iter().any(|name| name.eq_ignore_ascii_case(text))
    };
    GROUPS.iter().find(is).map(|group| (group.name, group.versions)).ok_or_else(|| {
        let names: Vec<&str> = GROUPS.iter().map(|group| group.name).collect();
        Problem::new(format!("{text:?} is not a group offered here"), format!("known: {}", names.join(", ")))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustls::crypto::aws_lc_rs::{ALL_CIPHER_SUITES, ALL_KX_GROUPS};

    #[test]
    fn the_tables_hold_what_the_provider_has_and_nothing_else() {
        let ours = |suite: &&rustls::SupportedCipherSuite| {
            let name = format!("{:?}", suite.suite()).replace("TLS13_", "TLS_");
            SUITES.iter().any(|ours| ours.iana == name)
        };
        assert_eq!(ALL_CIPHER_SUITES.iter().filter(ours).count(), SUITES.len());
        assert_eq!(ALL_CIPHER_SUITES.len(), SUITES.len());
        for provided in ALL_KX_GROUPS {
            let name = format!("{:?}", provided.name());
            assert!(GROUPS.iter().any(|group| group.name.eq_ignore_ascii_case(&name)), "{name}");
        }
        assert_eq!(ALL_KX_GROUPS.len(), GROUPS.len());
    }

    #[test]
    fn takes_both_spellings_of_a_suite() {
        for (text, iana, version) in [
            ("TLS_AES_128_GCM_SHA256", "TLS_AES_128_GCM_SHA256", TlsVersion::Tls13),
            ("ECDHE-RSA-AES128-GCM-SHA256", "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", TlsVersion::Tls12),
            (
                "tls_ecdhe_ecdsa_with_chacha20_poly1305_sha256",
                "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
                TlsVersion::Tls12,
            ),
        ] {
            let suite = suite(text).unwrap();
            assert_eq!((suite.iana, suite.version), (iana, version));
        }
    }

    #[test]
    fn refuses_suites_that_no_connection_would_ever_use() {
        for text in [
            "",
            "TLS_RSA_WITH_AES_128_CBC_SHA",
            "DHE-RSA-AES256-GCM-SHA384",
            "HIGH",
            "ECDHE+AESGCM",
            "TLS_FALLBACK_SCSV",
        ] {
            assert!(suite(text).is_err(), "{text}");
        }
        let slip = suite("TLS_AES_128_GCM_SHA265").unwrap_err();
        assert_eq!(slip.help.as_deref(), Some("did you mean \"TLS_AES_128_GCM_SHA256\"?"));
    }

    #[test]
    fn takes_the_usual_names_of_a_group() {
        for (text, name) in [
            ("X25519MLKEM768", "X25519MLKEM768"),
            ("x25519", "X25519"),
            ("P-256", "secp256r1"),
            ("prime256v1", "secp256r1"),
            ("secp384r1", "secp384r1"),
            ("SECP256R1MLKEM768", "SecP256r1MLKEM768"),
        ] {
            assert_eq!(group(text).unwrap().0, name);
        }
        for text in ["", "secp521r1", "ffdhe2048", "X448"] {
            assert!(group(text).is_err(), "{text}");
        }
    }
}
