//! Forms of single values that have nothing to do with networks or certificates: durations, sizes, CPU lists, names.

use super::limits;
use super::report::Problem;
use std::time::Duration;

/// `"500ms"`, `"5s"`, `"10m"`, `"12h"`, `"30d"`, and several from large to small: `"1h30m"`.
pub(super) fn duration(text: &str) -> Result<Duration, Problem> {
    // Milliseconds of each unit, in the order that they may follow each other.
    const UNITS: [(&str, u64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)];
    let too_long = || {
        let days = limits::DURATION_MAX.as_secs() / 86400;
        Problem::new(format!("{text:?} is too long"), format!("write at most \"{days}d\""))
    };
    let mut rest = text;
    let mut milliseconds: u64 = 0;
    let mut units = &UNITS[..];
    while !rest.is_empty() {
        let (digits, after) = rest.split_at(rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len()));
        let (unit, after) = after.split_at(after.find(|c: char| c.is_ascii_digit()).unwrap_or(after.len()));
        if digits.is_empty() {
            return Err(format!("{text:?} is not a duration").into());
        }
        if unit.is_empty() {
            return Err(format!("{text:?} has no unit (ms, s, m, h or d)").into());
        }
        let Some(at) = units.iter().position(|(name, _)| *name == unit) else {
            return Err(if UNITS.iter().any(|(name, _)| *name == unit) {
                Problem::new(
                    format!("{text:?} repeats its units or has them in disorder"),
                    "write \"1h30m\", not \"30m1h\"",
                )
            } else {
                format!("{text:?} has the unit {unit:?}, and there are ms, s, m, h and d").into()
            });
        };
        let amount =
            digits.parse::<u64>().ok().and_then(|count| count.checked_mul(units[at].1)).ok_or_else(too_long)?;
        milliseconds = milliseconds.checked_add(amount).ok_or_else(too_long)?;
        units = &units[at + 1..];
        rest = after;
    }
    if text.is_empty() {
        return Err("is empty".into());
    }
    let duration = Duration::from_millis(milliseconds);
    if duration > limits::DURATION_MAX { Err(too_long()) } else { Ok(duration) }
}

/// `"4096"`, `"4096B"`, `"64KiB"`, `"1MiB"`, `"1GiB"`.
pub(super) fn size(text: &str) -> Result<u64, Problem> {
    let (digits, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()));
    if digits.is_empty() {
        return Err(format!("{text:?} is not a size").into());
    }
    let shift = match unit {
        "" | "B" => 0,
        "KiB" => 10,
        "MiB" => 20,
        "GiB" => 30,
        _ => return Err(format!("{text:?} has the unit {unit:?}, and there are B, KiB, MiB and GiB").into()),
    };
    let count = digits.parse::<u64>().ok();
    count.and_then(|count| count.checked_mul(1 << shift)).ok_or_else(|| format!("{text:?} is too large").into())
}

/// `"0,2-5"`: sorted, each CPU once.
pub(super) fn cpus(text: &str) -> Result<Vec<usize>, Problem> {
    let mut cpus = std::collections::BTreeSet::new();
    for part in text.split(',') {
        let part = part.trim();
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (cpu(first)?, cpu(last)?);
        if first > last {
            return Err(format!("the range {part:?} runs backwards").into());
        }
        for number in first..=last {
            if !cpus.insert(number) {
                return Err(format!("CPU {number} stands twice in {text:?}").into());
            }
        }
    }
    Ok(cpus.into_iter().collect())
}

fn cpu(text: &str) -> Result<usize, Problem> {
    // `parse` alone would take a plus sign.
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(format!("{text:?} is not the number of a CPU").into());
    }
    match text.parse::<usize>() {
        Ok(number) if number <= limits::CPU_NUMBER_MAX => Ok(number),
        _ => Err(format!("CPU {text} is past the highest, {}", limits::CPU_NUMBER_MAX).into()),
    }
}

/// The operator's name for something: it will stand in logs, labels and commands.
pub(super) fn name(text: &str) -> Result<&str, Problem> {
    if text.is_empty() {
        return Err("is empty".into());
    }
    if text.len() > limits::NAME_BYTES_MAX {
        return Err(format!("is longer than {} bytes", limits::NAME_BYTES_MAX).into());
    }
    if text.trim() != text {
        return Err("begins or ends with a space".into());
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_units_alone_or_from_large_to_small() {
        for (text, milliseconds) in [
            ("0s", 0),
            ("500ms", 500),
            ("5s", 5000),
            ("10m", 600_000),
            ("12h", 43_200_000),
            ("30d", 2_592_000_000),
            ("1h30m", 5_400_000),
            ("1d2h3m4s5ms", 93_784_005),
            ("3650d", 315_360_000_000),
        ] {
            assert_eq!(duration(text), Ok(Duration::from_millis(milliseconds)), "{text}");
        }
    }

    #[test]
    fn refuses_durations_that_are_not_sure_to_mean_one_thing() {
        for text in [
            "",
            "5",
            "s",
            "-5s",
            "+5s",
            "1.5h",
            "5 s",
            " 5s",
            "5S",
            "5sec",
            "30m1h",
            "1h1h",
            "1s1s",
            "3651d",
            "1y",
            "٥s",
            "99999999999999999999s",
            "18446744073709551615d",
        ] {
            assert!(duration(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn sizes_are_bytes_or_powers_of_1024() {
        for (text, bytes) in
            [("0", 0), ("4096", 4096), ("512B", 512), ("64KiB", 65536), ("1MiB", 1 << 20), ("2GiB", 2 << 30)]
        {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
    }

    #[test]
    fn refuses_sizes_of_other_units() {
        for text in
            ["", "KiB", "64KB", "64k", "64 KiB", "-1", "1.5MiB", "99999999999999999999", "18446744073709551615GiB"]
        {
            assert!(size(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn cpu_lists_take_numbers_and_ranges() {
        assert_eq!(cpus("0,2-5"), Ok(vec![0, 2, 3, 4, 5]));
        assert_eq!(cpus("7, 1-1"), Ok(vec![1, 7]));
        assert_eq!(cpus("1023"), Ok(vec![1023]));
    }

    #[test]
    fn refuses_cpu_lists_that_repeat_or_leave_the_bounds() {
        for text in ["", "a", "-1", "1-", "5-2", "0,0", "1-3,2", "1024", "0-99999999999999999999", "+1", "1,,2", "0x1"]
        {
            assert!(cpus(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn names_are_short_and_not_empty() {
        assert_eq!(name("payments API"), Ok("payments API"));
        for text in ["", " a", "a ", &"x".repeat(limits::NAME_BYTES_MAX + 1)] {
            assert!(name(text).is_err(), "{text:?}");
        }
    }
}
