//! Bytes that tell their place: what arrives can be held against what must have been sent, wherever it begins.

/// The byte at a place of a stream.
fn byte(stream: u64, at: u64) -> u8 {
    (word(stream, at / 8) >> (at % 8 * 8)) as u8
}

fn word(stream: u64, number: u64) -> u64 {
    let mixed = (stream ^ number.wrapping_mul(0x9e37_79b9_7f4a_7c15)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed ^ (mixed >> 29)
}

/// `len` bytes from `at` on.
pub fn piece(stream: u64, at: u64, len: usize) -> Vec<u8> {
    (at..at + len as u64).map(|place| byte(stream, place)).collect()
}

/// Where `bytes`, which came from place `at` on, differ from the stream.
pub fn first_difference(stream: u64, at: u64, bytes: &[u8]) -> Option<u64> {
    let wrong = bytes.iter().zip(at..).find(|(came, place)| **came != byte(stream, *place));
    wrong.map(|(_, place)| place)
}
