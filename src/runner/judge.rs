//! Task and completion → judgement, under the limits of the task. What may come of others on the machine, a timeout or a
//! SIGKILL, is tried once more while nothing else runs.

use std::sync::{PoisonError, RwLock};

use super::{ceiling, interrupt};
use crate::jail::{Jail, JailError, Limits};
use crate::program::Program;
use crate::record::short_digest;
use crate::revision;
use crate::task::Task;
use crate::verdict::Judgement;

/// What judges programs, from several threads at once.
pub(super) struct Judge {
    pub(super) jail: Jail,
    /// Programs at once.
    pub(super) jobs: usize,
    /// The limit was asked for: it holds for slow problems too.
    asked: bool,
    /// Held by every program that runs, and by one alone that is tried again.
    company: RwLock<()>,
}

impl Judge {
    pub(super) fn new(jail: Jail, jobs: usize, asked: bool) -> Judge {
        Judge { jail, jobs, asked, company: RwLock::default() }
    }

    /// What a program for `task` may use. Where the dataset's own solution is known to be slow, that is four times as
    /// long as it takes, and once more for the reference beside it; where it is known to be large, twice as much.
    pub(super) fn limits_of(&self, task: &Task) -> Limits {
        let limits = self.jail.limits();
        let Some(needs) = task.needs else { return limits.clone() };
        let cpu = if self.asked { limits.cpu } else { limits.cpu.max(4 * needs.cpu) + needs.cpu };
        Limits { memory_bytes: limits.memory_bytes.max(2 * needs.memory_bytes), ..Limits::for_cpu(cpu) }
    }

    /// Judges a completion by the task's tests, and where it passes them and there are any, by its plus tests.
    pub(super) fn judge(&self, task: &Task, completion: &str) -> Result<(Judgement, Option<Judgement>), JailError> {
        let limits = self.limits_of(task);
        let base = self.run(&Program::assemble(task, completion), &limits)?;
        let plus = match Program::assemble_plus(task, completion) {
            Some(program) if base.verdict.passed() => Some(self.run(&program, &limits)?),
            Some(_) => Some(base.clone()),
            None => None,
        };
        Ok((base, plus))
    }

    /// Runs a program; one that ran out of time, or was killed as the kernel or an operator kills, is run again alone,
    /// so that a busy or full machine changes no score.
    fn run(&self, program: &Program, limits: &Limits) -> Result<Judgement, JailError> {
        let judged = {
            let _company = self.company.read().unwrap_or_else(PoisonError::into_inner);
            interrupt::run(&self.jail, program, limits)?
        };
        if !judged.timed_out() && !judged.killed() {
            return Ok(judged);
        }
        let _alone = self.company.write().unwrap_or_else(PoisonError::into_inner);
        interrupt::run(&self.jail, program, limits)
    }

    /// Digest of what may change a judgement beside the program.
    pub(super) fn digest(&self) -> String {
        let limits = format!("{:?}", self.jail.limits());
        let python = &self.jail.python().version;
        short_digest(&(
            ceiling::machine(),
            limits,
            python,
            self.jail.isolation().to_string(),
            self.jail.split(),
            revision::digest(),
        ))
    }
}
