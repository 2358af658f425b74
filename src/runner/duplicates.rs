//! Exact duplicates of a problem's programs are run once. At low temperatures most completions are duplicates.
//!
//! A program is run by whoever comes first; who comes while it runs leaves its sample behind and goes on with another.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::record::SampleRecord;
use crate::sampler::Sample;
use crate::task::TaskId;
use crate::verdict::{Judgement, Verdict};

/// What a record says of a program.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Judged {
    pub(super) verdict: Verdict,
    pub(super) detail: String,
    pub(super) traceback: Vec<String>,
    pub(super) partial: Option<f64>,
    pub(super) plus: Option<Verdict>,
    pub(super) in_process: Option<String>,
}

impl Judged {
    pub(super) fn new(base: Judgement, plus: Option<Judgement>) -> Judged {
        let in_process = base.in_process.clone().or_else(|| plus.as_ref()?.in_process.clone());
        let (verdict, partial) = (base.verdict, base.partial);
        let verdict_of_plus = plus.as_ref().map(|plus| plus.verdict);
        // A pass has nothing to say of itself; where the plus tests do not share it, they have.
        let Judgement { detail, traceback, .. } = plus.filter(|_| verdict.passed()).unwrap_or(base);
        Judged { in_process, verdict, detail, traceback, partial, plus: verdict_of_plus }
    }
}

impl From<&SampleRecord> for Judged {
    fn from(record: &SampleRecord) -> Judged {
        Judged {
            verdict: record.verdict,
            detail: record.detail.clone(),
            traceback: record.traceback.clone(),
            partial: record.partial,
            plus: record.plus,
            in_process: record.in_process.clone(),
        }
    }
}

/// Task and digest of the text that is judged.
type Key = (TaskId, [u8; 32]);

enum State {
    /// It runs, and these wait for what comes of it.
    Runs(Vec<Sample>),
    /// What came of it.
    Known(Judged),
}

/// Whose turn it is when a program comes.
pub(super) enum Turn {
    /// It is to be run, and what came of it to be [told](Programs::told).
    Run(Sample),
    /// It was run before.
    Known(Sample, Judged),
    /// It runs now. The sample is kept until that is told.
    Waits,
}

/// The programs of one entry.
pub(super) struct Programs {
    states: Mutex<HashMap<Key, State>>,
    /// Every program is run, duplicate or not.
    each: bool,
}

impl Programs {
    /// With what an earlier invocation has judged.
    pub(super) fn new(each: bool, records: &[SampleRecord]) -> Programs {
        let known = |record: &SampleRecord| (key(&record.task_id, &record.completion), State::Known(record.into()));
        let states = if each { HashMap::new() } else { records.iter().map(known).collect() };
        Programs { states: Mutex::new(states), each }
    }

    fn states(&self) -> MutexGuard<'_, HashMap<Key, State>> {
        self.states.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What to do with a sample whose program is `text`.
    pub(super) fn turn(&self, text: &str, sample: Sample) -> Turn {
        if self.each {
            return Turn::Run(sample);
        }
        let mut states = self.states();
        match states.get_mut(&key(&sample.task, text)) {
            Some(State::Known(judged)) => Turn::Known(sample, judged.clone()),
            Some(State::Runs(waiting)) => {
                waiting.push(sample);
                Turn::Waits
            }
            None => {
                states.insert(key(&sample.task, text), State::Runs(Vec::new()));
                Turn::Run(sample)
            }
        }
    }

    /// What came of a program, or that nothing did; returns who waited for it.
    pub(super) fn told(&self, task: &TaskId, text: &str, judged: Option<&Judged>) -> Vec<Sample> {
        if self.each {
            return Vec::new();
        }
        let mut states = self.states();
        let before = match judged {
            Some(judged) => states.insert(key(task, text), State::Known(judged.clone())),
            None => states.remove(&key(task, text)),
        };
        match before {
            Some(State::Runs(waiting)) => waiting,
            _ => Vec::new(),
        }
    }
}

fn key(task: &TaskId, text: &str) -> Key {
    (task.clone(), blake3::hash(text.as_bytes()).into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sampler::Finish;

    fn sample(task: &str, index: u32) -> Sample {
        Sample { task: task.into(), index, completion: "x".into(), finish: Finish::Given, tokens: None }
    }

    #[test]
    fn who_comes_first_runs_it_and_the_others_are_handed_what_came() {
        let programs = Programs::new(false, &[]);
        let judged = Judged::new(Judgement::new(Verdict::Passed, ""), None);
        assert!(matches!(programs.turn("a", sample("t", 0)), Turn::Run(_)));
        assert!(matches!(programs.turn("a", sample("t", 1)), Turn::Waits));
        assert!(matches!(programs.turn("b", sample("t", 2)), Turn::Run(_)));
        assert!(matches!(programs.turn("a", sample("u", 0)), Turn::Run(_)), "another task's");
        let waited = programs.told(&"t".into(), "a", Some(&judged));
        assert_eq!(waited.iter().map(|sample| sample.index).collect::<Vec<_>>(), [1]);
        assert!(matches!(programs.turn("a", sample("t", 3)), Turn::Known(_, known) if known == judged));
    }

    #[test]
    fn why_not_is_what_the_plus_tests_say_of_a_pass() {
        let said = |verdict, detail: &str| Judgement::new(verdict, detail);
        let disputed = said(Verdict::Disputed, "apart from its tests: wrong_answer: assert f(9) == 3");
        let judged = Judged::new(said(Verdict::Passed, ""), Some(disputed.clone()));
        assert_eq!((judged.verdict, judged.plus), (Verdict::Passed, Some(Verdict::Disputed)));
        assert_eq!(judged.detail, disputed.detail);
        let judged = Judged::new(said(Verdict::WrongAnswer, "assert f(1) == 1"), Some(disputed));
        assert_eq!((judged.verdict, judged.detail.as_str()), (Verdict::WrongAnswer, "assert f(1) == 1"));
    }

    #[test]
    fn what_could_not_be_judged_is_not_known() {
        let programs = Programs::new(false, &[]);
        assert!(matches!(programs.turn("a", sample("t", 0)), Turn::Run(_)));
        assert!(matches!(programs.turn("a", sample("t", 1)), Turn::Waits));
        assert_eq!(programs.told(&"t".into(), "a", None).len(), 1);
        assert!(matches!(programs.turn("a", sample("t", 2)), Turn::Run(_)));
    }

    #[test]
    fn each_is_run_when_that_is_asked_for() {
        let programs = Programs::new(true, &[]);
        for index in 0..3 {
            assert!(matches!(programs.turn("a", sample("t", index)), Turn::Run(_)));
        }
        assert!(programs.told(&"t".into(), "a", None).is_empty());
    }
}
