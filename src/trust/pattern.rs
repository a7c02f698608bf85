//! `*` and `**` in `dns` and `uri` rules.
//!
//! A wildcard stands only for what a careful issuer writes: one label of a host name, whole path segments that no
//! reader could take for something else (`..`, `%2f`, an empty one). An odd name can still be named exactly.

use super::text;
use crate::config::limits;

/// A pattern over DNS names, without regard to case.
#[derive(Debug)]
pub(super) struct DnsPattern {
    written: String,
}

impl DnsPattern {
    pub(super) fn new(pattern: &str) -> Result<DnsPattern, String> {
        let odd = |label: &str| label.is_empty() || (label.contains('*') && label != "*");
        if !pattern.is_ascii() || pattern.split('.').any(odd) {
            return Err(format!(
                "`{}` is not a DNS name; write labels with dots between, and `*` only for one whole label",
                text::short(pattern)
            ));
        }
        Ok(DnsPattern { written: pattern.to_ascii_lowercase() })
    }

    pub(super) fn written(&self) -> &str {
        &self.written
    }

    pub(super) fn matches(&self, name: &[u8]) -> bool {
        let mut labels = name.split(|byte| *byte == b'.');
        let mut wanted = self.written.split('.');
        loop {
            match (wanted.next(), labels.next()) {
                (None, None) => return true,
                (Some("*"), Some(label)) if is_host_label(label) => {}
                (Some(wanted), Some(label)) if wanted != "*" && wanted.as_bytes().eq_ignore_ascii_case(label) => {}
                _ => return false,
            }
        }
    }
}

/// Letters, digits, hyphens and the underscore; a `*` of a wildcard certificate is none of them.
fn is_host_label(label: &[u8]) -> bool {
    !label.is_empty() && label.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
}

/// A pattern over URIs: exact but for whole path segments.
#[derive(Debug)]
pub(super) struct UriPattern {
    written: String,
    /// Length of what stands before the path: scheme and authority.
    path_at: usize,
    wild: bool,
}

impl UriPattern {
    pub(super) fn new(pattern: &str) -> Result<UriPattern, String> {
        let path_at = path_at(pattern.as_bytes());
        let (head, path) = pattern.split_at(path_at);
        let wild = |segment: &str| segment == "*" || segment == "**";
        if head.contains('*') || path.split('/').any(|segment| segment.contains('*') && !wild(segment)) {
            return Err(format!(
                "`{}`: `*` and `**` stand only for whole segments of a URI's path",
                text::short(pattern)
            ));
        }
        Ok(UriPattern { written: pattern.to_owned(), path_at, wild: path.split('/').any(wild) })
    }

    pub(super) fn written(&self) -> &str {
        &self.written
    }

    pub(super) fn matches(&self, uri: &[u8]) -> bool {
        if !self.wild {
            return self.written.as_bytes() == uri;
        }
        let (head, path) = self.written.as_bytes().split_at(self.path_at);
        // A query or fragment is no path: only an exact rule can mean such a URI.
        if uri.len() > limits::URI_MATCHED_BYTES_MAX || uri.iter().any(|byte| matches!(byte, b'?' | b'#')) {
            return false;
        }
        if uri.len() < head.len() || path_at(uri) != head.len() {
            return false;
        }
        let (uri_head, uri_path) = uri.split_at(head.len());
        uri_head == head && segments_match(&segments(path), &segments(uri_path))
    }
}

fn segments(path: &[u8]) -> Vec<&[u8]> {
    path.split(|byte| *byte == b'/').collect()
}

/// Where the path of a URI begins: the first `/` behind the authority, or behind the scheme where there is none
/// (RFC 3986 section 3: the first colon ends the scheme, and an authority stands only right behind it).
fn path_at(uri: &[u8]) -> usize {
    let colon = uri.iter().position(|byte| *byte == b':');
    let authority = colon.map_or(0, |at| if uri[at + 1..].starts_with(b"//") { at + 3 } else { at + 1 });
    uri[authority..].iter().position(|byte| *byte == b'/').map_or(uri.len(), |at| authority + at)
}

/// Whether the segments match, going back to the last `**` on a mismatch: no more than pattern times path comparisons.
fn segments_match(pattern: &[&[u8]], path: &[&[u8]]) -> bool {
    let (mut p, mut s) = (0, 0);
    let mut retry: Option<(usize, usize)> = None;
    while s < path.len() {
        match pattern.get(p) {
            Some(&b"**") => {
                retry = Some((p, s));
                p += 1;
                continue;
            }
            Some(&b"*") if is_plain_segment(path[s]) => (p, s) = (p + 1, s + 1),
            Some(literal) if *literal != b"*" && *literal == path[s] => (p, s) = (p + 1, s + 1),
            _ => match retry {
                // The `**` takes one segment more, if it is one that a wildcard may stand for.
                Some((star, taken)) if is_plain_segment(path[taken]) => {
                    retry = Some((star, taken + 1));
                    (p, s) = (star + 1, taken + 1);
                }
                _ => return false,
            },
        }
    }
    pattern[p..].iter().all(|rest| *rest == b"**")
}

/// A segment that every reader takes the same way: RFC 3986 `pchar`s, not `.` or `..`, no escape of a separator, a dot
/// or a control character.
fn is_plain_segment(segment: &[u8]) -> bool {
    if segment.is_empty() || segment == b"." || segment == b".." {
        return false;
    }
    let mut bytes = segment.iter();
    while let Some(byte) = bytes.next() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b':' | b'@' => {}
            b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b',' | b';' | b'=' => {}
            b'%' => {
                let digit = |byte: Option<&u8>| byte.and_then(|byte| char::from(*byte).to_digit(16));
                let (Some(high), Some(low)) = (digit(bytes.next()), digit(bytes.next())) else { return false };
                let meant = high * 16 + low;
                if meant <= 0x20 || meant == 0x7f || b"/.\\%?#".iter().any(|byte| u32::from(*byte) == meant) {
                    return false;
                }
            }
            _ => return false,
        }
    }
    true
}

/// An email address in comparable form: the domain has no case, the local part keeps its.
pub(super) fn fold_email(email: &str) -> String {
    match email.rsplit_once('@') {
        Some((local, domain)) => format!("{local}@{}", domain.to_ascii_lowercase()),
        None => email.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn dns(pattern: &str, name: &str) -> bool {
        DnsPattern::new(pattern).unwrap().matches(name.as_bytes())
    }

    fn uri(pattern: &str, name: &str) -> bool {
        UriPattern::new(pattern).unwrap().matches(name.as_bytes())
    }

    #[test]
    fn a_star_is_one_label_and_no_other_number() {
        assert!(dns("*.partners.example", "a.partners.example"));
        assert!(dns("*.Partners.example", "A.pARTNERS.EXAMPLE"));
        for other in [
            "partners.example",
            "a.b.partners.example",
            ".partners.example",
            "a.partners.example.",
            "apartners.example",
        ] {
            assert!(!dns("*.partners.example", other), "{other}");
        }
        assert!(dns("api.*.example", "api.eu.example"));
        assert!(!dns("api.*.example", "api.example"));
    }

    #[test]
    fn a_star_stands_for_no_wildcard_certificate_and_no_odd_bytes() {
        for odd in ["*.partners.example", "a\0.partners.example", "a b.partners.example", "ä.partners.example"] {
            assert!(!dns("*.partners.example", odd), "{odd:?}");
        }
        assert!(!dns("a.example", "a.example\0.evil.example"));
        assert!(!dns("a.example", "a.example\n"));
    }

    #[test]
    fn refuses_stars_that_are_not_whole_labels_or_segments() {
        for bad in ["a*.example", "**.example", "a..example", "", "bücher.example"] {
            assert!(DnsPattern::new(bad).is_err(), "{bad}");
        }
        for bad in ["spiffe://*/x", "spiffe://bank/a*", "sp*iffe://bank/x", "spiffe://bank/***"] {
            assert!(UriPattern::new(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn one_star_is_one_segment_two_are_any_number() {
        assert!(uri("spiffe://bank/payments/*", "spiffe://bank/payments/a"));
        assert!(!uri("spiffe://bank/payments/*", "spiffe://bank/payments"));
        assert!(!uri("spiffe://bank/payments/*", "spiffe://bank/payments/"));
        assert!(!uri("spiffe://bank/payments/*", "spiffe://bank/payments/a/b"));
        assert!(uri("spiffe://bank/payments/**", "spiffe://bank/payments"));
        assert!(uri("spiffe://bank/payments/**", "spiffe://bank/payments/a/b/c"));
        assert!(uri("spiffe://bank/**/batch", "spiffe://bank/batch"));
        assert!(uri("spiffe://bank/**/batch", "spiffe://bank/a/batch/b/batch"));
        assert!(!uri("spiffe://bank/**/batch", "spiffe://bank/a/batch/b"));
        assert!(uri("spiffe://bank/**/x/**/y", "spiffe://bank/1/x/2/x/3/y"));
    }

    #[test]
    fn a_wildcard_stands_for_nothing_that_a_reader_could_take_otherwise() {
        for path in [
            "a/../b", "..", ".", "a//b", "%2e%2e", "a%2Fb", "a%00", "a%", "a%zz", "a\0b", "a\\b", "a b", "a?x=/",
            "a#b", "ä",
        ] {
            let name = format!("spiffe://bank/payments/{path}");
            assert!(!uri("spiffe://bank/payments/**", &name), "{name:?}");
            assert!(!uri("spiffe://bank/payments/*", &name), "{name:?}");
            assert!(uri(&name.replace('*', "x"), &name), "exactly named: {name:?}");
        }
        assert!(uri("spiffe://bank/payments/*", "spiffe://bank/payments/a%C3%A4~b;c=1"));
    }

    #[test]
    fn scheme_and_authority_are_exact() {
        for other in [
            "spiffe://bank.evil/payments/a",
            "spiffe://bankx/payments/a",
            "SPIFFE://bank/payments/a",
            "x/payments/a",
            "https://bank/payments/a",
            "spiffe:/bank/payments/a",
        ] {
            assert!(!uri("spiffe://bank/payments/*", other), "{other}");
        }
        assert!(!uri("spiffe://bank/**", "spiffe://evil/spiffe://bank/x"));
        // The first colon ends the scheme: what looks like an authority further on is path.
        assert!(uri("a:/*/b", "a:/x/b"));
        assert!(uri("a:/*/b://c", "a:/x/b://c"));
        assert!(!uri("a:/*", "a:/x://c"));
        assert!(uri("urn:bank:client:7", "urn:bank:client:7"));
        assert!(!uri("urn:bank:client:7", "urn:bank:client:77"));
    }

    #[test]
    fn the_domain_of_an_email_has_no_case() {
        assert_eq!(fold_email("Ops@Bank.Example"), "Ops@bank.example");
        assert_ne!(fold_email("ops@bank.example"), fold_email("Ops@bank.example"));
    }

    proptest! {
        #[test]
        fn never_panics(pattern in ".{0,40}", name in proptest::collection::vec(any::<u8>(), 0..60)) {
            if let Ok(pattern) = DnsPattern::new(&pattern) {
                pattern.matches(&name);
            }
            if let Ok(pattern) = UriPattern::new(&pattern) {
                pattern.matches(&name);
            }
        }

        #[test]
        fn a_pattern_without_stars_matches_itself_alone(
            name in "spiffe://[a-z]{1,5}(/[a-z.%0-9]{1,3}){0,4}", other in "spiffe://[a-z]{1,5}(/[a-z.%0-9]{1,3}){0,4}",
        ) {
            let pattern = UriPattern::new(&name).unwrap();
            prop_assert!(pattern.matches(name.as_bytes()));
            prop_assert_eq!(pattern.matches(other.as_bytes()), name == other);
        }

        #[test]
        fn segments_match_as_the_plain_recursive_definition(
            pattern in proptest::collection::vec("[ab]|\\*|\\*\\*", 0..6), path in proptest::collection::vec("[ab]", 0..8),
        ) {
            fn plain(pattern: &[&[u8]], path: &[&[u8]]) -> bool {
                match (pattern.split_first(), path.split_first()) {
                    (None, None) => true,
                    (None, Some(_)) => false,
                    (Some((&b"**", rest)), None) => plain(rest, path),
                    (Some((&b"**", rest)), Some((_, tail))) => plain(rest, path) || plain(pattern, tail),
                    (Some(_), None) => false,
                    (Some((first, rest)), Some((head, tail))) => (*first == b"*" || first == head) && plain(rest, tail),
                }
            }
            let pattern: Vec<&[u8]> = pattern.iter().map(|s| s.as_bytes()).collect();
            let path: Vec<&[u8]> = path.iter().map(|s| s.as_bytes()).collect();
            prop_assert_eq!(segments_match(&pattern, &path), plain(&pattern, &path));
        }
    }
}
