//! A run's folder: samples are appended as they are judged, and nothing acknowledged is lost.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use thiserror::Error;

use crate::file::write_atomically;
use crate::record::{Problem, Run, SampleRecord};
use crate::sampler::Sample;
use crate::task::TaskId;

/// Why a run's folder cannot be used.
#[derive(Debug, Error)]
pub enum JournalError {
    /// Not writable, full, gone.
    #[error("failed to {verb} `{}`: {source}: what was judged before is kept", path.display())]
    Io {
        /// write, open, ….
        verb: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// A line that is neither ours nor the torn end of a killed run.
    #[error("bad sample at {}:{line}: {source}: mend the line, or start the run anew with --fresh", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
        /// The cause.
        source: serde_json::Error,
    },
    /// Two harnesses on one run.
    #[error("run folder `{}` is in use by process {holder}: wait for it, or stop it", folder.display())]
    InUse {
        /// The folder.
        folder: PathBuf,
        /// Who holds it.
        holder: String,
    },
}

/// An open run folder, held by this process alone.
pub struct Journal {
    folder: PathBuf,
    samples: Mutex<Appender>,
    fresh: bool,
    invocation: Option<String>,
    _lock: File,
}

/// How a run's folder is opened.
#[derive(Clone, Debug, Default)]
pub struct Opening {
    /// Throw away what earlier invocations have judged: [`Journal::clear`] must follow.
    pub fresh: bool,
    /// Names the invocation that this process is one of many of, as `NEXTEST_RUN_ID` does: then the folder is waited
    /// for, and what another process of the same invocation has judged is kept.
    pub invocation: Option<String>,
}

/// Completions that were sampled and not yet judged.
const SAMPLED: &str = "sampled.jsonl";
/// The invocation that began the run anew.
const INVOCATION: &str = ".invocation";

struct Appender {
    file: File,
    synced: Instant,
    torn: bool,
}

/// Time between syncs while samples come; what a process wrote is safe from SIGKILL without one.
const SYNC_EVERY: Duration = Duration::from_secs(1);

impl Journal {
    /// Opens or makes the folder of `run` under `runs`, and returns what it holds of earlier invocations: nothing
    /// when it is to begin anew.
    pub fn open(runs: &Path, run: &Run, opening: Opening) -> Result<(Journal, Vec<SampleRecord>), JournalError> {
        let folder = runs.join(&run.run_id);
        let io = |verb, path: &Path| {
            let path = path.to_owned();
            move |source| JournalError::Io { verb, path, source }
        };
        fs::create_dir_all(&folder).map_err(io("make", &folder))?;
        let Opening { fresh, invocation } = opening;
        let lock = if invocation.is_some() { wait_for_lock(&folder)? } else { take_lock(&folder)? };
        let begun = || invocation.is_some() && fs::read_to_string(folder.join(INVOCATION)).ok() == invocation;
        let fresh = fresh && !begun();

        let path = folder.join("samples.jsonl");
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(io("open", &path))?;
        let mut text = Vec::new();
        file.read_to_end(&mut text).map_err(io("read", &path))?;
        if fresh {
            text.clear();
        }
        let (records, good) = parse(&text, &path)?;
        // The torn last line of a killed run goes, or the next line would be glued to it.
        if !fresh {
            file.set_len(good).and_then(|()| file.seek(SeekFrom::Start(good))).map_err(io("write", &path))?;
        }

        let journal = Journal {
            samples: Mutex::new(Appender { file, synced: Instant::now(), torn: false }),
            folder,
            fresh,
            invocation,
            _lock: lock,
        };
        journal.write("run.json", &pretty(run))?;
        Ok((journal, records))
    }

    /// Throws away what earlier invocations have sampled and judged, where it was opened for that.
    pub fn clear(&self) -> Result<(), JournalError> {
        if !self.fresh {
            return Ok(());
        }
        self.forget_sampled()?;
        if let Some(invocation) = &self.invocation {
            self.write(INVOCATION, invocation.as_bytes())?;
        }
        let mut samples = self.samples.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let cleared = samples.file.set_len(0).and_then(|()| samples.file.seek(SeekFrom::Start(0)));
        cleared.map(drop).map_err(|error| self.io("clear", error))
    }

    /// Where the run lies.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Appends one judged sample, in one write; once this returns, SIGKILL cannot lose it.
    pub fn append(&self, record: &SampleRecord) -> Result<(), JournalError> {
        let mut line = serde_json::to_vec(record).map_err(|error| self.io("write", error.into()))?;
        line.push(b'\n');
        let mut samples = self.samples.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if samples.torn {
            return Err(self.io("write", io::Error::other("an earlier line could not be written")));
        }
        let written = match samples.file.write(&line) {
            Ok(n) if n == line.len() => Ok(()),
            Ok(_) => Err(io::Error::from(io::ErrorKind::StorageFull)),
            Err(error) => Err(error),
        };
        samples.torn = written.is_err();
        written.map_err(|error| self.io("write", error))?;
        if samples.synced.elapsed() > SYNC_EVERY {
            samples.file.sync_data().map_err(|error| self.io("write", error))?;
            samples.synced = Instant::now();
        }
        Ok(())
    }

    /// Completions that an earlier invocation has sampled and left to be judged. A torn last line is none.
    pub fn sampled(&self) -> Result<Vec<Sample>, JournalError> {
        let path = self.folder.join(SAMPLED);
        let text = match fs::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            text => text.map_err(|source| JournalError::Io { verb: "read", path: path.clone(), source })?,
        };
        let whole = text.iter().rposition(|&byte| byte == b'\n').map_or(0, |last| last + 1);
        let lines = text[..whole].split(|&byte| byte == b'\n').enumerate().filter(|(_, line)| !line.is_empty());
        lines
            .map(|(i, line)| {
                serde_json::from_slice(line).map_err(|source| JournalError::Line {
                    path: path.clone(),
                    line: i + 1,
                    source,
                })
            })
            .collect()
    }

    /// Keeps one more completion to be judged later.
    pub fn append_sampled(&self, sample: &Sample) -> Result<(), JournalError> {
        let mut line = serde_json::to_vec(sample).map_err(|error| self.io("write", error.into()))?;
        line.push(b'\n');
        let path = self.folder.join(SAMPLED);
        let append =
            OpenOptions::new().append(true).create(true).open(&path).and_then(|mut file| file.write_all(&line));
        append.map_err(|source| JournalError::Io { verb: "write", path, source })
    }

    /// Keeps these completions to be judged later, and no others.
    pub fn keep_sampled(&self, samples: &[Sample]) -> Result<(), JournalError> {
        let mut text = Vec::new();
        for sample in samples {
            serde_json::to_writer(&mut text, sample).map_err(|error| self.io("write", error.into()))?;
            text.push(b'\n');
        }
        self.write(SAMPLED, &text)
    }

    /// All of them are judged.
    pub fn forget_sampled(&self) -> Result<(), JournalError> {
        match fs::remove_file(self.folder.join(SAMPLED)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(self.io("clear", error)),
            _ => Ok(()),
        }
    }

    /// Puts the samples into the order of `tasks` and of their indices, whatever order they were judged in.
    pub fn sort(&self, records: &mut [SampleRecord], tasks: &[TaskId]) -> Result<(), JournalError> {
        let order: HashMap<&TaskId, usize> = tasks.iter().zip(0..).collect();
        records.sort_by_key(|record| (order.get(&record.task_id).copied(), record.sample));
        let mut text = Vec::new();
        for record in records.iter() {
            serde_json::to_writer(&mut text, record).map_err(|error| self.io("write", error.into()))?;
            text.push(b'\n');
        }
        self.write("samples.jsonl", &text)
    }

    /// Writes `results_<dataset>.csv`: a line a problem with n, c and each pass@k.
    pub fn write_results(&self, dataset: &str, problems: &[Problem], ks: &[u32]) -> Result<(), JournalError> {
        let mut table = csv::Writer::from_writer(Vec::new());
        let fail = |error: csv::Error| self.io("write", io::Error::other(error));
        let head = ["task_id", "n", "c"].map(str::to_owned).into_iter();
        table.write_record(head.chain(ks.iter().map(|k| format!("pass@{k}")))).map_err(fail)?;
        for Problem { task, tally, .. } in problems {
            let counts = [task.to_string(), tally.n.to_string(), tally.c.to_string()].into_iter();
            let scores = ks.iter().map(|&k| tally.pass_at_k(k).map_or(String::new(), |score| format!("{score:.4}")));
            table.write_record(counts.chain(scores)).map_err(fail)?;
        }
        let bytes = table.into_inner().map_err(|error| self.io("write", io::Error::other(error.to_string())))?;
        self.write(&format!("results_{dataset}.csv"), &bytes)
    }

    /// Writes a whole file of the run.
    pub fn write(&self, name: &str, bytes: &[u8]) -> Result<(), JournalError> {
        let path = self.folder.join(name);
        write_atomically(&path, bytes).map_err(|source| JournalError::Io { verb: "write", path, source })
    }

    fn io(&self, verb: &'static str, source: io::Error) -> JournalError {
        JournalError::Io { verb, path: self.folder.join("samples.jsonl"), source }
    }
}

/// JSON as people read it, with a newline at the end.
pub fn pretty(value: &impl serde::Serialize) -> Vec<u8> {
    let mut json = serde_json::to_vec_pretty(value).unwrap_or_default();
    json.push(b'\n');
    json
}

/// Holds a run's folder as soon as whoever holds it lets go.
fn wait_for_lock(folder: &Path) -> Result<File, JournalError> {
    let path = folder.join(".lock");
    let io = |source| JournalError::Io { verb: "lock", path: path.clone(), source };
    let mut lock = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path).map_err(io)?;
    lock.lock().map_err(io)?;
    lock.set_len(0).and_then(|()| writeln!(lock, "{}", std::process::id())).map_err(io)?;
    Ok(lock)
}

/// Holds a run's folder until the returned file is dropped.
pub fn take_lock(folder: &Path) -> Result<File, JournalError> {
    let path = folder.join(".lock");
    let io = |source| JournalError::Io { verb: "lock", path: path.clone(), source };
    let mut lock = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path).map_err(io)?;
    match lock.try_lock() {
        Ok(()) => {}
        Err(fs::TryLockError::WouldBlock) => {
            let mut holder = String::new();
            lock.read_to_string(&mut holder).map_err(io)?;
            return Err(JournalError::InUse { folder: folder.to_owned(), holder: holder.trim().to_owned() });
        }
        Err(fs::TryLockError::Error(error)) => return Err(io(error)),
    }
    lock.set_len(0).and_then(|()| writeln!(lock, "{}", std::process::id())).map_err(io)?;
    Ok(lock)
}

/// The records, each (task, sample) once, and how many bytes of `text` are whole lines.
fn parse(text: &[u8], path: &Path) -> Result<(Vec<SampleRecord>, u64), JournalError> {
    let whole = text.iter().rposition(|&byte| byte == b'\n').map_or(0, |last| last + 1);
    let mut seen = std::collections::HashSet::new();
    let mut records = Vec::new();
    for (i, line) in text[..whole].split(|&byte| byte == b'\n').enumerate().filter(|(_, line)| !line.is_empty()) {
        let record: SampleRecord = serde_json::from_slice(line).map_err(|source| JournalError::Line {
            path: path.to_owned(),
            line: i + 1,
            source,
        })?;
        if seen.insert((record.task_id.clone(), record.sample)) {
            records.push(record);
        }
    }
    Ok((records, whole as u64))
}
