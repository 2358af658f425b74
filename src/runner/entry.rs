//! One label's run: opened, sampled and judged, finished.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, mpsc};
use std::thread::{self, Scope, ScopedJoinHandle};
use std::time::Instant;

use serde::Serialize;

use super::board::Board;
use super::contest::{self, Contest};
use super::duplicates::{Judged, Programs, Turn};
use super::gate::{self, Reference};
use super::{say, screen};
use crate::checkpoint::Checkpoint;
use crate::compare::{self, Chosen, Comparison};
use crate::journal::{Journal, JournalError, pretty};
use crate::record::{self, CheckpointRecord, Effort, Problem, Run, SampleRecord, Summary};
use crate::report;
use crate::sampler::engine;
use crate::sampler::saved::Saved;
use crate::sampler::{Finish, Request, Sample, Sampler, SamplerError};
use crate::snapshot::{Snapshot, review};
use crate::task::{Task, TaskId};

/// Where an entry's completions come from.
pub(super) enum Origin {
    Checkpoint { checkpoint: Box<Checkpoint>, folder: PathBuf },
    Saved(Saved),
}

const PROMPTS: &str = "prompts.json";
const SUMMARY: &str = "summary.json";

/// There is nothing to be sampled: no model need be loaded.
struct Nothing;

impl Sampler for Nothing {
    fn sample(&mut self, _: &[Request], _: &mut dyn FnMut(Sample) -> bool) -> Result<(), SamplerError> {
        Ok(())
    }
}

/// Why a test case is red.
#[derive(Debug)]
pub(super) enum Trouble {
    /// The gate fails for its problem.
    Moved(String),
    /// It could not be judged.
    Harness(String),
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Trouble::Moved(text) | Trouble::Harness(text)) = self;
        f.write_str(text)
    }
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
    pub(super) programs: Programs,
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
    /// Every problem of the run, where another process has judged the others.
    everything: Option<Vec<Problem>>,
    /// Every selected problem was judged.
    whole: bool,
    written: Result<(), JournalError>,
}

impl Conclusion {
    pub(super) fn summary(&self) -> &Summary {
        &self.summary
    }
}

impl Entry {
    /// Samples what is missing, while programs of finished samples are judged by threads of `scope`. They may still be
    /// at it when this returns, so that the next entry's model is loaded meanwhile: the handle ends with the judging of
    /// the last program, when everything is written. `before` is that of the entry before this one.
    pub(super) fn run<'s>(
        &'s self,
        contest: &'s Contest,
        scope: &'s Scope<'s, '_>,
        before: Option<ScopedJoinHandle<'s, ()>>,
    ) -> Option<ScopedJoinHandle<'s, ()>> {
        let requests = self.requests(contest);
        let wanted: usize = requests.iter().map(|request| request.indices.len()).sum();
        let kept = self.selected.len() * self.num_samples as usize - wanted;
        let mut origin = self.origin.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let mut loaded = None;
        let prepared = (wanted > 0).then(|| {
            let (sampled, requests) = self.already_sampled(requests)?;
            let sampler = self.sampler(&mut origin, &mut loaded, &requests, contest)?;
            Ok((sampled, requests, sampler))
        });
        // Programs of two entries at once would be more than --jobs.
        before.map(ScopedJoinHandle::join);
        say::begin(self, wanted, kept);
        match prepared {
            None => self.end(contest, Ok(Effort::default())),
            Some(Err(error)) => self.end(contest, Err(error)),
            Some(Ok((sampled, requests, sampler))) => {
                screen::begin(&self.run.label, wanted);
                return Some(self.sample_and_judge(sampler, sampled, &requests, contest, scope));
            }
        }
        None
    }

    /// What makes the completions; `loaded` is where a loaded model stays.
    fn sampler<'o>(
        &self,
        origin: &'o mut Origin,
        loaded: &'o mut Option<Box<dyn Sampler>>,
        requests: &[Request],
        contest: &Contest,
    ) -> Result<&'o mut dyn Sampler, String> {
        let settings = &contest.settings;
        match origin {
            _ if requests.is_empty() => Ok(loaded.insert(Box::new(Nothing)).as_mut()),
            Origin::Saved(saved) => Ok(saved),
            Origin::Checkpoint { checkpoint, folder } => {
                let (place, sampling, options) = (&settings.place, settings.sampling, settings.engine);
                let mut progress = say::loading(&self.run.label);
                let (engine, plan) =
                    engine::open(place, checkpoint, folder, sampling, options, requests, &mut progress)
                        .map_err(|error| error.to_string())?;
                say::plan(&self.run.label, &plan);
                Ok(loaded.insert(engine).as_mut())
            }
        }
    }

    /// Nothing more will come: whoever waits is told, and files are written and sent.
    fn end(&self, contest: &Contest, outcome: Result<Effort, String>) {
        screen::end();
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
        self.conclude(contest);
    }

    /// Samples what is missing, and keeps it in the run's folder without judging it.
    pub(super) fn sample_only(&self, contest: &Contest) -> Result<(), String> {
        let (sampled, requests) = self.already_sampled(self.requests(contest))?;
        let (kept, wanted) = (sampled.len(), requests.iter().map(|request| request.indices.len()).sum::<usize>());
        say::line(&format!("{}: {wanted} completions to sample, {kept} kept from before", self.run.label));
        // Without a torn last line, or the next would be glued to it; those of other problems stay.
        let all = self.journal.sampled().and_then(|all| self.journal.keep_sampled(&all));
        all.map_err(|error| error.to_string())?;
        let mut origin = self.origin.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let mut loaded = None;
        let sampler = self.sampler(&mut origin, &mut loaded, &requests, contest)?;
        screen::begin(&self.run.label, wanted);
        let mut appended = Ok(());
        let done = sampler.sample(&requests, &mut |sample| {
            appended = self.journal.append_sampled(&sample);
            screen::sampled();
            appended.is_ok()
        });
        screen::end();
        appended.map_err(|error| error.to_string())?;
        done.map_err(|error| error.to_string())?;
        say::line(&format!("{}: sampled, to be judged later: {}", self.run.label, self.journal.folder().display()));
        Ok(())
    }

    /// Parts what an earlier invocation has sampled already from what is still to be sampled.
    fn already_sampled(&self, requests: Vec<Request>) -> Result<(Vec<Sample>, Vec<Request>), String> {
        let mut sampled = self.journal.sampled().map_err(|error| error.to_string())?;
        if sampled.is_empty() {
            return Ok((sampled, requests));
        }
        let wanted: HashMap<&TaskId, &[u32]> =
            requests.iter().map(|request| (&request.task, request.indices.as_slice())).collect();
        sampled.retain(|sample| wanted.get(&sample.task).is_some_and(|indices| indices.contains(&sample.index)));
        let there: HashSet<(&TaskId, u32)> = sampled.iter().map(|sample| (&sample.task, sample.index)).collect();
        let missing = |request: Request| {
            let indices = request.indices.iter().copied().filter(|&index| !there.contains(&(&request.task, index)));
            let indices: Vec<u32> = indices.collect();
            (!indices.is_empty()).then_some(Request { indices, ..request })
        };
        let requests = requests.clone().into_iter().filter_map(missing).collect();
        Ok((sampled, requests))
    }

    fn requests(&self, contest: &Contest) -> Vec<Request> {
        let request = |task: &Task| Request {
            task: task.id.clone(),
            prompt: contest.prompt(task),
            indices: self.board.missing(&task.id, self.num_samples),
        };
        let requests = self.selected.iter().map(|&at| request(&contest.tasks[at]));
        requests.filter(|request| !request.indices.is_empty()).collect()
    }

    fn sample_and_judge<'s>(
        &'s self,
        sampler: &mut dyn Sampler,
        sampled: Vec<Sample>,
        requests: &[Request],
        contest: &'s Contest,
        scope: &'s Scope<'s, '_>,
    ) -> ScopedJoinHandle<'s, ()> {
        let (sender, receiver) = mpsc::channel::<Sample>();
        let (report, reported) = mpsc::channel::<(Effort, Option<String>)>();
        let stopped = Arc::new(AtomicBool::new(false));
        let begun = Instant::now();
        let stop = Arc::clone(&stopped);
        let judging = scope.spawn(move || {
            // Whoever waits must not wait for ever if judging dies, or sampling, which then has nothing to report.
            let bug = || Some("a bug in passk ended the evaluation; see stderr".to_owned());
            let judge_all = AssertUnwindSafe(|| self.judge_all(receiver, &stop, contest));
            let trouble = catch_unwind(judge_all).unwrap_or_else(|_| bug());
            let (effort, sampling) = reported.recv().unwrap_or_else(|_| (Effort::default(), bug()));
            let effort = Effort { judging_seconds: begun.elapsed().as_secs_f64(), ..effort };
            self.end(contest, trouble.or(sampling).map_or(Ok(effort), Err));
        });
        let mut effort = Effort { programs: sampled.len() as u64, ..Effort::default() };
        // Nobody takes them if judging has stopped, and then that is told.
        let _ = sampled.into_iter().try_for_each(|sample| sender.send(sample));
        let sampled = sampler.sample(requests, &mut |sample| {
            effort.tokens += u64::from(sample.tokens.unwrap_or(0));
            effort.programs += 1;
            screen::sampled();
            !stopped.load(Ordering::Relaxed) && sender.send(sample).is_ok()
        });
        effort.sampling_seconds = begun.elapsed().as_secs_f64();
        effort.speculation = sampler.speculation();
        // Samples that are finished are still judged: they are good.
        let trouble = sampled.err().filter(|error| !matches!(error, SamplerError::Stopped));
        // Nobody is there to be told only if the judging thread itself has died.
        let _ = report.send((effort, trouble.map(|error| error.to_string())));
        judging
    }

    /// Judges samples as they come, --jobs at a time, until no more will. What ended it, if something did.
    fn judge_all(&self, samples: mpsc::Receiver<Sample>, stopped: &AtomicBool, contest: &Contest) -> Option<String> {
        let samples = Mutex::new(samples);
        let trouble = Mutex::new(None);
        thread::scope(|scope| {
            let judge = || {
                while !stopped.load(Ordering::Relaxed) {
                    let next = samples.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).recv();
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
        });
        trouble.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Judges one sample, and whatever waits for its program. An `Err` ends the run; a program that could not be judged
    /// fails its problem only.
    fn judge(&self, sample: Sample, contest: &Contest) -> Result<(), String> {
        let task = &contest.tasks[contest.index[&sample.task]];
        // Given completions are judged as they stand.
        let answer = match sample.finish {
            Finish::Given => sample.completion.clone(),
            _ => contest.format.answer(&sample.completion).to_owned(),
        };
        let sample = match self.programs.turn(&answer, sample) {
            Turn::Run(sample) => sample,
            Turn::Known(sample, judged) => return self.record(sample, &answer, judged, contest),
            Turn::Waits => return Ok(()),
        };
        match contest.judge.judge(task, &answer) {
            Ok((base, plus)) => {
                let judged = Judged::new(base, plus);
                let waiting = self.programs.told(&task.id, &answer, Some(&judged));
                let mut samples = std::iter::once(sample).chain(waiting);
                samples.try_for_each(|sample| self.record(sample, &answer, judged.clone(), contest))
            }
            Err(error) => {
                self.programs.told(&task.id, &answer, None);
                self.board.fail(&task.id, format!("harness: sample {} was not judged: {error}", sample.index));
                Ok(())
            }
        }
    }

    /// Keeps what came of a sample.
    fn record(&self, sample: Sample, answer: &str, judged: Judged, contest: &Contest) -> Result<(), String> {
        let record = SampleRecord {
            task_id: sample.task,
            sample: sample.index,
            completion: answer.to_owned(),
            response: (answer != sample.completion).then_some(sample.completion),
            passed: judged.verdict.passed(),
            verdict: judged.verdict,
            detail: judged.detail,
            traceback: judged.traceback,
            partial: judged.partial,
            plus: judged.plus,
            isolation: contest.judge.jail.isolation().to_string(),
            in_process: judged.in_process,
            finish: sample.finish,
            tokens: sample.tokens,
        };
        self.journal.append(&record).map_err(|error| error.to_string())?;
        screen::judged();
        self.board.add(record);
        Ok(())
    }

    /// Waits for a problem and holds its line against the accepted one.
    ///
    /// # Errors
    /// The failing test's text.
    pub(super) fn outcome(&self, task: &TaskId) -> Result<Problem, Trouble> {
        let problem = self.board.wait(task, self.num_samples).map_err(Trouble::Harness)?;
        match self.reference.fails(&problem) {
            Some(why) => Err(Trouble::Moved(why)),
            None => Ok(problem),
        }
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
            let mut kept = match all {
                true => Summary {
                    ceiling: summary.ceiling.clone(),
                    ..Summary::new(&self.run, &ids, &records, self.num_samples, &self.ks, &effort).0
                },
                false => summary.clone(),
            };
            if let Some(earlier) = self.earlier_summary().filter(|_| !contest.settings.fresh) {
                kept.keep_speeds(&earlier);
            }
            let written = self
                .journal
                .sort(&mut records, &ids)
                .and_then(|()| self.journal.write_results(&summary.dataset, &everything, &self.ks))
                .and_then(|()| self.journal.write(SUMMARY, &pretty(&kept)))
                .and_then(|()| self.forget_sampled())
                .and_then(|()| self.write_report(contest, records, &kept));
            if all && written.is_ok() {
                contest.tracking.push(self.journal.folder(), effort.programs > 0);
            }
            // Under nextest the process that judges the last problem has the whole run.
            let everything = (all && contest::nextest().is_some()).then_some(everything);
            Conclusion { summary, problems, everything, whole, written }
        })
    }

    /// What was sampled beforehand is kept until all of it is judged.
    fn forget_sampled(&self) -> Result<(), JournalError> {
        let waits = |sample: &Sample| self.board.missing(&sample.task, sample.index + 1).contains(&sample.index);
        match self.journal.sampled()?.iter().any(waits) {
            true => Ok(()),
            false => self.journal.forget_sampled(),
        }
    }

    /// Keeps the prompts, which reports show, and writes the run's own report. Prompts are the same for ever: the run id
    /// holds their digest. Under nextest the process that judges the last problem writes the report, not each of them.
    fn write_report(
        &self,
        contest: &Contest,
        records: Vec<SampleRecord>,
        summary: &Summary,
    ) -> Result<(), JournalError> {
        let prompt = |task: &Task| (task.id.clone(), contest.prompt(task).text);
        let prompts: BTreeMap<TaskId, String> = contest.tasks.iter().map(prompt).collect();
        if !self.journal.folder().join(PROMPTS).exists() {
            self.journal.write(PROMPTS, &pretty(&prompts))?;
        }
        let later = contest::nextest().is_some() && summary.problems < summary.problems_of;
        let mut run = compare::Run::new(self.run.clone(), self.journal.folder(), records, prompts);
        if later || run.problems.is_empty() {
            return Ok(());
        }
        run.head_acceptance = summary.head_acceptance.clone();
        match Comparison::new(Chosen { runs: vec![run], ..Chosen::default() }, true) {
            Ok(alone) => self.journal.write("report.html", report::html::page(&alone).as_bytes()),
            Err(_) => Ok(()),
        }
    }

    /// `summary.json` of an earlier invocation.
    fn earlier_summary(&self) -> Option<Summary> {
        serde_json::from_slice(&std::fs::read(self.journal.folder().join(SUMMARY)).ok()?).ok()
    }

    /// Holds the run against snapshots and says how it went.
    pub(super) fn finish(&self, contest: &Contest, tracked: Option<String>) -> Finished {
        let Conclusion { summary, problems, everything, whole, written } = self.conclude(contest);
        let ids: Vec<TaskId> = contest.tasks.iter().map(|task| task.id.clone()).collect();
        let now = Snapshot::new(&self.run, self.num_samples, problems, &self.ks);
        let comparison = if *whole { self.reference.compare(&self.run, &now) } else { None };
        let against = contest.against.as_ref().filter(|_| *whole).map(|against| against.lines(&self.run, &now));
        let review = match written {
            Ok(()) if !whole => "not compared: some problems were not judged".into(),
            Ok(()) => {
                let now = match everything {
                    Some(everything) => Snapshot::new(&self.run, self.num_samples, everything, &self.ks),
                    None => now,
                };
                self.reference.update(&contest.snapshots, &self.run, now, &ids, &self.ks)
            }
            Err(error) => error.to_string(),
        };
        let tracked = tracked.map(|words| ("mlflow", words));
        let gate = comparison.as_ref().map(|comparison| ("gate", say::gate(comparison)));
        say::summary(self, summary, [Some(("snapshot", review)), gate, tracked].into_iter().flatten());
        against.into_iter().for_each(|lines| say::rows("against", &lines));
        comparison.iter().for_each(gate::publish);
        let failed = comparison.as_ref().is_some_and(|comparison| comparison.failed) && !review::insta_lets_pass();
        let end = match (whole & written.is_ok(), failed) {
            (false, _) => End::Broken,
            (true, true) => End::Regressed,
            (true, false) => End::Held,
        };
        Finished {
            end,
            report: Report {
                summary: summary.clone(),
                run: self.journal.folder().display().to_string(),
                checkpoint: self.run.checkpoint.clone(),
                gate: comparison,
            },
        }
    }
}

/// What an entry came to, for the exit status and `--json`.
pub(super) struct Finished {
    pub(super) end: End,
    pub(super) report: Report,
}

/// How an evaluation ended; the worst of its entries' ends is its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum End {
    /// All was judged, and no gate failed.
    Held,
    /// A gate failed.
    Regressed,
    /// Something could not be judged or written.
    Broken,
}

/// One run in `--json`.
#[derive(Serialize)]
pub(super) struct Report {
    #[serde(flatten)]
    summary: Summary,
    /// Its folder.
    run: String,
    checkpoint: Option<CheckpointRecord>,
    /// `null` where nothing was accepted yet, or the gate is off.
    gate: Option<crate::snapshot::compare::Comparison>,
}
