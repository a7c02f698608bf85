//! What the figures were measured on, and what of it makes them doubtful.

use std::fs;

use serde::Serialize;

/// The machine, as far as it matters to a figure.
#[derive(Clone, Debug, Serialize)]
pub struct MachineNote {
    pub cpu: String,
    pub cpus: usize,
    pub kernel: String,
    pub virtual_machine: bool,
    /// Of the minute before.
    pub load_average: f64,
    pub server_cpu: usize,
    pub generator_cpus: Vec<usize>,
    /// The generator's first CPU is a thread of the same core as the server's.
    pub same_core: bool,
}

impl MachineNote {
    pub fn look(server_cpu: usize, generator_cpus: &[usize]) -> MachineNote {
        let info = read("/proc/cpuinfo");
        let field = |name: &str| {
            info.lines()
                .find(|line| line.starts_with(name))
                .and_then(|line| line.split_once(':'))
                .map(|(_, v)| v.trim())
        };
        let siblings = read(&format!("/sys/devices/system/cpu/cpu{server_cpu}/topology/thread_siblings_list"));
        let siblings = crate::load::units::cpus(siblings.trim()).map(|cpus| cpus.0).unwrap_or_default();
        MachineNote {
            cpu: field("model name").unwrap_or("unknown CPU").to_owned(),
            cpus: std::thread::available_parallelism().map_or(1, usize::from),
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            virtual_machine: field("flags").is_some_and(|flags| flags.split(' ').any(|flag| flag == "hypervisor")),
            load_average: read("/proc/loadavg").split(' ').next().and_then(|n| n.parse().ok()).unwrap_or(0.0),
            server_cpu,
            generator_cpus: generator_cpus.to_vec(),
            same_core: generator_cpus.iter().any(|cpu| *cpu != server_cpu && siblings.contains(cpu)),
        }
    }

    /// What to know before believing anything.
    pub fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        if self.generator_cpus.contains(&self.server_cpu) {
            notes.push("one CPU for server, generator and backend: only CPU per operation means something".to_owned());
        }
        if self.same_core {
            notes.push("generator and server run on two threads of one core: both are slower than alone".to_owned());
        }
        if self.load_average > 0.5 {
            let load = self.load_average;
            notes.push(format!(
                "the machine was not quiet (load average {load:.1} at the start): figures are indicative"
            ));
        }
        if cfg!(debug_assertions) {
            notes.push("this generator is a debug build; its own share is large".to_owned());
        }
        notes
    }
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}
