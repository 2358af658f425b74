//! A run beside an accepted snapshot: which lines moved, and what a gate says of it.

use serde::Serialize;

use super::Snapshot;
use crate::score::noise::{Gate, Loss};
use crate::score::{self, Tally};

/// A problem whose line is another than before.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Moved {
    /// The task.
    pub task: String,
    /// `17/20   passed 17 · wrong_answer 3` as accepted; `None` for a problem that has no line there.
    pub before: Option<String>,
    /// The same as it is now.
    pub now: String,
    /// More correct samples in its share (1), fewer (-1), or as many with other verdicts (0).
    pub direction: i8,
    /// The gate fails for it.
    pub fails: bool,
}

/// What a run is, held against a snapshot.
#[derive(Clone, Debug, Serialize)]
pub struct Comparison {
    /// Whose run.
    pub label: String,
    /// On which dataset.
    pub dataset: String,
    /// The snapshot's file.
    pub snapshot: String,
    /// `exact`, `noise`, or `none` where nothing can fail.
    pub gate: &'static str,
    /// Settings in which they differ.
    pub unlike: Vec<String>,
    /// Problems that are in both.
    pub compared: usize,
    /// Their mean pass@1, accepted and now.
    pub pass_at_1: Option<(f64, f64)>,
    /// In the dataset's order.
    pub moved: Vec<Moved>,
    /// Under the gate `noise`, the significant loss over all problems, as words.
    pub loss: Option<String>,
    /// The gate fails for a problem or over all.
    pub failed: bool,
}

/// Which lines a gate lets pass.
#[derive(Clone, Copy, Debug)]
pub enum Rule {
    /// None that moved.
    Exact,
    /// All but significant losses among so many problems.
    Noise(Gate),
    /// All.
    None,
}

impl Rule {
    /// Why the gate fails for a problem, as a test's failure tells it.
    pub fn fails(self, task: &str, accepted: &Snapshot, now: Tally, line: &str) -> Option<String> {
        let before = accepted.result(task)?;
        let why = match self {
            Rule::None => return None,
            Rule::Exact if before == line => return None,
            Rule::Exact => format!("{task} is not as accepted"),
            Rule::Noise(gate) => format!("{task} {}", in_words(&gate.problem(accepted.tally(task)?, now)?)),
        };
        Some(format!("{why}\n-  {before}\n+  {line}"))
    }

    fn name(self) -> &'static str {
        match self {
            Rule::Exact => "exact",
            Rule::Noise(_) => "noise",
            Rule::None => "none",
        }
    }
}

/// `lost more than noise explains: pass@1 0.9000 → 0.2000 (p 2e-6 ≤ 3e-5)`.
fn in_words(loss: &Loss) -> String {
    format!(
        "lost more than noise explains: pass@1 {:.4} → {:.4} (p {:.1e}, the gate's level is {:.1e})",
        loss.accepted, loss.now, loss.p, loss.level
    )
}

/// Holds a run's snapshot against an accepted one, problem by problem.
pub fn compare(accepted: &Snapshot, now: &Snapshot, rule: Rule) -> Comparison {
    let mut moved = Vec::new();
    let mut pairs = Vec::new();
    for (task, tally, _) in &now.problems {
        let (Some(line), before) = (now.result(task), accepted.result(task)) else { continue };
        let was = accepted.tally(task);
        pairs.extend(was.map(|was| (was, *tally)));
        if before.as_ref() == Some(&line) {
            continue;
        }
        moved.push(Moved {
            fails: rule.fails(task, accepted, *tally, &line).is_some(),
            direction: was.map_or(0, |was| direction(was, *tally)),
            task: task.clone(),
            before,
            now: line,
        });
    }
    let loss = match rule {
        Rule::Noise(gate) => gate.overall(&pairs).map(|loss| in_words(&loss)),
        _ => None,
    };
    let mean = |of: fn(&(Tally, Tally)) -> Tally| {
        score::pass_at_k(&pairs.iter().map(of).collect::<Vec<_>>(), 1).map(|estimate| estimate.mean)
    };
    Comparison {
        label: String::new(),
        dataset: String::new(),
        snapshot: String::new(),
        gate: rule.name(),
        unlike: accepted.unlike(now),
        compared: pairs.len(),
        pass_at_1: mean(|pair| pair.0).zip(mean(|pair| pair.1)),
        failed: loss.is_some() || moved.iter().any(|moved| moved.fails),
        moved,
        loss,
    }
}

/// Whether the share of correct samples rose or fell.
fn direction(was: Tally, now: Tally) -> i8 {
    let before = u64::from(was.c) * u64::from(now.n);
    let after = u64::from(now.c) * u64::from(was.n);
    after.cmp(&before) as i8
}

impl Comparison {
    /// Lines that moved: up, down, and with as many correct samples as before.
    pub fn counts(&self) -> (usize, usize, usize) {
        let count = |direction| self.moved.iter().filter(|moved| moved.direction == direction).count();
        (count(1), count(-1), count(0))
    }

    /// `pass@1 0.6218 → 0.5806 over 62 problems · 3 up, 9 down, 4 otherwise moved`.
    pub fn in_words(&self) -> String {
        let (up, down, other) = self.counts();
        let score = self.pass_at_1.map_or("no problem in common".to_owned(), |(before, now)| {
            format!("pass@1 {before:.4} → {now:.4} over {} problems", self.compared)
        });
        match self.moved.is_empty() {
            true => format!("{score} · every line as before"),
            false => format!("{score} · {up} up, {down} down, {other} otherwise moved"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::snapshot;
    use super::*;

    #[test]
    fn exactly_what_moved_is_told() {
        let accepted = snapshot("abc", &[("t/1", 1, 4), ("t/2", 2, 4), ("t/3", 3, 4)]);
        let now = snapshot("def", &[("t/1", 1, 4), ("t/2", 4, 4), ("t/3", 0, 4), ("t/4", 1, 4)]);
        let comparison = compare(&accepted, &now, Rule::Exact);
        let moved: Vec<(&str, i8, bool)> =
            comparison.moved.iter().map(|moved| (moved.task.as_str(), moved.direction, moved.fails)).collect();
        assert_eq!(moved, [("t/2", 1, true), ("t/3", -1, true), ("t/4", 0, false)]);
        assert_eq!(comparison.in_words(), "pass@1 0.5000 → 0.4167 over 3 problems · 1 up, 1 down, 1 otherwise moved");
        assert!(comparison.failed);
        assert!(!compare(&accepted, &now, Rule::None).failed);
        assert!(!compare(&accepted, &accepted, Rule::Exact).failed);
    }

    #[test]
    fn noise_fails_on_a_loss_that_is_one_and_on_nothing_else() {
        let accepted = snapshot("abc", &[("t/1", 20, 20), ("t/2", 10, 20)]);
        let noise = Rule::Noise(Gate::new(2));
        let check = |now: &[(&str, u32, u32)], failing: &[&str]| {
            let comparison = compare(&accepted, &snapshot("def", now), noise);
            let fails: Vec<&str> =
                comparison.moved.iter().filter(|moved| moved.fails).map(|moved| moved.task.as_str()).collect();
            assert_eq!(fails, failing, "{comparison:?}");
            comparison.failed
        };
        assert!(!check(&[("t/1", 18, 20), ("t/2", 9, 20)], &[]));
        assert!(!check(&[("t/1", 20, 20), ("t/2", 20, 20)], &[]));
        assert!(check(&[("t/1", 3, 20), ("t/2", 10, 20)], &["t/1"]));
        // Neither alone, but both together.
        assert!(check(&[("t/1", 14, 20), ("t/2", 2, 20)], &[]));
    }
}
