//! What safe Rust has no words for: fork, and a few system calls. The only unsafe code of the jail.
#![allow(unsafe_code)] // each with its reason

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::time::Duration;

use rustix::process::Pid;
use rustix::thread::UnshareFlags;

/// That this process has one thread and starts no other: what fork needs to be harmless.
#[derive(Clone, Copy, Debug)]
pub(super) struct SingleThreaded(());

impl SingleThreaded {
    /// Looks whether it is so. Where `/proc` cannot tell, the caller's word stands: it calls this first of all in `main`.
    pub(super) fn check() -> io::Result<SingleThreaded> {
        match std::fs::read_dir("/proc/self/task").map(Iterator::count) {
            Ok(threads) if threads > 1 => Err(io::Error::other(format!("{threads} threads before the fork"))),
            _ => Ok(SingleThreaded(())),
        }
    }
}

/// Forks; `None` in the child.
pub(super) fn fork(_: SingleThreaded) -> io::Result<Option<Pid>> {
    // SAFETY: there is one thread, so that the child has all of it: no lock is held by a thread that is not there.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        pid => Ok(Pid::from_raw(pid)),
    }
}

/// A process that has ended.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ended {
    pub(super) pid: i32,
    /// As wait(2) gives it.
    pub(super) status: i32,
    /// Processor time of it and of the children it has waited for.
    pub(super) cpu: Duration,
}

/// Reaps `pid`, or any child when it is `None`; `Ok(None)` when none has ended and `block` is false.
pub(super) fn reap(pid: Option<Pid>, block: bool) -> io::Result<Option<Ended>> {
    let mut status = 0;
    // SAFETY: all zeros are a valid value of this plain C struct.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    let options = if block { 0 } else { libc::WNOHANG };
    loop {
        // SAFETY: both pointers are to values of ours that live through the call.
        match unsafe { libc::wait4(pid.map_or(-1, Pid::as_raw_pid), &mut status, options, &mut usage) } {
            0 => return Ok(None),
            -1 => match io::Error::last_os_error() {
                error if error.kind() == io::ErrorKind::Interrupted => {}
                error => return Err(error),
            },
            pid => {
                let cpu = time(usage.ru_utime) + time(usage.ru_stime);
                return Ok(Some(Ended { pid, status, cpu }));
            }
        }
    }
}

fn time(value: libc::timeval) -> Duration {
    Duration::from_secs(value.tv_sec.unsigned_abs()) + Duration::from_micros(value.tv_usec.unsigned_abs())
}

/// Takes standard input for a descriptor of our own. To be called once, by a process that reads nothing from it.
pub(super) fn take_stdin() -> OwnedFd {
    // SAFETY: descriptor 0 is the control socket that whoever started us put there, and nothing else in this process
    // reads or closes it.
    unsafe { OwnedFd::from_raw_fd(0) }
}

/// Has the kernel reap our children as they end.
pub(super) fn ignore_children() {
    // SAFETY: no handler is installed, and none was.
    unsafe { libc::signal(libc::SIGCHLD, libc::SIG_IGN) };
}

/// The size of a page of memory.
pub(super) fn page_bytes() -> u64 {
    // SAFETY: takes a number and returns one.
    unsafe { libc::sysconf(libc::_SC_PAGESIZE) }.max(0) as u64
}

/// Ends this process at once: no exit handler, no destructor.
pub(super) fn leave(code: i32) -> ! {
    // SAFETY: takes a number and does not return.
    unsafe { libc::_exit(code) }
}

/// Moves this process into new namespaces.
pub(super) fn unshare(flags: UnshareFlags) -> io::Result<()> {
    // SAFETY: unsafe only for `FILES`, which would surprise other threads; nobody passes it, and there is one thread.
    Ok(unsafe { rustix::thread::unshare_unsafe(flags) }?)
}

/// Enforces a Landlock ruleset on this process, which must have `no_new_privs`.
pub(super) fn landlock_restrict_self(ruleset: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: takes two numbers.
    done(unsafe { libc::syscall(libc::SYS_landlock_restrict_self, ruleset.as_raw_fd(), 0) })
}

/// Makes a detached mount, and with `recursive` all below it, at least as restricted as `attributes` (MOUNT_ATTR_…).
pub(super) fn restrict_mount(mount: impl AsFd, attributes: u64, recursive: bool) -> io::Result<()> {
    let attr = libc::mount_attr { attr_set: attributes, attr_clr: 0, propagation: 0, userns_fd: 0 };
    let flags = libc::AT_EMPTY_PATH | if recursive { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: the path is an empty C string, and the struct, whose size is told, lives through the call.
    done(unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_fd().as_raw_fd(),
            c"".as_ptr(),
            flags,
            &raw const attr,
            size_of::<libc::mount_attr>(),
        )
    })
}

/// The version of Landlock that the kernel has; 0 where there is none.
pub(super) fn landlock_abi() -> i32 {
    const VERSION: u32 = 1; // LANDLOCK_CREATE_RULESET_VERSION
    // SAFETY: with this flag no pointer is read, and no descriptor made.
    let abi = unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, std::ptr::null::<u8>(), 0, VERSION) };
    abi.max(0) as i32
}

fn done(result: libc::c_long) -> io::Result<()> {
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
