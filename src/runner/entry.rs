//! One label's run: opened, sampled and judged, finished.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, OnceLock, mpsc};
use std::thread;
use std::time::Instant;

use super::board::Board;
use super::contest::Contest;
use super::say;
use crate::checkpoint::Checkpoint;
use crate::compare::{self, Chosen, Comparison};
use crate::journal::{Journal, JournalError, pretty};
use crate::record::{self, Effort, Problem, Run, SampleRecord, Summary};
use crate::report;
use crate::sampler::engine::Engine;
use crate::sampler::saved::Saved;
use crate::sampler::{Finish, Request, Sample, Sampler, SamplerError};
use crate::snapshot::{self, Snapshot};
use crate::task::{Task, TaskId};

/// Where an entry's completions come from.
pub(super) enum Origin {
    Checkpoint { checkpoint: Box<Checkpoint>, folder: PathBuf },
    Saved(Saved),
}

/// How a problem's line is held against the accepted one.
pub(super) enum Reference {
    /// Not at all.
    Off,
    /// Nothing was accepted yet.
    Nothing,
    /// What was accepted was measured otherwise; the rows that differ.
    Unlike(Vec<String>),
    /// Line by line.
    Exact(Snapshot),
}

/// One label.
pub(super) struct Entry {
    pub(super) run: Run,
    pub(super) origin: Mutex<Origin>,
    pub(super) num_samples: u32,
    pub(super) ks: Vec<u32>,
    pub(super) reference: Reference,
    pub(super) journal: Journal,
    pub(super) board: Board,
    /// Indices into the contest's tasks.
    pub(super) selected: Vec<usize>,
    pub(super) effort: Mutex<Effort>,
    pub(super) conclusion: OnceLock<Conclusion>,
}

/// What a run came to.
pub(super) struct Conclusion {
    /// Of the selected problems.
    summary: Summary,
    problems: Vec<Problem>,
    /// Every selected problem was judged.
    whole: bool,
    written: Result<(), JournalError>,
}

impl Entry {
    /// Samples and judges what is missing. Programs of finished samples run while later ones are still sampled.
    pub(super) fn run(&self, contest: &Contest) {
        let outcome = self.try_run(contest);
        self.board.close(&match outcome {
            Ok(effort) => {
                *self.effort.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = effort;
                "harness: no sample came for this task".to_owned()
            }
            Err(error) => {
                say::line(&format!("{}: {error}", self.run.label));
                format!("harness: {error}")
            }
        });
    }

    fn try_run(&self, contest: &Contest) -> Result<Effort, String> {
        let requests = self.requests(contest);
        let wanted: usize = requests.iter().map(|request| request.indices.len()).sum();
        let kept = self.selected.len() * self.num_samples as usize - wanted;
        say::begin(self, wanted, kept);
        if wanted == 0 {
            return Ok(Effort::default());
        }
        let mut origin = self.origin.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let settings = &contest.settings;
        let mut engine;
        let sampler: &mut dyn Sampler = match &mut *origin {
            Origin::Saved(saved) => saved,
            Origin::Checkpoint { checkpoint, folder } => {
                engine = Engine::load(checkpoint, folder, settings.sampling, settings.engine)
                    .map_err(|error| error.to_string())?;
                say::plan(&engine.plan(&requests).map_err(|error| error.to_string())?);
                &mut engine
            }
        };
        self.sample_and_judge(sampler, &requests, contest)
    }

    fn requests(&self, contest: &Contest) -> Vec<Request> {
        let request = |task: &Task| Request {
            task: task.id.clone(),
            prompt: contest.format.prompt(task, &contest.shots(), &contest.stops),
            indices: self.board.missing(&task.id, self.num_samples),
        };
        let requests = self.selected.iter().map(|&at| request(&contest.tasks[at]));
        requests.filter(|request| !request.indices.is_empty()).collect()
    }

    fn sample_and_judge(
        &self,
        sampler: &mut dyn Sampler,
        requests: &[Request],
        contest: &Contest,
    ) -> Result<Effort, String> {
        let (sender, receiver) = mpsc::channel::<Sample>();
        let receiver = Mutex::new(receiver);
        let stopped = AtomicBool::new(false);
        let trouble = Mutex::new(None);
        let begun = Instant::now();
        let mut effort = Effort::default();

        thread::scope(|scope| {
            let judge = || {
                while !stopped.load(Ordering::Relaxed) {
                    let next = receiver.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).recv();
                    let Ok(sample) = next else { return };
                    if let Err(error) = self.judge(sample, contest) {
                        stopped.store(true, Ordering::Relaxed);
                        trouble.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).get_or_insert(error);
                    }
                }
            };
            for at in 0..contest.settings.jobs {
                match thread::Builder::new().spawn_scoped(scope, judge) {
                    Ok(_) => {}
                    Err(_) if at > 0 => break, // with fewer at once
                    Err(error) => {
                        stopped.store(true, Ordering::Relaxed);
                        let text = format!("failed to start a thread: {error}");
                        trouble.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).get_or_insert(text);
                    }
                }
            }
            let sampled = sampler.sample(requests, &mut |sample| {
                effort.tokens += u64::from(sample.tokens.unwrap_or(0));
                effort.programs += 1;
                !stopped.load(Ordering::Relaxed) && sender.send(sample).is_ok()
            });
            effort.sampling_seconds = begun.elapsed().as_secs_f64();
            effort.speculation = sampler.speculation();
            drop(sender);
            if let Err(error) = sampled
                && !matches!(error, SamplerError::Stopped)
            {
                // Samples that are finished are still judged: they are good.
                trouble.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).get_or_insert(error.to_string());
            }
        });
        effort.judging_seconds = begun.elapsed().as_secs_f64();
        match trouble.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner()) {
            Some(error) => Err(error),
            None => Ok(effort),
        }
    }

    /// Runs one sample's program and records the verdict. An `Err` ends the run; a program that could not be judged
    /// fails its problem only.
    fn judge(&self, sample: Sample, contest: &Contest) -> Result<(), String> {
        let task = &contest.tasks[contest.index[&sample.task]];
        // Given completions are judged as they stand.
        let answer = match sample.finish {
            Finish::Given => sample.completion.as_str(),
            _ => contest.format.answer(&sample.completion),
        };
        let (judgement, plus) = match contest.judge.judge(task, answer) {
            Ok(judged) => judged,
            Err(error) => {
                self.board.fail(&task.id, format!("harness: sample {} was not judged: {error}", sample.index));
                return Ok(());
            }
        };
        let record = SampleRecord {
            task_id: sample.task,
            sample: sample.index,
            completion: answer.to_owned(),
            response: (answer != sample.completion).then(|| sample.completion.clone()),
            passed: judgement.verdict.passed(),
            verdict: judgement.verdict,
            detail: judgement.detail,
            partial: judgement.partial,
            plus: plus.map(|plus| plus.verdict),
            finish: sample.finish,
            tokens: sample.tokens,
        };
        self.journal.append(&record).map_err(|error| error.to_string())?;
        self.board.add(record);
        Ok(())
    }

    /// Waits for a problem and holds its line against the accepted one.
    ///
    /// # Errors
    /// The failing test's text.
    pub(super) fn outcome(&self, task: &TaskId) -> Result<Problem, String> {
        let problem = self.board.wait(task, self.num_samples)?;
        let Reference::Exact(accepted) = &self.reference else { return Ok(problem) };
        let Some(before) = accepted.result(task.as_str()) else { return Ok(problem) };
        let now = format!("{}/{}   {}", problem.tally.c, problem.tally.n, problem.verdict_line());
        if before == now || snapshot::insta_lets_pass() {
            return Ok(problem);
        }
        Err(format!(
            "{task} is not as accepted in snapshots/{}/{}.snap\n-  {before}\n+  {now}\nreview with `cargo insta review`",
            self.run.label, self.run.fingerprint.dataset,
        ))
    }

    /// Adds up, writes the run's final files, and hands a run whose every problem is judged to the tracker.
    pub(super) fn conclude(&self, contest: &Contest) -> &Conclusion {
        self.conclusion.get_or_init(|| {
            let ids: Vec<TaskId> = contest.tasks.iter().map(|task| task.id.clone()).collect();
            let mut records = self.board.records();
            let effort = self.effort.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).clone();
            let selected: Vec<TaskId> = self.selected.iter().map(|&at| ids[at].clone()).collect();
            // A problem that could not be judged blocks every k: the mean over the others is another quantity.
            let whole = selected.iter().all(|task| self.board.missing(task, self.num_samples).is_empty());
            let ks = if whole { self.ks.as_slice() } else { &[] };
            let (mut summary, problems) = Summary::new(&self.run, &selected, &records, self.num_samples, ks, &effort);
            summary.ceiling = contest.ceiling.get().cloned().flatten();
            let everything = record::problems(&ids, &records, self.num_samples);
            let all = everything.len() == ids.len();
            // One problem looked at again does not take the place of the whole run's summary.
            let kept = match all {
                true => Summary {
                    ceiling: summary.ceiling.clone(),
                    ..Summary::new(&self.run, &ids, &records, self.num_samples, &self.ks, &effort).0
                },
                false => summary.clone(),
            };
            let written = self
                .journal
                .sort(&mut records, &ids)
                .and_then(|()| self.journal.write_results(&summary.dataset, &everything, &self.ks))
                .and_then(|()| self.journal.write("summary.json", &pretty(&kept)))
                .and_then(|()| self.write_report(contest));
            if all && written.is_ok() {
                contest.tracking.push(self.journal.folder(), effort.programs > 0);
            }
            Conclusion { summary, problems, whole, written }
        })
    }

    /// Leaves the snapshot for review and says how it went. False when something could not be done.
    pub(super) fn finish(&self, contest: &Contest, tracked: Option<String>) -> bool {
        let Conclusion { summary, problems, whole, written } = self.conclude(contest);
        let ids: Vec<TaskId> = contest.tasks.iter().map(|task| task.id.clone()).collect();
        let review = match written {
            Ok(()) if !whole => "not compared: some problems were not judged".into(),
            Ok(()) => self.update_snapshot(contest, problems, &ids),
            Err(error) => error.to_string(),
        };
        say::summary(self, summary, &review, tracked);
        contest.add_summary(summary.clone());
        written.is_ok()
    }

    /// Keeps the prompts, which a report shows, and writes the run's own report.
    fn write_report(&self, contest: &Contest) -> Result<(), JournalError> {
        let shots = contest.shots();
        let prompt = |task: &Task| (task.id.to_string(), contest.format.prompt(task, &shots, &contest.stops).text);
        let prompts: BTreeMap<String, String> = contest.tasks.iter().map(prompt).collect();
        self.journal.write("prompts.json", &pretty(&prompts))?;
        let run = match compare::Run::read(self.journal.folder()) {
            Ok(run) if !run.problems.is_empty() => run,
            Ok(_) => return Ok(()),
            Err(error) => {
                say::line(&format!("no report: {error}"));
                return Ok(());
            }
        };
        match Comparison::new(Chosen { runs: vec![run], ..Chosen::default() }, true) {
            Ok(alone) => self.journal.write("report.html", report::html::page(&alone).as_bytes()),
            Err(_) => Ok(()),
        }
    }

    /// What became of the snapshot, in words.
    fn update_snapshot(&self, contest: &Contest, problems: &[Problem], ids: &[TaskId]) -> String {
        let path = snapshot::path(&contest.snapshots, &self.run.label, &self.run.fingerprint.dataset);
        let path = path.display();
        let now = Snapshot::new(&self.run, self.num_samples, problems, &self.ks);
        let whole = match &self.reference {
            Reference::Off => return "not compared (--gate off)".into(),
            Reference::Unlike(rows) => {
                return format!(
                    "not compared: {path} has other settings ({}); --gate exact compares all the same",
                    rows.join("; ")
                );
            }
            Reference::Nothing if !now.is_whole(ids.len()) => {
                return format!("none yet at {path}: it is made when all problems are judged");
            }
            Reference::Nothing => now,
            Reference::Exact(_) if now.is_whole(ids.len()) => now,
            Reference::Exact(accepted) => match now.merged_into(accepted, ids, &self.ks) {
                Some(merged) => merged,
                None => {
                    return format!("left as it is: {path} is of another checkpoint, and not all problems were judged");
                }
            },
        };
        let (label, dataset) = (&self.run.label, &self.run.fingerprint.dataset);
        snapshot::assert_with_insta(&contest.snapshots, label, dataset, &whole, &self.run.run_id)
    }
}
