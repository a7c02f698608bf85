//! Finds what the operator probably meant, for words that are not known.

/// The known word nearest to this one, if any is near enough to be a slip of the hand.
pub(super) fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let plain = plain(word);
    let slips_max = 1 + plain.chars().count() / 4;
    known
        .into_iter()
        .map(|candidate| (strsim::osa_distance(&plain, &self::plain(candidate)), candidate))
        .filter(|(distance, _)| *distance <= slips_max)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// Help for an unknown word: the nearest known one, or all of them.
pub(super) fn advice(word: &str, known: &[&str]) -> String {
    match nearest(word, known.iter().copied()) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("known: {}", known.join(", ")),
    }
}

/// Without what people spell in different ways. Long words are cut: a near miss of a known word is not that long,
/// and the comparison costs the product of both lengths.
fn plain(word: &str) -> String {
    const COMPARED_CHARS_MAX: usize = 64;
    word.chars().filter(|c| !matches!(c, '_' | '-' | ' ')).take(COMPARED_CHARS_MAX).collect::<String>().to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: &[&str] = &["drain_delay", "drain_timeout", "watch"];

    #[test]
    fn names_the_word_that_a_slip_of_the_hand_missed() {
        for slip in ["drain_timeut", "drain-timeout", "drainTimeout", "drain_tiemout"] {
            assert_eq!(nearest(slip, KNOWN.iter().copied()), Some("drain_timeout"), "{slip}");
        }
        assert_eq!(advice("wtach", KNOWN), "did you mean `watch`?");
    }

    #[test]
    fn lists_what_is_known_where_nothing_is_near() {
        assert_eq!(nearest("listener", KNOWN.iter().copied()), None);
        assert_eq!(advice("listener", KNOWN), "known: drain_delay, drain_timeout, watch");
    }
}
