//! The form of distinguished names as text (RFC 4514). Only whether it is one: `trust` makes of it what it compares.

use super::report::Problem;

/// Attribute types that may stand by name; others stand as their OID. Compared without case.
const KEYWORDS: &[&str] = &[
    "CN",
    "O",
    "OU",
    "C",
    "L",
    "ST",
    "S",
    "street",
    "DC",
    "UID",
    "E",
    "emailAddress",
    "serialNumber",
    "SN",
    "GN",
    "initials",
    "generationQualifier",
    "dnQualifier",
    "title",
    "description",
    "businessCategory",
    "postalCode",
    "pseudonym",
    "organizationIdentifier",
];

const WANTED: &str = "write it as \"CN=Partner Issuing CA,O=Bank,C=GB\"";

/// Whether the text is a name such as `CN=…,O=…,C=…`. Spaces around separators do not count, as tools differ in them.
pub(super) fn check(text: &str) -> Result<(), Problem> {
    if text.trim().is_empty() {
        return Err(Problem::new("is empty", WANTED));
    }
    if text.starts_with('/') {
        let turned: Vec<&str> = text.split('/').skip(1).collect::<Vec<_>>().into_iter().rev().collect();
        return Err(Problem::new("is in the form with slashes", format!("write {:?}", turned.join(","))));
    }
    split_unescaped(text, &[',', ';', '+']).into_iter().try_for_each(check_attribute)
}

fn check_attribute(text: &str) -> Result<(), Problem> {
    let Some((keyword, value)) = text.split_once('=') else {
        let help = format!("{WANTED}; a comma within a value is written \\,");
        return Err(Problem::new(format!("{:?} has no `=`", text.trim()), help));
    };
    let keyword = keyword.trim();
    if !KEYWORDS.iter().any(|known| known.eq_ignore_ascii_case(keyword)) && !super::rule::is_oid(keyword) {
        let help = "write CN, O, OU, C, L, ST, DC … or the OID of the attribute";
        return Err(Problem::new(format!("{keyword:?} is not a known attribute of a name"), help));
    }
    check_value(trim(value))
}

/// Quotes, escapes and hex, each whole.
fn check_value(text: &str) -> Result<(), Problem> {
    if let Some(digits) = text.strip_prefix('#') {
        return match hex::decode(digits) {
            Ok(der) if !der.is_empty() => Ok(()),
            _ => Err(Problem::new(format!("{text:?} is not DER in hex"), "write \\# for a value that begins with #")),
        };
    }
    let quoted = text.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = quoted.unwrap_or(text).as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        match byte {
            b'\\' => rest = unescape(rest, &mut bytes).ok_or_else(|| Problem::new("ends within an escape", WANTED))?,
            b'"' => return Err(Problem::new("has a quote within a value", "write it as \\\"")),
            _ => bytes.push(byte),
        }
    }
    if bytes.is_empty() {
        return Err(Problem::new("has an attribute without value", WANTED));
    }
    std::str::from_utf8(&bytes).map(drop).map_err(|_| Problem::new("has escapes that are not UTF-8", WANTED))
}

/// Two hex digits are a byte, anything else stands for itself. `None` where nothing follows.
fn unescape<'a>(rest: &'a [u8], bytes: &mut Vec<u8>) -> Option<&'a [u8]> {
    if let Some((pair, after)) = rest.split_at_checked(2)
        && let Ok(byte) = hex::decode(pair)
    {
        bytes.extend(byte);
        return Some(after);
    }
    let (byte, after) = rest.split_first()?;
    bytes.push(*byte);
    Some(after)
}

/// Cuts at separators that are neither escaped nor within quotes.
fn split_unescaped<'a>(text: &'a str, separators: &[char]) -> Vec<&'a str> {
    let (mut parts, mut start) = (Vec::new(), 0);
    let (mut escaped, mut quoted) = (false, false);
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => quoted = !quoted,
            _ if !quoted && separators.contains(&c) => {
                parts.push(&text[start..at]);
                start = at + c.len_utf8();
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    parts
}

/// Without spaces at both ends, an escaped one at the end kept.
fn trim(text: &str) -> &str {
    let text = text.trim_start_matches(' ');
    let short = text.trim_end_matches(' ');
    let backslashes = short.bytes().rev().take_while(|byte| *byte == b'\\').count();
    if backslashes % 2 == 1 && short.len() < text.len() { &text[..=short.len()] } else { short }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_the_usual_form_with_and_without_spaces() {
        for text in [
            "CN=Partner Issuing CA,O=Bank,C=GB",
            "cn = Partner Issuing CA , o = Bank; c=GB",
            "OU=Sales+CN=J.  Smith,DC=example",
            "2.5.4.97=PSDGB-1,organizationIdentifier=PSDGB-1",
            "CN=a=b",
        ] {
            assert_eq!(check(text), Ok(()), "{text}");
        }
    }

    #[test]
    fn takes_escapes_quotes_and_hex() {
        let texts = [
            r"O=Bank\, Ltd",
            r#"O="Bank, Ltd""#,
            r#"O="a\"b""#,
            r"CN=Lu\C4\8Di\C4\87",
            r"CN=a\ ",
            r"CN=a\\ ",
            "1.2.3=#04024869",
        ];
        for text in texts {
            assert_eq!(check(text), Ok(()), "{text}");
        }
    }

    #[test]
    fn refuses_what_is_not_a_name() {
        let texts = [
            "",
            " ",
            "Bank",
            "CN=",
            "CN=a,",
            ",CN=a",
            "XY=a",
            "=a",
            "CN=a,Bank",
            r"CN=a\",
            "CN=#zz",
            "CN=#",
            r#"CN=a"b"#,
            r#"CN="a"#,
            r#"CN="a\""#,
            r"CN=\ff",
            "CN= ",
        ];
        for text in texts {
            assert!(check(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn turns_the_form_with_slashes_round_in_its_advice() {
        let problem = check("/C=GB/O=Bank/CN=Issuing CA").unwrap_err();
        assert_eq!(problem.help.as_deref(), Some("write \"CN=Issuing CA,O=Bank,C=GB\""));
    }
}
