//! What a process has cost so far, out of /proc.
#![allow(dead_code, reason = "not every program measures both")]

/// Resident memory that is the process's own (RssAnon), in KiB.
pub fn resident_kib(id: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{id}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("RssAnon:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// Processor time of all its threads, in microseconds.
pub fn cpu_us(id: u32) -> f64 {
    let threads = std::fs::read_dir(format!("/proc/{id}/task")).unwrap().flatten();
    let times = threads.filter_map(|thread| std::fs::read_to_string(thread.path().join("schedstat")).ok());
    times.map(|time| time.split_whitespace().next().unwrap().parse::<f64>().unwrap() / 1e3).sum()
}
