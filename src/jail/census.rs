//! The processes of a program, wherever they stand in the tree of processes.

use std::collections::{HashMap, HashSet};
use std::io::Read;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::fs::{Dir, Mode, OFlags};

/// What is used of `/proc/<pid>/stat`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stat {
    pub(super) zombie: bool,
    pub(super) parent: i32,
    pub(super) group: i32,
    /// User and system time of all threads, and of the children that were waited for, in 1/100 s.
    ticks: u64,
    threads: u64,
    /// Pages in memory, shared ones included.
    pages: u64,
}

impl Stat {
    /// Processor time of it and of the children it has waited for.
    pub(super) fn cpu(&self) -> Duration {
        // USER_HZ is 100 on every architecture that we run on.
        Duration::from_millis(self.ticks.saturating_mul(10))
    }
}

/// Parses `pid (name) state ppid pgrp …`; the name may hold blanks and parentheses (proc_pid_stat(5)).
fn parse(stat: &str) -> Option<Stat> {
    let (_, fields) = stat.rsplit_once(')')?;
    let fields: Vec<&str> = fields.split_ascii_whitespace().collect();
    let number = |index: usize| fields.get(index)?.parse::<u64>().ok();
    Some(Stat {
        zombie: matches!(*fields.first()?, "Z" | "X"),
        parent: fields.get(1)?.parse().ok()?,
        group: fields.get(2)?.parse().ok()?,
        ticks: number(11)? + number(12)? + number(13)? + number(14)?,
        threads: number(17)?,
        pages: number(21)?,
    })
}

/// An open `/proc`: it stays the one of the machine when the view of the file system changes.
#[derive(Debug)]
pub(super) struct Proc(Option<OwnedFd>);

/// The processes of one program.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Census {
    /// Their numbers.
    pub(super) pids: Vec<i32>,
    /// Memory of all of them; what they share is counted for each.
    pub(super) resident_bytes: u64,
    /// Processes and threads.
    pub(super) tasks: u64,
}

impl Proc {
    /// The `/proc` of now; where there is none, nothing is known.
    pub(super) fn open() -> Proc {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Proc(rustix::fs::open("/proc", flags, Mode::empty()).ok())
    }

    fn read(&self, path: &str) -> Option<String> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let file = rustix::fs::openat(self.0.as_ref()?, path, flags, Mode::empty()).ok()?;
        let mut text = Vec::with_capacity(512);
        std::fs::File::from(file).read_to_end(&mut text).ok()?;
        Some(String::from_utf8_lossy(&text).into_owned())
    }

    /// One process, also when it has ended and is not yet reaped.
    pub(super) fn stat(&self, pid: i32) -> Option<Stat> {
        parse(&self.read(&format!("{pid}/stat"))?)
    }

    fn all(&self) -> HashMap<i32, Stat> {
        let Some(folder) = self.0.as_ref().and_then(|folder| Dir::read_from(folder).ok()) else {
            return HashMap::new();
        };
        let pids = folder.filter_map(|entry| entry.ok()?.file_name().to_str().ok()?.parse::<i32>().ok());
        pids.filter_map(|pid| Some((pid, self.stat(pid)?))).collect()
    }

    /// The children of a process with one thread.
    pub(super) fn children(&self, pid: i32) -> Vec<i32> {
        match self.read(&format!("{pid}/task/{pid}/children")) {
            Some(list) => list.split_ascii_whitespace().filter_map(|pid| pid.parse().ok()).collect(),
            None => self.all().into_iter().filter(|(_, stat)| stat.parent == pid).map(|(pid, _)| pid).collect(),
        }
    }

    /// Counts `first`, what descends from it or is in its process group, and what descends from the init of its pid
    /// namespace, without that.
    pub(super) fn census(&self, first: i32, init: Option<i32>) -> Census {
        let all = self.all();
        let mut found: HashSet<i32> = HashSet::from_iter(init.into_iter().chain([first]));
        found.extend(all.iter().filter(|(_, stat)| stat.group == first).map(|(pid, _)| *pid));
        loop {
            let before = found.len();
            found.extend(
                all.iter().filter(|(_, stat)| found.contains(&stat.parent)).map(|(pid, _)| *pid).collect::<Vec<_>>(),
            );
            if found.len() == before {
                break;
            }
        }
        let mut pids: Vec<i32> = found.into_iter().filter(|pid| Some(*pid) != init).collect();
        pids.sort_unstable();
        let program = || pids.iter().filter_map(|pid| all.get(pid));
        Census {
            tasks: program().map(|stat| stat.threads).sum(),
            resident_bytes: program().map(|stat| stat.pages.saturating_mul(super::sys::page_bytes())).sum(),
            pids,
        }
    }

    /// Memory of processes, what is shared counted once. Dear: the kernel walks their page tables.
    pub(super) fn memory_bytes(&self, pids: &[i32]) -> u64 {
        let kilobytes = |pid: &i32| -> Option<u64> {
            let rollup = self.read(&format!("{pid}/smaps_rollup"))?;
            rollup.lines().find_map(|line| line.strip_prefix("Pss:"))?.split_ascii_whitespace().next()?.parse().ok()
        };
        pids.iter().filter_map(kilobytes).sum::<u64>().saturating_mul(1024)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_may_hold_anything() {
        let stat = "7 (a) b (c) R 1 42 42 0 -1 0 0 0 0 0 120 30 2 1 20 0 3 0 99 0 5";
        let expected = Stat { zombie: false, parent: 1, group: 42, ticks: 153, threads: 3, pages: 5 };
        assert_eq!(parse(stat), Some(expected));
        assert_eq!(parse("7 (cut) R 1"), None);
        assert_eq!(parse(""), None);
    }

    #[test]
    fn children_are_found_and_counted() {
        let mut child = std::process::Command::new("sh").args(["-c", "sleep 60 & sleep 60 & wait"]).spawn().unwrap();
        let proc = Proc::open();
        let pid = child.id() as i32;
        while proc.children(pid).len() < 2 {
            std::thread::sleep(Duration::from_millis(5));
        }
        let whole = proc.census(pid, None);
        assert_eq!((whole.tasks, whole.pids.len()), (3, 3));
        let shared_once = proc.memory_bytes(&whole.pids);
        assert!(shared_once > 0 && shared_once < whole.resident_bytes, "{shared_once} of {whole:?}");
        let first = proc.children(pid)[0];
        let inside = proc.census(first, Some(pid));
        assert_eq!((inside.tasks, inside.pids), (2, proc.children(pid)));
        for each in proc.children(pid) {
            let _ = rustix::process::kill_process(
                rustix::process::Pid::from_raw(each).unwrap(),
                rustix::process::Signal::KILL,
            );
        }
        child.wait().unwrap();
    }
}
