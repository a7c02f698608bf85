//! Distinguished names: their RFC 4514 text, and the form in which two of them are compared.
//!
//! Paths are built on the raw bytes, as webpki does. Rules and blocks name issuers as text; there two names are the same
//! when their attributes are, in the same order, whatever string type carries a value and whatever its case and inner
//! spacing (RFC 5280 section 7.1 asks this of names; X.520 `caseIgnoreMatch`).

use super::der::{self, Malformed, Reader, Value, tag};
use super::text;
use crate::config::limits;
use std::borrow::Cow;

/// One `type=value`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Attribute<'a> {
    pub oid: &'a [u8],
    pub value: Value<'a>,
}

/// Types with a short name; the first name of a type is the one printed (as OpenSSL prints it), all are understood.
const TYPES: &[(&[u8], &str)] = &[
    (&[0x55, 4, 3], "CN"),
    (&[0x55, 4, 7], "L"),
    (&[0x55, 4, 8], "ST"),
    (&[0x55, 4, 8], "S"),
    (&[0x55, 4, 10], "O"),
    (&[0x55, 4, 11], "OU"),
    (&[0x55, 4, 6], "C"),
    (&[0x55, 4, 9], "street"),
    (&[0x09, 0x92, 0x26, 0x89, 0x93, 0xf2, 0x2c, 0x64, 1, 25], "DC"),
    (&[0x09, 0x92, 0x26, 0x89, 0x93, 0xf2, 0x2c, 0x64, 1, 1], "UID"),
    (&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 9, 1], "emailAddress"),
    (&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 9, 1], "E"),
    (&[0x55, 4, 5], "serialNumber"),
    (&[0x55, 4, 4], "SN"),
    (&[0x55, 4, 42], "GN"),
    (&[0x55, 4, 43], "initials"),
    (&[0x55, 4, 44], "generationQualifier"),
    (&[0x55, 4, 46], "dnQualifier"),
    (&[0x55, 4, 12], "title"),
    (&[0x55, 4, 13], "description"),
    (&[0x55, 4, 15], "businessCategory"),
    (&[0x55, 4, 17], "postalCode"),
    (&[0x55, 4, 65], "pseudonym"),
    (&[0x55, 4, 97], "organizationIdentifier"),
];

pub(super) const CN: &[u8] = &[0x55, 4, 3];
pub(super) const O: &[u8] = &[0x55, 4, 10];
pub(super) const OU: &[u8] = &[0x55, 4, 11];

/// The RDNs of a name, in the order of the encoding (least specific first). `name` is the content of its SEQUENCE. One
/// with more than `limits::NAME_ATTRIBUTES_MAX` attributes is refused.
pub(super) fn rdns(name: &[u8]) -> Result<Vec<Vec<Attribute<'_>>>, Malformed> {
    let mut reader = Reader::new(name);
    let mut all = Vec::new();
    let mut attributes = 0;
    while !reader.at_end() {
        let mut set = Reader::new(reader.expect(tag::SET)?.content);
        let mut rdn = Vec::with_capacity(1);
        while !set.at_end() {
            let mut pair = Reader::new(set.expect(tag::SEQUENCE)?.content);
            let oid = pair.expect(tag::OID)?.content;
            let value = pair.any()?;
            pair.end()?;
            rdn.push(Attribute { oid, value });
            attributes += 1;
            if attributes > limits::NAME_ATTRIBUTES_MAX {
                return Err(Malformed);
            }
        }
        if rdn.is_empty() {
            return Err(Malformed);
        }
        all.push(rdn);
    }
    Ok(all)
}

/// The characters of a DirectoryString or IA5String; `None` for other types and for bytes that its type does not allow.
pub(super) fn decode(value: Value<'_>) -> Option<Cow<'_, str>> {
    let bytes = value.content;
    match value.tag {
        tag::UTF8_STRING => std::str::from_utf8(bytes).ok().map(Cow::Borrowed),
        tag::PRINTABLE_STRING | tag::IA5_STRING | tag::NUMERIC_STRING | tag::VISIBLE_STRING => {
            if bytes.is_ascii() {
                std::str::from_utf8(bytes).ok().map(Cow::Borrowed)
            } else {
                None
            }
        }
        // T.61 by name, Latin-1 in fact: what issuers wrote and OpenSSL reads.
        tag::TELETEX_STRING => Some(bytes.iter().map(|byte| char::from(*byte)).collect::<String>().into()),
        tag::BMP_STRING => wide(bytes, 2),
        tag::UNIVERSAL_STRING => wide(bytes, 4),
        _ => None,
    }
}

fn wide(bytes: &[u8], width: usize) -> Option<Cow<'_, str>> {
    if !bytes.len().is_multiple_of(width) {
        return None;
    }
    let character = |unit: &[u8]| char::from_u32(unit.iter().fold(0, |sum, byte| sum << 8 | u32::from(*byte)));
    bytes.chunks_exact(width).map(character).collect::<Option<String>>().map(Cow::Owned)
}

/// RFC 4514 text, most specific RDN first. What cannot be decoded is printed as `#` and hex, as the RFC has it; a name
/// that is no name at all as `#` and the hex of all its bytes.
pub(super) fn print(name: &[u8]) -> String {
    let Ok(rdns) = rdns(name) else { return format!("#{}", hex::encode(name)) };
    let mut out = String::with_capacity(name.len());
    for (i, rdn) in rdns.iter().rev().enumerate() {
        if i > 0 {
            out.push(',');
        }
        for (j, attribute) in rdn.iter().enumerate() {
            if j > 0 {
                out.push('+');
            }
            print_attribute(attribute, &mut out);
        }
    }
    out
}

fn print_attribute(attribute: &Attribute<'_>, out: &mut String) {
    let known = TYPES.iter().find(|(oid, _)| *oid == attribute.oid);
    match known {
        Some((_, short)) => out.push_str(short),
        None => out.push_str(&der::dotted(attribute.oid).unwrap_or_else(|| "0.0".to_owned())),
    }
    out.push('=');
    match decode(attribute.value) {
        Some(value) if known.is_some() => print_value(&value, out),
        _ => {
            out.push('#');
            out.push_str(&hex::encode(attribute.value.whole));
        }
    }
}

fn print_value(value: &str, out: &mut String) {
    let last = value.chars().count().saturating_sub(1);
    for (i, c) in value.chars().enumerate() {
        match c {
            '"' | '+' | ',' | ';' | '<' | '>' | '\\' => {
                out.push('\\');
                out.push(c);
            }
            '#' if i == 0 => out.push_str("\\#"),
            ' ' if i == 0 || i == last => out.push_str("\\ "),
            _ => text::push_escaped(c, out),
        }
    }
}

/// A name in the form in which names are compared.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct NameKey {
    /// Least specific first; within an RDN sorted, for it is a set.
    rdns: Vec<Vec<(Vec<u8>, String)>>,
}

impl NameKey {
    /// From the content of a Name's SEQUENCE.
    pub(super) fn of_der(name: &[u8]) -> Option<NameKey> {
        let key = |attribute: &Attribute<'_>| (attribute.oid.to_vec(), folded_value(attribute.value));
        let rdns = rdns(name).ok()?.iter().map(|rdn| sorted(rdn.iter().map(key).collect())).collect();
        Some(NameKey { rdns })
    }

    /// From RFC 4514 text, most specific RDN first. Spaces around `,`, `+` and `=` do not count. `Err` says what is wrong.
    pub(super) fn of_text(written: &str) -> Result<NameKey, String> {
        let mut parser = Parser { rest: written };
        let mut rdns = Vec::new();
        loop {
            let mut rdn = Vec::new();
            let ended_by = loop {
                rdn.push(parser.attribute()?);
                match parser.next_char() {
                    Some('+') => {}
                    end => break end,
                }
            };
            rdns.push(sorted(rdn));
            match ended_by {
                Some(',' | ';') => {}
                _ => break,
            }
        }
        rdns.reverse();
        Ok(NameKey { rdns })
    }

    /// The same RDNs the other way round: how a name looks when somebody wrote it in the order of the encoding.
    pub(super) fn reversed(&self) -> NameKey {
        NameKey { rdns: self.rdns.iter().rev().cloned().collect() }
    }

    /// All but the common names; empty if nothing else is there.
    pub(super) fn without_cn(&self) -> NameKey {
        let keep = |rdn: &Vec<(Vec<u8>, String)>| rdn.iter().filter(|(oid, _)| oid != CN).cloned().collect::<Vec<_>>();
        NameKey { rdns: self.rdns.iter().map(keep).filter(|rdn| !rdn.is_empty()).collect() }
    }

    /// Whether an organization is named.
    pub(super) fn has_organization(&self) -> bool {
        self.rdns.iter().flatten().any(|(oid, _)| oid == O)
    }

    /// A canonical encoding, for digests.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        let mut part = |bytes: &[u8]| {
            out.extend((bytes.len() as u64).to_be_bytes());
            out.extend(bytes);
        };
        for rdn in &self.rdns {
            part(&(rdn.len() as u64).to_be_bytes());
            for (oid, value) in rdn {
                part(oid);
                part(value.as_bytes());
            }
        }
        out
    }
}

fn sorted(mut rdn: Vec<(Vec<u8>, String)>) -> Vec<(Vec<u8>, String)> {
    rdn.sort();
    rdn
}

fn folded_value(value: Value<'_>) -> String {
    match decode(value) {
        Some(text) => fold(&text),
        None => format!("#{}", hex::encode(value.whole)),
    }
}

/// Lower case, no spaces at the ends, runs of spaces as one. A leading `#` is doubled so that text never equals the hex
/// of an undecodable value.
fn fold(value: &str) -> String {
    let folded = value.split(' ').filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ").to_lowercase();
    if folded.starts_with('#') { format!("#{folded}") } else { folded }
}

/// Reads RFC 4514 text.
struct Parser<'a> {
    rest: &'a str,
}

impl Parser<'_> {
    fn next_char(&mut self) -> Option<char> {
        let c = self.rest.chars().next()?;
        self.rest = &self.rest[c.len_utf8()..];
        Some(c)
    }

    fn attribute(&mut self) -> Result<(Vec<u8>, String), String> {
        let (kind, after) = self
            .rest
            .split_once('=')
            .ok_or_else(|| format!("`{}` has no `=`; write CN=…,O=…,C=…", text::short(self.rest)))?;
        let oid = type_of(kind.trim())?;
        self.rest = after.trim_start_matches(' ');
        let value = match self.rest.chars().next() {
            Some('#') => self.hex_value()?,
            Some('"') => self.quoted_value()?,
            _ => self.plain_value()?,
        };
        Ok((oid, value))
    }

    /// `#` and the hex of a whole DER value.
    fn hex_value(&mut self) -> Result<String, String> {
        let end = self.rest.find([',', ';', '+']).unwrap_or(self.rest.len());
        let digits = self.rest[1..end].trim_end();
        let bytes = hex::decode(digits).map_err(|_| format!("`#{}` is not hex", text::short(digits)))?;
        self.rest = &self.rest[end..];
        let mut reader = Reader::new(&bytes);
        match (reader.any(), reader.at_end()) {
            (Ok(value), true) => Ok(folded_value(value)),
            _ => Err(format!("`#{}` is not a DER value", text::short(digits))),
        }
    }

    /// `"…"` of RFC 2253; inside only the backslash is special.
    fn quoted_value(&mut self) -> Result<String, String> {
        self.next_char();
        let mut bytes = Vec::new();
        loop {
            match self.next_char() {
                None => return Err("a quoted value has no closing quote".to_owned()),
                Some('"') => break,
                Some('\\') => self.escaped(&mut bytes)?,
                Some(c) => bytes.extend(c.encode_utf8(&mut [0; 4]).bytes()),
            }
        }
        self.rest = self.rest.trim_start_matches(' ');
        match self.rest.chars().next() {
            None | Some(',' | ';' | '+') => utf8(bytes).map(|value| fold(&value)),
            Some(_) => Err("text follows a quoted value".to_owned()),
        }
    }

    fn plain_value(&mut self) -> Result<String, String> {
        let mut bytes = Vec::new();
        while let Some(c) = self.rest.chars().next() {
            match c {
                ',' | ';' | '+' => break,
                '"' | '<' | '>' => return Err(format!("`{c}` must be written `\\{c}`")),
                _ => {}
            }
            self.next_char();
            match c {
                '\\' => self.escaped(&mut bytes)?,
                _ => bytes.extend(c.encode_utf8(&mut [0; 4]).bytes()),
            }
        }
        utf8(bytes).map(|value| fold(&value))
    }

    /// What follows a backslash: two hex digits of one byte, or the character itself.
    fn escaped(&mut self, bytes: &mut Vec<u8>) -> Result<(), String> {
        if let Some(pair) = self.rest.get(..2)
            && let Ok(byte) = hex::decode(pair)
        {
            bytes.extend(byte);
            self.rest = &self.rest[2..];
            return Ok(());
        }
        match self.next_char() {
            Some(c @ ('"' | '+' | ',' | ';' | '<' | '>' | '\\' | ' ' | '#' | '=')) => {
                bytes.push(c as u8);
                Ok(())
            }
            _ => Err("a backslash must be followed by two hex digits or one of \" + , ; < > \\ # =".to_owned()),
        }
    }
}

fn utf8(bytes: Vec<u8>) -> Result<String, String> {
    String::from_utf8(bytes).map_err(|_| "escaped bytes are not UTF-8".to_owned())
}

fn type_of(written: &str) -> Result<Vec<u8>, String> {
    if let Some((oid, _)) = TYPES.iter().find(|(_, short)| short.eq_ignore_ascii_case(written)) {
        return Ok(oid.to_vec());
    }
    let dotted = written.strip_prefix("OID.").or_else(|| written.strip_prefix("oid.")).unwrap_or(written);
    encode_oid(dotted).ok_or_else(|| {
        format!(
            "`{}` is not an attribute type that is known here; write CN, O, OU, C, … or its OID",
            text::short(written)
        )
    })
}

/// The content of an OBJECT IDENTIFIER from dotted decimal.
pub(super) fn encode_oid(dotted: &str) -> Option<Vec<u8>> {
    let mut arcs = dotted.split('.').map(|arc| {
        let plain = !arc.is_empty() && arc.bytes().all(|b| b.is_ascii_digit()) && (arc == "0" || !arc.starts_with('0'));
        if plain { arc.parse::<u128>().ok() } else { None }
    });
    let (first, second) = (arcs.next()??, arcs.next()??);
    if first > 2 || (first < 2 && second > 39) {
        return None;
    }
    let mut out = Vec::new();
    push_arc((first * 40).checked_add(second)?, &mut out);
    for arc in arcs {
        push_arc(arc?, &mut out);
    }
    Some(out)
}

fn push_arc(arc: u128, out: &mut Vec<u8>) {
    let start = out.len();
    let mut rest = arc;
    loop {
        out.push((rest & 0x7f) as u8 | if out.len() > start { 0x80 } else { 0 });
        rest >>= 7;
        if rest == 0 {
            break;
        }
    }
    out[start..].reverse();
}
