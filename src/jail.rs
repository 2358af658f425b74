//! Runs one untrusted Python program in a subprocess and says what it did.
//!
//! # How it works
//! [`Jail::run`] makes an empty folder, starts a fresh interpreter in it and watches it until nothing is left of it:
//!
//! 1. `spawn.rs` forks. Between fork and exec the child becomes its own session (and so its own process group), asks
//!    to die with us, takes its resource limits and drops every descriptor but 0, 1, 2 and the report pipe. Its
//!    environment is a fixed handful, its working folder, `HOME` and `TMPDIR` are the new folder.
//! 2. `runner.py` is what the interpreter executes. It reads a nonce and the program from stdin, says `begun` on the
//!    report pipe, compiles and executes the program as one unit, and writes one report with the nonce: how the last
//!    statement ended. It then leaves by `_exit`, so that no thread and no exit handler comes after.
//! 3. `watch.rs` drains stdout, stderr and the report pipe in one `poll` loop without helper threads, holds the limits
//!    that the kernel does not hold for us, or not finely enough (processor and wall time, printed bytes, number of
//!    processes), kills the whole group however the program ended, and reaps.
//! 4. `judge.rs` turns what was seen into a [`Judgement`]. It is a pure function.
//!
//! # What a pass rests on
//! Exactly one well-formed report with the right nonce, no limit reached, and nobody left who holds our pipes. Exit
//! status and printed text are never evidence: a program that calls `exit(0)` before its tests has not passed.
//!
//! Every `Err` is ours: no interpreter, no disk, no `begun`. It says nothing about the program and must not be counted
//! as a wrong answer. Everything the program brings about itself is `Ok`.
//!
//! # What it does not hold
//! This is [`Isolation::None`]: the program runs as us. It can read and write our files, use the network, and signal
//! our other processes; a daemon that calls `setsid` and closes every descriptor outlives it unseen; the processor
//! and memory limits hold for each of its processes, not for their sum; many files fill a disk however small each is.
//! A program written against this very runner can also forge a report from inside the interpreter: the nonce stops
//! accidents, not intent.

mod folder;
mod group;
mod judge;
mod proc;
mod python;
mod spawn;
mod stdio;
mod watch;

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::PathBuf;
use std::time::Duration;

use clap::ValueEnum;
use thiserror::Error;

pub use self::group::kill_all;
pub use self::python::Python;

use self::folder::Folder;
use crate::program::{Program, Tests};
use crate::verdict::{Judgement, Verdict};

/// What one program may use.
#[derive(Clone, Debug, PartialEq, Eq)]
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
    /// Size of each file it writes.
    pub file_bytes: u64,
    /// Processes and threads in its group, itself included. Counted ten times a second, so that shorter peaks go
    /// unseen; not held on macOS. `RLIMIT_NPROC` is left alone on purpose: it does not bind root, and for others it
    /// counts everything that the user runs, so that one program's limit would hang on the next one's appetite.
    pub processes: u64,
}

impl Limits {
    /// The limits that go with `cpu`: three times as long on the wall and at least 5 s, 1 GiB of memory, 1 MiB of
    /// output, files of 64 MiB, 128 processes and threads.
    pub fn for_cpu(cpu: Duration) -> Limits {
        Limits {
            cpu,
            wall: cpu.saturating_mul(3).max(Duration::from_secs(5)),
            memory_bytes: 1 << 30,
            output_bytes: 1 << 20,
            file_bytes: 64 << 20,
            processes: 128,
        }
    }

    /// The processor limit that the kernel is given: whole seconds, and always above ours. The kernel's clock runs a
    /// few milliseconds apart from the one we read; a program that catches its signal must not end in between.
    fn kernel_cpu_seconds(&self) -> u64 {
        self.cpu.as_secs().saturating_add(1)
    }
}

/// How much a program is kept from, weakest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, ValueEnum)]
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, ValueEnum)]
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
    /// The level; without one the best that holds.
    pub isolation: Option<Isolation>,
    /// Whoever asks understands that at [`Isolation::None`] programs run with the user's rights.
    pub consent: bool,
    /// How the interpreter is started.
    pub start: Start,
    /// Whether every pass is judged again with candidate and tests in processes of their own.
    pub split: bool,
    /// The executable that hosts the supervisor: one that calls `jail::host` first of all. Without one, this executable.
    pub host: Option<PathBuf>,
}

impl Default for JailOptions {
    fn default() -> JailOptions {
        JailOptions { isolation: None, consent: false, start: Start::Warm, split: true, host: None }
    }
}

/// What the harness could not do. It says nothing about the program.
#[derive(Debug, Error)]
pub enum JailError {
    /// There is no interpreter, or it does not answer.
    #[error("no python at `{command}`: {cause}; install Python 3.8 or newer, or set PASSK_PYTHON to its path")]
    NoPython {
        /// The command that was tried.
        command: String,
        /// Why it is no interpreter.
        cause: String,
    },
    /// The interpreter is too old.
    #[error("python `{path}` is version {version}, but 3.8 or newer is needed; set PASSK_PYTHON to a newer one")]
    OldPython {
        /// The interpreter.
        path: PathBuf,
        /// Its version.
        version: String,
    },
    /// The interpreter works, but not inside the jail.
    #[error("python `{path}` fails an empty program in the jail: {verdict}: {detail}")]
    Canary {
        /// The interpreter.
        path: PathBuf,
        /// What became of the empty program.
        verdict: Verdict,
        /// Why.
        detail: String,
    },
    /// No folder could be made for the program.
    #[error("failed to make a folder in `{parent}`: {cause}; TMPDIR may name another place")]
    Folder {
        /// Where it was to be.
        parent: PathBuf,
        /// What the system said.
        cause: io::Error,
    },
    /// The program could not be handed over.
    #[error("failed to write the program to a temporary file: {0}")]
    Deliver(io::Error),
    /// No process could be started.
    #[error("failed to start python `{path}`: {cause}")]
    Start {
        /// The interpreter.
        path: PathBuf,
        /// What the system said.
        cause: io::Error,
    },
    /// The interpreter ended, or the time did, before the program was begun.
    #[error("python `{path}` ended before the program began: {cause}")]
    NotBegun {
        /// The interpreter.
        path: PathBuf,
        /// Its last words, or how it ended.
        cause: String,
    },
    /// The running program could not be watched.
    #[error("failed to watch process {pid}: {cause}")]
    Watch {
        /// The program's first process.
        pid: i32,
        /// What the system said.
        cause: io::Error,
    },
    /// The level that was asked for does not hold here.
    #[error("isolation `{level}` does not hold here: {why}")]
    Level {
        /// What was asked for.
        level: Isolation,
        /// What is missing.
        why: String,
    },
    /// The program was killed by [`kill_all`].
    #[error("interrupted")]
    Interrupted,
}

/// Where programs run: an interpreter and the limits that hold. Shared between threads as it is.
#[derive(Debug)]
pub struct Jail {
    python: Python,
    limits: Limits,
}

impl Jail {
    /// A jail around `python`. An empty program is run in it first: what the jail needs is tried, not assumed.
    ///
    /// # Errors
    /// When that program does not pass, or the level asked for is none that holds.
    pub fn new(python: Python, limits: Limits, options: JailOptions) -> Result<Jail, JailError> {
        if let Some(level) = options.isolation.filter(|level| *level != Isolation::None) {
            return Err(JailError::Level { level, why: "it is not built yet".into() });
        }
        let jail = Jail { python, limits };
        match jail.run_source("", None, &jail.limits)?.0 {
            Judgement { verdict: Verdict::Passed, .. } => Ok(jail),
            Judgement { verdict, detail, .. } => Err(JailError::Canary { path: jail.python.path, verdict, detail }),
        }
    }

    /// Runs `program` to its end, or to a limit, and leaves no process of its group and nothing of its folder behind.
    ///
    /// The same program gives the same judgement each time as far as that is in our hands: hashes and `random` are
    /// seeded, and addresses and folder names are kept out of the detail.
    ///
    /// # Errors
    /// When the program could not be judged through no doing of its own. It may be tried again.
    pub fn run(&self, program: &Program) -> Result<Judgement, JailError> {
        self.run_within(program, &self.limits)
    }

    /// Runs `program` under limits other than the jail's own: some problems are known to need more.
    ///
    /// # Errors
    /// As [`run`](Jail::run).
    pub fn run_within(&self, program: &Program, limits: &Limits) -> Result<Judgement, JailError> {
        match &program.tests {
            Tests::Code { .. } => Ok(self.run_source(&program.source(), None, limits)?.0),
            Tests::Stdio(tests) => stdio::judge(self, &program.candidate, tests, limits),
        }
    }

    /// Runs a text, as a program of its own when it has an input. Returns what it did, and what it printed on stdout.
    fn run_source(
        &self,
        source: &str,
        input: Option<&str>,
        limits: &Limits,
    ) -> Result<(Judgement, Vec<u8>), JailError> {
        let folder = Folder::new()?;
        let nonce = nonce().map_err(JailError::Deliver)?;
        let seen = spawn::spawn(&self.python, limits, folder.path(), &nonce, source, input)
            .and_then(|spawned| watch::watch(spawned, limits));
        let place = folder.path().to_string_lossy().into_owned();
        let removed = folder.remove();
        let seen = seen?;
        let mut judgement = judge::judge(&seen, limits, &nonce, &place)
            .map_err(|cause| JailError::NotBegun { path: self.python.path.clone(), cause })?;
        if removed.is_err() && judgement.verdict.passed() {
            // Emptied folders of passing programs are removed even from under odd permissions, so this one was made
            // to stay.
            let detail = "left a folder that cannot be removed";
            return Ok((Judgement::new(Verdict::Violation, detail), seen.stdout));
        }
        if input.is_some() && judgement.verdict == Verdict::EarlyExit && seen.status.success() {
            // `os._exit(0)`: of a program that is judged by what it prints, no report is needed.
            judgement = Judgement { cpu: judgement.cpu, ..Judgement::new(Verdict::Passed, "") };
        }
        Ok((judgement, seen.stdout))
    }

    /// What really holds.
    pub fn isolation(&self) -> Isolation {
        Isolation::None
    }

    /// The interpreter that runs the programs.
    pub fn python(&self) -> &Python {
        &self.python
    }

    /// What one program may use.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }
}

/// 32 hexadecimal digits that no program can guess.
fn nonce() -> io::Result<String> {
    let mut bytes = [0; 16];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
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

    #[test]
    fn nonces_differ() {
        let (one, two) = (nonce().unwrap(), nonce().unwrap());
        assert_eq!(one.len(), 32);
        assert_ne!(one, two);
    }
}
