//! Records × records: which run is better, on which problems, since when, and is it more than noise?

mod runs;

use std::collections::{BTreeMap, BTreeSet};

pub(crate) use runs::natural;
pub use runs::{Choice, Chosen, CompareError, Run, choose};

use crate::record::{Completions, Problem};
use crate::score::paired::{self, Difference};
use crate::score::{self, Estimate, Tally};
use crate::task::TaskId;
use crate::verdict::Verdict;

/// The k of pass@k that are shown where n allows.
const KS: [u32; 4] = [1, 5, 10, 20];

/// Several runs on one dataset.
#[derive(Clone, Debug)]
pub struct Comparison {
    /// The dataset.
    pub dataset: String,
    /// Its number of tasks, as the first run says.
    pub tasks: usize,
    /// The runs, in the order chosen.
    pub runs: Vec<Run>,
    /// The k of `scores`.
    pub ks: Vec<u32>,
    /// Run × k; `None` where n is smaller than k.
    pub scores: Vec<Vec<Option<Estimate>>>,
    /// Every two runs, the earlier first.
    pub pairs: Vec<Pair>,
    /// A learning curve of each pipeline that has one.
    pub curves: Vec<Curve>,
    /// Why samples failed, by run.
    pub failures: Vec<Failures>,
    /// Settings in which the runs differ; not empty only when that was allowed.
    pub unlike: Vec<String>,
    /// What the reader should know, a line each.
    pub notes: Vec<String>,
}

/// Two runs, problem by problem.
#[derive(Clone, Debug)]
pub struct Pair {
    /// Indices into the runs: the difference is the second's score less the first's.
    pub runs: (usize, usize),
    /// pass@1; `None` where they share no problem.
    pub difference: Option<Difference>,
    /// Its p-value after Holm's correction over all pairs.
    pub p: Option<f64>,
    /// Problems that the second solved at least once, and the first never.
    pub gained: Vec<TaskId>,
    /// The other way round.
    pub lost: Vec<TaskId>,
}

/// pass@1 over the epochs of a pipeline.
#[derive(Clone, Debug)]
pub struct Curve {
    /// The pipeline.
    pub pipeline: String,
    /// In the order of epochs.
    pub points: Vec<Point>,
}

/// One epoch.
#[derive(Clone, Debug)]
pub struct Point {
    /// The epoch.
    pub epoch: f64,
    /// pass@1.
    pub score: Estimate,
    /// Problems that no earlier epoch solved.
    pub first_solved: Vec<TaskId>,
}

/// What became of a run's samples.
#[derive(Clone, Debug, Default)]
pub struct Failures {
    /// Samples.
    pub samples: usize,
    /// By verdict.
    pub verdicts: BTreeMap<Verdict, usize>,
    /// Names of exceptions, the most frequent first.
    pub exceptions: Vec<(String, usize)>,
    /// Cut off by max tokens or context.
    pub truncated: usize,
}

impl Comparison {
    /// Compares what was chosen. Runs that were not measured alike are refused, unless `unlike` allows it.
    ///
    /// # Errors
    /// [`CompareError::Unlike`].
    pub fn new(chosen: Chosen, unlike: bool) -> Result<Comparison, CompareError> {
        let Chosen { runs, mut curves, mut notes } = chosen;
        let rows = differing(&runs);
        if !rows.is_empty() && !unlike {
            return Err(CompareError::Unlike { rows });
        }
        let first = runs.first().map(|run| run.record.fingerprint.clone());
        // Epochs measured otherwise than the runs they stand beside are no points of the same curve.
        curves.retain(|point| {
            let alike = runs.iter().any(|run| differing(&[run.clone(), point.clone()]).is_empty());
            if !alike {
                notes.push(format!("{} is no point of a curve: it was measured with other settings", point.name));
            }
            alike
        });
        let most = runs.iter().map(|run| run.num_samples).max().unwrap_or(0);
        let ks: Vec<u32> = KS.into_iter().filter(|&k| k <= most).collect();
        let tallies = |run: &Run| run.problems.iter().map(|problem| problem.tally).collect::<Vec<_>>();
        let scores = runs.iter().map(|run| ks.iter().map(|&k| score::pass_at_k(&tallies(run), k)).collect()).collect();
        for run in &runs {
            let (judged, of) = (run.problems.len(), run.record.fingerprint.tasks);
            if judged < of {
                notes.push(format!("{} has {judged} of {of} problems", run.name));
            }
        }
        if runs.iter().any(|run| run.num_samples != most) {
            let counts: Vec<String> = runs.iter().map(|run| format!("{} {}", run.name, run.num_samples)).collect();
            notes.push(format!("samples of each problem differ: {}", counts.join(", ")));
        }
        notes.extend(circumstances(&runs));
        Ok(Comparison {
            dataset: first.as_ref().map(|print| print.dataset.clone()).unwrap_or_default(),
            tasks: first.map_or(0, |print| print.tasks),
            pairs: pairs(&runs),
            curves: self::curves(&curves),
            failures: runs.iter().map(Failures::of).collect(),
            ks,
            scores,
            runs,
            unlike: rows,
            notes,
        })
    }

    /// Every problem that a run has, in the order of ids.
    pub fn problems(&self) -> Vec<TaskId> {
        let all: BTreeSet<&TaskId> = self.runs.iter().flat_map(|run| run.samples.keys()).collect();
        let mut all: Vec<TaskId> = all.into_iter().cloned().collect();
        all.sort_by_cached_key(|task| natural(task.as_str()));
        all
    }

    /// A problem's counts in a run, if it was judged there.
    pub fn problem(&self, run: usize, task: &TaskId) -> Option<&Problem> {
        self.runs[run].problems.iter().find(|problem| problem.task == *task)
    }

    /// The only one of several runs that solved a problem at least once.
    pub fn sole_solver(&self, task: &TaskId) -> Option<usize> {
        let solves = |&at: &usize| self.problem(at, task).is_some_and(|problem| problem.tally.c > 0);
        let mut solvers = (0..self.runs.len()).filter(solves);
        solvers.next().filter(|_| solvers.next().is_none() && self.runs.len() > 1)
    }

    /// Problems that this run solved at least once and no other ever did.
    pub fn only(&self, run: usize) -> Vec<TaskId> {
        self.problems().into_iter().filter(|task| self.sole_solver(task) == Some(run)).collect()
    }

    /// The first epoch of a run's pipeline that solved a problem, where the pipeline has a learning curve.
    pub fn first_epoch(&self, run: usize, task: &TaskId) -> Option<f64> {
        let pipeline = self.runs[run].pipeline();
        self.curves.iter().find(|curve| curve.pipeline == pipeline)?.first_solved(task)
    }
}

impl Curve {
    /// The first epoch of which a sample solved the problem; `None` where none did yet.
    pub fn first_solved(&self, task: &TaskId) -> Option<f64> {
        self.points.iter().find(|point| point.first_solved.contains(task)).map(|point| point.epoch)
    }
}

fn pairs(runs: &[Run]) -> Vec<Pair> {
    let mut pairs = Vec::new();
    for second in 1..runs.len() {
        for first in 0..second {
            let theirs: BTreeMap<&TaskId, Tally> =
                runs[first].problems.iter().map(|problem| (&problem.task, problem.tally)).collect();
            let shared: Vec<(&TaskId, Tally, Tally)> = runs[second]
                .problems
                .iter()
                .filter_map(|problem| Some((&problem.task, *theirs.get(&problem.task)?, problem.tally)))
                .collect();
            let tallies: (Vec<Tally>, Vec<Tally>) = shared.iter().map(|&(_, a, b)| (a, b)).unzip();
            let moved = |solved: fn(Tally, Tally) -> bool| -> Vec<TaskId> {
                shared.iter().filter(|&&(_, a, b)| solved(a, b)).map(|&(task, ..)| task.clone()).collect()
            };
            pairs.push(Pair {
                runs: (first, second),
                difference: paired::difference(&tallies.0, &tallies.1),
                p: None,
                gained: moved(|a, b| a.c == 0 && b.c > 0),
                lost: moved(|a, b| a.c > 0 && b.c == 0),
            });
        }
    }
    pairs.sort_by_key(|pair| pair.runs);
    let known: Vec<usize> = (0..pairs.len()).filter(|&at| pairs[at].difference.is_some()).collect();
    let ps: Vec<f64> = known.iter().filter_map(|&at| pairs[at].difference.map(|difference| difference.p)).collect();
    for (at, p) in known.into_iter().zip(paired::holm(&ps)) {
        pairs[at].p = Some(p);
    }
    pairs
}

/// `points` are sorted by epoch.
fn curves(points: &[Run]) -> Vec<Curve> {
    let mut curves: Vec<Curve> = Vec::new();
    let mut solved: BTreeMap<&str, BTreeSet<&TaskId>> = BTreeMap::new();
    for run in points {
        let tallies: Vec<Tally> = run.problems.iter().map(|problem| problem.tally).collect();
        let (Some(epoch), Some(score)) = (run.curve_epoch(), score::pass_at_k(&tallies, 1)) else { continue };
        let before = solved.entry(run.pipeline()).or_default();
        let solving = run.problems.iter().filter(|problem| problem.tally.c > 0).map(|problem| &problem.task);
        let first_solved = solving.filter(|task| before.insert(task)).cloned().collect();
        let point = Point { epoch, score, first_solved };
        match curves.iter_mut().find(|curve| curve.pipeline == run.pipeline()) {
            Some(curve) => curve.points.push(point),
            None => curves.push(Curve { pipeline: run.pipeline().to_owned(), points: vec![point] }),
        }
    }
    curves.sort_by(|a, b| a.pipeline.cmp(&b.pipeline));
    curves
}

impl Failures {
    fn of(run: &Run) -> Failures {
        let mut failures = Failures::default();
        let mut exceptions: BTreeMap<String, usize> = BTreeMap::new();
        for sample in run.samples.values().flatten() {
            failures.samples += 1;
            *failures.verdicts.entry(sample.verdict).or_default() += 1;
            failures.truncated += usize::from(sample.finish.truncated());
            if sample.verdict == Verdict::Exception {
                let name = sample.detail.split([':', ' ']).next().unwrap_or_default();
                let plain = !name.is_empty() && name.chars().all(|c| c.is_alphanumeric() || "._".contains(c));
                *exceptions.entry(if plain { name.to_owned() } else { "other".to_owned() }).or_default() += 1;
            }
        }
        failures.exceptions = exceptions.into_iter().collect();
        failures.exceptions.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        failures
    }
}

/// What must be the same for scores to be comparable, as (what, value). The seed need not.
fn settings(run: &Run) -> Vec<(&'static str, String)> {
    let print = &run.record.fingerprint;
    let sampling = match &print.completions {
        Completions::Model { sampling, .. } => {
            format!("T {} top-p {} max tokens {}", sampling.temperature, sampling.top_p, sampling.max_tokens)
        }
        Completions::Given { .. } => "given completions".into(),
        Completions::Canonical => "canonical solutions".into(),
    };
    let limits = &print.limits;
    vec![
        ("dataset", format!("{} {} ({} tasks)", print.dataset, print.dataset_digest, print.tasks)),
        ("split", print.split.clone().unwrap_or_default()),
        ("prompt", std::iter::once(&print.prompt_format).chain(&print.shots).cloned().collect::<Vec<_>>().join(" ")),
        ("stops", format!("{:?}", print.stops)),
        ("sampling", sampling),
        (
            "limits",
            format!(
                "cpu {} s wall {} s memory {} MiB output {} KiB",
                limits.cpu_seconds,
                limits.wall_seconds,
                limits.memory_bytes >> 20,
                limits.output_bytes >> 10
            ),
        ),
    ]
}

fn differing(runs: &[Run]) -> Vec<String> {
    let all: Vec<_> = runs.iter().map(settings).collect();
    let Some(first) = all.first() else { return Vec::new() };
    let mut rows = Vec::new();
    for (at, (what, value)) in first.iter().enumerate() {
        for (run, settings) in runs.iter().zip(&all).filter(|(_, settings)| settings[at].1 != *value) {
            rows.push(format!("{what}: {} {value}, {} {}", runs[0].name, run.name, settings[at].1));
        }
    }
    rows
}

/// What may differ, and is worth a word.
fn circumstances(runs: &[Run]) -> Vec<String> {
    let device = |run: &Run| match &run.record.fingerprint.completions {
        Completions::Model { device, dtype, .. } => format!("{device} {dtype}"),
        _ => "none".into(),
    };
    let mut notes = Vec::new();
    let mut note = |what: &str, of: &dyn Fn(&Run) -> String| {
        let values: BTreeSet<String> = runs.iter().map(of).collect();
        if values.len() > 1 {
            notes.push(format!("{what} differ: {}", values.into_iter().collect::<Vec<_>>().join(", ")));
        }
    };
    note("devices", &device);
    note("versions of passk", &|run| format!("{} ({})", run.record.fingerprint.passk, run.record.fingerprint.revision));
    note("versions of Python", &|run| run.record.fingerprint.python.clone());
    note("levels of isolation", &|run| run.record.fingerprint.isolation.clone());
    notes
}
