//! The supervisor and its slots: processes with one thread, started from the harness's own executable with nothing of
//! its memory, environment or descriptors.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::process::{Pid, Signal};

use super::cell::{Cell, LAST_BREATH};
use super::census::Proc;
use super::cgroup;
use super::drain::Drain;
use super::fence::{Fence, Ground};
use super::job::Job;
use super::start::{Ends, Starter, hold};
use super::sys::{self, SingleThreaded};
use super::vigil::{Lost, Surroundings, watch};
use super::wire::{Answer, Order, Outcome, Setup, receive, receive_fd, send};
use super::{Isolation, Start};

/// How often the supervisor looks whether a slot has died.
const TICK: Timespec = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };

/// What a supervisor does until its harness is gone.
pub(super) fn supervise() -> ! {
    let outcome = SingleThreaded::check().and_then(|single| {
        rustix::process::setsid()?;
        rustix::thread::set_name(c"passk-jail")?;
        rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?;
        let control = UnixStream::from(sys::take_stdin());
        rustix::io::fcntl_setfd(&control, rustix::io::FdFlags::CLOEXEC)?;
        match receive::<Setup>(&control)? {
            Some(setup) => {
                let served = serve(single, &control, &setup);
                sweep(setup.level, &HashMap::new());
                served
            }
            None => Ok(()),
        }
    });
    if let Err(error) = outcome {
        eprintln!("passk-jail: {error}");
        sys::leave(1);
    }
    sys::leave(0)
}

fn serve(single: SingleThreaded, control: &UnixStream, setup: &Setup) -> io::Result<()> {
    // Every slot holds the reading end: it ends when we are gone, however we went.
    let (life, our_life) = io::pipe()?;
    let mut slots: HashMap<i32, u32> = HashMap::new();
    let mut number = 0;
    sweep(setup.level, &slots);
    send(control, &Ok::<(), String>(()))?;
    loop {
        let mut polled = [PollFd::new(control, PollFlags::IN)];
        match rustix::event::poll(&mut polled, Some(&TICK)) {
            Ok(0) | Err(rustix::io::Errno::INTR) => {}
            Ok(_) => {
                let Some(socket) = receive_fd(control)? else { return Ok(()) };
                match sys::fork(single)? {
                    None => {
                        drop(our_life);
                        sys::leave(slot(single, socket, life.into(), setup, number));
                    }
                    Some(pid) => slots.insert(pid.as_raw_pid(), number),
                };
                number += 1;
            }
            Err(error) => return Err(error.into()),
        }
        let mut died = false;
        while let Ok(Some(ended)) = sys::reap(None, false) {
            slots.remove(&ended.pid);
            died = true;
        }
        if died {
            sweep(setup.level, &slots);
        }
    }
}

/// Kills and reaps every descendant that is no slot of `slots` (process → number) and below none, and removes the cgroups
/// of slots that are not among them.
fn sweep(level: Isolation, slots: &HashMap<i32, u32>) {
    kill_strays(slots);
    if level == Isolation::Full {
        cgroup::sweep(|slot| !slots.values().any(|alive| *alive == slot));
    }
}

fn kill_strays(slots: &HashMap<i32, u32>) {
    let proc = Proc::open();
    let own = rustix::process::getpid().as_raw_pid();
    for _ in 0..5_000 {
        let strays: Vec<i32> = proc.children(own).into_iter().filter(|pid| !slots.contains_key(pid)).collect();
        if strays.is_empty() {
            return;
        }
        for pid in strays.into_iter().filter_map(Pid::from_raw) {
            let _ = rustix::process::kill_process(pid, Signal::KILL);
            let _ = sys::reap(Some(pid), false);
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// What a slot does until somebody it needs is gone. Returns its exit status.
fn slot(single: SingleThreaded, socket: OwnedFd, life: OwnedFd, setup: &Setup, number: u32) -> i32 {
    let socket = UnixStream::from(socket);
    let raised = rustix::process::set_child_subreaper(Some(rustix::process::getpid()))
        .map_err(|error| error.to_string())
        .and_then(|()| Fence::raise(single, setup.level, &setup.python, &setup.temp, number));
    // Of the pid namespace that we are in now.
    let proc = Proc::open();
    let ready = raised.and_then(|fence| {
        let cold = Starter::cold(single, &setup.python);
        let starter = if setup.start == Start::Warm { cold.warm(&fence)? } else { cold };
        Ok((fence, starter))
    });
    let (fence, mut starter) = match ready {
        Ok(ready) => ready,
        Err(why) => {
            let _ = send(&socket, &Err::<(), String>(why));
            return 0;
        }
    };
    if send(&socket, &Ok::<(), String>(())).is_err() {
        return 0;
    }
    loop {
        let mut polled = [PollFd::new(&socket, PollFlags::IN), PollFd::new(&life, PollFlags::empty())];
        match rustix::event::poll(&mut polled, None) {
            Err(rustix::io::Errno::INTR) => continue,
            Err(_) => return 1,
            Ok(_) if !polled[1].revents().is_empty() => return 0,
            Ok(_) => {}
        }
        let Ok(Some(order)) = receive::<Order>(&socket) else { return 0 };
        let answer: Answer = match run(&order, &fence, &mut starter, &proc, [&socket.as_fd(), &life.as_fd()]) {
            Ok(outcomes) => Ok(outcomes),
            Err(Lost::Alone) => return 0,
            Err(Lost::Failed(why)) => Err(why),
        };
        // After a failure nothing is known of what may be left: the slot ends, and the supervisor sweeps.
        if send(&socket, &answer).is_err() || answer.is_err() {
            return 0;
        }
    }
}

fn run(
    order: &Order,
    fence: &Fence,
    starter: &mut Starter,
    proc: &Proc,
    bonds: [&std::os::fd::BorrowedFd; 2],
) -> Result<Vec<Outcome>, Lost> {
    let grounds = (0..).zip(&order.jobs).map(|(at, _)| starter.ground(fence, at, &order.limits));
    let mut grounds: Vec<Ground> = grounds.collect::<Result<_, _>>().map_err(Lost::Failed)?;
    let mut cells = Vec::new();
    let watched = start_all(order, fence, &grounds, starter, &mut cells).and_then(|()| {
        let around = Surroundings { proc, limits: &order.limits, bonds: bonds.map(|bond| *bond) };
        watch(&mut cells, &around, starter)
    });
    if let Err(lost) = watched {
        cells.iter_mut().filter(|cell| !cell.over()).for_each(Cell::kill);
        return Err(lost);
    }
    for ground in &mut grounds {
        ground.end(LAST_BREATH).map_err(|cause| Lost::Failed(format!("failed to end a pid namespace: {cause}")))?;
    }
    let mut outcomes = Vec::new();
    for (ground, cell) in grounds.into_iter().zip(cells) {
        let home = ground.home().to_owned();
        let removed = ground.remove().is_ok();
        outcomes.push(Outcome { seen: cell.seen(), home, removed });
    }
    Ok(outcomes)
}

/// Starts the jobs of an order. Two are connected by a socket; each has its own end, and only that.
fn start_all(
    order: &Order,
    fence: &Fence,
    grounds: &[Ground],
    starter: &mut Starter,
    cells: &mut Vec<Cell>,
) -> Result<(), Lost> {
    let mut channels = match order.jobs.len() {
        2 => UnixStream::pair().map(|(one, other)| vec![OwnedFd::from(other), one.into()])?,
        _ => Vec::new(),
    };
    for (job, ground) in order.jobs.iter().zip(grounds) {
        cells.push(start(job, channels.pop(), order, fence, ground, starter)?);
    }
    Ok(())
}

fn start(
    job: &Job,
    channel: Option<OwnedFd>,
    order: &Order,
    fence: &Fence,
    ground: &Ground,
    starter: &mut Starter,
) -> Result<Cell, Lost> {
    let (report, report_end) = io::pipe()?;
    let (stdout, stdout_end) = io::pipe()?;
    let (stderr, stderr_end) = io::pipe()?;
    let input = job.input.as_ref().map(|input| hold(input.as_bytes())).transpose()?;
    let ends = Ends {
        input: channel.or(input),
        stdout: stdout_end.into(),
        stderr: stderr_end.into(),
        report: report_end.into(),
        job: hold(job.text().as_bytes())?,
        role: job.role,
    };
    let running = starter.start(ends, &order.limits, fence, ground).map_err(Lost::Failed)?;
    let pipes = [stdout.into(), stderr.into(), report.into()];
    let drain = Drain::new(pipes, job.input.is_some(), order.limits.output_bytes);
    Ok(Cell::new(running, drain, ground.cgroup().cloned(), ground.folder().map(Path::to_owned)))
}
