//! What the kernel tells about running processes. Linux only: elsewhere nothing is known.

use std::time::Duration;

/// What is used of `/proc/<pid>/stat`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stat {
    group: i32,
    /// User and system time of all threads, in 1/100 s.
    ticks: u64,
    threads: u64,
}

/// Parses `pid (name) state ppid pgrp …`; the name may hold blanks and parentheses (proc_pid_stat(5)).
fn parse(stat: &str) -> Option<Stat> {
    let (_, fields) = stat.rsplit_once(')')?;
    let fields: Vec<&str> = fields.split_ascii_whitespace().collect();
    let number = |index: usize| fields.get(index)?.parse::<u64>().ok();
    Some(Stat { group: fields.get(2)?.parse().ok()?, ticks: number(11)? + number(12)?, threads: number(17)? })
}

fn read(pid: &str) -> Option<Stat> {
    if cfg!(not(target_os = "linux")) {
        return None;
    }
    parse(&std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// The processor time that a process has used, also when it has ended and is not yet reaped.
pub(super) fn cpu_time(pid: i32) -> Option<Duration> {
    // USER_HZ is 100 on every architecture that we run on.
    Some(Duration::from_millis(read(&pid.to_string())?.ticks.checked_mul(10)?))
}

/// The processes and threads of a process group; 0 where that cannot be known.
pub(super) fn tasks(group: i32) -> u64 {
    if cfg!(not(target_os = "linux")) {
        return 0;
    }
    let Ok(entries) = std::fs::read_dir("/proc") else {
        return 0;
    };
    entries
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| name.bytes().all(|byte| byte.is_ascii_digit()))
        .filter_map(|pid| read(&pid))
        .filter(|stat| stat.group == group)
        .map(|stat| stat.threads)
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_may_hold_anything() {
        let stat = "7 (a) b (c) R 1 42 42 0 -1 0 0 0 0 0 120 30 0 0 20 0 3 0 99 0 0";
        assert_eq!(parse(stat), Some(Stat { group: 42, ticks: 150, threads: 3 }));
        assert_eq!(parse("7 (cut) R 1"), None);
        assert_eq!(parse(""), None);
    }
}
