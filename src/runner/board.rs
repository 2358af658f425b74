//! Where judged samples are pinned up and test cases wait for theirs.

use std::collections::HashMap;
use std::sync::{Condvar, Mutex, MutexGuard};

use crate::record::{Problem, SampleRecord};
use crate::task::TaskId;

/// The samples of one run, as they come.
pub(super) struct Board {
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    samples: HashMap<TaskId, Vec<SampleRecord>>,
    failed: HashMap<TaskId, String>,
    /// Why nothing more will come, if that is so.
    closed: Option<String>,
}

impl Board {
    /// Begins with what the journal holds.
    pub(super) fn new(records: Vec<SampleRecord>) -> Board {
        let mut samples: HashMap<TaskId, Vec<SampleRecord>> = HashMap::new();
        for record in records {
            samples.entry(record.task_id.clone()).or_default().push(record);
        }
        let state = State { samples, failed: HashMap::new(), closed: None };
        Board { state: Mutex::new(state), changed: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Pins up a judged sample.
    pub(super) fn add(&self, record: SampleRecord) {
        self.lock().samples.entry(record.task_id.clone()).or_default().push(record);
        self.changed.notify_all();
    }

    /// One sample of `task` could not be judged.
    pub(super) fn fail(&self, task: &TaskId, why: String) {
        self.lock().failed.entry(task.clone()).or_insert(why);
        self.changed.notify_all();
    }

    /// Nothing more will come; whoever still waits is told why.
    pub(super) fn close(&self, why: &str) {
        self.lock().closed.get_or_insert_with(|| why.to_owned());
        self.changed.notify_all();
    }

    /// Which of the samples 0..n of `task` are missing.
    pub(super) fn missing(&self, task: &TaskId, n: u32) -> Vec<u32> {
        let state = self.lock();
        let samples = state.samples.get(task).map_or(&[][..], Vec::as_slice);
        (0..n).filter(|index| samples.iter().all(|record| record.sample != *index)).collect()
    }

    /// Waits until the samples 0..n of `task` are judged.
    ///
    /// # Errors
    /// What kept the harness from judging them.
    pub(super) fn wait(&self, task: &TaskId, n: u32) -> Result<Problem, String> {
        let mut state = self.lock();
        loop {
            if let Some(why) = state.failed.get(task) {
                return Err(why.clone());
            }
            let judged = state.samples.get(task).map_or(&[][..], Vec::as_slice);
            let judged: Vec<&SampleRecord> = judged.iter().filter(|record| record.sample < n).collect();
            if judged.len() as u32 == n {
                return Ok(Problem::count(task, judged));
            }
            if let Some(why) = &state.closed {
                return Err(why.clone());
            }
            state = self.changed.wait(state).unwrap_or_else(|poisoned| poisoned.into_inner());
        }
    }

    /// Every sample there is, in no order.
    pub(super) fn records(&self) -> Vec<SampleRecord> {
        self.lock().samples.values().flatten().cloned().collect()
    }
}
