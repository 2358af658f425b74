//! Everything of one invocation, prepared before the first test line: bad input shows here, all at once.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread::JoinHandle;

use super::board::Board;
use super::duplicates::Programs;
use super::entry::{End, Entry, Origin, Trouble};
use super::gate::{Against, Reference};
use super::judge::Judge;
use super::tracking::Tracking;
use super::{RunnerError, Selection, ceiling, interrupt, junit, opened, protocol, say};
use crate::args::{Contestants, Settings, check_label};
use crate::checkpoint;
use crate::jail::{Jail, JailOptions, Limits, Python};
use crate::journal::{Journal, Opening, pretty};
use crate::model::Config;
use crate::prompt::{Format, Prompt};
use crate::record::{
    CeilingRecord, CheckpointRecord, Completions, Fingerprint, JailRecord, LimitsRecord, Problem, Run, SCHEMA,
    short_digest,
};
use crate::revision;
use crate::sampler::saved::{Saved, SavedError};
use crate::snapshot::Snapshot;
use crate::suite::Suite;
use crate::task::{Check, Task};
use crate::tokenizer::Tokenizer;

/// The entries of one invocation, the tasks they share, and what judges them.
pub(super) struct Contest {
    pub(super) settings: Settings,
    pub(super) tasks: Vec<Task>,
    /// Where each task stands in `tasks`.
    pub(super) index: HashMap<crate::task::TaskId, usize>,
    pub(super) format: Format,
    pub(super) stops: Vec<String>,
    pub(super) judge: Judge,
    /// What the dataset's own solutions score here, once that is known; `None` inside where there are none.
    pub(super) ceiling: OnceLock<Option<CeilingRecord>>,
    dataset: String,
    split: Option<String>,
    shots: Vec<Task>,
    self_check: bool,
    pub(super) snapshots: PathBuf,
    entries: Vec<Entry>,
    /// Several labels were asked for: test names carry theirs.
    qualified: bool,
    pub(super) against: Option<Against>,
    pub(super) tracking: Tracking,
}

/// What judges: an interpreter in a jail, under the limits of the suite or those that were asked for.
pub(super) fn judge(suite: &dyn Suite, settings: &Settings) -> Result<Judge, RunnerError> {
    let limits = Limits::for_cpu(settings.timeout.unwrap_or(suite.cpu_limit()));
    let options = JailOptions {
        isolation: settings.isolation,
        consent: settings.consent,
        start: settings.python_start,
        split: settings.split_judging,
        ..JailOptions::default()
    };
    let jail = Jail::new(Python::find()?, limits, options)?;
    Ok(Judge::new(jail, settings.jobs, settings.timeout.is_some()))
}

impl Selection {
    /// Whether the problem `id`, shown as `name`, is wanted. `whole` holds every complete name and id.
    pub(super) fn wants(&self, name: &str, id: &str, whole: &HashSet<&str>) -> bool {
        let matches = |filter: &String| {
            let equal = filter == name || filter == id;
            equal || !self.exact && !whole.contains(filter.as_str()) && name.contains(filter.as_str())
        };
        (self.filters.is_empty() || self.filters.iter().any(matches)) && !self.skip.iter().any(matches)
    }
}

/// Someone to be evaluated, before anything of them is opened.
struct Contestant {
    label: String,
    origin: Origin,
}

impl Contest {
    /// Opens whatever the settings name and checks that it fits together. `again` is the command that resumes.
    pub(super) fn prepare(
        suite: &dyn Suite,
        settings: Settings,
        tasks: Vec<Task>,
        selection: &Selection,
        again: &str,
    ) -> Result<Arc<Contest>, RunnerError> {
        let format = protocol::format(settings.prompt_format.as_deref(), suite.formats())?;
        let stops = protocol::stops(suite, format, settings.stops.as_deref())?;
        let contestants = contestants(suite, &settings, &tasks)?;
        let snapshots = PathBuf::from("snapshots");
        let mut contest = Contest {
            index: tasks.iter().map(|task| task.id.clone()).zip(0..).collect(),
            stops,
            judge: judge(suite, &settings)?,
            ceiling: OnceLock::new(),
            dataset: suite.name().to_owned(),
            split: protocol::split(suite, &settings)?.map(|split| split.name.to_owned()),
            shots: protocol::shots(suite, format, &settings)?,
            // Where the solutions are what is judged, the run itself is the check.
            self_check: suite.self_check() && settings.contestants != Contestants::Canonical,
            against: settings
                .against
                .as_ref()
                .map(|label| Against::read(&snapshots, label, suite.name()))
                .transpose()?,
            snapshots,
            entries: Vec::new(),
            qualified: contestants.len() > 1,
            tracking: Tracking::begin(settings.mlflow),
            settings,
            tasks,
            format,
        };
        let mut labels = HashSet::new();
        for contestant in contestants {
            check_label(&contestant.label)?;
            if !labels.insert(contestant.label.clone()) {
                let label = contestant.label;
                return Err(RunnerError::Misfit(format!(
                    "two checkpoints are called `{label}`: evaluate them one by one with --label"
                )));
            }
            let selected = contest.select(&contestant.label, selection);
            if !selected.is_empty() {
                let entry = contest.enter(suite.name(), contestant, selected)?;
                contest.entries.push(entry);
            }
        }
        // Only now that everything was opened and fits.
        if contest.settings.fresh {
            contest.entries.iter().try_for_each(|entry| entry.journal.clear())?;
        }
        say::isolation(&contest.judge.jail);
        interrupt::handle(again.to_owned());
        Ok(Arc::new(contest))
    }

    fn select(&self, label: &str, selection: &Selection) -> Vec<usize> {
        let ids = self.tasks.iter().map(|task| task.id.as_str());
        let names: Vec<String> = ids.clone().map(|id| test_name(label, id, self.qualified)).collect();
        let whole: HashSet<&str> = ids.chain(names.iter().map(String::as_str)).collect();
        let wanted = |&at: &usize| selection.wants(&names[at], self.tasks[at].id.as_str(), &whole);
        (0..self.tasks.len()).filter(wanted).collect()
    }

    fn enter(&self, dataset: &str, contestant: Contestant, selected: Vec<usize>) -> Result<Entry, RunnerError> {
        let Contestant { label, origin } = contestant;
        let (completions, num_samples, checkpoint) = self.completions(&origin, &selected)?;
        let limits = self.judge.jail.limits();
        let fingerprint = Fingerprint {
            passk: env!("CARGO_PKG_VERSION").to_owned(),
            revision: revision::digest(),
            dataset: dataset.to_owned(),
            tasks: self.tasks.len(),
            dataset_digest: short_digest(&self.tasks),
            completions,
            prompt_format: self.format.name().to_owned(),
            split: self.split.clone(),
            shots: self.shots.iter().map(|task| task.id.to_string()).collect(),
            stops: self.stops.clone(),
            limits: LimitsRecord {
                cpu_seconds: limits.cpu.as_secs_f64(),
                wall_seconds: limits.wall.as_secs_f64(),
                memory_bytes: limits.memory_bytes,
                output_bytes: limits.output_bytes,
            },
            isolation: self.judge.jail.isolation().to_string(),
            python: self.judge.jail.python().version.clone(),
            whole: !self.judge.jail.split() && self.tasks.iter().any(|task| !matches!(task.check, Check::Stdio(_))),
        };
        let run = Run {
            schema: SCHEMA,
            run_id: format!("{dataset}-{label}-{}", fingerprint.digest()),
            label,
            checkpoint,
            fingerprint,
            jail: Some(JailRecord {
                python_start: self.judge.jail.start().to_string(),
                mechanisms: self.judge.jail.report().mechanisms.clone(),
                canaries: self.judge.jail.report().score(),
            }),
        };
        let ks = ks(&self.settings.k, num_samples)?;
        let reference = Reference::read(
            &self.snapshots,
            &run,
            &Snapshot::new(&run, num_samples, &[], &ks),
            &selected.iter().map(|&at| &self.tasks[at].id).collect::<Vec<_>>(),
            self.settings.gate,
        )?;
        let opening = Opening { fresh: self.settings.fresh, invocation: nextest() };
        let (journal, records) = Journal::open(&self.settings.storage.join("runs"), &run, opening)?;
        Ok(Entry {
            programs: Programs::new(!self.settings.dedup, &records),
            board: Board::new(records),
            origin: Mutex::new(origin),
            effort: Mutex::default(),
            run,
            num_samples,
            ks,
            reference,
            journal,
            selected,
            conclusion: OnceLock::new(),
        })
    }

    /// What identifies an entry's completions, how many there are of each task, and the checkpoint behind them.
    fn completions(
        &self,
        origin: &Origin,
        selected: &[usize],
    ) -> Result<(Completions, u32, Option<CheckpointRecord>), RunnerError> {
        match origin {
            Origin::Checkpoint { checkpoint, folder } => {
                let config = Config::from_folder(folder)?;
                let tokenizer = Tokenizer::from_folder(folder)?;
                let text = digest_file(tokenizer.path())?;
                let (device, dtype) = self.settings.place.arithmetic(checkpoint)?;
                let completions = Completions::Model {
                    weights: checkpoint.digest(&mut say::hashing(&checkpoint.path))?,
                    model: short_digest(&(
                        format!("{config:?} {:?}", checkpoint.lora),
                        text,
                        tokenizer.bos(),
                        tokenizer.eos(),
                    )),
                    sampling: self.settings.sampling,
                    device,
                    dtype,
                };
                let record = CheckpointRecord {
                    path: checkpoint.path.display().to_string(),
                    epoch: checkpoint.epoch,
                    val_metrics: checkpoint.val_metrics.clone(),
                };
                Ok((completions, self.settings.num_samples.unwrap_or(20), Some(record)))
            }
            Origin::Saved(saved) => {
                let (completions, from) = match &self.settings.contestants {
                    Contestants::Samples(file) => (
                        Completions::Given { digest: digest_file(file)? },
                        format!("`{}` has too few completions", file.display()),
                    ),
                    _ => (Completions::Canonical, "the dataset has no solution".to_owned()),
                };
                let counts = selected.iter().map(|&at| saved.count(&self.tasks[at].id));
                let fewest = counts.clone().min().unwrap_or(0);
                let most = counts.clone().max().unwrap_or(0);
                let num_samples = match self.settings.num_samples {
                    // There is one solution of each, whatever n is for models.
                    _ if completions == Completions::Canonical => 1,
                    Some(n) => n,
                    None if fewest == most || fewest == 0 => most.max(1),
                    None => {
                        return Err(RunnerError::Misfit(format!(
                            "there are {fewest} to {most} completions of a task: say how many to take, e.g. --num-samples {fewest}"
                        )));
                    }
                };
                let lacking: Vec<&Task> = selected
                    .iter()
                    .map(|&at| &self.tasks[at])
                    .filter(|task| saved.count(&task.id) < num_samples)
                    .collect();
                match lacking.first() {
                    Some(task) => {
                        Err(SavedError::Incomplete { from, count: lacking.len(), example: task.id.clone() }.into())
                    }
                    None => Ok((completions, num_samples, None)),
                }
            }
        }
    }

    /// Nothing is selected.
    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Problems to be judged, over all entries.
    pub(super) fn len(&self) -> usize {
        self.entries.iter().map(|entry| entry.selected.len()).sum()
    }

    /// (entry, task) of every problem to be judged, in order.
    pub(super) fn selected(&self) -> impl Iterator<Item = (usize, usize)> + '_ {
        let tasks =
            |(at, entry): (usize, &Entry)| entry.selected.iter().map(move |&task| (at, task)).collect::<Vec<_>>();
        self.entries.iter().enumerate().flat_map(tasks)
    }

    /// The name of a test case.
    pub(super) fn name(&self, entry: usize, task: usize) -> String {
        test_name(&self.entries[entry].run.label, self.tasks[task].id.as_str(), self.qualified)
    }

    /// Waits for a problem. `Err` is the failing test's text.
    pub(super) fn outcome(&self, entry: usize, task: usize) -> Result<Problem, Trouble> {
        self.entries[entry].outcome(&self.tasks[task].id)
    }

    /// Begins to sample and judge, one entry after the other: one model is loaded at a time.
    pub(super) fn start(self: &Arc<Self>) -> Result<JoinHandle<()>, RunnerError> {
        let contest = Arc::clone(self);
        let work = move || {
            if let Err(error) = contest.measure_ceiling() {
                say::line(&error);
                contest.entries.iter().for_each(|entry| entry.board.close(&error));
                return;
            }
            std::thread::scope(|scope| {
                let mut judging = None;
                for entry in &contest.entries {
                    // Whoever waits must not wait for ever if this thread dies.
                    let before = judging.take();
                    let run = std::panic::AssertUnwindSafe(|| entry.run(&contest, scope, before));
                    match std::panic::catch_unwind(run) {
                        Ok(now) => judging = now,
                        Err(_) => entry.board.close("harness: a bug in passk ended the evaluation; see stderr"),
                    }
                }
            });
        };
        std::thread::Builder::new().spawn(work).map_err(RunnerError::Thread)
    }

    /// Judges the dataset's own solutions of everything that is selected.
    fn measure_ceiling(&self) -> Result<(), String> {
        let selected: HashSet<usize> = self.selected().map(|(_, task)| task).collect();
        let tasks: Vec<&Task> =
            self.tasks.iter().enumerate().filter(|(at, _)| selected.contains(at)).map(|(_, task)| task).collect();
        let ceiling = match self.self_check {
            true => ceiling::measure(&self.judge, &tasks, &self.dataset, &self.settings.storage)?,
            false => None,
        };
        self.ceiling.get_or_init(|| ceiling);
        Ok(())
    }

    /// The self-check as a test case: every solution of the dataset's own passes, and no body `pass` does.
    pub(super) fn check_itself(&self) -> Result<(), String> {
        check_itself(&self.judge, &self.tasks, &self.dataset, &self.settings.storage)
    }

    /// What the model is shown of a task.
    pub(super) fn prompt(&self, task: &Task) -> Prompt {
        self.format.prompt(task, &self.shots.iter().collect::<Vec<_>>(), &self.stops)
    }

    /// Samples what is missing of every entry and leaves it to be judged by a later invocation.
    ///
    /// # Errors
    /// What could not be sampled or written; what was, is kept.
    pub(super) fn sample_only(&self) -> Result<(), RunnerError> {
        let failed = |(entry, why): (&Entry, String)| RunnerError::Misfit(format!("{}: {why}", entry.run.label));
        self.entries.iter().try_for_each(|entry| entry.sample_only(self).map_err(|why| failed((entry, why))))
    }

    /// Waits for the worker, holds each run against its snapshot, writes what was asked for, and says how it went.
    pub(super) fn finish(&self, worker: JoinHandle<()>) -> End {
        let mut end = if worker.join().is_ok() { End::Held } else { End::Broken };
        let mut tracked = self.tracking.finish();
        let mut reports = Vec::new();
        for entry in &self.entries {
            let finished = entry.finish(self, tracked.remove(entry.journal.folder()));
            end = end.max(finished.end);
            reports.push(finished.report);
        }
        self.tracking.remark();
        if self.entries.len() > 1 {
            say::table(&self.entries.iter().map(|entry| (entry, entry.conclude(self).summary())).collect::<Vec<_>>());
        }
        let json =
            self.settings.json.as_ref().map(|path| (path, crate::file::write_atomically(path, &pretty(&reports))));
        let junit = self.settings.junit.as_ref().map(|path| (path, junit::write(path, self.suites())));
        for (path, written) in json.into_iter().chain(junit) {
            if let Err(error) = written {
                say::line(&format!("failed to write `{}`: {error}", path.display()));
                end = End::Broken;
            }
        }
        end
    }

    /// All has been judged: what the test cases came to, once more.
    fn suites(&self) -> Vec<quick_junit::TestSuite> {
        let of = |entry: &Entry| {
            let tasks = entry.selected.iter().map(|&at| &self.tasks[at].id);
            junit::suite(&entry.run, tasks.map(|id| (id.as_str(), entry.outcome(id))))
        };
        self.entries.iter().map(of).collect()
    }
}

/// The invocation of nextest that this process is one of, if it is: then every problem has a process of its own.
pub(super) fn nextest() -> Option<String> {
    std::env::var("NEXTEST_RUN_ID").ok().filter(|id| !id.is_empty())
}

/// The self-check of a suite without anybody to evaluate.
pub(super) fn check_itself(judge: &Judge, tasks: &[Task], dataset: &str, storage: &Path) -> Result<(), String> {
    let tasks: Vec<&Task> = tasks.iter().collect();
    let ceiling = ceiling::measure(judge, &tasks, dataset, storage)?;
    let stubs = ceiling::stubs(judge, &tasks)?;
    let ceiling = ceiling.map_or("unknown: the dataset has no solutions".to_owned(), |ceiling| ceiling.to_string());
    say::line(&format!("{dataset}: ceiling {ceiling}; bodies `pass` 0/{stubs}"));
    Ok(())
}

/// `HumanEval/3`, or `baseline::HumanEval/3` when there are several labels.
pub(super) fn test_name(label: &str, id: &str, several: bool) -> String {
    if several { format!("{label}::{id}") } else { id.to_owned() }
}

/// The labels of an invocation, without opening anything: what a listing needs.
pub(super) fn labels(suite: &dyn Suite, settings: &Settings) -> Result<Vec<String>, RunnerError> {
    let checkpoints = suite.checkpoints(&settings.storage);
    Ok(paths(suite, settings, &checkpoints)?.into_iter().map(|(label, _)| label).collect())
}

/// Label and file of every checkpoint that the settings name; one without a file for given completions.
fn paths(suite: &dyn Suite, settings: &Settings, folder: &Path) -> Result<Vec<(String, Option<PathBuf>)>, RunnerError> {
    let label = |default: String| settings.label.clone().unwrap_or(default);
    let best = |pipeline: &str| -> Result<_, RunnerError> {
        Ok((label(pipeline.to_owned()), Some(checkpoint::best(folder, pipeline)?)))
    };
    match &settings.contestants {
        Contestants::Checkpoints(files) => {
            files.iter().map(|file| Ok((label(label_of(file)), Some(checkpoint::existing(file)?)))).collect()
        }
        Contestants::BaseModel(folder) => {
            // Where there is none, what is there instead is told.
            let folder =
                opened::folder(&folder.to_string_lossy(), settings).or_else(|_| checkpoint::existing(folder))?;
            Ok(vec![(label(label_of(&folder)), Some(folder))])
        }
        Contestants::Pipelines(names) => names.iter().map(|name| best(name)).collect(),
        Contestants::Curve { pipeline, pattern } => {
            let files = checkpoint::matching(folder, pipeline, pattern)?;
            Ok(files.into_iter().map(|file| (label(label_of(&file)), Some(file))).collect())
        }
        Contestants::Samples(_) => Ok(vec![(label("samples".into()), None)]),
        Contestants::Canonical => Ok(vec![(label("canonical".into()), None)]),
        Contestants::Unsaid => match suite.default_pipeline() {
            Some(pipeline) => Ok(vec![best(pipeline)?]),
            None => Ok(Vec::new()),
        },
    }
}

/// `baseline` for `…/baseline/checkpoint_best.pt`, `baseline-epoch_3` for `…/baseline/checkpoint_epoch_3.pt`, and the
/// file's or model folder's own name for any other.
fn label_of(file: &Path) -> String {
    let text = |part: Option<&std::ffi::OsStr>| part.unwrap_or_default().to_string_lossy().into_owned();
    if file.is_dir() {
        return text(file.file_name());
    }
    let stem = text(file.file_stem());
    let pipeline = text(file.parent().and_then(Path::file_name));
    match stem.strip_prefix("checkpoint_") {
        Some("best") if !pipeline.is_empty() => pipeline,
        Some(which) if !pipeline.is_empty() => format!("{pipeline}-{which}"),
        _ => stem,
    }
}

fn contestants(suite: &dyn Suite, settings: &Settings, tasks: &[Task]) -> Result<Vec<Contestant>, RunnerError> {
    let checkpoints = suite.checkpoints(&settings.storage);
    let open = |(label, file): (String, Option<PathBuf>)| -> Result<Contestant, RunnerError> {
        let origin = match (file, &settings.contestants) {
            (Some(file), _) => {
                let (checkpoint, folder) = opened::open(&file, settings)?;
                Origin::Checkpoint { checkpoint: Box::new(checkpoint), folder }
            }
            // The file may speak of tasks that --max-tasks left out, but not of others.
            (None, Contestants::Samples(file)) => {
                Origin::Saved(Saved::from_file(file, &suite.tasks(&settings.storage)?)?)
            }
            (None, _) => Origin::Saved(Saved::canonical(tasks)),
        };
        Ok(Contestant { label, origin })
    };
    paths(suite, settings, &checkpoints)?.into_iter().map(open).collect()
}

fn digest_file(path: &Path) -> Result<String, RunnerError> {
    let io = |source| RunnerError::Io { verb: "read", path: path.to_owned(), source };
    let mut hasher = blake3::Hasher::new();
    hasher.update_reader(std::fs::File::open(path).map_err(io)?).map_err(io)?;
    Ok(hasher.finalize().to_hex().to_string())
}

/// The k to report. Of the usual ones those above n are left out; one that was asked for must be possible.
fn ks(asked: &[u32], n: u32) -> Result<Vec<u32>, RunnerError> {
    if let Some(k) = asked.iter().find(|&&k| k > n) {
        return Err(RunnerError::Misfit(format!(
            "--k {k} is more than the {n} samples of each problem: pass@{k} needs at least {k} (--num-samples {k}; greedy and canonical runs have one)"
        )));
    }
    let mut asked = asked.to_vec();
    asked.sort_unstable();
    asked.dedup();
    Ok(if asked.is_empty() { usual_ks(n) } else { asked })
}

/// The k that are reported when none is asked for, as far as n allows; 20 is not missed where n is smaller.
pub(super) const USUAL_KS: [u32; 4] = [1, 5, 10, 20];

pub(super) fn usual_ks(n: u32) -> Vec<u32> {
    USUAL_KS.into_iter().filter(|&k| k <= n).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_complete_task_id_is_exact() {
        let whole: HashSet<&str> = ["H/3", "H/30", "H/13", "a::H/3", "a::H/30", "a::H/13"].into();
        let check = |filters: &[&str], skip: &[&str], exact, expected: &[&str]| {
            let own = |list: &[&str]| list.iter().map(|s| s.to_string()).collect();
            let selection = Selection { filters: own(filters), skip: own(skip), exact };
            let mut wanted: Vec<String> = Vec::new();
            for label in ["a", "b"] {
                for id in ["H/3", "H/30", "H/13"] {
                    let name = test_name(label, id, true);
                    if selection.wants(&name, id, &whole) {
                        wanted.push(name);
                    }
                }
            }
            assert_eq!(wanted, expected, "{filters:?} skip {skip:?} exact {exact}");
        };
        check(&["H/3"], &[], false, &["a::H/3", "b::H/3"]);
        check(&["/3"], &[], false, &["a::H/3", "a::H/30", "b::H/3", "b::H/30"]);
        check(&["b::H/3"], &[], true, &["b::H/3"]);
        check(&["a::H/3"], &[], false, &["a::H/3"]);
        check(&["H/30", "H/13"], &["b::"], false, &["a::H/30", "a::H/13"]);
        check(&["a::"], &["H/3"], false, &["a::H/30", "a::H/13"]);
        check(&["H"], &[], true, &[]);
    }

    #[test]
    fn labels_come_from_the_file() {
        for (file, expected) in [
            ("storage/checkpoints/rho1/checkpoint_best.pt", "rho1"),
            ("rho1/checkpoint_epoch_3.pt", "rho1-epoch_3"),
            ("rho1/checkpoint_final.pt", "rho1-final"),
            ("checkpoint_best.pt", "checkpoint_best"),
            ("some/model.pt", "model"),
        ] {
            assert_eq!(label_of(Path::new(file)), expected);
        }
    }

    #[test]
    fn usual_k_are_left_out_and_asked_ones_refused() {
        assert_eq!(ks(&[], 20).unwrap(), [1, 5, 10, 20]);
        assert_eq!(ks(&[], 5).unwrap(), [1, 5]);
        assert_eq!(ks(&[10, 1], 10).unwrap(), [1, 10]);
        assert!(ks(&[1, 11], 10).unwrap_err().to_string().contains("--k 11 is more than the 10 samples"));
    }
}
