//! The corpus: programs that must pass and programs that must not, at every level of isolation that this machine
//! offers, as whoever runs the tests and, where that is root, as an unprivileged user too.
//!
//! ```text
//! cargo test --test corpus                          warm, as the caller, a third of the hostile programs at each level
//! PASSK_CORPUS=all cargo test --test corpus         warm and cold, as root and as a user, every program
//! cargo test --test corpus -- namespaces/warm       some of it
//! PASSK_CORPUS_ONLY=forgery_ cargo test --test corpus      programs by the beginning of their names
//! PASSK_KILLS=100 cargo test --test corpus -- kill          as many kills; `PASSK_KILLS_SEED` for other moments
//! PASSK_SOAK=10000 cargo test --test corpus -- soak         so many programs, at the best level: nothing adds up
//! PASSK_CORPUS_REQUIRE=landlock,namespaces …        a level that is not offered is a failure
//! ```
//!
//! Each trial is one setting. It is run by a process of its own (this executable again, `--worker`), which may be of
//! another user, keeps a secret in its environment, and looks after the host before and after each program.
#![allow(clippy::unwrap_used, clippy::print_stdout)] // a test that cannot go on has failed; the worker speaks on stdout

#[cfg(target_os = "linux")]
mod head;
#[cfg(target_os = "linux")]
mod host;
#[cfg(target_os = "linux")]
mod kill;
#[cfg(target_os = "linux")]
mod matrix;
#[cfg(target_os = "linux")]
mod soak;
#[cfg(target_os = "linux")]
mod worker;

use std::process::ExitCode;

#[cfg(target_os = "linux")]
fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.split_first() {
        Some((first, rest)) if first == "--worker" => worker::work(rest),
        Some((first, rest)) if first == "--kill" => kill::work(rest),
        Some((first, rest)) if first == "--soak" => soak::work(rest),
        _ => libtest_mimic::run(&libtest_mimic::Arguments::from_args(), matrix::trials()).exit_code(),
    }
}

/// The host's side of the corpus looks into `/proc`, and levels above `none` are Linux's.
#[cfg(not(target_os = "linux"))]
fn main() -> ExitCode {
    libtest_mimic::run(&libtest_mimic::Arguments::from_args(), Vec::new()).exit_code()
}
