//! Accepted results: one text file per (label, dataset), reviewed with insta's own tools.
//!
//! A head states settings and scores, then every problem has one line. A pull request that retrains a pipeline shows
//! exactly the lines that moved.

use std::collections::HashMap;
use std::panic;
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::record::{Completions, Problem, Run};
use crate::score::{self, Tally};
use crate::task::TaskId;

/// Why an accepted snapshot cannot be used.
#[derive(Debug, Error)]
#[error("failed to read snapshot `{}`: {cause}: mend it, or delete it to begin anew", path.display())]
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
        // insta writes its own head between two lines of dashes.
        let contents = text.strip_prefix("---\n").and_then(|text| text.split_once("\n---\n"));
        let (_, contents) = contents.ok_or_else(|| fail("it has no insta head".into()))?;
        Snapshot::parse(contents).map(Some).map_err(fail)
    }

    fn parse(text: &str) -> Result<Snapshot, String> {
        let mut snapshot = Snapshot { head: Vec::new(), problems: Vec::new() };
        let mut lines = text.trim().lines();
        for line in lines.by_ref().take_while(|line| !line.trim().is_empty()) {
            let (key, value) = line.split_once(' ').ok_or_else(|| format!("`{line}` is no row of a head"))?;
            snapshot.head.push(row(key, value.trim().to_owned()));
        }
        for line in lines {
            let bad = || format!("`{line}` is no line of a problem");
            // Three spaces part the columns: an id may hold one.
            let (task, rest) = line.split_once("   ").ok_or_else(bad)?;
            let (tally, verdicts) = rest.trim().split_once("   ").ok_or_else(bad)?;
            let (c, n) = tally.split_once('/').ok_or_else(bad)?;
            let tally = Tally { n: n.parse().map_err(|_| bad())?, c: c.parse().map_err(|_| bad())? };
            if tally.c > tally.n {
                return Err(bad());
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

/// Hands the whole file to insta, once: equal text leaves nothing, other text a `.snap.new` to review, or what
/// `INSTA_UPDATE` and `CI` say. Returns what became of it, in words.
pub fn assert_with_insta(snapshots: &Path, label: &str, dataset: &str, whole: &Snapshot, run_id: &str) -> String {
    let folder = std::path::absolute(snapshots.join(label)).unwrap_or_else(|_| snapshots.join(label));
    let path = path(snapshots, label, dataset);
    let new = path.with_extension("snap.new");
    let text = whole.render();
    let written = || std::fs::metadata(&new).and_then(|file| file.modified()).ok();
    let before = written();
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path(folder);
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.set_description(format!("passk run {run_id}"));
    // insta prints its diff to stdout and panics; stdout is the harness's, and the failing tests have said it already.
    let hook = panic::take_hook();
    panic::set_hook(Box::new(|_| ()));
    let outcome = silence_stdout(|| settings.bind(|| panic::catch_unwind(|| insta::assert_snapshot!(dataset, text))));
    panic::set_hook(hook);

    let accepted = Snapshot::read(&path).ok().flatten();
    let (path, new) = (path.display(), new.display());
    match outcome.map_err(|panic| panic.downcast_ref::<String>().cloned().unwrap_or_default()) {
        _ if accepted.as_ref() == Some(whole) => format!("holds ({path})"),
        _ if written().is_some() && written() != before => format!("to review: {new} (`cargo insta review`)"),
        Err(panic) if !panic.starts_with("snapshot assertion") => format!("could not be written at {new}: {panic}"),
        _ => format!("new, or not as in {path}; nothing was written (CI or INSTA_UPDATE)"),
    }
}

/// Runs `f` with stdout pointing nowhere.
fn silence_stdout<R>(f: impl FnOnce() -> R) -> R {
    use std::io::Write;
    let _ = std::io::stdout().flush();
    let saved = rustix::io::dup(rustix::stdio::stdout());
    let nowhere = std::fs::OpenOptions::new().write(true).open("/dev/null");
    if let (Ok(_), Ok(nowhere)) = (&saved, nowhere) {
        let _ = rustix::stdio::dup2_stdout(nowhere);
    }
    let result = f();
    let _ = std::io::stdout().flush();
    if let Ok(saved) = saved {
        let _ = rustix::stdio::dup2_stdout(saved);
    }
    result
}

/// Whether insta's environment says that a difference is no failure now (`cargo insta test` collects first and
/// reviews later; `INSTA_UPDATE=always` accepts).
pub fn insta_lets_pass() -> bool {
    let variable = |name| std::env::var(name).unwrap_or_default();
    variable("INSTA_FORCE_PASS") == "1" || matches!(variable("INSTA_UPDATE").as_str(), "always" | "force")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshot(checkpoint: &str, problems: &[(&str, u32, u32)]) -> Snapshot {
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
        assert!(text.contains("problems    2 of 3\npass@1      0.6250 · 95 % interval 0.0000–1.0000\n"), "{text}");
        assert!(
            text.ends_with("t/1        1/4   passed 1 · wrong_answer 3\nt/10       4/4   passed 4 · wrong_answer 0\n")
        );
    }

    #[test]
    fn edited_files_are_refused() {
        let text = snapshot("abc", &[("t/1", 1, 4)]).render();
        for (from, to) in [("1/4", "5/4"), ("1/4", "one"), ("1/4   passed 1 · wrong_answer 3", "1/4")] {
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
