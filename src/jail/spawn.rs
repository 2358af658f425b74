//! Starts the interpreter in its jail. The only unsafe code: what a child does between fork and exec.

use std::fs::File;
use std::io::{self, PipeReader, Seek, Write};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::fs::Mode;
use rustix::io::FdFlags;
use rustix::process::{Pid, Resource, Rlimit};

use super::group::Group;
use super::job::Job;
use super::{JailError, Limits, Python};

/// `-S -s -B`: no `site` (a quarter of the start-up time or more), no user packages, no bytecode written. Not `-I`,
/// which would ignore the seed of the hashes.
const FLAGS: [&str; 4] = ["-S", "-s", "-B", "-c"];

/// The whole environment, but for `HOME` and `TMPDIR`. Without the last one every thread that allocates would reserve
/// 64 MiB of the address space that is limited.
const ENVIRONMENT: [(&str, &str); 5] =
    [("LANG", "C.UTF-8"), ("TZ", "UTC"), ("PYTHONHASHSEED", "0"), ("OMP_NUM_THREADS", "1"), ("MALLOC_ARENA_MAX", "1")];

/// How many files a program may hold open.
const OPEN_FILES: u64 = 512;

/// The usual size of a stack, of which threads take theirs.
const STACK_BYTES: u64 = 8 << 20;

/// How much longer than the processor limit a process lives that ignores the signal.
const CPU_GRACE_SECONDS: u64 = 1;

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
    let program = deliver(&job.text()).map_err(JailError::Deliver)?;
    let input = job.input.as_deref().map(deliver).transpose().map_err(JailError::Deliver)?;
    let input = channel.or(input.map(OwnedFd::from));
    let (report, report_end) = io::pipe().map_err(failed)?;
    let (stdout, stdout_end) = io::pipe().map_err(failed)?;
    let (stderr, stderr_end) = io::pipe().map_err(failed)?;

    let mut command = Command::new(&python.path);
    command
        .args(FLAGS)
        .arg(&*job.role.code())
        .arg(report_end.as_raw_fd().to_string())
        .arg(input.as_ref().map_or("-".to_owned(), |input| input.as_raw_fd().to_string()))
        .args(&python.packages)
        .current_dir(folder)
        .env_clear()
        .envs(ENVIRONMENT)
        .env("HOME", folder)
        .env("TMPDIR", folder)
        .stdin(Stdio::from(program))
        .stdout(stdout_end)
        .stderr(stderr_end);
    let inherited = [Some(report_end.as_raw_fd()), input.as_ref().map(AsRawFd::as_raw_fd)];
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
    let cpu = limits.kernel_cpu_seconds();
    let rlimits = [
        (Resource::Cpu, cpu, cpu.saturating_add(CPU_GRACE_SECONDS)),
        (Resource::As, limits.memory_bytes, limits.memory_bytes),
        (Resource::Fsize, limits.file_bytes, limits.file_bytes),
        (Resource::Nofile, OPEN_FILES, OPEN_FILES),
        (Resource::Stack, STACK_BYTES, STACK_BYTES),
        (Resource::Core, 0, 0),
    ];
    let enter = move || {
        rustix::process::setsid()?;
        die_with(parent)?;
        rustix::process::umask(Mode::RWXG | Mode::RWXO);
        for (resource, soft, hard) in rlimits {
            limit(resource, soft, hard)?;
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

/// Takes a limit, or as much of it as we have ourselves.
fn limit(resource: Resource, soft: u64, hard: u64) -> io::Result<()> {
    if cfg!(target_os = "macos") && resource == Resource::As {
        return Ok(()); // refused there
    }
    let most = rustix::process::getrlimit(resource).maximum.unwrap_or(u64::MAX);
    let new = Rlimit { current: Some(soft.min(most)), maximum: Some(hard.min(most)) };
    Ok(rustix::process::setrlimit(resource, new)?)
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
