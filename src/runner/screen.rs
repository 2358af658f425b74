//! A bar on a terminal while completions are sampled and judged, which never garbles a line.
//!
//! Lines of ours are written with the bar taken down. The harness's lines are not ours to time, and on one test thread
//! it writes the name of a test when that begins and the result when it ends: a terminal's stdout goes through a pipe,
//! and what comes out of it is written by whole lines, with the bar taken down. Where stderr is no terminal there is a
//! plain line now and then; under `CI` nothing.

use std::fs::File;
use std::io::{BufRead, BufReader, IsTerminal, Write};
use std::os::fd::OwnedFd;
use std::sync::{Mutex, MutexGuard};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Time between plain lines.
const EVERY: Duration = Duration::from_secs(30);

static SCREEN: Mutex<Screen> = Mutex::new(Screen { bar: None, phase: None });

struct Screen {
    bar: Option<ProgressBar>,
    phase: Option<Phase>,
}

struct Phase {
    label: String,
    wanted: u64,
    sampled: u64,
    judged: u64,
    began: Instant,
    said: Instant,
    bar: bool,
    quiet: bool,
}

fn lock() -> MutexGuard<'static, Screen> {
    SCREEN.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// Writes with the bar taken down.
pub(super) fn above(write: impl FnOnce()) {
    let mut screen = lock();
    screen.down();
    write();
    screen.up();
}

/// Something long begins: so many completions are wanted of `label`.
pub(super) fn begin(label: &str, wanted: usize) {
    let mut screen = lock();
    let set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    let dumb = std::env::var("TERM").is_ok_and(|term| term == "dumb");
    let now = Instant::now();
    screen.phase = Some(Phase {
        label: label.to_owned(),
        wanted: wanted as u64,
        sampled: 0,
        judged: 0,
        began: now,
        said: now,
        bar: std::io::stderr().is_terminal() && !dumb && !set("CI"),
        quiet: set("CI"),
    });
    screen.up();
}

/// One completion more is sampled.
pub(super) fn sampled() {
    advance(|phase| phase.sampled += 1);
}

/// One program more is judged.
pub(super) fn judged() {
    advance(|phase| phase.judged += 1);
}

/// It is over.
pub(super) fn end() {
    let mut screen = lock();
    screen.down();
    screen.phase = None;
}

fn advance(step: impl FnOnce(&mut Phase)) {
    let mut screen = lock();
    let Some(phase) = &mut screen.phase else { return };
    step(phase);
    let text = phase.text();
    let judged = phase.judged;
    if !phase.bar && !phase.quiet && phase.said.elapsed() > EVERY {
        phase.said = Instant::now();
        let _ = writeln!(std::io::stderr(), "passk: {text}");
    }
    if let Some(bar) = &screen.bar {
        bar.set_message(text);
        bar.set_position(judged);
    }
}

impl Phase {
    fn text(&self) -> String {
        let Phase { label, wanted, sampled, judged, began, .. } = self;
        match (sampled, judged) {
            (0, 0) => format!("{label}: loading"),
            _ => {
                let rate = *judged as f64 / began.elapsed().as_secs_f64().max(0.001);
                format!("{label}: {judged} of {wanted} judged, {sampled} sampled, {rate:.0}/s")
            }
        }
    }
}

impl Screen {
    fn down(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }

    fn up(&mut self) {
        let Some(phase) = self.phase.as_ref().filter(|phase| phase.bar) else { return };
        let bar = ProgressBar::with_draw_target(Some(phase.wanted), ProgressDrawTarget::stderr_with_hz(10));
        // The message may take the whole line, and is cut at its end.
        let style =
            ProgressStyle::with_template("{bar:10} {wide_msg}").unwrap_or_else(|_| ProgressStyle::default_bar());
        bar.set_style(style);
        bar.set_message(phase.text());
        bar.set_position(phase.judged);
        bar.tick();
        self.bar = Some(bar);
    }
}

/// A terminal's stdout, led around the bar for as long as this lives.
pub(super) struct Through {
    terminal: OwnedFd,
    pump: Option<JoinHandle<()>>,
}

impl Through {
    /// `None` where stdout or stderr is no terminal: then nothing can be garbled.
    pub(super) fn begin() -> Option<Through> {
        if !std::io::stdout().is_terminal() || !std::io::stderr().is_terminal() {
            return None;
        }
        let _ = std::io::stdout().flush();
        let terminal = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdout(), 3).ok()?;
        let (out, into) = std::io::pipe().ok()?;
        let mut to = File::from(terminal.try_clone().ok()?);
        rustix::stdio::dup2_stdout(into).ok()?;
        let pump = thread::spawn(move || {
            let mut from = BufReader::new(out);
            let mut line = Vec::new();
            while let Ok(1..) = from.read_until(b'\n', &mut line) {
                above(|| {
                    let _ = to.write_all(&line);
                });
                line.clear();
            }
        });
        Some(Through { terminal, pump: Some(pump) })
    }
}

impl Drop for Through {
    fn drop(&mut self) {
        let _ = std::io::stdout().flush();
        // That closes the pipe, and the pump comes to its end.
        let _ = rustix::stdio::dup2_stdout(&self.terminal);
        if let Some(pump) = self.pump.take() {
            let _ = pump.join();
        }
    }
}
