//! Runs one untrusted Python program, kept from the machine, and says what it did.
//!
//! # How it works
//! A supervisor is started: our own executable again, under another name, with an empty environment, no descriptor but a
//! socket, and one thread, so that it may fork ([`host`], `supervisor.rs`).
//!
//! 1. For each program that runs at once the supervisor forks a *slot*. `fence.rs` brings it to where it can start
//!    programs: at `namespaces` into a mount, network, IPC and UTS namespace (and a user namespace, when we are not
//!    root) with a view of a few folders to be read (`view.rs`).
//! 2. The slot keeps an interpreter that has imported the standard library (`zygote.py`) and is forked for each program,
//!    or starts a fresh one (`start.rs`). At `namespaces` the fork is born into a new pid namespace, whose init is a
//!    process of the slot's that does nothing (`init.rs`); it has a file system and a `/proc` of its own, and a user that
//!    nobody else is. It takes its limits, gives up all rights, and closes Landlock (`fence.rs`) and seccomp
//!    (`filter.rs`) behind it. In the end init is killed, and when it is reaped, nothing of the pid namespace is left: the
//!    kernel says so. At `landlock` the slot is the reaper of all that the program left, and kills until there is nobody.
//! 3. `runner.py` is what every interpreter executes. It reads a nonce and the program from stdin, says `begun` on the
//!    report pipe, compiles and executes the program as one unit, and writes one report with the nonce: how the last
//!    statement ended. It then leaves by `_exit`, so that no thread and no exit handler comes after.
//! 4. `vigil.rs` drains stdout, stderr and the report pipe in one `poll` loop, holds the limits that the kernel does not
//!    hold for us, or not finely enough (processor and wall time, printed bytes, processes and their memory together),
//!    and kills. What a slot cannot do ends the slot, and the supervisor sweeps what is below it (`cell.rs`).
//! 5. `judge.rs` turns what was seen into a [`Judgement`]. It is a pure function.
//!
//! Who dies takes the rest along: the supervisor ends with the harness's socket, a slot with the supervisor's pipe, an
//! init with its slot, a program with its init.
//!
//! What holds is found by trying (`canary.rs`): a program attempts to reach files, sockets and processes that are really
//! there, and a level where one canary gets through does not hold.
//!
//! Where there is no Linux, and at [`Isolation::None`] in a program that never called [`host`], `spawn.rs` starts a fresh
//! interpreter in a session of its own and `watch.rs` watches it from the calling thread.
//!
//! # What a pass rests on
//! Exactly one well-formed report with the right nonce, no limit reached, and nobody left who holds our pipes. Exit
//! status and printed text are never evidence: a program that calls `exit(0)` before its tests has not passed.
//!
//! The nonce stops accidents, not intent. So a pass is judged once more with candidate and tests in two interpreters,
//! each in a cell of its own, where plain values are all that crosses (`split.rs`, `split.py`). Who passes only beside
//! its tests is `disputed`; a pass whose tests need it beside them is marked `in_process`. A slot keeps a second
//! interpreter for judges, which parses the tests of a task once; that of the candidates has never seen a test.
//!
//! Every `Err` is ours: no interpreter, no disk, no `begun`. It says nothing about the program and must not be counted
//! as a wrong answer. Everything the program brings about itself is `Ok`.
//!
//! # What it does not hold
//! Without the second judging, or where it cannot be had, a program written against this very runner can forge a report
//! from inside the interpreter. Below `full` nothing bounds memory that is in no process, beyond the size of the program's
//! files. At `landlock` the machine's one `/dev/shm` is closed, so that multiprocessing's locks, queues and pools fail
//! there with a `PermissionError`, and the processes of our user are counted together by the kernel. At
//! [`Isolation::None`] the program runs as us: it can read and write our files, use the network, and signal our other
//! processes, the other of the two interpreters among them; a daemon that calls `setsid` and closes every descriptor
//! outlives it unseen; the processor and memory limits hold for each of its processes, not for their sum.

#[cfg(target_os = "linux")]
mod canary;
#[cfg(target_os = "linux")]
mod cell;
#[cfg(target_os = "linux")]
mod census;
#[cfg(target_os = "linux")]
mod cgroup;
#[cfg(target_os = "linux")]
mod client;
mod drain;
mod error;
#[cfg(target_os = "linux")]
mod fence;
#[cfg(target_os = "linux")]
mod filter;
mod folder;
mod group;
#[cfg(target_os = "linux")]
mod init;
mod interpreter;
mod job;
mod judge;
mod proc;
mod python;
mod report;
mod settings;
mod spawn;
mod split;
#[cfg(target_os = "linux")]
mod start;
mod stdio;
#[cfg(target_os = "linux")]
mod supervisor;
mod survey;
#[cfg(target_os = "linux")]
mod sys;
#[cfg(target_os = "linux")]
mod view;
#[cfg(target_os = "linux")]
mod vigil;
mod watch;
#[cfg(target_os = "linux")]
mod wire;

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};

pub use self::error::JailError;
pub use self::python::Python;
pub use self::settings::{Isolation, JailOptions, Limits, Start};
pub use self::survey::{LevelReport, Survey, survey};

use self::folder::Folder;
use self::job::{Job, Role};
use self::split::Finding;
use crate::program::{Program, Tests};
use crate::verdict::{Judgement, Verdict};

/// The name under which an executable of ours is the jail's supervisor.
#[cfg(target_os = "linux")]
const NAME: &str = "passk-jail";

/// Whether this program has called [`host`].
static HOSTED: AtomicBool = AtomicBool::new(false);

/// To be called first of all in `main`, before any thread is started: when this process was started to be a jail's
/// supervisor, it is one from here on and never returns. [`main!`](crate::main) does so.
pub fn host() {
    HOSTED.store(true, Ordering::Relaxed);
    #[cfg(target_os = "linux")]
    if std::env::args_os().next().is_some_and(|name| name == NAME) {
        supervisor::supervise();
    }
}

/// Kills every program that runs now, with all its processes; the [`run`](Jail::run) that waits for it returns
/// [`JailError::Interrupted`]. For the moment of Ctrl-C: the caller sees to it that no further ones start.
pub fn kill_all() {
    group::kill_all();
    #[cfg(target_os = "linux")]
    client::kill_all();
}

/// Where programs run: an interpreter, the limits that hold and what keeps the machine from them. Shared between
/// threads as it is.
#[derive(Debug)]
pub struct Jail {
    python: Python,
    limits: Limits,
    start: Start,
    split: bool,
    survey: LevelReport,
    /// Better levels, and why they do not hold here.
    passed_over: Vec<(Isolation, String)>,
    /// The supervisor; none where the calling thread does its work.
    #[cfg(target_os = "linux")]
    client: Option<client::Client>,
}

impl Jail {
    /// A jail around `python` at the level asked for; without one at the best that holds. What holds is tried, not
    /// assumed: programs try to do what they must not, and an empty one must pass.
    ///
    /// # Errors
    /// When an empty program does not pass, or the level asked for does not hold, or none does, or [`Isolation::None`]
    /// is asked for and nobody agreed to it.
    pub fn new(python: Python, limits: Limits, options: JailOptions) -> Result<Jail, JailError> {
        match options.isolation {
            Some(Isolation::None) if !options.consent => Err(JailError::NoConsent),
            Some(level) => Jail::at(level, python, limits, &options),
            None => Jail::best(python, limits, &options),
        }
    }

    fn best(python: Python, limits: Limits, options: &JailOptions) -> Result<Jail, JailError> {
        let mut passed_over = Vec::new();
        let mut broken = None;
        for level in Isolation::OFFERED {
            match Jail::at(level, python.clone(), limits.clone(), options) {
                Ok(jail) => return Ok(Jail { passed_over, ..jail }),
                Err(JailError::Level { why, .. }) => passed_over.push((level, why)),
                // Not a matter of levels, unless a lower one can do without what is missing.
                Err(error) => {
                    passed_over.push((level, error.to_string()));
                    broken = broken.or(Some(error));
                }
            }
        }
        Err(broken.unwrap_or_else(|| JailError::Nothing(survey::in_words(&passed_over))))
    }

    fn at(level: Isolation, python: Python, limits: Limits, options: &JailOptions) -> Result<Jail, JailError> {
        #[cfg(target_os = "linux")]
        if level != Isolation::None {
            return canary::proven(level, python, limits, options);
        }
        #[cfg(not(target_os = "linux"))]
        if level != Isolation::None {
            return Err(JailError::Level { level, why: "it is made of parts of Linux".into() });
        }
        // Nothing is proven here, so that where there is no supervisor to be had the caller's own threads do.
        #[cfg(target_os = "linux")]
        if let Ok(jail) = canary::start(level, python.clone(), limits.clone(), options) {
            return jail.check();
        }
        let jail = Jail {
            python,
            limits,
            start: Start::Cold,
            split: options.split,
            survey: LevelReport::unproven(level),
            passed_over: Vec::new(),
            #[cfg(target_os = "linux")]
            client: None,
        };
        jail.check()
    }

    /// Runs an empty program: also where nothing is held back, what is needed to run one is tried.
    fn check(self) -> Result<Jail, JailError> {
        match self.run_source("", None, &self.limits)?.0 {
            Judgement { verdict: Verdict::Passed, .. } => Ok(self),
            Judgement { verdict, detail, .. } => Err(JailError::Canary { path: self.python.path, verdict, detail }),
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
            Tests::Code { text, entry_point, prompt } => {
                let first = self.run_source(&program.source(), None, limits)?.0;
                // Without a test there is nothing that could come out otherwise.
                if !self.split || !first.verdict.passed() || text.trim().is_empty() {
                    return Ok(first);
                }
                let again = split::judge(self, &program.candidate, text, entry_point.as_deref(), prompt, limits)?;
                Ok(match again {
                    Finding::Same => first,
                    Finding::Whole(why) => Judgement { in_process: Some(why), ..first },
                    Finding::Differs(Judgement { verdict, detail, .. }) => Judgement {
                        cpu: first.cpu,
                        apart: Some(verdict),
                        ..Judgement::new(Verdict::Disputed, format!("apart from its tests {verdict}: {detail}"))
                    },
                })
            }
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
        let nonce = nonce().map_err(JailError::Deliver)?;
        let job = Job { role: Role::Whole, nonce, source: source.to_owned(), input: input.map(str::to_owned) };
        let Trace { seen, home, removed } = self.execute(&job, limits)?;
        let mut judgement = judge::judge(&seen, limits, &job.nonce, &home)
            .map_err(|cause| JailError::NotBegun { path: self.python.path.clone(), cause })?;
        let stdout = seen.stdout;
        if !removed && judgement.verdict.passed() {
            // Emptied folders of passing programs are removed even from under odd permissions, so this one was made
            // to stay.
            return Ok((Judgement::new(Verdict::Violation, "left a folder that cannot be removed"), stdout));
        }
        if input.is_some() && judgement.verdict == Verdict::EarlyExit && seen.status.success() {
            // `os._exit(0)`: of a program that is judged by what it prints, no report is needed.
            judgement = Judgement { cpu: judgement.cpu, ..Judgement::new(Verdict::Passed, "") };
        }
        Ok((self.explained(judgement, source), stdout))
    }

    /// Says of a program that may have failed for what the level lacks, that it may.
    fn explained(&self, mut judgement: Judgement, source: &str) -> Judgement {
        let shares = ["multiprocessing", "shared_memory", "ProcessPool"].iter().any(|word| source.contains(word));
        let refused = judgement.detail.contains("PermissionError: [Errno 13]");
        if self.isolation() == Isolation::Landlock && judgement.verdict == Verdict::Exception && refused && shares {
            judgement.detail += " (isolation `landlock` has no shared memory; `namespaces` has)";
        }
        judgement
    }

    /// Executes one job.
    fn execute(&self, job: &Job, limits: &Limits) -> Result<Trace, JailError> {
        #[cfg(target_os = "linux")]
        if let Some(client) = &self.client {
            let [outcome] = client.run([job.clone()], limits)?;
            return Ok(outcome.into());
        }
        self.execute_here(job, None, limits, &AtomicBool::new(false))
    }

    /// Executes a candidate and the judge that asks it. When the judge ends, so does the candidate.
    fn execute_pair(&self, jobs: &[Job; 2], limits: &Limits) -> Result<[Trace; 2], JailError> {
        #[cfg(target_os = "linux")]
        if let Some(client) = &self.client {
            return Ok(client.run(jobs.clone(), limits)?.map(Trace::from));
        }
        let (one, other) = UnixStream::pair().map_err(JailError::Deliver)?;
        let over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let candidate = scope.spawn(|| self.execute_here(&jobs[0], Some(one.into()), limits, &over));
            let judge = self.execute_here(&jobs[1], Some(other.into()), limits, &AtomicBool::new(false));
            over.store(true, Ordering::Relaxed);
            let candidate = candidate.join().map_err(|_| JailError::Slot("a thread died".into()))?;
            Ok([candidate?, judge?])
        })
    }

    /// Executes a job from this thread, with nothing between it and us.
    fn execute_here(
        &self,
        job: &Job,
        channel: Option<OwnedFd>,
        limits: &Limits,
        dismissed: &AtomicBool,
    ) -> Result<Trace, JailError> {
        let folder = Folder::new()?;
        let seen = spawn::spawn(&self.python, limits, folder.path(), job, channel)
            .and_then(|spawned| watch::watch(spawned, limits, dismissed));
        let home = folder.path().to_string_lossy().into_owned();
        let removed = folder.remove().is_ok();
        Ok(Trace { seen: seen?, home, removed })
    }

    /// What really holds.
    pub fn isolation(&self) -> Isolation {
        self.survey.level
    }

    /// Whether passes are judged once more with candidate and tests apart.
    pub fn split(&self) -> bool {
        self.split
    }

    /// How interpreters are started.
    pub fn start(&self) -> Start {
        self.start
    }

    /// What holds programs, and what was tried to find out.
    pub fn report(&self) -> &LevelReport {
        &self.survey
    }

    /// Better levels than this, when none was asked for, and why they do not hold here: `full: …; namespaces: …`. Empty
    /// when there is none.
    pub fn passed_over(&self) -> String {
        survey::in_words(&self.passed_over)
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

/// What is left of a job that was executed.
#[derive(Debug)]
struct Trace {
    seen: watch::Seen,
    /// The folder it ran in.
    home: String,
    /// Whether nothing of that folder is left.
    removed: bool,
}

#[cfg(target_os = "linux")]
impl From<wire::Outcome> for Trace {
    fn from(outcome: wire::Outcome) -> Trace {
        let home = outcome.home.to_string_lossy().into_owned();
        Trace { seen: outcome.seen.into(), home, removed: outcome.removed }
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
    fn nonces_differ() {
        let (one, two) = (nonce().unwrap(), nonce().unwrap());
        assert_eq!(one.len(), 32);
        assert_ne!(one, two);
    }
}
