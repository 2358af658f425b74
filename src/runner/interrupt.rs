//! Ctrl-C: running programs end without a verdict, what was judged is kept, and the way on is said.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use super::say;
use crate::jail::{self, Jail, JailError, Limits};
use crate::program::Program;
use crate::verdict::Judgement;

static AGAIN: OnceLock<String> = OnceLock::new();
static STOPPING: AtomicBool = AtomicBool::new(false);
static RUNNING: AtomicUsize = AtomicUsize::new(0);

/// From now on Ctrl-C ends the process in order; `again` is the command that goes on.
pub(super) fn handle(again: String) {
    if AGAIN.set(again).is_err() {
        return; // the handler is there
    }
    let installed = ctrlc::set_handler(|| {
        STOPPING.store(true, Ordering::SeqCst);
        // Programs are killed until each has been reaped and its folder removed; a few rounds reach late starters too.
        for _ in 0..40 {
            jail::kill_all();
            if RUNNING.load(Ordering::SeqCst) == 0 {
                break;
            }
            thread::sleep(Duration::from_millis(50));
        }
        say::interrupted(AGAIN.get().map_or("", String::as_str));
        std::process::exit(130);
    });
    if let Err(error) = installed {
        say::line(&format!("Ctrl-C will not be handled: {error}"));
    }
}

/// Runs a program. What the harness could not do is tried again before it counts as a failure; once Ctrl-C came, the
/// calling thread only waits for the end of the process.
pub(super) fn run(jail: &Jail, program: &Program, limits: &Limits) -> Result<Judgement, JailError> {
    let attempt = || {
        RUNNING.fetch_add(1, Ordering::SeqCst);
        let judged = match STOPPING.load(Ordering::SeqCst) {
            false => jail.run_within(program, limits),
            true => Err(JailError::Interrupted),
        };
        RUNNING.fetch_sub(1, Ordering::SeqCst);
        if matches!(judged, Err(JailError::Interrupted)) {
            loop {
                thread::park();
            }
        }
        judged
    };
    for pause in [50, 500] {
        match attempt() {
            Err(_) => thread::sleep(Duration::from_millis(pause)),
            judged => return judged,
        }
    }
    attempt()
}
