//! A strict DER reader: what it accepts is what webpki accepts (definite, shortest lengths; low tags), so that the two
//! can never see different things in one certificate. Never panics, never copies.

/// The bytes are not DER, or not of the shape asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Malformed;

/// Tags that this module's parent reads.
pub(super) mod tag {
    pub const BOOLEAN: u8 = 0x01;
    pub const INTEGER: u8 = 0x02;
    pub const BIT_STRING: u8 = 0x03;
    pub const OCTET_STRING: u8 = 0x04;
    pub const OID: u8 = 0x06;
    pub const ENUMERATED: u8 = 0x0a;
    pub const UTF8_STRING: u8 = 0x0c;
    pub const NUMERIC_STRING: u8 = 0x12;
    pub const PRINTABLE_STRING: u8 = 0x13;
    pub const TELETEX_STRING: u8 = 0x14;
    pub const IA5_STRING: u8 = 0x16;
    pub const UTC_TIME: u8 = 0x17;
    pub const GENERALIZED_TIME: u8 = 0x18;
    pub const VISIBLE_STRING: u8 = 0x1a;
    pub const UNIVERSAL_STRING: u8 = 0x1c;
    pub const BMP_STRING: u8 = 0x1e;
    pub const SEQUENCE: u8 = 0x30;
    pub const SET: u8 = 0x31;

    /// `[n]`, primitive.
    pub const fn context(n: u8) -> u8 {
        0x80 | n
    }

    /// `[n]`, constructed.
    pub const fn constructed(n: u8) -> u8 {
        0xa0 | n
    }
}

/// One tagged value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Value<'a> {
    pub tag: u8,
    pub content: &'a [u8],
    /// Tag, length and content.
    pub whole: &'a [u8],
}

/// Reads one value after the other.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Reader<'a> {
        Reader { rest: bytes }
    }

    pub(super) fn at_end(&self) -> bool {
        self.rest.is_empty()
    }

    /// The tag of the next value, if there is one.
    pub(super) fn peek(&self) -> Option<u8> {
        self.rest.first().copied()
    }

    /// The next value, whatever it is.
    pub(super) fn any(&mut self) -> Result<Value<'a>, Malformed> {
        let (&tag, after_tag) = self.rest.split_first().ok_or(Malformed)?;
        if tag & 0x1f == 0x1f {
            return Err(Malformed);
        }
        let (&first, mut body) = after_tag.split_first().ok_or(Malformed)?;
        let length = if first < 0x80 {
            usize::from(first)
        } else {
            let digits = usize::from(first & 0x7f);
            if !(1..=4).contains(&digits) {
                return Err(Malformed);
            }
            let (length_bytes, after_length) = body.split_at_checked(digits).ok_or(Malformed)?;
            body = after_length;
            let length = length_bytes.iter().fold(0usize, |sum, byte| sum << 8 | usize::from(*byte));
            // The shortest form alone is DER.
            if length < 0x80 || (digits > 1 && length >> (8 * (digits - 1)) == 0) {
                return Err(Malformed);
            }
            length
        };
        let (content, rest) = body.split_at_checked(length).ok_or(Malformed)?;
        let whole = &self.rest[..self.rest.len() - rest.len()];
        self.rest = rest;
        Ok(Value { tag, content, whole })
    }

    /// The next value, which must have this tag.
    pub(super) fn expect(&mut self, tag: u8) -> Result<Value<'a>, Malformed> {
        let value = self.any()?;
        if value.tag == tag { Ok(value) } else { Err(Malformed) }
    }

    /// The next value if it has this tag.
    pub(super) fn optional(&mut self, tag: u8) -> Result<Option<Value<'a>>, Malformed> {
        if self.peek() == Some(tag) { self.any().map(Some) } else { Ok(None) }
    }

    /// Nothing may follow.
    pub(super) fn end(self) -> Result<(), Malformed> {
        if self.at_end() { Ok(()) } else { Err(Malformed) }
    }
}

/// The one value that fills these bytes, which must have this tag.
pub(super) fn only(bytes: &[u8], tag: u8) -> Result<Value<'_>, Malformed> {
    let mut reader = Reader::new(bytes);
    let value = reader.expect(tag)?;
    reader.end()?;
    Ok(value)
}

/// A BOOLEAN with DEFAULT FALSE. An explicit FALSE is not DER, but found in real certificates, and webpki takes it.
pub(super) fn default_false(reader: &mut Reader<'_>) -> Result<bool, Malformed> {
    match reader.optional(tag::BOOLEAN)?.map(|value| value.content) {
        None | Some([0x00]) => Ok(false),
        Some([0xff]) => Ok(true),
        Some(_) => Err(Malformed),
    }
}

/// A BIT STRING whose length is a multiple of eight.
pub(super) fn whole_bits(value: Value<'_>) -> Result<&[u8], Malformed> {
    match value.content.split_first() {
        Some((0, bits)) => Ok(bits),
        _ => Err(Malformed),
    }
}

/// A BIT STRING of flags: bit 0 of the standard is the highest bit of the answer.
pub(super) fn flags(value: Value<'_>) -> Result<u16, Malformed> {
    let (&unused, bits) = value.content.split_first().ok_or(Malformed)?;
    if unused > 7 || (bits.is_empty() && unused > 0) {
        return Err(Malformed);
    }
    if let Some(last) = bits.last()
        && last & ((1u16 << unused) - 1) as u8 != 0
    {
        return Err(Malformed);
    }
    let byte = |i: usize| u16::from(bits.get(i).copied().unwrap_or(0));
    Ok(byte(0) << 8 | byte(1))
}

/// An INTEGER as the shortest two's complement. Serial numbers are compared in this form: some issuers write needless
/// leading zeros in one place and not in the other.
pub(super) fn shortest_integer(mut content: &[u8]) -> &[u8] {
    while let [first, rest @ ..] = content
        && let Some(second) = rest.first()
        && ((*first == 0x00 && second & 0x80 == 0) || (*first == 0xff && second & 0x80 != 0))
    {
        content = rest;
    }
    content
}

/// An INTEGER that is not negative, without leading zeros: empty is zero.
pub(super) fn unsigned(content: &[u8]) -> Option<&[u8]> {
    match shortest_integer(content) {
        [] => None,
        [0x00, rest @ ..] => Some(rest),
        [first, ..] if first & 0x80 != 0 => None,
        shortest => Some(shortest),
    }
}

/// A small INTEGER that is not negative.
pub(super) fn small(content: &[u8]) -> Result<u64, Malformed> {
    let bytes = unsigned(content).ok_or(Malformed)?;
    if bytes.len() > 8 {
        return Err(Malformed);
    }
    Ok(bytes.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte)))
}

/// Seconds since the Unix epoch of a UTCTime or GeneralizedTime, to the second and in Z, as RFC 5280 section 4.1.2.5 has it.
pub(super) fn time(value: Value<'_>) -> Result<i64, Malformed> {
    let (year, rest) = match (value.tag, value.content.len()) {
        (tag::UTC_TIME, 13) => {
            let year = digits(&value.content[..2])?;
            (if year >= 50 { 1900 + year } else { 2000 + year }, &value.content[2..])
        }
        (tag::GENERALIZED_TIME, 15) => (digits(&value.content[..4])?, &value.content[4..]),
        _ => return Err(Malformed),
    };
    if rest[10] != b'Z' {
        return Err(Malformed);
    }
    let mut parts = [0i64; 5];
    for (part, pair) in parts.iter_mut().zip(rest[..10].chunks_exact(2)) {
        *part = digits(pair)?;
    }
    let [month, day, hour, minute, second] = parts;
    if !(1..=12).contains(&month) || !(1..=days_in(year, month)).contains(&day) {
        return Err(Malformed);
    }
    if hour > 23 || minute > 59 || second > 59 {
        return Err(Malformed);
    }
    Ok(days_since_epoch(year, month, day) * 86_400 + hour * 3_600 + minute * 60 + second)
}

fn digits(bytes: &[u8]) -> Result<i64, Malformed> {
    bytes.iter().try_fold(0, |sum, byte| match byte {
        b'0'..=b'9' => Ok(sum * 10 + i64::from(byte - b'0')),
        _ => Err(Malformed),
    })
}

fn days_in(year: i64, month: i64) -> i64 {
    match month {
        2 if (year % 4 == 0 && year % 100 != 0) || year % 400 == 0 => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days of the proleptic Gregorian calendar, counted in years that begin in March so that the leap day comes last.
fn days_since_epoch(year: i64, month: i64, day: i64) -> i64 {
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days_before_month = (153 * month + 2) / 5;
    365 * year + year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400) + days_before_month + day
        - 1
        - 719_468
}

/// An OBJECT IDENTIFIER as dotted decimal; `None` if it is not one.
pub(super) fn dotted(oid: &[u8]) -> Option<String> {
    let mut arcs: Vec<u128> = Vec::new();
    let mut arc: u128 = 0;
    let mut inside = false;
    for byte in oid {
        if !inside && *byte == 0x80 {
            return None;
        }
        // UUID arcs (2.25.…) have 128 bits; nothing longer is in use.
        arc = arc.checked_mul(128)? | u128::from(byte & 0x7f);
        inside = byte & 0x80 != 0;
        if inside {
            continue;
        }
        if arcs.is_empty() {
            let first = (arc / 40).min(2);
            arcs.push(first);
            arc -= first * 40;
        }
        arcs.push(arc);
        arc = 0;
    }
    if inside || arcs.is_empty() {
        return None;
    }
    Some(arcs.iter().map(u128::to_string).collect::<Vec<_>>().join("."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_the_shortest_length_and_refuses_a_longer_one() {
        assert_eq!(only(&[0x04, 0x01, 7], tag::OCTET_STRING).unwrap().content, [7]);
        for longer in [&[0x04, 0x81, 0x01, 7][..], &[0x04, 0x82, 0x00, 0x01, 7], &[0x04, 0x80, 7, 0, 0]] {
            assert_eq!(only(longer, tag::OCTET_STRING), Err(Malformed));
        }
        let mut long = vec![0x04, 0x81, 0x80];
        long.extend([1; 128]);
        assert_eq!(only(&long, tag::OCTET_STRING).unwrap().content.len(), 128);
    }

    #[test]
    fn refuses_what_is_cut_off_or_trails() {
        assert_eq!(only(&[0x04, 0x02, 7], tag::OCTET_STRING), Err(Malformed));
        assert_eq!(only(&[0x04, 0x01, 7, 0], tag::OCTET_STRING), Err(Malformed));
        assert_eq!(only(&[0x1f, 0x01, 7], 0x1f), Err(Malformed));
    }

    #[test]
    fn knows_dates_as_the_calendar_has_them() {
        let utc = |text: &[u8]| time(Value { tag: tag::UTC_TIME, content: text, whole: text });
        let general = |text: &[u8]| time(Value { tag: tag::GENERALIZED_TIME, content: text, whole: text });
        assert_eq!(utc(b"700101000000Z"), Ok(0));
        assert_eq!(utc(b"260228235959Z"), Ok(1_772_323_199));
        assert_eq!(general(b"20240229120000Z"), Ok(1_709_208_000));
        assert_eq!(utc(b"500101000000Z"), Ok(-631_152_000));
        assert_eq!(general(b"99991231235959Z"), Ok(253_402_300_799));
        for bad in [&b"230229120000Z"[..], b"231301000000Z", b"230101240000Z", b"2301010000Z", b"230101000000+0100"] {
            assert_eq!(utc(bad), Err(Malformed));
        }
    }

    #[test]
    fn serial_numbers_are_equal_as_integers_whatever_zeros_lead_them() {
        assert_eq!(shortest_integer(&[0, 0, 1]), [1]);
        assert_eq!(shortest_integer(&[0, 0x80]), [0, 0x80]);
        assert_eq!(shortest_integer(&[0xff, 0xff]), [0xff]);
        assert_eq!(unsigned(&[0, 0x80]), Some(&[0x80][..]));
        assert_eq!(unsigned(&[0]), Some(&[][..]));
        assert_eq!(unsigned(&[0x80]), None);
    }

    #[test]
    fn prints_object_identifiers_and_refuses_broken_ones() {
        assert_eq!(dotted(&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d]).as_deref(), Some("1.2.840.113549"));
        assert_eq!(dotted(&[0x88, 0x37, 0x03]).as_deref(), Some("2.999.3"));
        assert_eq!(dotted(&[0x2a, 0x80, 0x01]), None);
        assert_eq!(dotted(&[0x2a, 0x86]), None);
        assert_eq!(dotted(&[]), None);
        assert_eq!(dotted(&[0xff; 30]), None);
    }

    #[test]
    fn reads_flags_from_the_highest_bit() {
        let bits = |content: &'static [u8]| flags(Value { tag: tag::BIT_STRING, content, whole: content });
        assert_eq!(bits(&[1, 0x06]), Ok(0x0600));
        assert_eq!(bits(&[7, 0x80, 0x80]), Ok(0x8080));
        assert_eq!(bits(&[1, 0x07]), Err(Malformed));
        assert_eq!(bits(&[8, 0x00]), Err(Malformed));
    }
}
