//! Distinguished names as text (RFC 4514): into attribute types and values, so that nobody compares them as text.

use super::report::Problem;

/// One attribute of a name. Several together, in one `Vec`, are a relative name of more than one attribute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attribute {
    /// Dotted decimal.
    pub oid: String,
    pub value: AttributeValue,
}

/// The value of an attribute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AttributeValue {
    /// Without escapes.
    Text(String),
    /// `#…`: the DER of the value.
    Der(Vec<u8>),
}

/// Keywords and their types. Keywords are compared without case.
const KEYWORDS: &[(&str, &str)] = &[
    ("CN", "2.5.4.3"),
    ("SN", "2.5.4.4"),
    ("surname", "2.5.4.4"),
    ("serialNumber", "2.5.4.5"),
    ("C", "2.5.4.6"),
    ("L", "2.5.4.7"),
    ("ST", "2.5.4.8"),
    ("S", "2.5.4.8"),
    ("street", "2.5.4.9"),
    ("O", "2.5.4.10"),
    ("OU", "2.5.4.11"),
    ("T", "2.5.4.12"),
    ("title", "2.5.4.12"),
    ("businessCategory", "2.5.4.15"),
    ("postalCode", "2.5.4.17"),
    ("GN", "2.5.4.42"),
    ("givenName", "2.5.4.42"),
    ("dnQualifier", "2.5.4.46"),
    ("organizationIdentifier", "2.5.4.97"),
    ("UID", "0.9.2342.19200300.100.1.1"),
    ("DC", "0.9.2342.19200300.100.1.25"),
    ("E", "1.2.840.113549.1.9.1"),
    ("emailAddress", "1.2.840.113549.1.9.1"),
];

const WANTED: &str = "write it as \"CN=Partner Issuing CA,O=Bank,C=GB\"";

/// Parses `CN=…,O=…,C=…`: relative names in the order of the text, which is the certificate's order turned round.
/// Spaces around separators do not count, as `openssl x509 -nameopt RFC2253` and older tools differ in them. The error
/// says what is wrong.
pub fn parse_distinguished_name(text: &str) -> Result<Vec<Vec<Attribute>>, String> {
    parse(text).map_err(|problem| problem.message)
}

pub(super) fn parse(text: &str) -> Result<Vec<Vec<Attribute>>, Problem> {
    if text.trim().is_empty() {
        return Err(Problem::new("is empty", WANTED));
    }
    if text.starts_with('/') {
        let turned: Vec<&str> = text.split('/').skip(1).collect::<Vec<_>>().into_iter().rev().collect();
        return Err(Problem::new("is in the form with slashes", format!("write {:?}", turned.join(","))));
    }
    let mut names = Vec::new();
    for relative in split_unescaped(text, &[',', ';']) {
        names.push(split_unescaped(relative, &['+']).into_iter().map(attribute).collect::<Result<Vec<_>, _>>()?);
    }
    Ok(names)
}

fn attribute(text: &str) -> Result<Attribute, Problem> {
    let Some((keyword, value)) = text.split_once('=') else {
        return Err(Problem::new(
            format!("{:?} has no `=`", text.trim()),
            format!("{WANTED}; a comma within a value is written \\,"),
        ));
    };
    Ok(Attribute { oid: oid_of(keyword.trim())?, value: value_of(value)? })
}

fn oid_of(keyword: &str) -> Result<String, Problem> {
    if let Some((_, oid)) = KEYWORDS.iter().find(|(known, _)| known.eq_ignore_ascii_case(keyword)) {
        return Ok((*oid).to_owned());
    }
    let dotted = keyword.strip_prefix("OID.").or_else(|| keyword.strip_prefix("oid.")).unwrap_or(keyword);
    if super::rule::is_oid(dotted) {
        return Ok(dotted.to_owned());
    }
    Err(Problem::new(
        format!("{keyword:?} is not a known attribute of a name"),
        "write CN, O, OU, C, L, ST, DC … or its OID",
    ))
}

/// Takes away quotes and escapes.
fn value_of(text: &str) -> Result<AttributeValue, Problem> {
    let trimmed = trim(text);
    if let Some(digits) = trimmed.strip_prefix('#') {
        let der = hex::decode(digits).ok().filter(|der| !der.is_empty());
        let der = der.ok_or_else(|| {
            Problem::new(format!("{trimmed:?} is not DER in hex"), "write \\# for a value that begins with #")
        })?;
        return Ok(AttributeValue::Der(der));
    }
    let quoted = trimmed.len() >= 2 && trimmed.starts_with('"') && trimmed.ends_with('"') && !trimmed.ends_with("\\\"");
    let plain = if quoted { &trimmed[1..trimmed.len() - 1] } else { trimmed };
    let mut bytes = Vec::with_capacity(plain.len());
    let mut rest = plain.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        match byte {
            b'\\' => rest = unescape(rest, &mut bytes).ok_or_else(|| Problem::new("ends within an escape", WANTED))?,
            b'"' => return Err(Problem::new("has a quote within a value", "write it as \\\"")),
            _ => bytes.push(byte),
        }
    }
    let value = String::from_utf8(bytes).map_err(|_| Problem::new("has escapes that are not UTF-8", WANTED))?;
    if value.is_empty() {
        return Err(Problem::new("has an attribute without value", WANTED));
    }
    Ok(AttributeValue::Text(value))
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

    fn texts(text: &str) -> Vec<Vec<(String, String)>> {
        let value = |attribute: Attribute| match attribute.value {
            AttributeValue::Text(value) => (attribute.oid, value),
            AttributeValue::Der(der) => (attribute.oid, format!("#{}", hex::encode(der))),
        };
        parse(text).unwrap().into_iter().map(|relative| relative.into_iter().map(value).collect()).collect()
    }

    #[test]
    fn reads_the_usual_form_with_and_without_spaces() {
        let plain = texts("CN=Partner Issuing CA,O=Bank,C=GB");
        assert_eq!(plain, texts("cn = Partner Issuing CA , o = Bank, c=GB"));
        assert_eq!(plain[0][0], ("2.5.4.3".to_owned(), "Partner Issuing CA".to_owned()));
        assert_eq!(plain.len(), 3);
    }

    #[test]
    fn takes_escapes_quotes_oids_and_several_attributes_in_one() {
        assert_eq!(texts(r"O=Bank\, Ltd")[0][0].1, "Bank, Ltd");
        assert_eq!(texts(r#"O="Bank, Ltd""#)[0][0].1, "Bank, Ltd");
        assert_eq!(texts(r"CN=Lu\C4\8Di\C4\87")[0][0].1, "Lučić");
        assert_eq!(texts(r"CN=a\ ")[0][0].1, "a ");
        assert_eq!(texts(r"CN=a\\ ")[0][0].1, "a\\");
        assert_eq!(texts("2.5.4.97=PSDGB-1")[0][0].0, texts("organizationIdentifier=PSDGB-1")[0][0].0);
        assert_eq!(texts("OU=Sales+CN=J.  Smith,DC=example")[0].len(), 2);
        assert_eq!(texts("1.3.6.1.4.1.1466.0=#04024869")[0][0].1, "#04024869");
    }

    #[test]
    fn refuses_what_is_not_a_name() {
        for text in [
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
            r"CN=\ff",
        ] {
            assert!(parse(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn turns_the_form_with_slashes_round_in_its_advice() {
        let problem = parse("/C=GB/O=Bank/CN=Issuing CA").unwrap_err();
        assert_eq!(problem.help.as_deref(), Some("write \"CN=Issuing CA,O=Bank,C=GB\""));
    }
}
