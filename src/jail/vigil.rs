//! Watches running programs: drains their pipes, holds the limits that the kernel does not, ends what is left.
//!
//! One `poll` loop in the slot's only thread. A grandchild that keeps a pipe open can delay it by the graces below, no
//! more.

use std::io;
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::Limits;
use super::cell::Cell;
use super::census::Proc;
use super::drain::TAIL_BYTES;
use super::start::Starter;
use super::watch::{LeftBehind, Stop};

/// How often the program's processes are counted and its processor time is read: it costs a walk over all processes of
/// the system. Most programs have ended before the first time.
const CENSUS: Duration = Duration::from_millis(50);

/// How often it is looked whether a program has ended, where the kernel does not tell.
const TICK: Duration = Duration::from_secs(1);

/// How long others may go on after the first process ended: helpers of Python's own, such as multiprocessing's
/// resource tracker, end a moment after it.
pub(super) const GRACE: Duration = Duration::from_secs(1);

/// How long the killed may hold the pipes. Who still does has got away.
const GRACE_OF_THE_KILLED: Duration = Duration::from_secs(1);

/// Everything that was seen of one program.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Sight {
    /// What came on the report pipe.
    pub(super) report: String,
    /// What was printed: all of stdout where it was asked for, else the last bytes of stdout and stderr.
    pub(super) printed: String,
    /// The limit of ours that it reached.
    pub(super) stop: Option<Stop>,
    /// Whether a process was left when the first had ended, or still holds a pipe.
    pub(super) left_behind: bool,
    /// Processor time of the first process and of those it has waited for.
    pub(super) cpu: Duration,
    /// How the first process ended, as wait(2) gives it.
    pub(super) status: i32,
}

/// Why watching ended before the programs did.
#[derive(Debug)]
pub(super) enum Lost {
    /// Whoever wanted to know is gone.
    Alone,
    /// The system refused something.
    Failed(String),
}

impl From<io::Error> for Lost {
    fn from(error: io::Error) -> Lost {
        Lost::Failed(format!("failed to watch the program: {error}"))
    }
}

/// What surrounds the programs that are watched.
pub(super) struct Surroundings<'a> {
    pub(super) proc: &'a Proc,
    pub(super) limits: &'a Limits,
    /// Their other ends are held by those who want to know: when one closes, everything ends.
    pub(super) bonds: [BorrowedFd<'a>; 2],
}

/// Watches programs until nothing of them is left. When the last of several has ended, nobody asks the others any more.
pub(super) fn watch(cells: &mut [Cell], around: &Surroundings, starter: &mut Starter) -> Result<(), Lost> {
    let begun = Instant::now();
    let mut counted = begun;
    let pids: Vec<i32> = cells.iter().map(Cell::pid).collect();
    loop {
        for cell in cells.iter_mut().filter(|cell| !cell.over()) {
            if cell.stop.is_none() && cell.ended.is_none() {
                cell.stop = cell.drain.excess();
                if cell.stop.is_none() && begun.elapsed() >= around.limits.wall {
                    cell.stop = Some(Stop::Wall);
                }
                if cell.stop.is_some() {
                    cell.kill();
                }
            }
            cell.step(around.proc, starter, &pids)?;
        }
        if let Some((last, others)) = cells.split_last_mut()
            && last.ended.is_some()
        {
            others.iter_mut().for_each(Cell::dismiss);
        }
        if cells.iter().all(Cell::over) {
            break;
        }
        if counted.elapsed() >= CENSUS {
            for cell in cells.iter_mut().filter(|cell| cell.running()) {
                cell.count(around)?;
            }
            counted = Instant::now();
        }
        let rest = CENSUS.saturating_sub(counted.elapsed()).min(around.limits.wall.saturating_sub(begun.elapsed()));
        let patience = cells.iter().filter_map(Cell::patience).min().unwrap_or(TICK).min(rest);
        wait(cells, &around.bonds, patience.max(Duration::from_micros(100)))?;
    }
    // Nobody is left who could write: what still is in the pipes is read to their ends.
    let emptied = Instant::now();
    while cells.iter().any(|cell| !cell.drain.all_closed() && cell.drain.excess().is_none()) {
        let Some(rest) = GRACE_OF_THE_KILLED.checked_sub(emptied.elapsed()) else { break };
        wait(cells, &around.bonds, rest)?;
    }
    for cell in cells {
        cell.left_behind |= !cell.drain.all_closed() && cell.drain.excess().is_none();
        cell.stop = cell.stop.or(cell.refused()?).or(cell.drain.excess());
    }
    Ok(())
}

/// Waits for at most `patience` and reads once from everything that has something.
fn wait(cells: &mut [Cell], bonds: &[BorrowedFd; 2], patience: Duration) -> Result<(), Lost> {
    let mut polled: Vec<PollFd> =
        bonds.iter().map(|bond| PollFd::from_borrowed_fd(*bond, PollFlags::empty())).collect();
    let mut places = Vec::new();
    for (at, cell) in cells.iter().enumerate() {
        for (place, pipe) in cell.drain.pipes.iter().enumerate() {
            if let Some(pipe) = pipe {
                places.push(Some((at, place)));
                polled.push(PollFd::new(pipe, PollFlags::IN));
            }
        }
        if let Some(end) = cell.end().filter(|_| cell.ended.is_none()) {
            places.push(None);
            polled.push(PollFd::from_borrowed_fd(end, PollFlags::IN));
        }
    }
    let timeout = Timespec { tv_sec: patience.as_secs() as _, tv_nsec: patience.subsec_nanos() as _ };
    match rustix::event::poll(&mut polled, Some(&timeout)) {
        Ok(_) => {}
        Err(Errno::INTR) => return Ok(()),
        Err(error) => return Err(io::Error::from(error).into()),
    }
    if polled[..2].iter().any(|bond| !bond.revents().is_empty()) {
        return Err(Lost::Alone);
    }
    let ready: Vec<(usize, usize)> = places
        .into_iter()
        .zip(&polled[2..])
        .filter(|(_, fd)| !fd.revents().is_empty())
        .filter_map(|(at, _)| at)
        .collect();
    drop(polled);
    for (at, place) in ready {
        cells[at].drain.read_one(place)?;
    }
    Ok(())
}

impl From<Sight> for super::watch::Seen {
    fn from(sight: Sight) -> Self {
        use std::os::unix::process::ExitStatusExt;

        let printed = sight.printed.into_bytes();
        super::watch::Seen {
            report: sight.report.into_bytes(),
            tail: printed.iter().rev().take(TAIL_BYTES).rev().copied().collect(),
            stdout: printed,
            stop: sight.stop,
            left_behind: if sight.left_behind { LeftBehind::Member } else { LeftBehind::Nobody },
            cpu: Some(sight.cpu),
            status: std::process::ExitStatus::from_raw(sight.status),
        }
    }
}
