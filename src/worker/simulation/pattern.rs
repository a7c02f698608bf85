//! Bytes that tell their place: what arrives can be held against what must have been sent, wherever it begins.

fn word(stream: u64, number: u64) -> [u8; 8] {
    let mixed = (stream ^ number.wrapping_mul(0x9e37_79b9_7f4a_7c15)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    (mixed ^ (mixed >> 29)).to_le_bytes()
}

/// `len` bytes from `at` on.
pub fn piece(stream: u64, at: u64, len: usize) -> Vec<u8> {
    let skipped = (at % 8) as usize;
    let mut bytes = Vec::with_capacity(len + 16);
    for number in (at / 8).. {
        if bytes.len() >= skipped + len {
            break;
        }
        bytes.extend_from_slice(&word(stream, number));
    }
    bytes.truncate(skipped + len);
    bytes.drain(..skipped);
    bytes
}

/// Where `bytes`, which came from place `at` on, differ from the stream.
pub fn first_difference(stream: u64, at: u64, bytes: &[u8]) -> Option<u64> {
    let right = piece(stream, at, bytes.len());
    if bytes == right {
        return None;
    }
    let wrong = bytes.iter().zip(&right).position(|(came, sent)| came != sent)?;
    Some(at + wrong as u64)
}
