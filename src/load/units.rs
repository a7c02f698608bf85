//! Durations, sizes and CPU lists as the command line writes them, and numbers as the report prints them.
//! The same spelling as the server's configuration, on code of its own.

use std::time::Duration;

use crate::load::limits;

/// `500us`, `250ms`, `5s`, `2m`, `12h`, and sums such as `1m30s`. A number without a unit is refused: it would be a guess.
pub fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is not a duration; write it like \"500ms\", \"10s\" or \"1m30s\"");
    let mut rest = text.trim();
    let mut total = Duration::ZERO;
    if rest.is_empty() {
        return Err(wrong());
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
        let number: u64 = rest[..digits].parse().map_err(|_| wrong())?;
        rest = &rest[digits..];
        let letters = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
        let micros = match &rest[..letters] {
            "us" => 1,
            "ms" => 1000,
            "s" => 1_000_000,
            "m" => 60_000_000,
            "h" => 3_600_000_000,
            _ => return Err(wrong()),
        };
        rest = &rest[letters..];
        let part = number.checked_mul(micros).ok_or_else(wrong)?;
        total = total.checked_add(Duration::from_micros(part)).ok_or_else(wrong)?;
    }
    if total > limits::DURATION_MAX {
        return Err(format!("{text} is longer than the longest run, 24h"));
    }
    Ok(total)
}

/// As [`duration`], and not zero.
pub fn duration_not_zero(text: &str) -> Result<Duration, String> {
    match duration(text)? {
        Duration::ZERO => Err("must be more than zero".to_owned()),
        some => Ok(some),
    }
}

/// `1024`, `64KiB`, `1MiB`; bytes.
pub fn size(text: &str) -> Result<usize, String> {
    let wrong = || format!("{text:?} is not a size; write it like \"1024\", \"64KiB\" or \"1MiB\"");
    let text = text.trim();
    let letters = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let number: u64 = text[..letters].parse().map_err(|_| wrong())?;
    let unit = match text[letters..].trim() {
        "" | "B" => 1,
        "KiB" => 1024,
        "MiB" => 1024 * 1024,
        "GiB" => 1024 * 1024 * 1024,
        _ => return Err(wrong()),
    };
    let bytes = number.checked_mul(unit).ok_or_else(wrong)?;
    if bytes == 0 || bytes > limits::SIZE_MAX {
        return Err(format!("{text} is out of range; 1 byte to 64MiB"));
    }
    usize::try_from(bytes).map_err(|_| wrong())
}

/// `0,2-5`: the CPUs that harness threads are pinned to, in this order.
pub fn cpus(text: &str) -> Result<Cpus, String> {
    let wrong = || format!("{text:?} is not a list of CPUs; write it like \"1\" or \"0,2-5\"");
    let mut list = Vec::new();
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let first: usize = first.trim().parse().map_err(|_| wrong())?;
        let last: usize = last.trim().parse().map_err(|_| wrong())?;
        if last < first || last >= 4096 {
            return Err(wrong());
        }
        list.extend(first..=last);
    }
    Ok(Cpus(list))
}

/// CPUs to pin threads to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cpus(pub Vec<usize>);

/// `--rate`: operations per second.
pub fn rate(text: &str) -> Result<f64, String> {
    let wrong = || format!("{text:?} is not a rate; write operations per second, such as \"500\" or \"0.5\"");
    let rate: f64 = text.parse().map_err(|_| wrong())?;
    if !rate.is_finite() || rate <= 0.0 || rate > limits::RATE_MAX {
        return Err(wrong());
    }
    Ok(rate)
}

/// The name that was probably meant.
pub fn nearest<'a>(name: &str, known: &[&'a str]) -> Option<&'a str> {
    let near = |one: &&str| strsim::jaro_winkler(&name.to_lowercase(), one);
    known.iter().copied().filter(|one| near(one) > 0.7).max_by(|a, b| near(a).total_cmp(&near(b)))
}

/// A length of time for people: three digits and the unit that fits.
pub fn micros(value: f64) -> String {
    match value {
        v if v < 1000.0 => format!("{v:.0} µs"),
        v if v < 1_000_000.0 => format!("{} ms", three_digits(v / 1000.0)),
        v => format!("{} s", three_digits(v / 1_000_000.0)),
    }
}

/// Bytes for people.
pub fn bytes(value: f64) -> String {
    match value.abs() {
        v if v < 1024.0 => format!("{value:.0} B"),
        v if v < 1024.0 * 1024.0 => format!("{} KiB", three_digits(value / 1024.0)),
        v if v < 1024.0 * 1024.0 * 1024.0 => format!("{} MiB", three_digits(value / 1024.0 / 1024.0)),
        _ => format!("{} GiB", three_digits(value / 1024.0 / 1024.0 / 1024.0)),
    }
}

/// A count for people, thousands apart.
pub fn count(value: u64) -> String {
    let digits = value.to_string();
    let mut text = String::new();
    for (i, c) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(c);
    }
    text
}

/// A value with about three digits that mean something.
pub fn three_digits(value: f64) -> String {
    match value.abs() {
        v if v < 10.0 => format!("{value:.2}"),
        v if v < 100.0 => format!("{value:.1}"),
        v if v < 10_000.0 => format!("{value:.0}"),
        _ => count(value.round() as u64),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_with_their_unit_and_refused_without() {
        assert_eq!(duration("500us").unwrap(), Duration::from_micros(500));
        assert_eq!(duration("1m30s").unwrap(), Duration::from_secs(90));
        assert_eq!(duration("0s").unwrap(), Duration::ZERO);
        for wrong in ["", "10", "s", "5 s", "-1s", "1d", "99999999999999999999s", "25h"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
        assert!(duration_not_zero("0s").is_err());
    }

    #[test]
    fn sizes_are_read_and_bounded() {
        assert_eq!(size("1024").unwrap(), 1024);
        assert_eq!(size("64KiB").unwrap(), 65536);
        assert_eq!(size("1MiB").unwrap(), 1 << 20);
        for wrong in ["", "0", "KiB", "1KB", "65MiB", "-5", "18446744073709551615MiB"] {
            assert!(size(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn cpu_lists_are_read_in_order() {
        assert_eq!(cpus("3,0-2").unwrap(), Cpus(vec![3, 0, 1, 2]));
        for wrong in ["", "a", "2-1", "1-", "0-99999999"] {
            assert!(cpus(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_rate_is_a_positive_number() {
        assert_eq!(rate("0.5").unwrap(), 0.5);
        for wrong in ["0", "-1", "NaN", "inf", "fast"] {
            assert!(rate(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn numbers_are_printed_for_people() {
        assert_eq!(micros(417.2), "417 µs");
        assert_eq!(micros(1_234.0), "1.23 ms");
        assert_eq!(bytes(6041.6), "5.90 KiB");
        assert_eq!(count(1_234_567), "1,234,567");
        assert_eq!(count(12), "12");
    }
}
