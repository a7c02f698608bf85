//! As much of a PROXY v2 header as is needed to know where it ends. What it says is for others to check.

/// The twelve bytes that every version 2 header starts with.
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
/// Signature, version and command, family, length.
const FIXED: usize = 16;

/// Where the header at the start of a connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Header {
    /// More bytes are needed.
    Partial,
    /// It takes this many bytes.
    Complete(usize),
    /// There is none.
    Absent,
}

/// Looks for the header at the start of `bytes`.
pub fn header(bytes: &[u8]) -> Header {
    let known = bytes.len().min(SIGNATURE.len());
    if bytes[..known] != SIGNATURE[..known] {
        return Header::Absent;
    }
    let Some(&[version_command, _, high, low]) = bytes.get(12..FIXED) else { return Header::Partial };
    if !matches!(version_command, 0x20 | 0x21) {
        return Header::Absent;
    }
    let length = FIXED + usize::from(u16::from_be_bytes([high, low]));
    if bytes.len() < length { Header::Partial } else { Header::Complete(length) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_ends_where_its_length_says_and_not_before() {
        let mut bytes = SIGNATURE.to_vec();
        bytes.extend_from_slice(&[0x21, 0x11, 0, 12]);
        bytes.extend_from_slice(&[9; 12]);
        for cut in 0..bytes.len() {
            assert_eq!(header(&bytes[..cut]), Header::Partial, "{cut}");
        }
        bytes.extend_from_slice(b"data");
        assert_eq!(header(&bytes), Header::Complete(28));
    }

    #[test]
    fn what_is_no_header_is_none_from_the_first_wrong_byte() {
        assert_eq!(header(b"G"), Header::Absent);
        assert_eq!(header(b"\r\n\r\n\0\r\nQUIT\n\x31\x11\0\0"), Header::Absent);
    }
}
