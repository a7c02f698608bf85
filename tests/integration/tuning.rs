//! `tuning/check` says what to change on a host, and nothing of a host that is as it should be.

use crate::world::process::{Output, run};
use std::path::Path;
use std::process::Command;

/// A host on which nothing is to change: files under its root.
const GOOD: &[(&str, &str)] = &[
    ("proc/sys/kernel/osrelease", "6.1.0-30-amd64"),
    ("proc/sys/kernel/io_uring_disabled", "0"),
    ("sys/devices/system/clocksource/clocksource0/current_clocksource", "tsc"),
    ("proc/sys/net/core/somaxconn", "8192"),
    ("proc/sys/net/ipv4/tcp_max_syn_backlog", "8192"),
    ("proc/sys/net/ipv4/ip_local_port_range", "1024\t65535"),
    ("proc/sys/net/ipv4/tcp_tw_reuse", "1"),
    ("proc/sys/net/netfilter/nf_conntrack_count", "69"),
    ("proc/sys/net/netfilter/nf_conntrack_max", "100"),
    ("proc/sys/fs/nr_open", "1048576"),
    ("proc/7/limits", "Limit  Soft Limit  Hard Limit  Units\nMax open files            1024  1048576  files\n"),
    ("proc/net/route", "Iface\tDestination\neth0\t00000000\t0100000A\n"),
    ("sys/devices/system/cpu/online", "0-1,3"),
    ("sys/class/net/eth0/queues/rx-0/rps_cpus", "00000000,0000000b"),
    ("sys/class/net/eth0/queues/tx-0/xps_cpus", "0"),
    ("proc/sys/net/core/rps_sock_flow_entries", "32768"),
    ("sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", "performance"),
    ("proc/sys/net/core/busy_poll", "0"),
];

/// What each other value leads to.
const CHANGES: &[(&str, &str, &str)] = &[
    ("proc/sys/kernel/osrelease", "5.15.0-1", "kernel 5.15.0-1, needed 6.1"),
    ("proc/sys/kernel/osrelease", "6.0.9", "kernel 6.0.9, needed 6.1"),
    ("proc/sys/kernel/io_uring_disabled", "2", "kernel.io_uring_disabled = 2"),
    ("sys/devices/system/clocksource/clocksource0/current_clocksource", "hpet", "clock source hpet"),
    ("proc/sys/net/core/somaxconn", "128", "net.core.somaxconn = 128"),
    ("proc/sys/net/ipv4/tcp_max_syn_backlog", "512", "net.ipv4.tcp_max_syn_backlog = 512"),
    ("proc/sys/net/ipv4/ip_local_port_range", "32768 60999", "net.ipv4.ip_local_port_range = 32768 60999"),
    ("proc/sys/net/ipv4/tcp_tw_reuse", "0", "net.ipv4.tcp_tw_reuse = 0"),
    ("proc/sys/net/netfilter/nf_conntrack_count", "71", "connection tracking: 71 of 100"),
    ("proc/sys/fs/nr_open", "4096", "fs.nr_open = 4096"),
    ("proc/7/limits", "Max open files 1024 4096 files\n", "open files: 4096"),
    ("sys/class/net/eth0/queues/rx-0/rps_cpus", "0", "eth0: 1 receive queues for 3 CPUs"),
    ("proc/sys/net/core/rps_sock_flow_entries", "0", "net.core.rps_sock_flow_entries = 0"),
    ("sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", "powersave", "1 CPUs run with the governor powersave"),
];

fn kept(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tuning").join(name)
}

/// The check on a good host but for one file.
fn check(different: Option<(&str, &str)>) -> Output {
    let root = tempfile::tempdir().unwrap();
    for (path, text) in GOOD.iter().copied().chain(different) {
        let path = root.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    run(Command::new("sh").arg(kept("check")).args(["--pid", "7", "--root"]).arg(root.path()))
}

#[test]
fn a_host_that_is_as_it_should_be_is_left_alone() {
    let output = check(None);
    assert_eq!(output.code, Some(0), "{}", output.text());
    assert!(!output.stdout.contains("change "), "{}", output.text());
    assert_eq!(output.stderr, "");
}

#[test]
fn each_setting_that_is_off_is_named_with_why_and_how_and_nothing_else_is() {
    for (path, text, told) in CHANGES {
        let output = check(Some((path, text)));
        assert_eq!(output.code, Some(1), "{path}: {}", output.text());
        let changes: Vec<_> = output.stdout.lines().filter(|line| line.starts_with("change")).collect();
        assert_eq!(changes.len(), 1, "{path}: {}", output.text());
        assert!(changes[0].contains(told), "{path}: {}", output.text());
        assert!(output.stdout.contains("why: ") && output.stdout.contains("how: "), "{}", output.text());
        assert!(output.stdout.contains("1 to change"), "{}", output.text());
        assert_eq!(output.stderr, "", "{path}");
    }
}

#[test]
fn it_runs_on_this_host_and_says_how_it_is_called() {
    let here = run(Command::new("sh").arg(kept("check")));
    assert!(matches!(here.code, Some(0 | 1)), "{}", here.text());
    assert_eq!(here.stderr, "");
    for wrong in [&["--bogus"][..], &["--pid"], &["extra"]] {
        assert_eq!(run(Command::new("sh").arg(kept("check")).args(wrong)).code, Some(64), "{wrong:?}");
    }
    let help = run(Command::new("sh").arg(kept("check")).arg("--help"));
    assert_eq!(help.code, Some(0));
    assert!(help.stdout.contains("usage: tuning/check"));
}

#[test]
fn each_line_of_the_sysctl_file_is_explained_and_satisfies_the_check() {
    let explained = std::fs::read_to_string(kept("README.md")).unwrap();
    let file = std::fs::read_to_string(kept("90-countersign.conf")).unwrap();
    let settings: Vec<(&str, &str)> = file.lines().filter_map(|line| line.split_once(" = ")).collect();
    assert!(settings.len() >= 4, "{file}");
    for (name, value) in settings {
        assert!(explained.contains(&format!("`{name}` = {value}")), "{name} = {value} is not in the README");
        let path = format!("proc/sys/{}", name.replace('.', "/"));
        let output = check(Some((&path, value)));
        assert_eq!(output.code, Some(0), "{name}: {}", output.text());
    }
}
