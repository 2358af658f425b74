//! What the harness could not do.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

use super::Isolation;
use crate::verdict::Verdict;

/// How `none` is had.
const CONSENT: &str = "say --isolation none --i-understand-that-generated-code-runs-as-me, or set PASSK_ISOLATION=none \
                       and PASSK_I_UNDERSTAND_THAT_GENERATED_CODE_RUNS_AS_ME=1";

/// What the harness could not do. It says nothing about the program.
#[derive(Debug, Error)]
pub enum JailError {
    /// There is no interpreter, or it does not answer.
    #[error("no python at `{command}`: {cause}; install Python 3.8 or newer, or set PASSK_PYTHON to its path")]
    NoPython {
        /// The command that was tried.
        command: String,
        /// Why it is no interpreter.
        cause: String,
    },
    /// The interpreter is too old.
    #[error("python `{path}` is version {version}, but 3.8 or newer is needed; set PASSK_PYTHON to a newer one")]
    OldPython {
        /// The interpreter.
        path: PathBuf,
        /// Its version.
        version: String,
    },
    /// The interpreter works, but not inside the jail.
    #[error("python `{path}` fails an empty program in the jail: {verdict}: {detail}")]
    Canary {
        /// The interpreter.
        path: PathBuf,
        /// What became of the empty program.
        verdict: Verdict,
        /// Why.
        detail: String,
    },
    /// No folder could be made for the program.
    #[error("failed to make a folder in `{parent}`: {cause}; TMPDIR may name another place")]
    Folder {
        /// Where it was to be.
        parent: PathBuf,
        /// What the system said.
        cause: io::Error,
    },
    /// The program could not be handed over.
    #[error("failed to write the program to a temporary file: {0}")]
    Deliver(io::Error),
    /// No process could be started.
    #[error("failed to start python `{path}`: {cause}")]
    Start {
        /// The interpreter.
        path: PathBuf,
        /// What the system said.
        cause: io::Error,
    },
    /// The interpreter ended, or the time did, before the program was begun.
    #[error("python `{path}` ended before the program began: {cause}")]
    NotBegun {
        /// The interpreter.
        path: PathBuf,
        /// Its last words, or how it ended.
        cause: String,
    },
    /// The running program could not be watched.
    #[error("failed to watch process {pid}: {cause}")]
    Watch {
        /// The program's first process.
        pid: i32,
        /// What the system said.
        cause: io::Error,
    },
    /// The level that was asked for does not hold here.
    #[error("isolation `{level}` does not hold here: {why}")]
    Level {
        /// What was asked for.
        level: Isolation,
        /// What is missing.
        why: String,
    },
    /// `none` was asked for, and nobody has agreed to it.
    #[error("isolation `none` runs generated code with your rights: {}", CONSENT)]
    NoConsent,
    /// No level holds here, and `none` is not for us to choose.
    #[error("no isolation holds here ({0}); to run generated code with your rights all the same, {consent}", consent = CONSENT)]
    Nothing(String),
    /// A slot of the jail failed. It is gone, and another takes its place.
    #[error("the jail failed: {0}")]
    Slot(String),
    /// The program was killed by [`kill_all`](super::kill_all).
    #[error("interrupted")]
    Interrupted,
}
