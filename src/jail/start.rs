//! Starts interpreters: a fresh one each time, or a fork of one that waits.

use std::convert::Infallible;
use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Child, Stdio};
use std::time::Duration;

use rustix::fs::Mode;
use rustix::io::FdFlags;
use rustix::process::{Pid, Resource};

use super::cell::Running;
use super::fence::{Fence, Ground, number};
use super::interpreter::{self, interpreter, program, take_limit};
use super::job::{RUNNER, Role, SPLIT};
use super::sys::{self, SingleThreaded};
use super::wire::send_fds;
use super::{Limits, Python};

/// What the one that waits executes.
const ZYGOTE: &str = include_str!("zygote.py");

/// How long an interpreter may take to be warm. A cold disk is slow.
const WARM_WITHIN: Duration = Duration::from_secs(60);

/// A program's ends of everything that connects it with us.
#[derive(Debug)]
pub(super) struct Ends {
    /// What a program of its own reads, or the socket between a candidate and its judge.
    pub(super) input: Option<OwnedFd>,
    pub(super) stdout: OwnedFd,
    pub(super) stderr: OwnedFd,
    pub(super) report: OwnedFd,
    /// The job, to be read from its start.
    pub(super) job: OwnedFd,
    pub(super) role: Role,
}

/// How a program ended.
#[derive(Clone, Copy, Debug)]
pub(super) struct Finish {
    /// As wait(2) gives it.
    pub(super) status: i32,
    /// Processor time of its first process and of those it has waited for.
    pub(super) cpu: Duration,
}

/// The limits that the kernel holds for each process.
pub(super) fn rlimits(limits: &Limits, fence: &Fence) -> Vec<(Resource, u64, u64)> {
    let mut all = interpreter::rlimits(limits).to_vec();
    if fence.own_user() {
        // Far above our own limit, whose verdict is another than that of a refused fork: it stops what multiplies faster
        // than we count. It binds users, so that it is for those that are the program's own, or at least a namespace's:
        // where we are not root, programs that run at once are one user.
        let most = limits.processes.saturating_mul(16);
        all.push((Resource::Nproc, most, most));
    }
    all
}

/// Starts interpreters behind one fence.
#[derive(Debug)]
pub(super) struct Starter {
    single: SingleThreaded,
    python: Python,
    /// The interpreter that is forked for each program; none where each gets a fresh one.
    zygote: Option<Zygote>,
    /// The same for judges, which knows their tests. It is started for the first of them.
    judges: Option<Zygote>,
}

impl Starter {
    pub(super) fn cold(single: SingleThreaded, python: &Python) -> Starter {
        Starter { single, python: python.clone(), zygote: None, judges: None }
    }

    /// Starts the interpreter that is forked for each program.
    pub(super) fn warm(mut self, fence: &Fence) -> Result<Starter, String> {
        self.zygote = Some(Zygote::start(&self.python, fence)?);
        Ok(self)
    }

    /// The interpreter that is forked for jobs of this role.
    fn zygote(&mut self, role: Role) -> &mut Option<Zygote> {
        if role == Role::Judge { &mut self.judges } else { &mut self.zygote }
    }

    /// A fresh place for the program of the slot's `cell`.
    pub(super) fn ground(&self, fence: &Fence, cell: u32, limits: &Limits) -> Result<Ground, String> {
        fence.ground(self.single, cell, limits)
    }

    /// Whether `pid` is an interpreter that waits.
    pub(super) fn owns(&self, pid: i32) -> bool {
        self.zygote.iter().chain(&self.judges).any(|zygote| zygote.child.id() as i32 == pid)
    }

    /// Starts a program.
    pub(super) fn start(
        &mut self,
        ends: Ends,
        limits: &Limits,
        fence: &Fence,
        ground: &Ground,
    ) -> Result<Running, String> {
        if self.zygote.is_some() && self.zygote(ends.role).is_none() {
            *self.zygote(ends.role) = Some(Zygote::start(&self.python, fence)?);
        }
        match self.zygote(ends.role) {
            Some(zygote) => zygote.fork(&ends, limits, fence, ground),
            None => self.fresh(ends, limits, fence, ground).map_err(|cause| format!("failed to start python: {cause}")),
        }
    }

    /// Reaps a process that has ended.
    pub(super) fn reap(&mut self, running: &Running) -> Result<Finish, String> {
        if let Some(zygote) = self.zygote(running.role) {
            return zygote.reap(running.pid);
        }
        let failed = |cause| format!("failed to reap process {}: {cause}", running.pid.as_raw_pid());
        let ended = sys::reap(Some(running.pid), true).and_then(|ended| ended.ok_or(io::ErrorKind::NotFound.into()));
        ended.map(|ended| Finish { status: ended.status, cpu: ended.cpu }).map_err(failed)
    }

    fn fresh(&self, ends: Ends, limits: &Limits, fence: &Fence, ground: &Ground) -> io::Result<Running> {
        match fence.fork(self.single, ground)? {
            Some(pid) => Ok(Running { role: ends.role, pid, pidfd: pidfd(pid), init: ground.init() }),
            None => {
                // Whatever goes wrong is said where it is looked for when no program has begun.
                let stderr = ends.stderr.try_clone();
                let Err(error) = fence.enter(ground).and_then(|()| self.become_program(ends, limits, fence, ground));
                let _ = stderr.map(|stderr| writeln!(File::from(stderr), "{error}"));
                sys::leave(127)
            }
        }
    }

    /// Turns this process into the interpreter. Returns only if it cannot.
    fn become_program(&self, ends: Ends, limits: &Limits, fence: &Fence, ground: &Ground) -> io::Result<Infallible> {
        rustix::process::setsid()?;
        rustix::process::umask(Mode::RWXG | Mode::RWXO);
        rustix::process::chdir(ground.home())?;
        for (resource, soft, hard) in rlimits(limits, fence) {
            take_limit(resource, soft, hard)?;
        }
        for inherited in [Some(&ends.report), ends.input.as_ref()].into_iter().flatten() {
            rustix::io::fcntl_setfd(inherited, FdFlags::empty())?;
        }
        let input = ends.input.as_ref().map(AsRawFd::as_raw_fd);
        let mut command = program(&self.python, ends.role, ends.report.as_raw_fd(), input, ground.home());
        command.stdin(ends.job).stdout(ends.stdout).stderr(ends.stderr);
        fence.close(ground)?;
        Err(command.exec())
    }
}

fn pidfd(pid: Pid) -> Option<OwnedFd> {
    rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()).ok()
}

/// A nameless file that holds `bytes`, to be read from its start. A pipe would have to be fed.
pub(super) fn hold(bytes: &[u8]) -> io::Result<OwnedFd> {
    let mut file = File::from(rustix::fs::memfd_create(c"passk", rustix::fs::MemfdFlags::CLOEXEC)?);
    file.write_all(bytes)?;
    file.rewind()?;
    Ok(file.into())
}

/// An interpreter that has imported the standard library and is forked for each program. It never runs one itself.
#[derive(Debug)]
struct Zygote {
    child: Child,
    socket: UnixStream,
}

impl Zygote {
    fn start(python: &Python, fence: &Fence) -> Result<Zygote, String> {
        let failed = |cause: io::Error| format!("failed to start python `{}`: {cause}", python.path.display());
        let (socket, theirs) = UnixStream::pair().map_err(failed)?;
        let words = hold(b"").map_err(failed)?;
        let mut command = interpreter(python, &[SPLIT, RUNNER, ZYGOTE].concat());
        let child = command
            .arg(fence.plan())
            .args(&python.packages)
            .stdin(OwnedFd::from(theirs))
            .stdout(Stdio::null())
            .stderr(words.try_clone().map_err(failed)?)
            .spawn()
            .map_err(failed)?;
        drop(command);
        let mut zygote = Zygote { child, socket };
        zygote.socket.set_read_timeout(Some(WARM_WITHIN)).map_err(failed)?;
        let mut ready = [0; 6];
        match zygote.socket.read_exact(&mut ready) {
            Ok(()) if &ready == b"ready\n" => {
                zygote.socket.set_read_timeout(None).map_err(failed)?;
                Ok(zygote)
            }
            _ => {
                let mut text = String::new();
                let mut words = File::from(words);
                let _ = words.rewind().and_then(|()| words.read_to_string(&mut text));
                let last = text.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("no word from it").to_owned();
                let _ = zygote.child.kill();
                let status = zygote.child.wait().map_or_else(|error| error.to_string(), |status| status.to_string());
                Err(format!("{last} ({status})"))
            }
        }
    }

    fn lost(&mut self, cause: io::Error) -> String {
        let _ = self.child.kill();
        format!("the interpreter that waits is gone: {cause}")
    }

    fn fork(&mut self, ends: &Ends, limits: &Limits, fence: &Fence, ground: &Ground) -> Result<Running, String> {
        let mut fds = vec![ends.job.as_fd(), ends.stdout.as_fd(), ends.stderr.as_fd(), ends.report.as_fd()];
        fds.extend(ends.input.as_ref().map(AsFd::as_fd));
        fds.extend(ground.fds());
        let rlimits = rlimits(limits, fence).into_iter().map(|(which, soft, hard)| {
            let known = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
            (number(which), known(soft), known(hard))
        });
        let message = serde_json::json!({
            "uid": ground.uid(), "home": ground.home(), "input": ends.input.is_some(), "rlimits": rlimits.collect::<Vec<_>>(),
            "doors": ground.cgroup().map_or(0, |cgroup| cgroup.doors().count()), "tests": ends.role == Role::Judge,
        });
        let mut answer = [0; 4];
        let exchange = send_fds(&self.socket, message.to_string().as_bytes(), &fds)
            .and_then(|()| self.socket.read_exact(&mut answer));
        exchange.map_err(|cause| self.lost(cause))?;
        let pid = i32::from_le_bytes(answer);
        // A negative number is an errno, and no process has one.
        let Some(id) = (pid > 0).then(|| Pid::from_raw(pid)).flatten() else {
            return Err(format!("python failed to fork: {}", io::Error::from_raw_os_error(pid.saturating_neg())));
        };
        let pidfd = pidfd(id).ok_or_else(|| "the kernel has no pidfd".to_owned())?;
        Ok(Running { role: ends.role, pid: id, pidfd: Some(pidfd), init: ground.init() })
    }

    fn reap(&mut self, pid: Pid) -> Result<Finish, String> {
        let mut answer = [0; 12];
        let exchange = self
            .socket
            .write_all(pid.as_raw_pid().to_string().as_bytes())
            .and_then(|()| self.socket.read_exact(&mut answer));
        exchange.map_err(|cause| self.lost(cause))?;
        let (status, micros) = answer.split_at(4);
        let status = i32::from_le_bytes(status.try_into().map_err(|_| "an answer that is cut")?);
        let micros = u64::from_le_bytes(micros.try_into().map_err(|_| "an answer that is cut")?);
        Ok(Finish { status, cpu: Duration::from_micros(micros) })
    }
}

impl Drop for Zygote {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
