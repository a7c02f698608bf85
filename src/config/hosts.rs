//! Host names and patterns over names: what a site answers to, and what `dns` and `uri` rules match.
//!
//! A `*` stands for exactly one label or path segment and never for a part of one: a pattern that matched more than
//! it seems to would let somebody in.

use super::model::SiteName;
use super::report::Problem;
use std::net::IpAddr;

/// A name that a site answers to: exact, or `*.rest` for one label before `rest`.
pub(super) fn site_name(text: &str) -> Result<SiteName, Problem> {
    if text == "*" {
        return Err(Problem::new("\"*\" is no name", "leave `names` out for a site that takes every other name"));
    }
    refuse_address(text, "clients send no address as server name")?;
    match text.strip_prefix("*.") {
        Some(rest) => Ok(SiteName::Wildcard(host(rest)?)),
        None => Ok(SiteName::Exact(host(text)?)),
    }
}

/// A pattern over DNS names, in lower case: labels, of which any may be `*`.
pub(super) fn dns_pattern(text: &str) -> Result<String, Problem> {
    refuse_address(text, "write { ip = … } for an address")?;
    for label in text.split('.').filter(|label| *label != "*") {
        check_label(label, text)?;
    }
    check_length(text)?;
    Ok(text.to_ascii_lowercase())
}

/// A pattern over URIs: exact but for path segments that are `*` (one segment) or `**` (any number of segments).
pub(super) fn uri_pattern(text: &str) -> Result<String, Problem> {
    let Some((scheme, rest)) = text.split_once(':') else {
        return Err(Problem::new(
            format!("{text:?} has no scheme"),
            "write the whole URI, such as \"spiffe://bank.example/payments\"",
        ));
    };
    let scheme_ok = scheme.starts_with(|c: char| c.is_ascii_alphabetic())
        && scheme.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.'));
    if !scheme_ok {
        return Err(format!("{scheme:?} is not the scheme of a URI").into());
    }
    if let Some(odd) = text
        .chars()
        .find(|c| !c.is_ascii_graphic() || matches!(c, '"' | '<' | '>' | '\\' | '^' | '`' | '{' | '|' | '}'))
    {
        return Err(Problem::new(
            format!("{odd:?} cannot stand in a URI"),
            "write it percent-encoded, as the certificate has it",
        ));
    }
    let (authority, path) = match rest.strip_prefix("//") {
        Some(rest) => rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len())),
        None => ("", rest),
    };
    let (path, query) = path.split_at(path.find(['?', '#']).unwrap_or(path.len()));
    if authority.contains('*') {
        return Err("a `*` cannot stand in the authority of a URI, only in its path".into());
    }
    if query.contains('*') {
        return Err("a `*` cannot stand in the query or fragment of a URI, only in its path".into());
    }
    if let Some(segment) = path.split('/').find(|segment| segment.contains('*') && !matches!(*segment, "*" | "**")) {
        let help = "write `*` for one whole segment or `**` for any number of them";
        return Err(Problem::new(format!("the `*` in the segment {segment:?} is not the whole of it"), help));
    }
    if !query.is_empty() && path.contains('*') {
        let help = "a URI with one is only matched exactly; leave it out, or write the path without `*`";
        return Err(Problem::new("a `*` cannot stand before a query or fragment", help));
    }
    if !rest.starts_with("//") && !path.starts_with('/') && path.contains('*') {
        return Err("a `*` needs a URI with a path that begins with a slash".into());
    }
    Ok(text.to_owned())
}

fn refuse_address(text: &str, help: &str) -> Result<(), Problem> {
    let bare = text.trim_start_matches('[').trim_end_matches(']');
    if bare.parse::<IpAddr>().is_ok() {
        return Err(Problem::new(format!("{text:?} is an address, not a DNS name"), help));
    }
    Ok(())
}

/// A host name without wildcards, in lower case.
fn host(text: &str) -> Result<String, Problem> {
    for label in text.split('.') {
        check_label(label, text)?;
    }
    check_length(text)?;
    Ok(text.to_ascii_lowercase())
}

fn check_label(label: &str, text: &str) -> Result<(), Problem> {
    const LABEL_BYTES_MAX: usize = 63;
    if text.ends_with('.') && !text.trim_end_matches('.').is_empty() {
        let help = format!("write \"{}\"", text.trim_end_matches('.'));
        return Err(Problem::new(format!("{text:?} ends with a dot"), help));
    }
    if !text.is_ascii() {
        return Err(Problem::new(format!("{text:?} is not in ASCII"), "write the name in its xn-- form"));
    }
    if label.contains('*') {
        let help = "a `*` stands for one whole label: write \"*.bank.example\"";
        return Err(Problem::new(format!("the `*` of {text:?} cannot stand there"), help));
    }
    if label.is_empty() || label.len() > LABEL_BYTES_MAX {
        return Err(format!("{text:?} has a label that is empty or longer than {LABEL_BYTES_MAX} bytes").into());
    }
    let odd = |c: char| !(c.is_ascii_alphanumeric() || c == '-' || c == '_');
    if label.contains(odd) || label.starts_with('-') || label.ends_with('-') {
        return Err(format!("{text:?} is not a DNS name").into());
    }
    Ok(())
}

fn check_length(text: &str) -> Result<(), Problem> {
    const NAME_BYTES_MAX: usize = 253;
    if text.len() > NAME_BYTES_MAX {
        return Err(format!("the name is longer than {NAME_BYTES_MAX} bytes").into());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn site_names_are_exact_or_one_label_wild_and_become_lower_case() {
        assert_eq!(site_name("API.Bank.Example"), Ok(SiteName::Exact("api.bank.example".into())));
        assert_eq!(site_name("*.Bank.example"), Ok(SiteName::Wildcard("bank.example".into())));
        assert_eq!(site_name("localhost"), Ok(SiteName::Exact("localhost".into())));
        assert_eq!(site_name("a_b.example"), Ok(SiteName::Exact("a_b.example".into())));
    }

    #[test]
    fn refuses_site_names_that_no_client_could_send() {
        let long_label = format!("{}.example", "a".repeat(64));
        let long_name = vec!["a".repeat(60); 5].join(".");
        for text in [
            "",
            "*",
            "*.",
            ".",
            "a..b",
            ".a",
            "a.",
            "*.*.example",
            "a.*.example",
            "*a.example",
            "**.example",
            "a b",
            "a/b",
            "-a.example",
            "a-.example",
            "bücher.example",
            "127.0.0.1",
            "::1",
            "[::1]",
            "a.example:443",
            &long_label,
            &long_name,
        ] {
            assert!(site_name(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_star_in_a_dns_pattern_is_one_whole_label() {
        for text in ["*.partners.example", "api.*.example", "*.*.example", "exact.example", "*"] {
            assert_eq!(dns_pattern(text), Ok(text.to_owned()));
        }
        assert_eq!(dns_pattern("*.Partners.EXAMPLE"), Ok("*.partners.example".to_owned()));
        for text in
            ["", "*partners.example", "p*.example", "**.example", "a.example.", "10.0.0.1", "a..b", "naïve.example"]
        {
            assert!(dns_pattern(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_star_in_a_uri_pattern_is_a_whole_segment_of_the_path() {
        for text in [
            "spiffe://bank.example/payments/*",
            "spiffe://bank.example/**",
            "spiffe://bank.example/*/ns/**/sa",
            "https://bank.example",
            "https://bank.example/a?b=c",
            "urn:uuid:f81d4fae-7dec-11d0-a765-00a0c91e6bf6",
        ] {
            assert_eq!(uri_pattern(text), Ok(text.to_owned()));
        }
    }

    #[test]
    fn refuses_a_star_that_would_match_more_than_it_seems_to() {
        for text in [
            "spiffe://*/payments",
            "spiffe://bank.*/payments",
            "sp*://bank.example/a",
            "*://bank.example/a",
            "spiffe://bank.example/pay*",
            "spiffe://bank.example/***",
            "spiffe://bank.example/a/*b",
            "spiffe://bank.example*",
            "https://bank.example/a?b=*",
            "https://bank.example/a#*",
            "https://bank.example?*",
            "https://bank.example/*?b=c",
            "spiffe://bank.example/**#x/y",
            "urn:*",
            "urn:a:*",
            "*",
            "/payments/*",
            "",
            ":x",
            "1a://x/y",
            "spiffe://bank.example/a b",
            "spiffe://bank.example/ä",
        ] {
            assert!(uri_pattern(text).is_err(), "{text:?}");
        }
    }
}
