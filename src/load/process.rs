//! What processes and threads cost, from /proc: the server that is measured, its children counted, and the harness itself.
//!
//! CPU time comes from the scheduler's own counters in nanoseconds (`schedstat`); the clock ticks of `stat` say only how it
//! splits into user and system. Where a thread ended meanwhile its nanoseconds are gone, and the ticks are used for all.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::load::{Refusal, exit, limits};

/// `USER_HZ`: 100 on every Linux that runs this program.
const TICKS_PER_SECOND: f64 = 100.0;

/// A process and all that descend from it, or a control group.
#[derive(Clone, Debug)]
pub enum Family {
    Process(u32),
    /// Its directory.
    Cgroup(PathBuf),
}

/// What a family has used so far, and holds now.
#[derive(Clone, Debug)]
pub struct Sample {
    at: Instant,
    processes: usize,
    user_ticks: u64,
    system_ticks: u64,
    /// Nanoseconds by thread id.
    threads: BTreeMap<u32, u64>,
    /// Of a control group, in place of ticks and threads.
    cpu: Option<CpuStat>,
    pub memory: Memory,
}

/// Resident memory in bytes.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Memory {
    pub rss: u64,
    /// Pages shared with other processes divided among them; 0 where the kernel does not let us look.
    pub pss: u64,
}

/// What a family used between two samples.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Usage {
    pub processes: usize,
    pub cpu_seconds: f64,
    pub user_seconds: f64,
    pub system_seconds: f64,
    /// CPU seconds per second.
    pub cores: f64,
}

impl Family {
    /// Fails where there is no such process, or it may not be looked at.
    pub fn new(pid: u32) -> Result<Family, Refusal> {
        let family = Family::Process(pid);
        if family.sample().processes == 0 {
            let message =
                format!("--pid {pid}: no such process, or /proc hides it; run as the same user, or leave --pid out");
            return Err(Refusal::new(exit::UNAVAILABLE, message));
        }
        Ok(family)
    }

    /// Fails where `directory` is no control group of version 2 that counts CPU time.
    pub fn of_cgroup(directory: &Path) -> Result<Family, Refusal> {
        let absolute = if directory.starts_with("/sys/fs/cgroup") {
            directory.to_path_buf()
        } else {
            Path::new("/sys/fs/cgroup").join(directory.strip_prefix("/").unwrap_or(directory))
        };
        if CpuStat::of(&absolute).is_none() {
            let message = format!(
                "--cgroup {}: no cpu.stat with usage_usec in it; name a directory of cgroup v2, such as \
                 /sys/fs/cgroup/system.slice/countersign.service, or use --pid",
                absolute.display()
            );
            return Err(Refusal::new(exit::UNAVAILABLE, message));
        }
        Ok(Family::Cgroup(absolute))
    }

    /// Looks now.
    pub fn sample(&self) -> Sample {
        match self {
            Family::Process(pid) => Sample::of(Family::members(*pid)),
            Family::Cgroup(directory) => Sample::of_cgroup(directory),
        }
    }

    /// The process and its descendants, found by their parents.
    fn members(root: u32) -> BTreeSet<u32> {
        let mut parents = Vec::new();
        for pid in numbers_in("/proc") {
            if let Some(stat) = read(&format!("/proc/{pid}/stat")).and_then(|text| Stat::parse(&text)) {
                parents.push((pid, stat.parent));
            }
        }
        descendants(root, &parents)
    }
}

fn descendants(root: u32, parents: &[(u32, u32)]) -> BTreeSet<u32> {
    let mut members = BTreeSet::from([root]);
    loop {
        let before = members.len();
        members.extend(
            parents.iter().filter(|(_, parent)| members.contains(parent)).map(|(pid, _)| *pid).collect::<Vec<_>>(),
        );
        if members.len() == before || members.len() > limits::PROCESSES_MAX {
            return members;
        }
    }
}

impl Sample {
    /// This program's own threads, its children not counted.
    pub fn of_this_process() -> Sample {
        Sample::of([std::process::id()])
    }

    fn of_cgroup(directory: &Path) -> Sample {
        let text = |name: &str| fs::read_to_string(directory.join(name)).unwrap_or_default();
        // What the group was charged for, the kernel's socket buffers among it.
        let charged = text("memory.current").trim().parse().unwrap_or(0);
        let mut sample = Sample::of([]);
        sample.processes = text("cgroup.procs").lines().count();
        sample.cpu = CpuStat::of(directory);
        sample.memory = Memory { rss: charged, pss: charged };
        sample
    }

    fn of(processes: impl IntoIterator<Item = u32>) -> Sample {
        let mut sample = Sample {
            at: Instant::now(),
            processes: 0,
            user_ticks: 0,
            system_ticks: 0,
            threads: BTreeMap::new(),
            cpu: None,
            memory: Memory::default(),
        };
        for pid in processes {
            let Some(stat) = read(&format!("/proc/{pid}/stat")).and_then(|text| Stat::parse(&text)) else { continue };
            sample.processes += 1;
            sample.user_ticks += stat.user_ticks;
            sample.system_ticks += stat.system_ticks;
            let memory = memory(pid);
            sample.memory.rss += memory.rss;
            sample.memory.pss += memory.pss;
            for thread in numbers_in(&format!("/proc/{pid}/task")) {
                let schedule = read(&format!("/proc/{pid}/task/{thread}/schedstat")).and_then(|t| Schedule::parse(&t));
                if let Some(schedule) = schedule {
                    sample.threads.insert(thread, schedule.run_nanos);
                }
            }
        }
        sample
    }

    /// Whether there was no process to look at. A control group counts on without any.
    pub fn is_of_nobody(&self) -> bool {
        self.cpu.is_none() && self.processes == 0
    }

    pub fn seconds_since(&self, before: &Sample) -> f64 {
        self.at.saturating_duration_since(before.at).as_secs_f64()
    }

    /// What was used since `before`.
    pub fn since(&self, before: &Sample) -> Usage {
        let wall = self.seconds_since(before);
        let cores = |cpu: f64| if wall > 0.0 { cpu / wall } else { 0.0 };
        if let (Some(now), Some(then)) = (self.cpu, before.cpu) {
            let seconds = |now: u64, then: u64| now.saturating_sub(then) as f64 / 1e6;
            let cpu_seconds = seconds(now.usage_usec, then.usage_usec);
            return Usage {
                processes: self.processes,
                cpu_seconds,
                user_seconds: seconds(now.user_usec, then.user_usec),
                system_seconds: seconds(now.system_usec, then.system_usec),
                cores: cores(cpu_seconds),
            };
        }
        let ticks = |n: u64| n as f64 / TICKS_PER_SECOND;
        let user = ticks(self.user_ticks.saturating_sub(before.user_ticks));
        let system = ticks(self.system_ticks.saturating_sub(before.system_ticks));
        let cpu_seconds = self.nanos_since(before).map_or(user + system, |nanos| nanos as f64 / 1e9);
        let user_share = if user + system > 0.0 { user / (user + system) } else { 0.0 };
        Usage {
            processes: self.processes,
            cpu_seconds,
            user_seconds: cpu_seconds * user_share,
            system_seconds: cpu_seconds * (1.0 - user_share),
            cores: cores(cpu_seconds),
        }
    }

    /// By the scheduler's count, if every thread of then is still there and there are any.
    fn nanos_since(&self, before: &Sample) -> Option<u64> {
        if self.threads.is_empty() || before.threads.keys().any(|thread| !self.threads.contains_key(thread)) {
            return None;
        }
        let used =
            |(thread, nanos): (&u32, &u64)| nanos.saturating_sub(before.threads.get(thread).copied().unwrap_or(0));
        Some(self.threads.iter().map(used).sum())
    }
}

/// What one harness thread used.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct ThreadUse {
    #[serde(skip)]
    at: Option<Instant>,
    #[serde(skip)]
    schedule: Schedule,
    pub cpu_seconds: f64,
    /// CPU seconds per second; near 1 the thread was what limited the run.
    pub busy_share: f64,
    /// Share of the time that it was ready to run and had no CPU.
    pub wait_share: f64,
}

impl ThreadUse {
    /// This thread's counters, to be compared with later ones by [`ThreadUse::since`].
    pub fn now() -> ThreadUse {
        let schedule = read("/proc/thread-self/schedstat").and_then(|text| Schedule::parse(&text)).unwrap_or_default();
        ThreadUse { at: Some(Instant::now()), schedule, cpu_seconds: 0.0, busy_share: 0.0, wait_share: 0.0 }
    }

    /// Share of the time that it had something to do, on a CPU or in the queue for one. Near 1 it was what limited the run.
    pub fn wanted_share(&self) -> f64 {
        self.busy_share + self.wait_share
    }

    /// What was used since `before`.
    pub fn since(&self, before: &ThreadUse) -> ThreadUse {
        let wall = match (self.at, before.at) {
            (Some(now), Some(then)) => now.saturating_duration_since(then),
            _ => Duration::ZERO,
        };
        let wall = wall.as_secs_f64().max(1e-9);
        let ran = self.schedule.run_nanos.saturating_sub(before.schedule.run_nanos) as f64 / 1e9;
        let waited = self.schedule.wait_nanos.saturating_sub(before.schedule.wait_nanos) as f64 / 1e9;
        ThreadUse {
            at: None,
            schedule: Schedule::default(),
            cpu_seconds: ran,
            busy_share: ran / wall,
            wait_share: waited / wall,
        }
    }
}

/// Time of all CPUs, to see how much the hypervisor took.
#[derive(Clone, Copy, Debug, Default)]
pub struct Machine {
    steal: u64,
    total: u64,
}

impl Machine {
    pub fn now() -> Machine {
        read("/proc/stat").and_then(|text| Machine::parse(&text)).unwrap_or_default()
    }

    /// Share of all CPU time since `before` that was stolen.
    pub fn steal_share_since(&self, before: &Machine) -> f64 {
        let total = self.total.saturating_sub(before.total);
        if total == 0 { 0.0 } else { self.steal.saturating_sub(before.steal) as f64 / total as f64 }
    }

    fn parse(text: &str) -> Option<Machine> {
        let fields: Vec<u64> = text.lines().next()?.split_whitespace().skip(1).map_while(|n| n.parse().ok()).collect();
        // user nice system idle iowait irq softirq steal; guests are in user already.
        Some(Machine { steal: *fields.get(7)?, total: fields.iter().take(8).sum() })
    }
}

/// The fields of `/proc/PID/stat` that matter here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stat {
    parent: u32,
    user_ticks: u64,
    system_ticks: u64,
}

impl Stat {
    fn parse(text: &str) -> Option<Stat> {
        // The name stands in parentheses and may hold anything, parentheses too: count from the last one.
        let rest = &text[text.rfind(')')? + 1..];
        let mut fields = rest.split_whitespace();
        let parent = fields.nth(1)?.parse().ok()?;
        let user_ticks = fields.nth(9)?.parse().ok()?;
        let system_ticks = fields.next()?.parse().ok()?;
        Some(Stat { parent, user_ticks, system_ticks })
    }
}

/// The fields of `schedstat`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Schedule {
    run_nanos: u64,
    wait_nanos: u64,
}

impl Schedule {
    fn parse(text: &str) -> Option<Schedule> {
        let mut fields = text.split_whitespace();
        Some(Schedule { run_nanos: fields.next()?.parse().ok()?, wait_nanos: fields.next()?.parse().ok()? })
    }
}

/// The fields of a control group's `cpu.stat`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct CpuStat {
    usage_usec: u64,
    user_usec: u64,
    system_usec: u64,
}

impl CpuStat {
    fn of(directory: &Path) -> Option<CpuStat> {
        CpuStat::parse(&fs::read_to_string(directory.join("cpu.stat")).ok()?)
    }

    fn parse(text: &str) -> Option<CpuStat> {
        let field = |name: &str| {
            text.lines().filter_map(|line| line.split_once(' ')).find(|(n, _)| *n == name)?.1.trim().parse().ok()
        };
        Some(CpuStat {
            usage_usec: field("usage_usec")?,
            user_usec: field("user_usec")?,
            system_usec: field("system_usec")?,
        })
    }
}

fn memory(pid: u32) -> Memory {
    let field = |text: &str, name: &str| {
        let line = text.lines().find(|line| line.starts_with(name))?;
        let kib: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
        Some(kib * 1024)
    };
    if let Some(text) = read(&format!("/proc/{pid}/smaps_rollup"))
        && let (Some(rss), Some(pss)) = (field(&text, "Rss:"), field(&text, "Pss:"))
    {
        return Memory { rss, pss };
    }
    // Another user's process shows its status, but not its maps.
    let rss = read(&format!("/proc/{pid}/status")).and_then(|text| field(&text, "VmRSS:"));
    Memory { rss: rss.unwrap_or(0), pss: 0 }
}

fn read(path: &str) -> Option<String> {
    fs::read(path).ok().map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
}

fn numbers_in(directory: &str) -> Vec<u32> {
    let Ok(entries) = fs::read_dir(directory) else { return Vec::new() };
    entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stat_is_read_whatever_the_process_calls_itself() {
        let line =
            "42 (a) b (c)) S 7 42 42 0 -1 4194304 100 0 0 0 123 45 0 0 20 0 1 0 999 1000 100 18446744073709551615";
        assert_eq!(Stat::parse(line), Some(Stat { parent: 7, user_ticks: 123, system_ticks: 45 }));
        assert_eq!(Stat::parse("42 nonsense"), None);
    }

    #[test]
    fn children_of_children_belong_to_the_family_and_strangers_do_not() {
        let parents = [(10, 1), (11, 10), (12, 11), (20, 1), (21, 20)];
        assert_eq!(descendants(10, &parents), BTreeSet::from([10, 11, 12]));
    }

    fn sample(threads: &[(u32, u64)], user_ticks: u64, system_ticks: u64) -> Sample {
        let threads = threads.iter().copied().collect();
        let memory = Memory::default();
        Sample { at: Instant::now(), processes: 1, user_ticks, system_ticks, threads, cpu: None, memory }
    }

    #[test]
    fn nanoseconds_give_the_sum_and_ticks_the_split() {
        let before = sample(&[(1, 1_000_000_000)], 100, 100);
        let after = sample(&[(1, 1_400_000_000), (2, 4_000_000)], 130, 110);
        let usage = after.since(&before);
        assert!((usage.cpu_seconds - 0.404).abs() < 1e-9);
        assert!((usage.user_seconds - 0.303).abs() < 1e-9);
    }

    #[test]
    fn a_thread_that_ended_makes_the_ticks_decide() {
        let usage = sample(&[(1, 5)], 130, 110).since(&sample(&[(1, 0), (2, 7)], 100, 100));
        assert!((usage.cpu_seconds - 0.4).abs() < 1e-9);
    }

    #[test]
    fn this_process_is_seen_to_work_and_to_hold_memory() {
        let family = Family::new(std::process::id()).unwrap();
        let (before, thread) = (family.sample(), ThreadUse::now());
        let until = Instant::now() + Duration::from_millis(30);
        while Instant::now() < until {
            std::hint::black_box(0);
        }
        let usage = ThreadUse::now().since(&thread);
        assert!(usage.cpu_seconds > 0.0 && usage.busy_share <= 1.1, "{usage:?}");
        assert!(family.sample().since(&before).cpu_seconds > 0.0);
        assert!(before.memory.rss > 100_000);
    }

    #[test]
    fn a_process_that_is_not_there_is_refused() {
        assert_eq!(Family::new(u32::MAX / 2).unwrap_err().code, exit::UNAVAILABLE);
    }

    #[test]
    fn a_control_group_tells_user_and_system_apart_to_the_microsecond() {
        let directory = tempfile::tempdir().unwrap();
        let write = |usage: u64, user: u64, memory: u64| {
            let text = format!("usage_usec {usage}\nuser_usec {user}\nsystem_usec {}\nnr_periods 0\n", usage - user);
            fs::write(directory.path().join("cpu.stat"), text).unwrap();
            fs::write(directory.path().join("memory.current"), format!("{memory}\n")).unwrap();
        };
        write(1_000, 600, 4096);
        let family = Family::Cgroup(directory.path().to_path_buf());
        let before = family.sample();
        write(4_000, 2_600, 8192);
        let after = family.sample();
        let usage = after.since(&before);
        assert!((usage.cpu_seconds - 0.003).abs() < 1e-9 && (usage.user_seconds - 0.002).abs() < 1e-9, "{usage:?}");
        assert!((usage.system_seconds - 0.001).abs() < 1e-9);
        assert_eq!((before.memory.rss, after.memory.rss), (4096, 8192));
        assert_eq!(Family::of_cgroup(Path::new("no/such/group")).unwrap_err().code, exit::UNAVAILABLE);
        assert_eq!(CpuStat::parse("some avg10=0.00"), None);
    }

    #[test]
    fn stolen_time_is_a_share_of_all_time() {
        let before = Machine::parse("cpu  100 0 100 800 0 0 0 0 0 0\n").unwrap();
        let after = Machine::parse("cpu  150 0 150 880 0 0 0 20 0 0\n").unwrap();
        assert!((after.steal_share_since(&before) - 0.1).abs() < 1e-9);
    }
}
