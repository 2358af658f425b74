//! What one interpreter is handed.

use serde::{Deserialize, Serialize};

/// What every interpreter executes: takes a job, runs it, reports. It is a generator, so that it can be begun before a fork.
pub(super) const RUNNER: &str = include_str!("runner.py");

/// What it executes before, when its job is but a part of a program.
pub(super) const SPLIT: &str = include_str!("split.py");

/// The runner from its beginning to its end, called by a function as `zygote.py` does it: a program has as much stack.
const RUN: &str = "def alone(running):\n    next(running)\n    next(running)\n\n\nalone(run())\n";

/// What a program is to the interpreter that executes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Role {
    /// Candidate and tests in one text.
    Whole,
    /// The candidate alone, which is asked by a judge.
    Candidate,
    /// The tests alone, which ask a candidate.
    Judge,
}

impl Role {
    /// What an interpreter of its own executes for it.
    pub(super) fn code(self) -> String {
        match self {
            Role::Whole => [RUNNER, RUN].concat(),
            Role::Candidate | Role::Judge => [SPLIT, RUNNER, RUN].concat(),
        }
    }
}

/// A text for one interpreter.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Job {
    pub(super) role: Role,
    pub(super) nonce: String,
    pub(super) source: String,
    /// What it reads from standard input, when it is a program of its own.
    pub(super) input: Option<String>,
}

impl Job {
    /// The text as `runner.py` reads it.
    pub(super) fn text(&self) -> String {
        let role = match self.role {
            Role::Whole => "",
            Role::Candidate => " candidate",
            Role::Judge => " judge",
        };
        format!("{}{role}\n{}", self.nonce, self.source)
    }
}
