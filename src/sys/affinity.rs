//! Which CPUs this process may use, and pinning a thread to one.

use std::fs;
use std::path::Path;

/// CPUs that the affinity mask of this thread allows, ascending. Never empty.
pub fn allowed_cpus() -> Vec<usize> {
    let mut cpus: Vec<usize> =
        core_affinity::get_core_ids().unwrap_or_default().into_iter().map(|core| core.id).collect();
    cpus.sort_unstable();
    if cpus.is_empty() { vec![0] } else { cpus }
}

/// Pins the calling thread; false if the system refuses (a seccomp filter without sched_setaffinity, for one).
pub fn pin_to(cpu: usize) -> bool {
    core_affinity::set_for_current(core_affinity::CoreId { id: cpu })
}

/// The cgroup's CPU quota in CPUs, the smallest on the way up; `None` where there is none. Both cgroup versions.
pub fn cpu_quota() -> Option<f64> {
    let membership = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    quota_of(&membership, Path::new("/sys/fs/cgroup"))
}

fn quota_of(membership: &str, mount: &Path) -> Option<f64> {
    let mut smallest: Option<f64> = None;
    for line in membership.lines() {
        let mut fields = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (fields.next(), fields.next()) else { continue };
        let base = match controllers {
            "" => mount.to_path_buf(),
            v1 if v1.split(',').any(|name| name == "cpu") => mount.join("cpu"),
            _ => continue,
        };
        // In a container the path may be that of the host: then only the mount's own files exist.
        let here = base.join(path.trim_start_matches('/'));
        for directory in here.ancestors().take_while(|directory| directory.starts_with(&base)) {
            if let Some(quota) = read_quota(directory) {
                smallest = Some(smallest.map_or(quota, |known| known.min(quota)));
            }
        }
    }
    smallest
}

fn read_quota(directory: &Path) -> Option<f64> {
    let number = |text: &str| text.trim().parse::<f64>().ok().filter(|n| *n > 0.0);
    if let Ok(text) = fs::read_to_string(directory.join("cpu.max")) {
        let (quota, period) = text.trim().split_once(' ')?;
        return Some(number(quota)? / number(period)?);
    }
    let quota = number(&fs::read_to_string(directory.join("cpu.cfs_quota_us")).ok()?)?;
    let period = number(&fs::read_to_string(directory.join("cpu.cfs_period_us")).ok()?)?;
    Some(quota / period)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smallest_quota_on_the_way_up_counts() {
        let mount = tempfile::tempdir().unwrap();
        let group = mount.path().join("slice/service");
        fs::create_dir_all(&group).unwrap();
        fs::write(group.join("cpu.max"), "400000 100000\n").unwrap();
        fs::write(mount.path().join("slice/cpu.max"), "150000 100000\n").unwrap();
        assert_eq!(quota_of("0::/slice/service\n", mount.path()), Some(1.5));
    }

    #[test]
    fn max_is_no_quota() {
        let mount = tempfile::tempdir().unwrap();
        fs::write(mount.path().join("cpu.max"), "max 100000\n").unwrap();
        assert_eq!(quota_of("0::/\n", mount.path()), None);
    }
}
