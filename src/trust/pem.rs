//! PEM (RFC 7468) with line numbers, so that a fault can be found in a file of two hundred certificates.

use crate::config::limits;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// One block of a PEM file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Block {
    /// What stands behind BEGIN.
    pub label: String,
    pub der: Vec<u8>,
    /// Line of BEGIN, from 1.
    pub line: usize,
}

/// What is wrong with a PEM file, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct BadPem {
    pub line: usize,
    pub message: String,
}

const BEGIN: &[u8] = b"-----BEGIN ";
const END: &[u8] = b"-----END ";
const DASHES: &[u8] = b"-----";

/// Whether the bytes look like DER and not like text: they begin with a SEQUENCE.
pub(super) fn is_der(bytes: &[u8]) -> bool {
    bytes.first() == Some(&0x30) && !bytes.windows(BEGIN.len()).take(4096).any(|window| window == BEGIN)
}

/// All blocks of a PEM file. Text between blocks is a comment, as `openssl x509 -text` writes it.
pub(super) fn blocks(bytes: &[u8]) -> Result<Vec<Block>, BadPem> {
    let mut blocks = Vec::new();
    let mut open: Option<(String, usize, Vec<u8>)> = None;
    for (i, raw) in bytes.split(|byte| *byte == b'\n').enumerate() {
        let (line, text) = (i + 1, raw.trim_ascii());
        let bad = |message: String| Err(BadPem { line, message });
        if let Some(label) = marker(text, BEGIN) {
            if let Some((label, begun, _)) = open {
                return bad(format!("a new block begins, but {label} of line {begun} has no END line"));
            }
            open = Some((label, line, Vec::new()));
        } else if let Some(end) = marker(text, END) {
            match open.take() {
                Some((label, begun, base64)) if label == end => {
                    let der = STANDARD.decode(&base64).map_err(|error| BadPem {
                        line: begun,
                        message: format!("the base64 of this {label} is damaged ({error})"),
                    })?;
                    blocks.push(Block { label, der, line: begun });
                }
                Some((label, begun, _)) => return bad(format!("END {end} closes BEGIN {label} of line {begun}")),
                None => return bad(format!("END {end} without a BEGIN line before it")),
            }
            if blocks.len() > limits::PEM_BLOCKS_MAX {
                return bad(format!("more than {} blocks in one file", limits::PEM_BLOCKS_MAX));
            }
        } else if let Some((label, _, base64)) = &mut open {
            if !text.iter().all(|byte| byte.is_ascii_alphanumeric() || b"+/= \t\r".contains(byte)) {
                return bad(format!("this line of a {label} is not base64"));
            }
            base64.extend(text.iter().filter(|byte| !byte.is_ascii_whitespace()));
        }
    }
    match open {
        Some((label, line, _)) => {
            Err(BadPem { line, message: format!("this {label} has no END line: the file is cut off") })
        }
        None => Ok(blocks),
    }
}

/// The label of a BEGIN or END line.
fn marker(text: &[u8], prefix: &[u8]) -> Option<String> {
    let label = text.strip_prefix(prefix)?.strip_suffix(DASHES)?;
    let plain = label.len() <= 64 && label.iter().all(|byte| byte.is_ascii_graphic() || *byte == b' ');
    plain.then(|| String::from_utf8_lossy(label).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reads_blocks_with_their_lines_and_skips_comments() {
        let text = b"a comment\n-----BEGIN X-----\nAQ\n ID\r\n-----END X-----\r\nmore\n-----BEGIN Y Z-----\nBA==\n-----END Y Z-----";
        let blocks = blocks(text).unwrap();
        assert_eq!(blocks[0], Block { label: "X".into(), der: vec![1, 2, 3], line: 2 });
        assert_eq!(blocks[1], Block { label: "Y Z".into(), der: vec![4], line: 7 });
    }

    #[test]
    fn refuses_damage_and_names_the_line() {
        let line_of = |text: &str| blocks(text.as_bytes()).unwrap_err().line;
        assert_eq!(line_of("\n-----BEGIN X-----\nAQID\n"), 2);
        assert_eq!(line_of("-----BEGIN X-----\nAQ!D\n-----END X-----"), 2);
        assert_eq!(line_of("-----BEGIN X-----\nAQI\n-----END X-----"), 1);
        assert_eq!(line_of("-----BEGIN X-----\nAQID\n-----END Y-----"), 3);
        assert_eq!(line_of("-----BEGIN X-----\nAQID\n-----BEGIN X-----\n"), 3);
        assert_eq!(line_of("-----END X-----"), 1);
    }

    #[test]
    fn tells_der_from_text() {
        assert!(is_der(&[0x30, 0x82, 1, 2]));
        assert!(!is_der(b"-----BEGIN X-----"));
        assert!(!is_der(b"0 is a digit, and -----BEGIN X-----\n"));
        assert!(!is_der(b""));
    }

    proptest! {
        #[test]
        fn never_panics(text in "(-----(BEGIN|END) [A-Z]{0,3}-----|[A-Za-z+/=]{0,9}|\n){0,20}", bytes: Vec<u8>) {
            let _ = blocks(text.as_bytes());
            let _ = blocks(&bytes);
        }
    }
}
