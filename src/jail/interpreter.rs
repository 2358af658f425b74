//! The interpreter that runs a program, however it is started: its command, its environment, what the kernel allows it.

use std::io;
use std::os::fd::RawFd;
use std::path::Path;
use std::process::Command;

use rustix::process::{Resource, Rlimit};

use super::job::Role;
use super::{Limits, Python};

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

/// A command that starts the interpreter on `code`, with nothing of our environment.
pub(super) fn interpreter(python: &Python, code: &str) -> Command {
    let mut command = Command::new(&python.path);
    command.args(FLAGS).arg(code).env_clear().envs(ENVIRONMENT);
    command
}

/// The command that runs a job in `home`, reports on `report`, and has on `input` a program's own input, or the socket
/// between a candidate and its judge.
pub(super) fn program(python: &Python, role: Role, report: RawFd, input: Option<RawFd>, home: &Path) -> Command {
    let mut command = interpreter(python, &role.code());
    command
        .arg(report.to_string())
        .arg(input.map_or("-".to_owned(), |input| input.to_string()))
        .args(&python.packages)
        .env("HOME", home)
        .env("TMPDIR", home);
    command
}

/// The limits that the kernel holds for each process: soft and hard.
pub(super) fn rlimits(limits: &Limits) -> [(Resource, u64, u64); 6] {
    let cpu = limits.kernel_cpu_seconds();
    [
        (Resource::Cpu, cpu, cpu.saturating_add(CPU_GRACE_SECONDS)),
        (Resource::As, limits.memory_bytes, limits.memory_bytes),
        (Resource::Fsize, limits.file_bytes, limits.file_bytes),
        (Resource::Nofile, OPEN_FILES, OPEN_FILES),
        (Resource::Stack, STACK_BYTES, STACK_BYTES),
        (Resource::Core, 0, 0),
    ]
}

/// Takes a limit, or as much of it as we have ourselves. Makes system calls alone: it is called between fork and exec.
pub(super) fn take_limit(resource: Resource, soft: u64, hard: u64) -> io::Result<()> {
    if cfg!(target_os = "macos") && resource == Resource::As {
        return Ok(()); // refused there
    }
    let most = rustix::process::getrlimit(resource).maximum.unwrap_or(u64::MAX);
    let new = Rlimit { current: Some(soft.min(most)), maximum: Some(hard.min(most)) };
    Ok(rustix::process::setrlimit(resource, new)?)
}
