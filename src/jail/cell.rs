//! One running program, from its start until nothing of it is left.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::rc::Rc;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions};

use super::Limits;
use super::census::Proc;
use super::cgroup::Cgroup;
use super::drain::Drain;
use super::folder;
use super::job::Role;
use super::start::{Finish, Starter};
use super::sys;
use super::vigil::{GRACE, Lost, Sight, Surroundings};
use super::watch::Stop;

/// How long a killed process may take to be gone. Only one that hangs in the kernel takes longer.
pub(super) const LAST_BREATH: Duration = Duration::from_secs(20);

/// How often it is looked whether helpers of a program that has ended are gone.
const IMPATIENCE: Duration = Duration::from_millis(1);

/// A started process.
#[derive(Debug)]
pub(super) struct Running {
    /// What it executes.
    pub(super) role: Role,
    /// The program's first process.
    pub(super) pid: Pid,
    /// Becomes readable when it ends; none where the kernel has no such thing.
    pub(super) pidfd: Option<OwnedFd>,
    /// The init of its pid namespace, where it has one: when that is gone, everything is.
    pub(super) init: Option<Pid>,
}

/// A program being watched.
#[derive(Debug)]
pub(super) struct Cell {
    running: Running,
    pub(super) drain: Drain,
    cgroup: Option<Rc<Cgroup>>,
    /// Its folder, where nothing else bounds what lies there.
    folder: Option<PathBuf>,
    /// The limit of ours that it reached.
    pub(super) stop: Option<Stop>,
    /// When its first process was seen to have ended.
    pub(super) ended: Option<Instant>,
    /// When what it left was killed.
    killed: Option<Instant>,
    pub(super) left_behind: bool,
    finish: Option<Finish>,
    /// The processor time last read.
    cpu: Duration,
}

impl Cell {
    pub(super) fn new(running: Running, drain: Drain, cgroup: Option<Rc<Cgroup>>, folder: Option<PathBuf>) -> Cell {
        Cell {
            running,
            drain,
            cgroup,
            folder,
            stop: None,
            ended: None,
            killed: None,
            left_behind: false,
            finish: None,
            cpu: Duration::ZERO,
        }
    }

    /// Nothing of it is left.
    pub(super) fn over(&self) -> bool {
        self.finish.is_some()
    }

    /// Its first process has not ended, and is not to end by our hand.
    pub(super) fn running(&self) -> bool {
        self.ended.is_none() && self.stop.is_none()
    }

    /// What becomes readable when it ends.
    pub(super) fn end(&self) -> Option<BorrowedFd<'_>> {
        self.running.pidfd.as_ref().map(AsFd::as_fd)
    }

    /// How long nothing need be looked at.
    pub(super) fn patience(&self) -> Option<Duration> {
        (!self.over() && self.ended.is_some()).then_some(IMPATIENCE)
    }

    /// Kills it: the whole pid namespace, or the whole process group.
    pub(super) fn kill(&mut self) {
        self.killed.get_or_insert_with(Instant::now);
        // One that has no process left is dead enough. It is not reaped yet, so that its number is its own.
        let _ = match self.running.init {
            Some(init) => rustix::process::kill_process(init, Signal::KILL),
            None => rustix::process::kill_process_group(self.running.pid, Signal::KILL),
        };
    }

    /// Kills it because nobody needs it any more.
    pub(super) fn dismiss(&mut self) {
        if self.ended.is_none() && self.killed.is_none() {
            self.kill();
        }
    }

    /// Its first process.
    pub(super) fn pid(&self) -> i32 {
        self.running.pid.as_raw_pid()
    }

    /// Counts its processes and files and reads its processor time.
    pub(super) fn count(&mut self, around: &Surroundings) -> io::Result<()> {
        let refused = self.refused()?;
        let census = around.proc.census(self.pid(), self.running.init.map(Pid::as_raw_pid));
        if let Some(stat) = around.proc.stat(self.pid()) {
            self.cpu = self.cpu.max(stat.cpu());
        }
        let limits = around.limits;
        let holds = |folder: &PathBuf| folder::holds_more(folder, limits.folder_bytes(), Limits::FILES);
        self.stop = match () {
            () if refused.is_some() => refused,
            () if self.cpu >= limits.cpu => Some(Stop::Cpu),
            () if census.tasks > limits.processes => Some(Stop::Processes),
            // The kernel bounds the address space of each; here it is all together. One alone needs no second look.
            () if census.pids.len() > 1
                && census.resident_bytes > limits.memory_bytes
                && around.proc.memory_bytes(&census.pids) > limits.memory_bytes =>
            {
                Some(Stop::Memory)
            }
            () if self.folder.as_ref().is_some_and(holds) => Some(Stop::Files),
            () => return Ok(()),
        };
        self.kill();
        Ok(())
    }

    /// The limit of its cgroup that it has reached.
    pub(super) fn refused(&self) -> io::Result<Option<Stop>> {
        self.cgroup.as_ref().map_or(Ok(None), |cgroup| cgroup.reached())
    }

    /// Looks how far it is. `watched` are the first processes of all that are watched together.
    pub(super) fn step(&mut self, proc: &Proc, starter: &mut Starter, watched: &[i32]) -> Result<(), Lost> {
        if self.ended.is_none() {
            if !self.has_ended()? {
                return self.still_dying();
            }
            self.ended = Some(Instant::now());
        }
        let Some(ended) = self.ended else { return Ok(()) };
        let others = match self.running.init {
            Some(init) => proc.children(init.as_raw_pid()).into_iter().filter_map(Pid::from_raw).collect(),
            None => others(proc, starter, watched),
        };
        if !others.is_empty() {
            if self.stop.is_some() || ended.elapsed() >= GRACE || self.killed.is_some() {
                self.left_behind |= self.stop.is_none();
                self.kill();
                for pid in others {
                    let _ = rustix::process::kill_process(pid, Signal::KILL);
                }
            }
            return self.still_dying();
        }
        let finish = starter.reap(&self.running).map_err(Lost::Failed)?;
        let killed = self.killed.is_none() && finish.status & 0x7f == libc::SIGKILL;
        if killed && self.init_is_gone() {
            return Err(Lost::Failed("the init of its pid namespace was killed from outside".into()));
        }
        self.finish = Some(finish);
        Ok(())
    }

    /// Whether the init of its pid namespace has ended, which no program can bring about, and took it along. It ends a
    /// moment after the last process in there was reaped.
    fn init_is_gone(&self) -> bool {
        self.running.init.is_some_and(|init| {
            (0..100).any(|_| {
                std::thread::sleep(IMPATIENCE);
                matches!(ended(init), Ok(true))
            })
        })
    }

    fn still_dying(&mut self) -> Result<(), Lost> {
        let since = self.killed.or(self.ended);
        match since.is_some_and(|since| since.elapsed() >= LAST_BREATH) {
            true => Err(Lost::Failed(format!("still alive {} s after SIGKILL", LAST_BREATH.as_secs()))),
            false => Ok(()),
        }
    }

    fn has_ended(&self) -> Result<bool, Lost> {
        if let Some(pidfd) = &self.running.pidfd {
            let mut polled = [PollFd::new(pidfd, PollFlags::IN)];
            return match rustix::event::poll(&mut polled, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })) {
                Ok(ready) => Ok(ready > 0),
                Err(rustix::io::Errno::INTR) => Ok(false),
                Err(error) => Err(io::Error::from(error).into()),
            };
        }
        Ok(ended(self.running.pid)?)
    }

    /// Everything that was seen of it.
    pub(super) fn seen(self) -> Sight {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let (report, printed) = (text(&self.drain.report), text(self.drain.printed()));
        let (status, cpu) = self.finish.map_or((9, Duration::ZERO), |finish| (finish.status, finish.cpu));
        Sight { report, printed, stop: self.stop, left_behind: self.left_behind, cpu: cpu.max(self.cpu), status }
    }
}

/// Whether a child of ours has ended; it is not reaped.
fn ended(pid: Pid) -> io::Result<bool> {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT | WaitIdOptions::NOHANG;
    match rustix::process::waitid(WaitId::Pid(pid), options) {
        Ok(status) => Ok(status.is_some()),
        Err(rustix::io::Errno::INTR) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// What was left behind where there is no pid namespace: we are the reaper of all descendants. With each that is reaped,
/// its children come to us, so that only a list of which nobody was reaped is whole.
fn others(proc: &Proc, starter: &Starter, watched: &[i32]) -> Vec<Pid> {
    loop {
        let mut alive = Vec::new();
        let mut reaped = false;
        for pid in proc.children(rustix::process::getpid().as_raw_pid()) {
            if watched.contains(&pid) || starter.owns(pid) {
                continue;
            }
            let Some(id) = Pid::from_raw(pid) else { continue };
            match sys::reap(Some(id), false) {
                Ok(None) => alive.push(id),
                Ok(Some(_)) => reaped = true,
                Err(_) => {}
            }
        }
        if !reaped {
            return alive;
        }
    }
}
