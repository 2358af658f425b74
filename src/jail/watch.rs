//! Watches one running program: drains its pipes, holds the limits that the kernel does not, ends what is left.
//!
//! One `poll` loop in the calling thread. A grandchild that keeps a pipe open can delay it by the graces below, no
//! more, and there is no reader thread to be left behind.

use std::io;
use std::process::ExitStatus;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::drain::Drain;
use super::spawn::Spawned;
use super::{JailError, Limits, proc};

/// How often the clock, the first process and the group are looked at while nothing is printed.
const TICK: Duration = Duration::from_millis(20);

/// How often the group's processes are counted and its processor time is read: the first costs a walk over all
/// processes of the system. Most programs have ended before the first time.
const CENSUS: Duration = Duration::from_millis(100);

/// How long others may hold the pipes after the first process ended: helpers of Python's own, such as
/// multiprocessing's resource tracker, end a moment after it.
const GRACE: Duration = Duration::from_secs(1);

/// How long the killed may hold them. Who still does is not in the group.
const GRACE_OF_THE_KILLED: Duration = Duration::from_secs(1);

/// Why a program was stopped by us.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Stop {
    /// It took its processor time.
    Cpu,
    /// It took its wall time.
    Wall,
    /// It printed too much.
    Output,
    /// It had too many processes and threads.
    Processes,
    /// Its processes together took more memory than one may.
    Memory,
    /// It made too many files, or too large ones.
    Files,
    /// It wrote more to the report pipe than any report has.
    Report,
}

/// Who still held the program's pipes after its first process had ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LeftBehind {
    /// Nobody.
    Nobody,
    /// A process of its group; it is dead now.
    Member,
    /// A process that left the group; it may be alive.
    Outsider,
}

/// Everything that was seen of one program.
#[derive(Debug)]
pub(super) struct Seen {
    /// What came on the report pipe.
    pub(super) report: Vec<u8>,
    /// The last bytes of what was printed.
    pub(super) tail: Vec<u8>,
    /// All of stdout, up to the limit of output.
    pub(super) stdout: Vec<u8>,
    /// The limit of ours that it reached.
    pub(super) stop: Option<Stop>,
    /// Who was left.
    pub(super) left_behind: LeftBehind,
    /// Processor time of the first process, where that can be known.
    pub(super) cpu: Option<Duration>,
    /// How the first process ended.
    pub(super) status: ExitStatus,
}

/// Watches a program until nothing of its group is left, or nobody needs it any more.
pub(super) fn watch(spawned: Spawned, limits: &Limits, dismissed: &AtomicBool) -> Result<Seen, JailError> {
    let begun = Instant::now();
    let Spawned { group, stdout, stderr, report } = spawned;
    let mut drain = Drain::new([stdout, stderr, report], true, limits.output_bytes);
    let mut counted = begun;
    let mut patience = Patience::default();

    let mut stop = loop {
        if group.ended()? {
            break None;
        }
        if let Some(stop) = drain.excess() {
            break Some(stop);
        }
        if begun.elapsed() >= limits.wall || dismissed.load(Ordering::Relaxed) {
            break Some(Stop::Wall);
        }
        if counted.elapsed() >= CENSUS {
            if proc::cpu_time(group.pid()).is_some_and(|cpu| cpu >= limits.cpu) {
                break Some(Stop::Cpu);
            }
            if proc::tasks(group.pid()) > limits.processes {
                break Some(Stop::Processes);
            }
            counted = Instant::now();
        }
        if drain.all_closed() {
            patience.pause(); // between the end of the pipes and that of the process, or for as long as it likes
        } else {
            drain.read(TICK).map_err(|cause| group.lost(cause))?;
        }
    };
    let cpu = proc::cpu_time(group.pid());

    // One that we stopped is killed at once; one that ended by itself may have helpers that end just after it.
    if stop.is_none() {
        drain.read_until_closed(GRACE).map_err(|cause| group.lost(cause))?;
    }
    let orphans = stop.is_none() && !drain.all_closed();
    group.kill();
    drain.read_until_closed(GRACE_OF_THE_KILLED).map_err(|cause| group.lost(cause))?;
    let left_behind = match (drain.all_closed(), orphans) {
        (false, _) => LeftBehind::Outsider,
        (true, true) => LeftBehind::Member,
        (true, false) => LeftBehind::Nobody,
    };
    stop = stop.or(drain.excess());
    let status = group.reap()?;
    Ok(Seen { report: drain.report, tail: drain.tail, stdout: drain.stdout, stop, left_behind, cpu, status })
}

/// Pauses that begin short and grow.
#[derive(Default)]
struct Patience {
    pauses: u32,
}

impl Patience {
    fn pause(&mut self) {
        thread::sleep(Duration::from_micros(100 << self.pauses.min(7)));
        self.pauses += 1;
    }
}

impl Drain {
    /// Reads until every pipe has ended, for at most `grace`, and no further than to an excess.
    fn read_until_closed(&mut self, grace: Duration) -> io::Result<()> {
        let begun = Instant::now();
        while !self.all_closed() && self.excess().is_none() {
            let Some(rest) = grace.checked_sub(begun.elapsed()) else {
                break;
            };
            self.read(rest)?;
        }
        Ok(())
    }

    /// Waits for at most `patience` and reads once from every pipe that has something.
    fn read(&mut self, patience: Duration) -> io::Result<()> {
        let ready = {
            let mut index = Vec::with_capacity(3);
            let mut polled = Vec::with_capacity(3);
            for (place, pipe) in self.pipes.iter().enumerate() {
                if let Some(pipe) = pipe {
                    index.push(place);
                    polled.push(PollFd::new(pipe, PollFlags::IN));
                }
            }
            let timeout = Timespec { tv_sec: patience.as_secs() as _, tv_nsec: patience.subsec_nanos() as _ };
            match rustix::event::poll(&mut polled, Some(&timeout)) {
                Ok(_) => {}
                Err(Errno::INTR) => return Ok(()),
                Err(error) => return Err(error.into()),
            }
            let ready = index.into_iter().zip(polled).filter(|(_, fd)| !fd.revents().is_empty());
            ready.map(|(place, _)| place).collect::<Vec<_>>()
        };
        for place in ready {
            self.read_one(place)?;
        }
        Ok(())
    }
}
