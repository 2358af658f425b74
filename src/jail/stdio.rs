//! Judges a program by what it prints: one run for each test, compared here. The expected output never leaves us.

use std::collections::HashMap;

use super::{Jail, JailError, Limits};
use crate::output;
use crate::program::StdioTest;
use crate::verdict::{Judgement, Verdict};

/// After so many tests that ran into a limit of time the others are taken for failed: a program that never ends would
/// otherwise cost its limit some hundred times.
const MOST_TIMEOUTS: usize = 3;

/// Bytes that a program may print beside what is expected of it, beyond the limit that holds for all.
const SPARE_OUTPUT_BYTES: u64 = 64 << 10;

/// Runs `candidate` on every test. The verdict is that of the first test that fails, and `partial` the share that passes.
///
/// Equal inputs are run once, and a program that does not compile is not run again.
pub(super) fn judge(
    jail: &Jail,
    candidate: &str,
    tests: &[StdioTest],
    limits: &Limits,
) -> Result<Judgement, JailError> {
    let longest = tests.iter().map(|test| test.output.len() as u64).max().unwrap_or(0);
    let limits = Limits { output_bytes: limits.output_bytes.max(2 * longest + SPARE_OUTPUT_BYTES), ..limits.clone() };
    let mut runs: HashMap<&str, (Judgement, Vec<u8>)> = HashMap::new();
    let mut first_failure: Option<Judgement> = None;
    let (mut passed, mut timeouts, mut cpu) = (0, 0, None);
    for (at, test) in tests.iter().enumerate() {
        if !runs.contains_key(test.input.as_str()) {
            let (ended, stdout) = jail.run_source(candidate, Some(&test.input), &limits)?;
            cpu = cpu.max(ended.cpu);
            timeouts += usize::from(ended.verdict.timed_out());
            runs.insert(&test.input, (ended, stdout));
        }
        let Some((ended, stdout)) = runs.get(test.input.as_str()) else { continue };
        let judged = match ended.verdict {
            Verdict::Passed => match output::agree(stdout, test.output.as_bytes()) {
                Ok(()) => Judgement::new(Verdict::Passed, ""),
                Err(difference) => Judgement::new(Verdict::WrongAnswer, difference),
            },
            _ => ended.clone(),
        };
        passed += usize::from(judged.verdict.passed());
        let (verdict, of) = (judged.verdict, tests.len());
        if !verdict.passed() && first_failure.is_none() {
            let detail = match verdict {
                Verdict::SyntaxError => judged.detail.clone(),
                _ => format!("test {} of {of}: {}", at + 1, judged.detail),
            };
            first_failure = Some(Judgement { detail, ..judged });
        }
        if verdict == Verdict::SyntaxError || timeouts >= MOST_TIMEOUTS {
            break;
        }
    }
    let judgement = first_failure.unwrap_or_else(|| Judgement::new(Verdict::Passed, ""));
    Ok(Judgement { partial: Some(passed as f64 / tests.len().max(1) as f64), cpu, ..judgement })
}
