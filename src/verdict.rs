//! What a program did. What *we* could not do is an error, never a verdict.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// What one program did when it was run against its task's tests.
///
/// Everything but [`Passed`](Verdict::Passed) counts as not passed. A dead interpreter, a full disk or a missing
/// Python is no verdict: it is an error of the harness and never counted as a wrong answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// One well-formed report came after the last assert, and no limit was reached.
    Passed,
    /// An assert failed, or the output differs.
    WrongAnswer,
    /// The program raised an exception other than a failed assert.
    Exception,
    /// The program does not compile.
    SyntaxError,
    /// The limit of CPU time was reached.
    TimeoutCpu,
    /// The limit of wall time was reached: the program slept, waited or blocked.
    TimeoutWall,
    /// The limit of memory was reached.
    MemoryLimit,
    /// The limit of processes and threads was reached.
    ProcessLimit,
    /// More was printed than the limit allows.
    OutputLimit,
    /// The program was ended by a signal that no limit explains.
    Signal,
    /// The program ended without a report, whatever its exit status.
    EarlyExit,
    /// The program did what no solution may: left processes behind, forged or garbled a report.
    Violation,
    /// Passed in one interpreter with its tests, and not apart from them.
    Disputed,
}

impl Verdict {
    /// Every verdict, in the order in which counts are printed.
    pub const ALL: [Verdict; 13] = [
        Verdict::Passed,
        Verdict::WrongAnswer,
        Verdict::Exception,
        Verdict::SyntaxError,
        Verdict::TimeoutCpu,
        Verdict::TimeoutWall,
        Verdict::MemoryLimit,
        Verdict::ProcessLimit,
        Verdict::OutputLimit,
        Verdict::Signal,
        Verdict::EarlyExit,
        Verdict::Violation,
        Verdict::Disputed,
    ];

    /// Whether the sample counts as correct.
    pub fn passed(self) -> bool {
        self == Verdict::Passed
    }

    /// Whether it is a limit of time that was reached. On a busy machine that may be no fault of the program's.
    pub fn timed_out(self) -> bool {
        matches!(self, Verdict::TimeoutCpu | Verdict::TimeoutWall)
    }

    /// The name that stands in records: `wrong_answer`, `timeout_cpu`, ….
    pub fn name(self) -> &'static str {
        match self {
            Verdict::Passed => "passed",
            Verdict::WrongAnswer => "wrong_answer",
            Verdict::Exception => "exception",
            Verdict::SyntaxError => "syntax_error",
            Verdict::TimeoutCpu => "timeout_cpu",
            Verdict::TimeoutWall => "timeout_wall",
            Verdict::MemoryLimit => "memory_limit",
            Verdict::ProcessLimit => "process_limit",
            Verdict::OutputLimit => "output_limit",
            Verdict::Signal => "signal",
            Verdict::EarlyExit => "early_exit",
            Verdict::Violation => "violation",
            Verdict::Disputed => "disputed",
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A verdict with what the program said about it.
#[derive(Clone, Debug, PartialEq)]
pub struct Judgement {
    /// What the program did.
    pub verdict: Verdict,
    /// One line on why, e.g. `ZeroDivisionError: division by zero`; empty for a pass.
    pub detail: String,
    /// The last steps to where it was raised, the innermost last, e.g. `line 7, in check: assert candidate(2) == 4`:
    /// lines of the program, and what they called.
    pub traceback: Vec<String>,
    /// Tests passed / tests, of problems with inputs and outputs only.
    pub partial: Option<f64>,
    /// Processor time that it took, where that can be known; the most of one test where there are several runs. Not
    /// the same twice, and in no record of a sample.
    pub cpu: Option<Duration>,
    /// Of a pass that could not be judged once more apart from its tests: why.
    pub in_process: Option<String>,
    /// Of a disputed program: what it did apart from its tests.
    pub apart: Option<Verdict>,
}

impl Judgement {
    /// A verdict and why.
    pub fn new(verdict: Verdict, detail: impl Into<String>) -> Judgement {
        Judgement {
            verdict,
            detail: detail.into(),
            traceback: Vec::new(),
            partial: None,
            cpu: None,
            in_process: None,
            apart: None,
        }
    }

    /// Whether a limit of time decided. On a busy machine that may be no fault of the program's.
    pub fn timed_out(&self) -> bool {
        self.verdict.timed_out() || self.apart.is_some_and(Verdict::timed_out)
    }

    /// Whether it was ended by SIGKILL. That may be its own doing, or that of the kernel for lack of memory, or of an
    /// operator: who sent a signal is not to be known.
    pub fn killed(&self) -> bool {
        self.verdict == Verdict::Signal && self.detail.ends_with(Judgement::KILLED)
    }

    /// The detail of a program that was ended by SIGKILL.
    pub(crate) const KILLED: &str = "ended by SIGKILL (9)";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_the_persisted_ones() {
        for verdict in Verdict::ALL {
            assert_eq!(serde_json::to_value(verdict).unwrap(), verdict.name());
        }
    }
}
