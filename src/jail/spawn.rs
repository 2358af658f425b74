//! Starts the interpreter in its jail. The only unsafe code: what a child does between fork and exec.

use std::fs::File;
use std::io::{self, PipeReader, Seek, Write};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::fs::Mode;
use rustix::io::FdFlags;
use rustix::process::Pid;

use super::group::Group;
use super::interpreter::{program, rlimits, take_limit};
use super::job::Job;
use super::{JailError, Limits, Python};

/// A started program and the ends of its pipes.
#[derive(Debug)]
pub(super) struct Spawned {
    pub(super) group: Group,
    pub(super) stdout: OwnedFd,
    pub(super) stderr: OwnedFd,
    pub(super) report: OwnedFd,
}

/// Starts a job in `folder`; `channel` is the socket between a candidate and its judge.
pub(super) fn spawn(
    python: &Python,
    limits: &Limits,
    folder: &Path,
    job: &Job,
    channel: Option<OwnedFd>,
) -> Result<Spawned, JailError> {
    let failed = |cause| JailError::Start { path: python.path.clone(), cause };
    let text = deliver(&job.text()).map_err(JailError::Deliver)?;
    let input = job.input.as_deref().map(deliver).transpose().map_err(JailError::Deliver)?;
    let input = channel.or(input.map(OwnedFd::from));
    let (report, report_end) = io::pipe().map_err(failed)?;
    let (stdout, stdout_end) = io::pipe().map_err(failed)?;
    let (stderr, stderr_end) = io::pipe().map_err(failed)?;

    let inherited = [Some(report_end.as_raw_fd()), input.as_ref().map(AsRawFd::as_raw_fd)];
    let mut command = program(python, job.role, report_end.as_raw_fd(), inherited[1], folder);
    command.current_dir(folder).stdin(Stdio::from(text)).stdout(stdout_end).stderr(stderr_end);
    confine(&mut command, limits, inherited);
    let group = Group::start(|| command.spawn()).map_err(failed)?;
    // Our copies of the program's ends go with `command` and here; from now on the end of the pipes is its end.
    drop((command, report_end, input));
    Ok(Spawned { group, stdout: stdout.into(), stderr: stderr.into(), report: owned(report) })
}

fn owned(pipe: PipeReader) -> OwnedFd {
    pipe.into()
}

/// A nameless file with this text, to be read from its start. A pipe would have to be fed.
fn deliver(text: &str) -> io::Result<File> {
    let mut file: File = tempfile::tempfile()?;
    file.write_all(text.as_bytes())?;
    file.rewind()?;
    Ok(file)
}

/// Has the child take its limits before it becomes the interpreter. `inherited` must stay open in us until it has.
#[allow(unsafe_code)] // a closure between fork and exec cannot be had without
fn confine(command: &mut Command, limits: &Limits, inherited: [Option<RawFd>; 2]) {
    let parent = rustix::process::getpid();
    let rlimits = rlimits(limits);
    let enter = move || {
        rustix::process::setsid()?;
        die_with(parent)?;
        rustix::process::umask(Mode::RWXG | Mode::RWXO);
        for (resource, soft, hard) in rlimits {
            take_limit(resource, soft, hard)?;
        }
        close_on_exec()?;
        for fd in inherited.into_iter().flatten() {
            // SAFETY: the caller keeps the descriptors open until `spawn` has returned, which is after exec.
            let fd = unsafe { BorrowedFd::borrow_raw(fd) };
            rustix::io::fcntl_setfd(fd, FdFlags::empty())?;
        }
        Ok(())
    };
    // SAFETY: `enter` and what it calls make system calls on values that are its own. They allocate nothing and take
    // no lock, so that it does not matter what other threads held at the moment of the fork.
    unsafe { command.pre_exec(enter) };
}

/// Asks to be killed when the thread that started us ends; it is the one that watches us.
#[cfg(target_os = "linux")]
fn die_with(parent: Pid) -> io::Result<()> {
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?;
    if rustix::process::getppid() == Some(parent) {
        Ok(())
    } else {
        Err(rustix::io::Errno::SRCH.into()) // it ended before we asked
    }
}

#[cfg(not(target_os = "linux"))]
fn die_with(_: Pid) -> io::Result<()> {
    Ok(())
}

/// Marks every descriptor from 3 on to be closed at exec. What this process opens is marked anyway; what it inherited
/// may not be. The list is read into a buffer on the stack.
#[cfg(target_os = "linux")]
fn close_on_exec() -> io::Result<()> {
    use std::mem::MaybeUninit;

    use rustix::fs::{CWD, OFlags, RawDir};

    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let Ok(folder) = rustix::fs::openat(CWD, c"/proc/self/fd", flags, Mode::empty()) else {
        close_lowest_on_exec();
        return Ok(());
    };
    let mut buffer = [MaybeUninit::<u8>::uninit(); 4096];
    let mut entries = RawDir::new(&folder, &mut buffer);
    while let Some(entry) = entries.next() {
        // `.` and `..` are no numbers.
        if let Some(fd) = number(entry?.file_name().to_bytes()) {
            close_one_on_exec(fd);
        }
    }
    Ok(())
}

#[cfg(not(target_os = "linux"))]
fn close_on_exec() -> io::Result<()> {
    close_lowest_on_exec();
    Ok(())
}

/// For want of a list: descriptors are handed out from the lowest number up.
fn close_lowest_on_exec() {
    (3..1024).for_each(close_one_on_exec);
}

#[allow(unsafe_code)] // a descriptor that is only known by its number
fn close_one_on_exec(fd: RawFd) {
    if fd > 2 {
        // SAFETY: the number is used for one system call, which fails harmlessly if no descriptor stands behind it.
        let fd = unsafe { BorrowedFd::borrow_raw(fd) };
        let _ = rustix::io::fcntl_setfd(fd, FdFlags::CLOEXEC);
    }
}

/// A decimal number, without the allocations of `str`'s errors.
#[cfg(target_os = "linux")]
fn number(digits: &[u8]) -> Option<RawFd> {
    digits.iter().try_fold(0, |number: RawFd, &digit| {
        let digit = digit.is_ascii_digit().then(|| RawFd::from(digit - b'0'))?;
        number.checked_mul(10)?.checked_add(digit)
    })
}
