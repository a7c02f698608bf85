//! CPU, memory and descriptors of this process, from /proc.

use std::fs;

/// What the system says of us.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Usage {
    pub cpu_seconds: f64,
    pub resident_bytes: u64,
    /// Linux 6.2 and later tell it at no cost; before, the directory is counted while it is short.
    pub descriptors: Option<u64>,
}

/// Of /proc/self/stat (proc_pid_stat(5)): the kernel's USER_HZ is 100 on every architecture of today.
const TICKS_PER_SECOND: f64 = 100.0;
/// What /proc/self/status calls kB.
const KIB: u64 = 1024;
/// Descriptors up to which they are counted one by one.
const COUNTED_MAX: usize = 20_000;

/// `None` where /proc is hidden.
pub fn look() -> Option<Usage> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    let status = fs::read_to_string("/proc/self/status").ok()?;
    Some(Usage {
        cpu_seconds: cpu_seconds(&stat)?,
        resident_bytes: resident_bytes(&status)?,
        descriptors: descriptors(),
    })
}

/// The name in brackets may hold spaces: fields are counted from behind it; utime and stime are the 12th and 13th.
fn cpu_seconds(stat: &str) -> Option<f64> {
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let mut ticks = || fields.next()?.parse::<u64>().ok();
    Some((ticks()? + ticks()?) as f64 / TICKS_PER_SECOND)
}

fn resident_bytes(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(line.split_whitespace().next()?.parse::<u64>().ok()? * KIB)
}

fn descriptors() -> Option<u64> {
    let told = fs::metadata("/proc/self/fd").ok()?.len();
    if told > 0 {
        return Some(told);
    }
    let counted = fs::read_dir("/proc/self/fd").ok()?.take(COUNTED_MAX + 1).count();
    // One of them is the directory's own.
    (counted <= COUNTED_MAX).then(|| counted.saturating_sub(1) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_brackets_and_spaces_does_not_shift_the_fields() {
        let stat = "7 (a) b (c)) S 1 2 3 4 5 6 7 8 9 10 150 250 0 0 20";
        assert_eq!(cpu_seconds(stat), Some(4.0));
        assert_eq!(cpu_seconds("7 (x) S 1"), None);
    }

    #[test]
    fn memory_is_in_bytes() {
        assert_eq!(resident_bytes("VmPeak:\t 9 kB\nVmRSS:\t    2048 kB\n"), Some(2 << 20));
        assert_eq!(resident_bytes("VmPeak: 9 kB"), None);
    }

    #[test]
    fn this_process_has_memory_and_descriptors() {
        let usage = look().unwrap();
        assert!(usage.resident_bytes > 1 << 20, "{usage:?}");
        assert!(usage.descriptors.is_none_or(|open| (3..100_000).contains(&open)), "{usage:?}");
    }
}
