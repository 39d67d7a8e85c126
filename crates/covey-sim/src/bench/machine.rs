//! On what a benchmark ran: the machine, and what this process takes of it.
//! Read from `/proc`, so on Linux alone; elsewhere it is not known.

use std::fs;

use serde::Serialize;

/// Ticks a second in `/proc/self/stat` (`USER_HZ`, proc_pid_stat(5)).
const TICKS_PER_SECOND: f64 = 100.0;

/// The machine of a benchmark.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Machine {
    /// The processor's name.
    pub cpu: String,
    /// Cores that this process may use.
    pub cores: usize,
    /// Operating system and kernel release.
    pub kernel: String,
    /// Memory in bytes.
    pub memory_bytes: u64,
}

impl Machine {
    /// Looks at this machine.
    #[must_use]
    pub fn this() -> Self {
        let unknown = || "unknown".to_owned();
        let read = |path| fs::read_to_string(path).unwrap_or_default();
        let release = read("/proc/sys/kernel/osrelease");
        Self {
            cpu: cpu_name(&read("/proc/cpuinfo")).unwrap_or_else(unknown),
            cores: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            kernel: format!("{} {}", std::env::consts::OS, release.trim()).trim().to_owned(),
            memory_bytes: kilobytes(&read("/proc/meminfo"), "MemTotal:").unwrap_or(0),
        }
    }
}

/// Resident memory of this process in bytes; 0 if it is not known.
pub(crate) fn resident_bytes() -> u64 {
    fs::read_to_string("/proc/self/status").ok().and_then(|text| kilobytes(&text, "VmRSS:")).unwrap_or(0)
}

/// Processor time of this process, user and system, in seconds; 0 if it is not known.
pub(crate) fn cpu_seconds() -> f64 {
    fs::read_to_string("/proc/self/stat").ok().and_then(|text| cpu_ticks(&text)).unwrap_or(0.0)
        / TICKS_PER_SECOND
}

/// ARM kernels name no model; what they name is better than nothing.
fn cpu_name(cpuinfo: &str) -> Option<String> {
    let value = |key: &str| {
        let line = cpuinfo.lines().find(|line| line.starts_with(key))?;
        line.split_once(':').map(|(_, value)| value.trim().to_owned())
    };
    ["model name", "Model", "Hardware", "CPU implementer"].into_iter().find_map(value)
}

/// A line such as `VmRSS:     1234 kB`, in bytes.
fn kilobytes(text: &str, key: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(key))?;
    let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kilobytes.checked_mul(1024)
}

/// Fields 14 and 15, `utime` and `stime`, of proc_pid_stat(5); the second
/// field is the program's name in parentheses and may hold anything.
fn cpu_ticks(stat: &str) -> Option<f64> {
    let (_, fields) = stat.rsplit_once(") ")?;
    let mut ticks = fields.split(' ').skip(11).map(str::parse::<f64>);
    Some(ticks.next()?.ok()? + ticks.next()?.ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_files_of_the_kernel_are_read() {
        let cpuinfo = "processor\t: 0\nmodel name\t: Some CPU @ 2.4GHz\n";
        assert_eq!(cpu_name(cpuinfo).as_deref(), Some("Some CPU @ 2.4GHz"));
        assert_eq!(cpu_name("CPU implementer\t: 0x41\n").as_deref(), Some("0x41"));
        assert_eq!(kilobytes("Name:\tx\nVmRSS:\t    2 kB\n", "VmRSS:"), Some(2_048));
        let stat = "1 (a) b) c) S 0 0 0 0 0 0 0 0 0 0 150 50 0";
        assert_eq!(cpu_ticks(stat), Some(200.0));
        assert_eq!(cpu_ticks(""), None);
    }

    #[test]
    fn this_machine_is_described() {
        let machine = Machine::this();
        assert!(machine.cores >= 1 && !machine.cpu.is_empty() && !machine.kernel.is_empty());
    }
}
