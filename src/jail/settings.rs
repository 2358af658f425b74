//! What a jail is asked for: levels, limits, how interpreters are started.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

/// What one program may use.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Processor time of its first process: the clock of the verdict. The start of the interpreter (some 15 ms) is
    /// part of it. Every process it starts has as much for itself, and on macOS the first one too, in whole seconds.
    pub cpu: Duration,
    /// Time on the wall: the backstop for programs that sleep or block.
    pub wall: Duration,
    /// Address space of each of its processes. Not held on macOS.
    pub memory_bytes: u64,
    /// Bytes on stdout and stderr together.
    pub output_bytes: u64,
    /// Size of each file it writes; all of them together may have twice as much.
    pub file_bytes: u64,
    /// Processes and threads, itself included. At [`Isolation::Full`] the kernel refuses more; at the other levels they
    /// are counted twenty times a second, so that shorter peaks go unseen; not held on macOS. `RLIMIT_NPROC` is taken,
    /// well above, only by programs with a user of their own: it does not bind root, and for others it counts everything
    /// that the user runs, so that one program's limit would hang on the next one's appetite.
    pub processes: u64,
}

impl Limits {
    /// The limits that go with `cpu`: three times as long on the wall and at least 5 s, 1 GiB of memory, 1 MiB of
    /// output, files of 64 MiB, 128 processes and threads.
    pub fn for_cpu(cpu: Duration) -> Limits {
        Limits {
            cpu,
            wall: cpu.saturating_mul(3).max(Duration::from_secs(5)),
            memory_bytes: Limits::MEMORY_BYTES,
            output_bytes: 1 << 20,
            file_bytes: 64 << 20,
            processes: 128,
        }
    }

    /// The usual address space: 1 GiB.
    pub(super) const MEMORY_BYTES: u64 = 1 << 30;

    /// Files and folders that a program may have at a time.
    pub(super) const FILES: u64 = 16 << 10;

    /// Bytes that all its files together may have.
    pub(super) fn folder_bytes(&self) -> u64 {
        self.file_bytes.saturating_mul(2)
    }

    /// The processor limit that the kernel is given: whole seconds, and always above ours. The kernel's clock runs a
    /// few milliseconds apart from the one we read; a program that catches its signal must not end in between.
    pub(super) fn kernel_cpu_seconds(&self) -> u64 {
        self.cpu.as_secs().saturating_add(1)
    }
}

/// How much a program is kept from, weakest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Isolation {
    /// Resource limits and process groups only: the program runs as us and can do what we can.
    None,
    /// Landlock and seccomp.
    Landlock,
    /// Namespaces of its own, no capabilities, Landlock and seccomp.
    Namespaces,
    /// `Namespaces`, and a cgroup that bounds memory and processes of the whole program.
    Full,
}

impl Isolation {
    /// Every level, weakest first.
    pub const ALL: [Isolation; 4] = [Isolation::None, Isolation::Landlock, Isolation::Namespaces, Isolation::Full];

    /// The levels that are tried when none is asked for, best first.
    pub(crate) const OFFERED: [Isolation; 3] = [Isolation::Full, Isolation::Namespaces, Isolation::Landlock];
}

impl fmt::Display for Isolation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Isolation::None => "none",
            Isolation::Landlock => "landlock",
            Isolation::Namespaces => "namespaces",
            Isolation::Full => "full",
        })
    }
}

/// How an interpreter comes to a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Start {
    /// A fork of one that waits with the standard library imported.
    Warm,
    /// A fresh one each time.
    Cold,
}

impl Start {
    /// Both.
    pub const ALL: [Start; 2] = [Start::Warm, Start::Cold];
}

impl fmt::Display for Start {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Start::Warm => "warm",
            Start::Cold => "cold",
        })
    }
}

/// How programs are to be run.
#[derive(Clone, Debug)]
pub struct JailOptions {
    /// The level; without one the best that holds here, but never [`Isolation::None`].
    pub isolation: Option<Isolation>,
    /// Whoever asks for [`Isolation::None`] understands that programs then run with the user's rights.
    pub consent: bool,
    /// How the interpreter is started.
    pub start: Start,
    /// Every pass is judged once more with candidate and tests in two interpreters. Without it a program that is out
    /// for a pass can have one.
    pub split: bool,
    /// The executable that hosts the supervisor: one that calls `jail::host` first of all. Without one, this executable.
    pub host: Option<PathBuf>,
}

impl Default for JailOptions {
    fn default() -> JailOptions {
        JailOptions { isolation: None, consent: false, start: Start::Warm, split: true, host: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_holds_no_processor_limit_below_ours() {
        for (millis, seconds) in [(0, 1), (999, 1), (1000, 2), (1001, 2), (3000, 4)] {
            let limits = Limits::for_cpu(Duration::from_millis(millis));
            assert_eq!(limits.kernel_cpu_seconds(), seconds, "{millis} ms");
        }
    }

    #[test]
    fn wall_time_is_the_backstop() {
        assert_eq!(Limits::for_cpu(Duration::from_secs(1)).wall, Duration::from_secs(5));
        assert_eq!(Limits::for_cpu(Duration::from_secs(10)).wall, Duration::from_secs(30));
    }
}
