//! The self-check: the dataset's own solutions are judged as completions are. What they score is the ceiling of every
//! score on this machine; below the known one, the machine or the harness is at fault and not a model.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

use serde::{Deserialize, Serialize};

use super::judge::Judge;
use crate::journal::pretty;
use crate::record::{CeilingRecord, short_digest};
use crate::task::{Task, TaskId};
use crate::verdict::Judgement;

/// The name of the test case.
pub(super) const NAME: &str = "self-check";

/// What has passed on this machine: a self-check need not be made twice.
#[derive(Default, Serialize, Deserialize)]
struct Known {
    /// Digest of machine, interpreter, limits and passk's own judging.
    judged_by: String,
    /// Task → digest of the task, and the processor seconds that its solution took.
    passed: BTreeMap<TaskId, (String, f64)>,
}

impl Known {
    fn read(path: &Path, judged_by: String) -> Known {
        let known: Option<Known> = std::fs::read(path).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
        // A file that cannot be read, or speaks of something else, says nothing: everything is judged anew.
        known.filter(|known| known.judged_by == judged_by).unwrap_or(Known { judged_by, passed: BTreeMap::new() })
    }
}

/// Judges the dataset's own solutions of those of `tasks` that have one, as far as it is not known what they score.
///
/// # Errors
/// A solution does not pass, or could not be judged: the failing test's text.
pub(super) fn measure(
    judge: &Judge,
    tasks: &[&Task],
    dataset: &str,
    storage: &Path,
) -> Result<Option<CeilingRecord>, String> {
    let path = storage.join("ceilings").join(format!("{dataset}.json"));
    let mut known = Known::read(&path, judge.digest());
    let solved: Vec<&Task> = tasks.iter().copied().filter(|task| task.canonical.is_some()).collect();
    if solved.is_empty() {
        return Ok(None);
    }
    let digests: Vec<String> = solved.iter().map(short_digest).collect();
    let is_known = |at: usize| known.passed.get(&solved[at].id).is_some_and(|(digest, _)| *digest == digests[at]);
    let unknown: Vec<usize> = (0..solved.len()).filter(|&at| !is_known(at)).collect();
    let judged = each(judge.jobs, &unknown, |&at| {
        let task = solved[at];
        judge.judge(task, task.canonical.as_deref().unwrap_or_default())
    });
    let mut failed = Vec::new();
    for (at, judged) in unknown.into_iter().zip(judged) {
        let id = &solved[at].id;
        let (base, plus) = judged.map_err(|error| format!("harness: self-check: `{id}` was not judged: {error}"))?;
        let worst = [Some(&base), plus.as_ref()].into_iter().flatten().find(|judged| !judged.verdict.passed());
        let cpu = [Some(&base), plus.as_ref()].into_iter().flatten().filter_map(|judged| judged.cpu).max();
        match worst {
            Some(Judgement { verdict, detail, .. }) => failed.push(format!("{id}: {verdict} {detail}")),
            None => {
                known.passed.insert(id.clone(), (digests[at].clone(), cpu.unwrap_or_default().as_secs_f64()));
            }
        }
    }
    // Only a convenience: what cannot be kept is measured again.
    let _ = crate::file::write_atomically(&path, &pretty(&known));
    let of = solved.len();
    if !failed.is_empty() {
        let (passed, first) = (of - failed.len(), failed.iter().take(3).cloned().collect::<Vec<_>>().join("; "));
        return Err(format!(
            "harness: self-check: {passed} of {of} of the dataset's own solutions pass, and all {of} are known to: \
             {first}; scores of this machine would be too low"
        ));
    }
    let seconds = solved.iter().copied().filter_map(|task| Some((known.passed.get(&task.id)?.1, task)));
    let (slowest_seconds, slowest) = seconds.max_by(|one, other| one.0.total_cmp(&other.0)).unwrap_or((0.0, solved[0]));
    Ok(Some(CeilingRecord {
        passed: of,
        of,
        slowest_seconds,
        slowest: slowest.id.clone(),
        limit_seconds: judge.limits_of(slowest).cpu.as_secs_f64(),
    }))
}

/// Judges an answer that does nothing to each of `tasks`: none may pass.
///
/// # Errors
/// One does, or could not be judged: the failing test's text.
pub(super) fn stubs(judge: &Judge, tasks: &[&Task]) -> Result<usize, String> {
    let stub = |task: &Task| if task.question.is_some() { "pass\n" } else { "    pass\n" };
    let judged = each(judge.jobs, tasks, |task| judge.judge(task, stub(task)));
    for (task, judged) in tasks.iter().zip(judged) {
        match judged {
            Ok((base, _)) if !base.verdict.passed() => {}
            Ok(_) => return Err(format!("harness: self-check: a body `pass` passes `{}`", task.id)),
            Err(error) => return Err(format!("harness: self-check: `{}` was not judged: {error}", task.id)),
        }
    }
    Ok(tasks.len())
}

/// `work` of each item on so many threads, in order.
fn each<T: Sync, R: Send>(threads: usize, items: &[T], work: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let next = AtomicUsize::new(0);
    let done: Mutex<Vec<(usize, R)>> = Mutex::default();
    thread::scope(|scope| {
        for _ in 0..threads.min(items.len()) {
            scope.spawn(|| {
                loop {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    let Some(item) = items.get(at) else { return };
                    let result = work(item);
                    done.lock().unwrap_or_else(PoisonError::into_inner).push((at, result));
                }
            });
        }
    });
    let mut done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    done.sort_by_key(|(at, _)| *at);
    done.into_iter().map(|(_, result)| result).collect()
}

/// The machine's name, where it can be known.
pub(super) fn machine() -> String {
    let name = std::fs::read_to_string(PathBuf::from("/proc/sys/kernel/hostname")).unwrap_or_default();
    name.trim().to_owned()
}
