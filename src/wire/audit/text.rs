//! Text in audit lines: bounded in its escaped length, and escaped beyond what JSON asks, because log readers break
//! lines and terminals change their state at characters that JSON lets through.

use crate::config::limits;
use serde::ser::{Serialize, SerializeSeq, Serializer};
use std::fmt::Write;
use std::time::{SystemTime, UNIX_EPOCH};
use time::OffsetDateTime;

/// What stands for the rest of a text that was cut.
const ELLIPSIS: char = '…';

/// Text of somebody's choosing, cut after [`limits::AUDIT_TEXT_BYTES_MAX`] escaped bytes.
#[derive(Clone, Copy)]
pub(super) enum Bounded<'a> {
    Text(&'a str),
    /// Not known to be UTF-8: other bytes are shown as `\xNN`.
    Bytes(&'a [u8]),
}

impl Serialize for Bounded<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Bounded::Text(text) => serialize_cut(text, limits::AUDIT_TEXT_BYTES_MAX, serializer),
            Bounded::Bytes(bytes) => serialize_cut(&readable(bytes), limits::AUDIT_TEXT_BYTES_MAX, serializer),
        }
    }
}

fn serialize_cut<S: Serializer>(text: &str, bytes_max: usize, serializer: S) -> Result<S::Ok, S::Error> {
    match fitting(text, bytes_max) {
        (whole, _) if whole.len() == text.len() => serializer.serialize_str(text),
        (part, _) => serializer.serialize_str(&format!("{part}{ELLIPSIS}")),
    }
}

/// The longest prefix of `text` whose escaped form has at most `bytes_max` bytes, and that form's length.
fn fitting(text: &str, bytes_max: usize) -> (&str, usize) {
    let mut used = 0;
    for (at, c) in text.char_indices() {
        let cost = escaped_bytes(c);
        if used + cost > bytes_max {
            return (&text[..at], used);
        }
        used += cost;
    }
    (text, used)
}

/// Bytes of one character in the line; never less than what the serializer writes.
fn escaped_bytes(c: char) -> usize {
    match c {
        '"' | '\\' => 2,
        c if c.is_ascii_control() || needs_escape(c) => 6,
        c => c.len_utf8(),
    }
}

/// Characters that JSON allows in a string and a log must not: DEL and C1 controls (NEL ends a line for many), the line
/// and paragraph separators, and those that turn the direction of what a terminal shows. All lie below U+10000, so that
/// one `\uXXXX` says them.
fn needs_escape(c: char) -> bool {
    matches!(c,
        '\u{7f}'..='\u{9f}'
        | '\u{61c}'
        | '\u{200b}'..='\u{200f}'
        | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{2069}'
        | '\u{feff}')
}

/// UTF-8 as it is, anything else as `\xNN`.
fn readable(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        for byte in chunk.invalid() {
            // Writing to a string cannot fail.
            let _ = write!(text, "\\x{byte:02x}");
        }
    }
    text
}

/// A list of texts, cut after [`limits::AUDIT_LIST_BYTES_MAX`] escaped bytes in all; `…` as the last element then.
pub(super) struct Texts<'a>(pub &'a [String]);

impl Serialize for Texts<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        // Two quotes and a comma each.
        const AROUND: usize = 3;
        let mut left = limits::AUDIT_LIST_BYTES_MAX;
        let mut seq = serializer.serialize_seq(None)?;
        for text in self.0 {
            let (part, used) = fitting(text, left.saturating_sub(AROUND));
            if part.len() < text.len() || left < AROUND {
                seq.serialize_element(&ELLIPSIS)?;
                break;
            }
            left -= used + AROUND;
            seq.serialize_element(text)?;
        }
        seq.end()
    }
}

/// JSON on one line, with the characters of [`needs_escape`] escaped too.
pub(super) struct LogFormatter;

impl serde_json::ser::Formatter for LogFormatter {
    fn write_string_fragment<W: ?Sized + std::io::Write>(
        &mut self,
        writer: &mut W,
        fragment: &str,
    ) -> std::io::Result<()> {
        let mut plain = 0;
        for (at, c) in fragment.char_indices().filter(|(_, c)| needs_escape(*c)) {
            writer.write_all(&fragment.as_bytes()[plain..at])?;
            write!(writer, "\\u{:04x}", u32::from(c))?;
            plain = at + c.len_utf8();
        }
        writer.write_all(&fragment.as_bytes()[plain..])
    }
}

/// A point in time, printed by RFC 3339 in UTC; `null` outside the years 0 to 9999.
pub(super) enum Moment {
    /// With six decimals.
    Micros(Option<OffsetDateTime>),
    /// Without.
    Seconds(Option<OffsetDateTime>),
}

impl From<SystemTime> for Moment {
    fn from(time: SystemTime) -> Self {
        let nanos = match time.duration_since(UNIX_EPOCH) {
            Ok(after) => i128::try_from(after.as_nanos()).ok(),
            Err(before) => i128::try_from(before.duration().as_nanos()).ok().map(|nanos| -nanos),
        };
        Moment::Micros(nanos.and_then(|nanos| OffsetDateTime::from_unix_timestamp_nanos(nanos).ok()))
    }
}

impl Moment {
    pub(super) fn from_unix_seconds(seconds: i64) -> Moment {
        Moment::Seconds(OffsetDateTime::from_unix_timestamp(seconds).ok())
    }
}

impl Serialize for Moment {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (Moment::Micros(time) | Moment::Seconds(time)) = self;
        let Some(time) = time.filter(|time| (0..=9999).contains(&time.year())) else {
            return serializer.serialize_none();
        };
        let (year, month, day) = (time.year(), u8::from(time.month()), time.day());
        let (hour, minute, second) = time.to_hms();
        let whole = format_args!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}");
        match self {
            Moment::Micros(_) => serializer.collect_str(&format_args!("{whole}.{:06}Z", time.microsecond())),
            Moment::Seconds(_) => serializer.collect_str(&format_args!("{whole}Z")),
        }
    }
}
