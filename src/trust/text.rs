//! How what a stranger wrote is printed: no control characters, nothing that turns the reading direction, bounded.

use crate::config::limits;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// Appends one character, or `\` and the hex of its UTF-8 bytes where it could forge a line or hide text.
pub(super) fn push_escaped(c: char, out: &mut String) {
    if !is_treacherous(c) {
        out.push(c);
        return;
    }
    let mut buffer = [0; 4];
    for byte in c.encode_utf8(&mut buffer).bytes() {
        push_hex(byte, out);
    }
}

/// Appends `\` and two hex digits.
pub(super) fn push_hex(byte: u8, out: &mut String) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    out.push('\\');
    out.push(char::from(DIGITS[usize::from(byte >> 4)]));
    out.push(char::from(DIGITS[usize::from(byte & 15)]));
}

/// Control characters, line and paragraph separators, marks that turn the reading direction or have no width.
fn is_treacherous(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// Bytes that should be ASCII (a SAN): what is not printable ASCII, and the backslash, becomes `\` and hex, so that two
/// different values never print alike.
pub(super) fn ascii(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len());
    for byte in bytes {
        match byte {
            b'\\' => push_hex(*byte, &mut out),
            0x20..=0x7e => out.push(char::from(*byte)),
            _ => push_hex(*byte, &mut out),
        }
    }
    out
}

/// The whole text, escaped.
pub(super) fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    text.chars().for_each(|c| push_escaped(c, &mut out));
    out
}

/// For a detail: escaped, at most `limits::REASON_DETAIL_BYTES_MAX` bytes.
pub(super) fn detail(text: &str) -> String {
    cut(text, limits::REASON_DETAIL_BYTES_MAX)
}

/// A name inside a detail: escaped, at most `limits::REASON_NAME_BYTES_MAX` bytes, so that what to do still fits behind it.
pub(super) fn short(text: &str) -> String {
    cut(text, limits::REASON_NAME_BYTES_MAX)
}

fn cut(text: &str, bytes_max: usize) -> String {
    const MARK: char = '…';
    let mut out = String::with_capacity(text.len().min(bytes_max));
    let mut one = String::new();
    for c in text.chars() {
        one.clear();
        push_escaped(c, &mut one);
        if out.len() + one.len() > bytes_max - MARK.len_utf8() {
            out.push(MARK);
            break;
        }
        out.push_str(&one);
    }
    out
}

/// A moment in RFC 3339, such as `2026-02-28T23:59:59Z`.
pub(super) fn date(seconds: i64) -> String {
    OffsetDateTime::from_unix_timestamp(seconds)
        .ok()
        .and_then(|moment| moment.format(&Rfc3339).ok())
        .unwrap_or_else(|| format!("{seconds} seconds from 1970"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_forges_a_line_or_turns_the_reading_comes_through() {
        assert_eq!(detail("a\nb\u{202e}c\0d\u{2028}e\u{7f}"), "a\\0ab\\e2\\80\\aec\\00d\\e2\\80\\a8e\\7f");
        assert_eq!(detail("Bürö 東京"), "Bürö 東京");
    }

    #[test]
    fn details_are_bounded_and_cut_between_characters() {
        let cut = detail(&"東".repeat(10_000));
        assert!(cut.len() <= limits::REASON_DETAIL_BYTES_MAX && cut.ends_with('…'));
        assert!(short(&"\n".repeat(10_000)).len() <= limits::REASON_NAME_BYTES_MAX);
    }

    #[test]
    fn two_different_values_never_print_alike() {
        assert_ne!(ascii(b"a\0"), ascii(b"a\\00"));
        assert_eq!(ascii(b"a\0"), "a\\00");
        assert_eq!(ascii(b"\xc3\xbc"), "\\c3\\bc");
    }

    #[test]
    fn prints_moments_as_rfc_3339() {
        assert_eq!(date(1_772_323_199), "2026-02-28T23:59:59Z");
        assert_eq!(date(i64::MAX), "9223372036854775807 seconds from 1970");
    }
}
