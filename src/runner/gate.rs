//! A run beside what was accepted: what fails a test, what is left for review, what a pull request is shown.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};

use super::{RunnerError, say};
use crate::args;
use crate::record::{Problem, Run};
use crate::score::noise::Gate;
use crate::snapshot::compare::{Comparison, Rule, compare};
use crate::snapshot::{self, Snapshot, github, review};
use crate::task::TaskId;

/// What a run is held against.
pub(super) struct Reference {
    /// The file's path, as people read it.
    path: PathBuf,
    accepted: Option<Snapshot>,
    rule: Rule,
    unlike: Vec<String>,
    /// `--gate off`: not even looked at.
    off: bool,
}

impl Reference {
    /// Reads what was accepted for a run of these `selected` tasks. `now` is the run's snapshot, without problems.
    pub(super) fn read(
        snapshots: &Path,
        run: &Run,
        now: &Snapshot,
        selected: &[&TaskId],
        asked: Option<args::Gate>,
    ) -> Result<Reference, RunnerError> {
        let path = snapshot::path(snapshots, &run.label, &run.fingerprint.dataset);
        let off = asked == Some(args::Gate::Off);
        let accepted = if off { None } else { Snapshot::read(&path)? };
        let unlike = accepted.as_ref().map(|accepted| accepted.unlike(now)).unwrap_or_default();
        let noise = || {
            let common =
                |accepted: &Snapshot| selected.iter().filter(|id| accepted.tally(id.as_str()).is_some()).count();
            Rule::Noise(Gate::new(accepted.as_ref().map_or(0, common)))
        };
        let rule = match asked {
            Some(args::Gate::Off) => Rule::None,
            Some(args::Gate::Exact) => Rule::Exact,
            Some(args::Gate::Noise) => noise(),
            None if unlike.is_empty() => Rule::Exact,
            None => noise(),
        };
        Ok(Reference { path, accepted, rule, unlike, off })
    }

    /// Why a problem fails, as its test tells it.
    pub(super) fn fails(&self, problem: &Problem) -> Option<String> {
        let accepted = self.accepted.as_ref()?;
        let line = format!("{}/{}   {}", problem.tally.c, problem.tally.n, problem.verdict_line());
        let why = self.rule.fails(problem.task.as_str(), accepted, problem.tally, &line)?;
        let (first, rest) = why.split_once('\n')?;
        let review = "review with `cargo insta review`";
        (!review::insta_lets_pass()).then(|| format!("{first} in {}\n{rest}\n{review}", self.path.display()))
    }

    /// The run's problems beside the accepted ones; `None` where nothing was accepted, or nothing is to be compared.
    pub(super) fn compare(&self, run: &Run, now: &Snapshot) -> Option<Comparison> {
        let comparison = compare(self.accepted.as_ref()?, now, self.rule);
        Some(named(comparison, run, &self.path))
    }

    /// Leaves the run's snapshot for review where it may take the accepted one's place; what became of it, in words.
    pub(super) fn update(&self, snapshots: &Path, run: &Run, now: Snapshot, ids: &[TaskId], ks: &[u32]) -> String {
        let path = self.path.display();
        review::reference_all(snapshots);
        let whole = match (&self.accepted, self.rule) {
            _ if self.off => return "not compared (--gate off)".into(),
            // Two kinds of device would take turns in one file.
            (Some(_), Rule::Noise(_)) if !self.unlike.is_empty() => {
                return format!(
                    "left as it is: {path} has other settings ({}); --gate exact compares line by line",
                    self.unlike.join("; ")
                );
            }
            _ if now.is_whole(ids.len()) => now,
            (None, _) => return format!("none yet at {path}: it is made when all problems are judged"),
            (Some(accepted), _) => match now.merged_into(accepted, ids, ks) {
                Some(merged) => merged,
                None => {
                    return format!("left as it is: {path} is of another checkpoint, and not all problems were judged");
                }
            },
        };
        review::assert_with_insta(snapshots, &run.label, &run.fingerprint.dataset, &whole, &run.run_id)
    }
}

fn named(comparison: Comparison, run: &Run, path: &Path) -> Comparison {
    Comparison {
        label: run.label.clone(),
        dataset: run.fingerprint.dataset.clone(),
        snapshot: path.display().to_string(),
        ..comparison
    }
}

/// Another label's snapshot, for `--against`.
pub(super) struct Against {
    label: String,
    path: PathBuf,
    snapshot: Snapshot,
}

impl Against {
    pub(super) fn read(snapshots: &Path, label: &str, dataset: &str) -> Result<Against, RunnerError> {
        let path = snapshot::path(snapshots, label, dataset);
        match Snapshot::read(&path)? {
            Some(snapshot) => Ok(Against { label: label.to_owned(), path, snapshot }),
            None => {
                let labels = std::fs::read_dir(snapshots).into_iter().flatten().flatten();
                let mut labels: Vec<String> =
                    labels.map(|label| label.file_name().to_string_lossy().into_owned()).collect();
                labels.retain(|label| snapshot::path(snapshots, label, dataset).exists());
                labels.sort();
                let there = match labels.is_empty() {
                    true => "there is none of this dataset yet".to_owned(),
                    false => format!("there are {}", labels.join(", ")),
                };
                Err(RunnerError::Misfit(format!("--against {label}: no snapshot `{}`: {there}", path.display())))
            }
        }
    }

    /// The per-problem difference, in lines.
    pub(super) fn lines(&self, run: &Run, now: &Snapshot) -> Vec<String> {
        let comparison = named(compare(&self.snapshot, now, Rule::None), run, &self.path);
        let mut lines = vec![format!("{}: {}", self.label, comparison.in_words())];
        lines.extend(comparison.unlike.iter().map(|row| format!("  measured otherwise: {row}")));
        let width = comparison.moved.iter().map(|moved| moved.task.chars().count()).max().unwrap_or(0);
        lines.extend(comparison.moved.iter().map(|moved| {
            let sign = ["-", "~", "+"][(moved.direction + 1).clamp(0, 2) as usize];
            let before = moved.before.as_deref().unwrap_or("none");
            let tally = |line: &str| line.split("   ").next().unwrap_or_default().to_owned();
            format!("{sign} {:<width$}   {:>7} → {}", moved.task, tally(before), moved.now)
        }));
        lines
    }
}

/// Shows a pull request what moved: the job's summary, and annotations. Both are GitHub's variables' to ask for.
pub(super) fn publish(comparison: &Comparison) {
    let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty());
    if let Some(path) = variable("GITHUB_STEP_SUMMARY") {
        let file = OpenOptions::new().append(true).create(true).open(&path);
        let written = file.and_then(|mut file| file.write_all(github::summary(comparison).as_bytes()));
        if let Err(error) = written {
            say::line(&format!("failed to write GITHUB_STEP_SUMMARY `{}`: {error}", Path::new(&path).display()));
        }
    }
    if variable("GITHUB_ACTIONS").is_some_and(|value| value == "true") {
        let text = std::fs::read_to_string(&comparison.snapshot).unwrap_or_default();
        let line_of = |task: &str| {
            let of_task = |line: &str| line.strip_prefix(task).is_some_and(|rest| rest.starts_with("   "));
            text.lines().position(of_task).map(|at| at + 1)
        };
        // GitHub reads commands on both streams; stdout is the harness's.
        github::annotations(comparison, line_of).iter().for_each(|line| say::bare(line));
    }
}
