//! The process groups that are alive, and how each of them ends.
//!
//! A group is killed before its first process is reaped: until then nobody else can be given its number, so that no
//! signal of ours goes astray. For the same reason a group is struck off the list of living ones before that.

use std::collections::BTreeMap;
use std::io;
use std::process::{Child, ExitStatus};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions};
use wait_timeout::ChildExt;

use super::JailError;

/// How long a killed process may take to be gone. Only one that hangs in the kernel takes longer.
const LAST_BREATH: Duration = Duration::from_secs(20);

static ALIVE: Alive = Alive::new();

/// Kills every program that runs now, with all processes of its group; the [`run`](super::Jail::run) that waits for it
/// returns [`JailError::Interrupted`]. For the moment of Ctrl-C: the caller sees to it that no further ones start.
pub(super) fn kill_all() {
    ALIVE.kill_all();
}

/// The groups that are alive.
struct Alive {
    list: Mutex<List>,
}

struct List {
    /// Group → whether [`kill_all`] reached it.
    killed: BTreeMap<i32, bool>,
    /// How often everything was killed.
    rounds: u64,
}

impl Alive {
    const fn new() -> Alive {
        Alive { list: Mutex::new(List { killed: BTreeMap::new(), rounds: 0 }) }
    }

    fn list(&self) -> MutexGuard<'_, List> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn kill_all(&self) {
        let mut list = self.list();
        list.rounds += 1;
        for (&group, killed) in &mut list.killed {
            kill(group);
            *killed = true;
        }
    }

    fn rounds(&self) -> u64 {
        self.list().rounds
    }

    /// Puts a group on the list that was started after `rounds` was read. If everything was killed in between, it
    /// is killed now.
    fn enter(&self, group: i32, rounds: u64) {
        let mut list = self.list();
        let late = list.rounds != rounds;
        if late {
            kill(group);
        }
        list.killed.insert(group, late);
    }

    /// Strikes a group off; true if [`kill_all`] reached it.
    fn leave(&self, group: i32) -> bool {
        self.list().killed.remove(&group).unwrap_or(false)
    }
}

/// Sends SIGKILL to every process of a group. One that has no process left is dead enough.
fn kill(group: i32) {
    if let Some(pid) = Pid::from_raw(group) {
        let _ = rustix::process::kill_process_group(pid, Signal::KILL);
    }
}

/// A program's process group, led by its first process. Dropped, it is dead.
#[derive(Debug)]
pub(super) struct Group {
    leader: Child,
    pid: Pid,
    reaped: bool,
}

impl Group {
    /// Starts a group. `start` returns a child that leads its own.
    pub(super) fn start(start: impl FnOnce() -> io::Result<Child>) -> io::Result<Group> {
        let rounds = ALIVE.rounds();
        let leader = start()?;
        let pid = Pid::from_child(&leader);
        ALIVE.enter(pid.as_raw_pid(), rounds);
        Ok(Group { leader, pid, reaped: false })
    }

    /// The number of the group and of its first process.
    pub(super) fn pid(&self) -> i32 {
        self.pid.as_raw_pid()
    }

    /// Whether the first process has ended. It is not reaped.
    pub(super) fn ended(&self) -> Result<bool, JailError> {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT | WaitIdOptions::NOHANG;
        match rustix::process::waitid(WaitId::Pid(self.pid), options) {
            Ok(status) => Ok(status.is_some()),
            Err(rustix::io::Errno::INTR) => Ok(false),
            Err(error) => Err(self.lost(error.into())),
        }
    }

    /// Kills every process of the group.
    pub(super) fn kill(&self) {
        kill(self.pid());
    }

    /// Reaps the first process of a killed group.
    pub(super) fn reap(mut self) -> Result<ExitStatus, JailError> {
        let interrupted = ALIVE.leave(self.pid());
        self.reaped = true;
        let ended = self.leader.wait_timeout(LAST_BREATH).map_err(|cause| self.lost(cause))?;
        match ended {
            _ if interrupted => Err(JailError::Interrupted),
            Some(status) => Ok(status),
            None => Err(self.lost(io::Error::new(
                io::ErrorKind::TimedOut,
                format!("still alive {} s after SIGKILL", LAST_BREATH.as_secs()),
            ))),
        }
    }

    /// The error of having lost sight of it.
    pub(super) fn lost(&self, cause: io::Error) -> JailError {
        JailError::Watch { pid: self.pid(), cause }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if !self.reaped {
            self.kill();
            ALIVE.leave(self.pid());
            // The error that brought us here is the one to tell.
            let _ = self.leader.wait_timeout(LAST_BREATH);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::os::unix::process::{CommandExt, ExitStatusExt};
    use std::process::Command;

    fn sleeper() -> Child {
        Command::new("sleep").arg("60").process_group(0).spawn().unwrap()
    }

    fn pid(child: &Child) -> i32 {
        Pid::from_child(child).as_raw_pid()
    }

    #[test]
    fn everything_alive_is_killed_and_marked() {
        let alive = Alive::new();
        let (mut one, mut gone) = (sleeper(), sleeper());
        alive.enter(pid(&one), alive.rounds());
        alive.enter(pid(&gone), alive.rounds());
        assert!(!alive.leave(pid(&gone)));
        alive.kill_all();
        assert_eq!(one.wait().unwrap().signal(), Some(9));
        assert!(alive.leave(pid(&one)));
        assert!(gone.try_wait().unwrap().is_none(), "struck off before: left alone");
        gone.kill().unwrap();
        gone.wait().unwrap();
    }

    #[test]
    fn a_group_started_meanwhile_does_not_slip_through() {
        let alive = Alive::new();
        let rounds = alive.rounds();
        let mut late = sleeper();
        alive.kill_all();
        alive.enter(pid(&late), rounds);
        assert_eq!(late.wait().unwrap().signal(), Some(9));
        assert!(alive.leave(pid(&late)));
    }

    #[test]
    fn a_dropped_group_is_dead() {
        let group = Group::start(|| Ok(sleeper())).unwrap();
        let pid = group.pid;
        assert!(!group.ended().unwrap());
        drop(group);
        assert!(rustix::process::test_kill_process(pid).is_err());
    }
}
