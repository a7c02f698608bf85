//! Small forms of text that several answers have.

use std::time::SystemTime;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// To the second, in UTC: `2027-01-15T08:00:00Z`.
pub fn moment(at: SystemTime) -> String {
    let whole = OffsetDateTime::from(at).replace_nanosecond(0);
    whole.ok().and_then(|at| at.format(&Rfc3339).ok()).unwrap_or_else(|| "unknown".to_owned())
}

/// The longest beginning of `text` that has at most so many bytes.
pub fn beginning(text: &str, bytes_max: usize) -> &str {
    let mut end = bytes_max.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

/// At most so many bytes of `text`, and a mark where there was more.
pub fn cut(text: &str, bytes_max: usize) -> String {
    let part = beginning(text, bytes_max);
    if part.len() == text.len() { text.to_owned() } else { format!("{part}…") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_cut_between_characters() {
        assert_eq!(beginning("aé", 3), "aé");
        assert_eq!(beginning("aé", 2), "a");
        assert_eq!(beginning("é", 0), "");
    }
}
