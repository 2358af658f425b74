//! The harness's side of a supervisor: slots are opened as programs come at once, and used again.

use std::io;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use wait_timeout::ChildExt;

use super::job::Job;
use super::wire::{Answer, Order, Outcome, Setup, receive, send, send_fds};
use super::{JailError, Limits, NAME};

/// How long a supervisor or a slot may take to answer for the first time.
const PATIENCE: Duration = Duration::from_secs(90);

/// How long a slot may take beyond the wall time of its program, before it is taken for dead.
const SPARE: Duration = Duration::from_secs(60);

/// Every supervisor of this process.
static ALIVE: Mutex<Vec<Weak<Shared>>> = Mutex::new(Vec::new());

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Ends every supervisor, and with it every program.
pub(super) fn kill_all() {
    for shared in lock(&ALIVE).iter().filter_map(Weak::upgrade) {
        shared.killed.store(true, Ordering::SeqCst);
        if let Some(supervisor) = &*lock(&shared.supervisor) {
            let _ = supervisor.control.shutdown(std::net::Shutdown::Both);
        }
    }
}

/// A supervisor and the slots that wait.
#[derive(Debug)]
pub(super) struct Client(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    host: PathBuf,
    setup: Setup,
    supervisor: Mutex<Option<Supervisor>>,
    idle: Mutex<Vec<UnixStream>>,
    killed: AtomicBool,
}

#[derive(Debug)]
struct Supervisor {
    child: Child,
    control: UnixStream,
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        let _ = self.control.shutdown(std::net::Shutdown::Both);
        if !matches!(self.child.wait_timeout(Duration::from_secs(5)), Ok(Some(_))) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

impl Client {
    /// Starts a supervisor and its first slot.
    pub(super) fn start(host: PathBuf, setup: Setup) -> Result<Client, String> {
        let shared = Shared {
            host,
            setup,
            supervisor: Mutex::new(None),
            idle: Mutex::default(),
            killed: AtomicBool::new(false),
        };
        let client = Client(Arc::new(shared));
        lock(&ALIVE).retain(|other| other.strong_count() > 0);
        lock(&ALIVE).push(Arc::downgrade(&client.0));
        let slot = client.open()?;
        lock(&client.0.idle).push(slot);
        Ok(client)
    }

    /// Runs jobs together in a slot of their own; an outcome for each.
    pub(super) fn run<const N: usize>(&self, jobs: [Job; N], limits: &Limits) -> Result<[Outcome; N], JailError> {
        let failed = |cause| match self.0.killed.load(Ordering::SeqCst) {
            true => JailError::Interrupted,
            false => JailError::Slot(cause),
        };
        let waiting = lock(&self.0.idle).pop();
        let slot = waiting.map_or_else(|| self.open(), Ok).map_err(failed)?;
        let order = Order { jobs: jobs.into(), limits: limits.clone() };
        let exchange = || -> io::Result<Option<Answer>> {
            slot.set_read_timeout(Some(limits.wall.saturating_add(SPARE)))?;
            send(&slot, &order)?;
            receive(&slot)
        };
        match exchange() {
            Ok(Some(Ok(outcomes))) => {
                let outcomes = outcomes.try_into().map_err(|_| failed("the slot answers another question".into()))?;
                lock(&self.0.idle).push(slot);
                Ok(outcomes)
            }
            Ok(Some(Err(why))) => Err(failed(why)),
            Ok(None) => Err(failed("the slot is gone".into())),
            Err(error) => Err(failed(format!("the slot does not answer: {error}"))),
        }
    }

    /// Opens a slot; a supervisor that is gone gets a successor.
    fn open(&self) -> Result<UnixStream, String> {
        let mut supervisor = lock(&self.0.supervisor);
        for _ in 0..2 {
            if self.0.killed.load(Ordering::SeqCst) {
                return Err("interrupted".into());
            }
            let running = match &*supervisor {
                Some(running) => running,
                None => supervisor.insert(self.0.supervisor()?),
            };
            let opened = UnixStream::pair().and_then(|(ours, theirs)| {
                send_fds(&running.control, b"+", &[theirs])?;
                ours.set_read_timeout(Some(PATIENCE))?;
                Ok((receive::<Result<(), String>>(&ours)?, ours))
            });
            match opened {
                Ok((Some(Ok(())), ours)) => return Ok(ours),
                Ok((Some(Err(why)), _)) => return Err(why),
                Ok((None, _)) | Err(_) => *supervisor = None,
            }
        }
        Err("the supervisor is gone".into())
    }
}

impl Shared {
    fn supervisor(&self) -> Result<Supervisor, String> {
        let failed = |cause: io::Error| format!("failed to start `{}`: {cause}", self.host.display());
        let (control, theirs) = UnixStream::pair().map_err(failed)?;
        let child = Command::new(&self.host)
            .arg0(NAME)
            .env_clear()
            .stdin(std::os::fd::OwnedFd::from(theirs))
            .stdout(Stdio::null())
            .spawn()
            .map_err(failed)?;
        let supervisor = Supervisor { child, control };
        let exchange = || -> io::Result<Option<Result<(), String>>> {
            supervisor.control.set_read_timeout(Some(PATIENCE))?;
            send(&supervisor.control, &self.setup)?;
            receive(&supervisor.control)
        };
        match exchange().map_err(failed)? {
            Some(Ok(())) => Ok(supervisor),
            Some(Err(why)) => Err(why),
            None => Err(failed(io::Error::other("it does not host a jail"))),
        }
    }
}
