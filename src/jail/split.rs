//! Judges a pass once more with candidate and tests in two interpreters, neither of which can reach into the other.
//!
//! In one interpreter a program can make anything look like a pass: objects that are equal to everything, a walk up the
//! frames, a patched `builtins`. Here the judge executes the tests against stand-ins for what the candidate defines, and
//! the candidate answers calls; both are in the jail, and only plain values cross, by the codec of `split.py`. What the
//! tests expect never reaches the candidate.
//!
//! What the tests need and cannot have across that border (a callable as an argument, a look at the candidate's code, a
//! file that it wrote) makes the task one to be judged whole, and so does memory beyond the usual, which its values are
//! known to take. The tests' own text and values and the task's limits decide that, and never what the candidate answers.

use serde_json::json;

use super::job::{Job, Role};
use super::judge::{self, Asked};
use super::{Jail, JailError, Limits, nonce};
use crate::verdict::{Judgement, Verdict};

/// What came of it.
#[derive(Debug)]
pub(super) enum Finding {
    /// It passes apart from its tests too.
    Same,
    /// Its tests cannot be kept apart from it, and why.
    Whole(String),
    /// It does not pass, and what it did instead.
    Differs(Judgement),
}

/// Judges a candidate that has passed under `limits` in one interpreter with its tests.
///
/// The clock has been held by then. Here each of the two has twice as much: copying costs, and a difference that only
/// the clock makes is none.
///
/// # Errors
/// When it could not be judged through no doing of the candidate's.
pub(super) fn judge(
    jail: &Jail,
    candidate: &str,
    tests: &str,
    entry_point: Option<&str>,
    prompt: &str,
    limits: &Limits,
) -> Result<Finding, JailError> {
    if limits.memory_bytes > Limits::MEMORY_BYTES {
        let mib = limits.memory_bytes >> 20;
        return Ok(Finding::Whole(format!("values that may take {mib} MiB, which are too large to be copied")));
    }
    let limits = Limits { cpu: 2 * limits.cpu, wall: 2 * limits.wall, ..limits.clone() };
    let job = |role, source: String| -> Result<Job, JailError> {
        Ok(Job { role, nonce: nonce().map_err(JailError::Deliver)?, source, input: None })
    };
    let asking = json!({"text": tests, "entry": entry_point, "given": prompt}).to_string();
    let jobs = [job(Role::Candidate, candidate.into())?, job(Role::Judge, asking)?];
    let [candidate, asking] = jail.execute_pair(&jobs, &limits)?;
    let not_begun = |cause| JailError::NotBegun { path: jail.python.path.clone(), cause };
    Ok(match judge::asked(&asking.seen, &limits, &jobs[1].nonce, &asking.home).map_err(not_begun)? {
        Asked::Whole(why) => Finding::Whole(why),
        // Only here does it matter how the candidate ended; who was not asked may not even have begun.
        Asked::Gone => {
            let ended = judge::judge(&candidate.seen, &limits, &jobs[0].nonce, &candidate.home).map_err(not_begun)?;
            Finding::Differs(match ended.verdict {
                // How it ended cannot be told from how it was ended, once nobody asked it any more.
                Verdict::Passed | Verdict::EarlyExit | Verdict::Signal => {
                    Judgement::new(Verdict::EarlyExit, "ended before it had answered")
                }
                _ => ended,
            })
        }
        Asked::Judged(Judgement { verdict: Verdict::Passed, .. }) => Finding::Same,
        Asked::Judged(judgement) => Finding::Differs(judgement),
    })
}
