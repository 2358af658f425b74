//! Accepted results: one text file per (label, dataset), reviewed with insta's own tools.
//!
//! A head states settings and scores, then every problem has one line. A pull request that retrains a pipeline shows
//! exactly the lines that moved.

pub mod compare;
pub mod github;
pub mod review;

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::record::{Completions, Problem, Run};
use crate::score::{self, Tally};
use crate::task::TaskId;

/// Why an accepted snapshot cannot be used.
#[derive(Debug, Error)]
#[error("failed to read snapshot `{}`: {cause}: restore it (`git checkout`), or delete it to begin anew", path.display())]
pub struct SnapshotError {
    path: PathBuf,
    cause: String,
}

/// Rows of the head that say what was measured, not how: they may differ between comparable snapshots.
const RESULTS: [&str; 3] = ["checkpoint", "problems", "pass@"];

/// The snapshot of one run: its head and a line for each problem.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    head: Vec<(String, String)>,
    problems: Vec<(String, Tally, String)>,
}

impl Snapshot {
    /// Draws up the snapshot of a run's `problems`, in the dataset's order.
    pub fn new(run: &Run, num_samples: u32, problems: &[Problem], ks: &[u32]) -> Snapshot {
        let print = &run.fingerprint;
        let quoted: Vec<String> = print.stops.iter().map(|stop| format!("{stop:?}")).collect();
        let split = print.split.as_ref().map(|split| format!("{split} split · ")).unwrap_or_default();
        let shots = match print.shots.is_empty() {
            true => String::new(),
            false => format!("shots {} · ", print.shots.join(" ")),
        };
        let limits = &print.limits;
        let mut head = vec![
            row("dataset", format!("{} · {split}{} tasks · {}", print.dataset, print.tasks, print.dataset_digest)),
            row("prompt", format!("{} · {shots}stops {}", print.prompt_format, quoted.join(" "))),
        ];
        let (sampling, engine, checkpoint) = describe(run);
        head.push(row("sampling", format!("n {num_samples} · {sampling}")));
        head.extend(engine.map(|engine| row("engine", engine)));
        head.push(row(
            "limits",
            format!(
                "cpu {} s · wall {} s · memory {} MiB",
                limits.cpu_seconds,
                limits.wall_seconds,
                limits.memory_bytes >> 20
            ),
        ));
        head.push(row("checkpoint", checkpoint));
        let problems =
            problems.iter().map(|problem| (problem.task.to_string(), problem.tally, problem.verdict_line())).collect();
        let mut snapshot = Snapshot { head, problems };
        snapshot.score(print.tasks, ks);
        snapshot
    }

    /// Replaces the rows of the head that the problems' lines determine.
    fn score(&mut self, tasks: usize, ks: &[u32]) {
        self.head.retain(|(key, _)| key != "problems" && !key.starts_with("pass@"));
        self.head.push(row("problems", format!("{} of {tasks}", self.problems.len())));
        let tallies: Vec<Tally> = self.problems.iter().map(|&(_, tally, _)| tally).collect();
        for k in ks {
            if let Some(e) = score::pass_at_k(&tallies, *k) {
                let text = format!("{:.4} · 95 % interval {:.4}–{:.4}", e.mean, e.low, e.high);
                self.head.push(row(&format!("pass@{k}"), text));
            }
        }
    }

    /// Reads an accepted snapshot; `None` where there is none.
    pub fn read(path: &Path) -> Result<Option<Snapshot>, SnapshotError> {
        let fail = |cause: String| SnapshotError { path: path.to_owned(), cause };
        let text = match std::fs::read_to_string(path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            text => text.map_err(|cause| fail(cause.to_string()))?,
        };
        if let Some(at) = text.lines().position(is_conflict) {
            let cause = "is a conflict of two branches: take one side, evaluate, and review what moved";
            return Err(fail(format!("line {} {cause}", at + 1)));
        }
        // insta writes its own head between two lines of dashes.
        let contents = text.strip_prefix("---\n").and_then(|text| text.split_once("\n---\n"));
        let (_, contents) = contents.ok_or_else(|| fail("it has no insta head".into()))?;
        Snapshot::parse(contents).map(Some).map_err(fail)
    }

    fn parse(text: &str) -> Result<Snapshot, String> {
        let mut snapshot = Snapshot { head: Vec::new(), problems: Vec::new() };
        let mut seen = HashSet::new();
        let mut lines = text.trim().lines();
        for line in lines.by_ref().take_while(|line| !line.trim().is_empty()) {
            let (key, value) = line.split_once(' ').ok_or_else(|| format!("`{line}` is no row of its head"))?;
            snapshot.head.push(row(key, value.trim().to_owned()));
        }
        for line in lines {
            let bad = || format!("`{line}` is no line of a problem");
            // Three spaces part the columns: an id may hold one.
            let (task, rest) = line.split_once("   ").ok_or_else(bad)?;
            let (tally, verdicts) = rest.trim().split_once("   ").ok_or_else(bad)?;
            let (c, n) = tally.split_once('/').ok_or_else(bad)?;
            let tally = Tally { n: n.parse().map_err(|_| bad())?, c: c.parse().map_err(|_| bad())? };
            if tally.c > tally.n || counted(verdicts).is_some_and(|count| count != tally.n) {
                return Err(format!("{}: its counts do not add up", bad()));
            }
            if !seen.insert(task) {
                return Err(format!("`{task}` stands there twice"));
            }
            snapshot.problems.push((task.to_owned(), tally, verdicts.trim().to_owned()));
        }
        Ok(snapshot)
    }

    /// Rows of settings in which two snapshots differ, e.g. `sampling: n 20 · T 0.2 … → n 5 · T 0.8 …`.
    pub fn unlike(&self, other: &Snapshot) -> Vec<String> {
        let settings = |snapshot: &Snapshot| -> Vec<(String, String)> {
            let is_result = |key: &str| RESULTS.iter().any(|result| key.starts_with(result));
            snapshot.head.iter().filter(|(key, _)| !is_result(key)).cloned().collect()
        };
        let theirs: HashMap<String, String> = settings(other).into_iter().collect();
        let ours = settings(self);
        let mut differing: Vec<String> = ours
            .iter()
            .filter(|(key, value)| theirs.get(key) != Some(value))
            .map(|(key, value)| format!("{key}: {value} → {}", theirs.get(key).map_or("nothing", String::as_str)))
            .collect();
        let only_theirs = theirs.keys().filter(|key| ours.iter().all(|(ours, _)| ours != *key));
        differing.extend(only_theirs.map(|key| format!("{key}: nothing → {}", theirs[key])));
        differing
    }

    /// A problem's counts, `17/20   passed 17 · wrong_answer 3`.
    pub fn result(&self, task: &str) -> Option<String> {
        let (_, tally, verdicts) = self.problems.iter().find(|(id, ..)| id == task)?;
        Some(format!("{}/{}   {verdicts}", tally.c, tally.n))
    }

    /// A problem's counts.
    pub fn tally(&self, task: &str) -> Option<Tally> {
        self.problems.iter().find(|(id, ..)| id == task).map(|&(_, tally, _)| tally)
    }

    fn problem_line(&self, (task, tally, verdicts): &(String, Tally, String)) -> String {
        let width = self.problems.iter().map(|(id, ..)| id.chars().count()).max().unwrap_or(0);
        format!("{task:<width$}   {:>7}   {verdicts}", format!("{}/{}", tally.c, tally.n))
    }

    /// This snapshot with the lines of `accepted` for every problem that was not judged now, in the order of `tasks`.
    /// `None` when the two are of different checkpoints or settings: one file cannot speak of both.
    pub fn merged_into(&self, accepted: &Snapshot, tasks: &[TaskId], ks: &[u32]) -> Option<Snapshot> {
        let checkpoint = |snapshot: &Snapshot| -> Option<String> {
            snapshot.head.iter().find(|(key, _)| key == "checkpoint").map(|(_, value)| value.clone())
        };
        if checkpoint(self) != checkpoint(accepted) || !self.unlike(accepted).is_empty() {
            return None;
        }
        let find =
            |snapshot: &Snapshot, task: &TaskId| snapshot.problems.iter().find(|(id, ..)| id == task.as_str()).cloned();
        let problems = tasks.iter().filter_map(|task| find(self, task).or_else(|| find(accepted, task))).collect();
        let mut merged = Snapshot { head: self.head.clone(), problems };
        merged.score(tasks.len(), ks);
        Some(merged)
    }

    /// Whether every one of `tasks` problems has its line.
    pub fn is_whole(&self, tasks: usize) -> bool {
        self.problems.len() == tasks
    }

    /// The file's text.
    pub fn render(&self) -> String {
        let head = self.head.iter().map(|(key, value)| format!("{key:<12}{value}\n"));
        let lines = self.problems.iter().map(|problem| self.problem_line(problem) + "\n");
        head.chain(["\n".to_owned()]).chain(lines).collect()
    }
}

/// A line that git leaves where two branches changed the same one.
fn is_conflict(line: &str) -> bool {
    ["<<<<<<< ", ">>>>>>> ", "||||||| "].iter().any(|mark| line.starts_with(mark)) || line == "======="
}

/// How many samples `passed 17 · wrong_answer 3 · plus 15` speaks of, 20 here; `None` for any other text.
fn counted(verdicts: &str) -> Option<u32> {
    let count = |part: &str| part.rsplit_once(' ')?.1.parse::<u32>().ok();
    // Those that pass the plus tests too have passed already.
    verdicts.split('·').map(str::trim).filter(|part| !part.starts_with("plus ")).map(count).sum()
}

fn row(key: &str, value: String) -> (String, String) {
    (key.to_owned(), value)
}

/// What the head says of sampling, engine and checkpoint.
fn describe(run: &Run) -> (String, Option<String>, String) {
    match &run.fingerprint.completions {
        Completions::Model { weights, model, sampling, device, dtype } => {
            let checkpoint = run.checkpoint.as_ref();
            let epoch = checkpoint.and_then(|c| c.epoch).map(|epoch| format!("epoch {epoch} · "));
            let loss = checkpoint.and_then(|c| c.val_metrics.get("val_loss").copied());
            let loss = loss.map(|loss| format!("val_loss {loss:.4} · "));
            let digest = crate::record::short_digest(&(weights, model));
            (
                format!(
                    "T {} · top-p {} · max tokens {} · seed {}",
                    sampling.temperature, sampling.top_p, sampling.max_tokens, sampling.seed
                ),
                Some(format!("{device} · {dtype}")),
                format!("{}{}{digest}", epoch.unwrap_or_default(), loss.unwrap_or_default()),
            )
        }
        Completions::Given { digest } => ("given completions".into(), None, format!("samples {}", &digest[..12])),
        Completions::Canonical => ("canonical solutions".into(), None, "the dataset's own".into()),
    }
}

/// Where the snapshot of (label, dataset) lies.
pub fn path(snapshots: &Path, label: &str, dataset: &str) -> PathBuf {
    snapshots.join(label).join(format!("{dataset}.snap"))
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn snapshot(checkpoint: &str, problems: &[(&str, u32, u32)]) -> Snapshot {
        let problems = problems
            .iter()
            .map(|&(id, c, n)| (id.to_owned(), Tally { n, c }, format!("passed {c} · wrong_answer {}", n - c)))
            .collect();
        let head = vec![row("sampling", "n 4 · T 0.2".into()), row("checkpoint", checkpoint.into())];
        let mut snapshot = Snapshot { head, problems };
        snapshot.score(3, &[1]);
        snapshot
    }

    #[test]
    fn text_is_read_back() {
        let snapshot = snapshot("abc", &[("t/1", 1, 4), ("t/10", 4, 4)]);
        let text = snapshot.render();
        assert_eq!(Snapshot::parse(&text).unwrap(), snapshot);
        assert!(text.contains("problems    2 of 3\npass@1      0.6250 · 95 % interval 0.1658–0.9197\n"), "{text}");
        assert!(
            text.ends_with("t/1        1/4   passed 1 · wrong_answer 3\nt/10       4/4   passed 4 · wrong_answer 0\n")
        );
    }

    #[test]
    fn the_plus_count_is_among_the_passed() {
        assert_eq!(counted("passed 17 · wrong_answer 3 · plus 15"), Some(20));
        assert_eq!(counted("passed 17 · something else"), None);
    }

    #[test]
    fn edited_files_are_refused() {
        let text = snapshot("abc", &[("t/1", 1, 4)]).render();
        let lines = [
            ("1/4", "5/4"),
            ("1/4", "one"),
            ("1/4   passed 1 · wrong_answer 3", "1/4"),
            ("wrong_answer 3", "wrong_answer 2"),
            ("t/1   ", "t/1     1/4   passed 1 · wrong_answer 3\nt/1   "),
        ];
        for (from, to) in lines {
            assert!(Snapshot::parse(&text.replace(from, to)).is_err(), "{from} → {to}");
        }
    }

    #[test]
    fn only_settings_make_snapshots_unlike() {
        let one = snapshot("abc", &[("t/1", 1, 4)]);
        assert!(one.unlike(&snapshot("def", &[("t/1", 2, 4)])).is_empty());
        let mut other = one.clone();
        other.head[0].1 = "n 8 · T 0.2".into();
        assert_eq!(one.unlike(&other), ["sampling: n 4 · T 0.2 → n 8 · T 0.2"]);
        other.head.remove(0);
        assert_eq!(other.unlike(&one), ["sampling: nothing → n 4 · T 0.2"]);
    }

    #[test]
    fn a_filtered_run_replaces_only_its_lines() {
        let accepted = snapshot("abc", &[("t/1", 1, 4), ("t/2", 2, 4), ("t/3", 3, 4)]);
        let tasks: Vec<TaskId> = ["t/1", "t/2", "t/3"].map(TaskId::from).to_vec();
        let merged = snapshot("abc", &[("t/2", 0, 4)]).merged_into(&accepted, &tasks, &[1]).unwrap();
        assert_eq!(merged, snapshot("abc", &[("t/1", 1, 4), ("t/2", 0, 4), ("t/3", 3, 4)]));
        assert_eq!(snapshot("def", &[("t/2", 0, 4)]).merged_into(&accepted, &tasks, &[1]), None);
    }
}
