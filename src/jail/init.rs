//! A pid namespace for one program. Its init does nothing but be there: when it is killed, everything in it is.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::{Mode, OFlags};
use rustix::process::{Pid, PidfdFlags, Signal};
use rustix::thread::{LinkNameSpaceType, UnshareFlags};

use super::sys::{self, SingleThreaded};

/// The init of a pid namespace. It is a process of the slot's, small and quickly made, and no interpreter.
#[derive(Debug)]
pub(super) struct Init {
    pid: Pid,
    pidfd: OwnedFd,
    namespace: OwnedFd,
}

impl Init {
    /// Makes a pid namespace below `outside`, the one that we are in.
    pub(super) fn start(single: SingleThreaded, outside: BorrowedFd<'_>) -> io::Result<Init> {
        sys::unshare(UnshareFlags::NEWPID)?;
        let forked = sys::fork(single);
        if let Ok(None) = forked {
            be_init();
        }
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let namespace = rustix::fs::open("/proc/self/ns/pid_for_children", flags, Mode::empty());
        // What is forked next is outside again.
        enter(outside)?;
        let pid = forked?.ok_or(io::ErrorKind::NotFound)?;
        let pidfd = rustix::process::pidfd_open(pid, PidfdFlags::empty())?;
        Ok(Init { pid, pidfd, namespace: namespace? })
    }

    /// Its number: everything that has lost its parent in there is its child.
    pub(super) fn pid(&self) -> Pid {
        self.pid
    }

    /// What an interpreter that waits must be handed to fork into it.
    pub(super) fn namespace(&self) -> BorrowedFd<'_> {
        self.namespace.as_fd()
    }

    /// Forks into the namespace; `None` in the child.
    pub(super) fn fork(&self, single: SingleThreaded, outside: BorrowedFd<'_>) -> io::Result<Option<Pid>> {
        enter(self.namespace())?;
        let forked = sys::fork(single);
        if !matches!(forked, Ok(None)) {
            enter(outside)?;
        }
        forked
    }

    /// Ends the namespace. Whoever forked into it has reaped what they forked.
    pub(super) fn end(self, patience: Duration) -> io::Result<()> {
        self.kill();
        let timeout = Timespec { tv_sec: patience.as_secs() as _, tv_nsec: 0 };
        let mut polled = [PollFd::new(&self.pidfd, PollFlags::IN)];
        match rustix::event::poll(&mut polled, Some(&timeout)) {
            Ok(1) => sys::reap(Some(self.pid), true).map(drop),
            Ok(_) => Err(io::ErrorKind::TimedOut.into()),
            Err(error) => Err(error.into()),
        }
    }

    fn kill(&self) {
        // It may be dead by now, and is not reaped.
        let _ = rustix::process::pidfd_send_signal(&self.pidfd, Signal::KILL);
    }
}

impl Drop for Init {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Has children be in this pid namespace.
fn enter(namespace: BorrowedFd<'_>) -> io::Result<()> {
    Ok(rustix::thread::move_into_link_name_space(namespace, Some(LinkNameSpaceType::ProcessID))?)
}

fn be_init() -> ! {
    // Whatever becomes of the slot. Where even that is refused, the supervisor sweeps.
    let _ = rustix::process::set_parent_process_death_signal(Some(Signal::KILL));
    sys::ignore_children();
    loop {
        rustix::event::pause();
    }
}
