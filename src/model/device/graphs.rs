//! Steps of few rows, recorded once for each shape and replayed: CUDA's graphs.
//!
//! At a few rows a step is hundreds of kernels, each of which takes less time than its launch. A recording repeats all of
//! a segment's launches as one. It holds addresses and sizes, so a segment's inputs and its result lie in tensors that
//! stay where they are, and there is a recording for each shape. Trunk and heads are recorded; logits and draws are but
//! a few launches.
//!
//! No recording is believed unseen. The first step of a shape runs as it stands, which loads whatever it needs. The
//! second is recorded, replayed, and then run as it stands once more: it writes the same keys and values to the same
//! slots, and its result, which is the one that is used, must equal the recording's bit for bit. Where that fails, or
//! recording does, nothing is replayed any more: a wrong number is worse than a slow one.

use std::collections::HashMap;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use candle_core::{DType, Device, Result, Tensor, TensorId};

use serde::Serialize;

use super::ops::{Fill, Given, Inputs, Plan};

/// The most rows of a step that is recorded. Products of more rows take longer than their launches.
pub(super) const MOST_ROWS: usize = 256;

/// A part of a step, in one shape. Rows are counted with their padding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Segment {
    /// From tokens to the trunk's output.
    Trunk {
        /// Rows.
        rows: usize,
    },
    /// From the trunk's output to a head's.
    Head {
        /// The head.
        head: usize,
        /// Rows.
        rows: usize,
        /// Of them, those whose output is wanted.
        picked: usize,
    },
}

/// What can record a device's work.
pub(super) trait Recorder {
    /// Runs what is to be recorded the next time.
    fn prepare(&self, step: &dyn Fn() -> Result<()>) -> Result<()>;
    /// Records what a step does, without doing it.
    fn record(&self, step: &dyn Fn() -> Result<()>) -> Result<Box<dyn Recording>>;
}

/// What was recorded.
pub(super) trait Recording {
    /// Does it. `step` is what was recorded, over the same tensors.
    fn replay(&self, step: &dyn Fn() -> Result<()>) -> Result<()>;
}

/// Where nothing can be recorded: a step is run again instead. So that all around it is tested without a GPU.
pub(super) struct Again;

impl Recorder for Again {
    fn prepare(&self, step: &dyn Fn() -> Result<()>) -> Result<()> {
        step()
    }

    fn record(&self, _: &dyn Fn() -> Result<()>) -> Result<Box<dyn Recording>> {
        Ok(Box::new(Again))
    }
}

impl Recording for Again {
    fn replay(&self, step: &dyn Fn() -> Result<()>) -> Result<()> {
        step()
    }
}

/// How a segment was run.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Ran {
    /// As it stands.
    Plainly,
    /// So too, and a recording of it holds.
    Recorded,
    /// By replaying.
    Replayed,
    /// As it stands, for it cannot be recorded.
    Refused(String),
}

/// The recordings that there are; of a shape that was seen once, none yet.
pub(super) struct Recordings {
    recorder: Box<dyn Recorder>,
    known: HashMap<Segment, Option<Box<dyn Recording>>>,
}

impl Recordings {
    pub(super) fn new(recorder: Box<dyn Recorder>) -> Recordings {
        Recordings { recorder, known: HashMap::new() }
    }

    /// Leaves the result of `step` in `out`. Whatever it reads lies where it lay before.
    pub(super) fn run(&mut self, segment: Segment, out: &Tensor, step: &dyn Fn() -> Result<Tensor>) -> Result<Ran> {
        let whole = || out.slice_set(&step()?, 0, 0);
        match self.known.get(&segment) {
            None => {
                self.recorder.prepare(&whole)?;
                self.known.insert(segment, None);
                Ok(Ran::Plainly)
            }
            Some(Some(recording)) => recording.replay(&whole).map(|()| Ran::Replayed),
            Some(None) => {
                // What lies in `out` may be the right result of a step before.
                out.zero_set()?;
                let replayed = self.recorder.record(&whole).and_then(|recording| {
                    recording.replay(&whole)?;
                    Ok((recording, bits(out)?))
                });
                whole()?;
                Ok(match replayed {
                    Ok((recording, found)) if found == bits(out)? => {
                        self.known.insert(segment, Some(recording));
                        Ran::Recorded
                    }
                    Ok(_) => Ran::Refused(format!("a replay of {segment:?} came to another result")),
                    Err(error) => Ran::Refused(error.to_string().lines().next().unwrap_or_default().to_owned()),
                })
            }
        }
    }
}

fn bits(x: &Tensor) -> Result<Vec<u32>> {
    Ok(x.to_dtype(DType::F32)?.flatten_all()?.to_vec1::<f32>()?.into_iter().map(f32::to_bits).collect())
}

/// Whether a model's steps are replayed, and what came of it.
#[derive(Default)]
pub(super) struct Replaying {
    on: bool,
    recordings: AtomicUsize,
    replays: AtomicUsize,
    refused: OnceLock<String>,
}

/// What became of recording a model's steps.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Replays {
    /// Shapes of which a recording holds.
    pub recordings: usize,
    /// How often one was replayed.
    pub replays: usize,
    /// Why nothing is replayed any more.
    pub refused: Option<String>,
}

impl Replaying {
    pub(super) fn new(on: bool) -> Replaying {
        Replaying { on, ..Replaying::default() }
    }

    /// Whether steps are to be recorded and replayed.
    pub(super) fn wanted(&self) -> bool {
        self.on && self.refused.get().is_none()
    }

    pub(super) fn note(&self, ran: Ran) {
        match ran {
            Ran::Plainly => {}
            Ran::Recorded => _ = self.recordings.fetch_add(1, Ordering::Relaxed),
            Ran::Replayed => _ = self.replays.fetch_add(1, Ordering::Relaxed),
            Ran::Refused(why) => _ = self.refused.set(why), // the first reason is kept
        }
    }

    pub(super) fn so_far(&self) -> Replays {
        Replays {
            recordings: self.recordings.load(Ordering::Relaxed),
            replays: self.replays.load(Ordering::Relaxed),
            refused: self.refused.get().cloned(),
        }
    }
}

/// What recordings point to. They hold for the model and the cache that they were made with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Made {
    pub(super) model: TensorId,
    pub(super) cache: TensorId,
}

/// Recordings with the tensors that they read and write.
pub(super) struct Graphs {
    pub(super) made: Made,
    recordings: Recordings,
    ids: Tensor,    // (MOST_ROWS)
    chosen: Tensor, // (MOST_ROWS)
    plan: Tensor,   // (most numbers)
    trunk: Tensor,  // (MOST_ROWS, dim), f32
    x: Tensor,      // (MOST_ROWS, dim), f32
}

/// Numbers that a plan of so few rows has at most: see [`Places`](super::ops::Places).
pub(super) fn most_numbers(blocks_of_a_sequence: usize) -> usize {
    // A prompt and a completion each begin a block of their own, and completions grow by drafts.
    MOST_ROWS * (2 + 5 + 1 + blocks_of_a_sequence + 3)
}

impl Graphs {
    /// Room for `numbers` numbers of a plan and rows of `dim`.
    pub(super) fn new(
        made: Made,
        recorder: Box<dyn Recorder>,
        numbers: usize,
        dim: usize,
        device: &Device,
    ) -> Result<Graphs> {
        let ids = || Tensor::zeros(MOST_ROWS, DType::U32, device);
        let rows = || Tensor::zeros((MOST_ROWS, dim), DType::F32, device);
        Ok(Graphs {
            made,
            recordings: Recordings::new(recorder),
            ids: ids()?,
            chosen: ids()?,
            plan: Tensor::zeros(numbers, DType::U32, device)?,
            trunk: rows()?,
            x: rows()?,
        })
    }

    /// Bytes of their tensors.
    pub(super) fn bytes(dim: usize, numbers: usize) -> usize {
        4 * (2 * MOST_ROWS + numbers + 2 * MOST_ROWS * dim)
    }

    /// Whether this is what the trunk's recordings leave, and those of heads read: (MOST_ROWS, dim).
    pub(super) fn is_trunk(&self, x: &Tensor) -> bool {
        self.trunk.id() == x.id()
    }

    /// Whether there is room for a segment's inputs.
    pub(super) fn fits(&self, inputs: &Inputs) -> bool {
        inputs.ids.len() <= MOST_ROWS && inputs.numbers.len() <= self.plan.elem_count()
    }

    /// Runs a segment over inputs that fit. The result is overwritten by the next: a trunk's whole tensor, or a head's
    /// picked rows, each with padding.
    pub(super) fn run(
        &mut self,
        segment: Segment,
        inputs: &Inputs,
        step: &dyn Fn(&Given) -> Result<Tensor>,
    ) -> Result<(Tensor, Ran)> {
        let put = |to: &Tensor, numbers: &[u32]| {
            to.inplace_op1(&Fill(numbers))?;
            to.narrow(0, 0, numbers.len())
        };
        self.plan.inplace_op1(&Fill(&inputs.numbers))?;
        let given = Given {
            ids: put(&self.ids, &inputs.ids)?,
            chosen: inputs.chosen.as_deref().map(|chosen| put(&self.chosen, chosen)).transpose()?,
            plan: Plan::Numbers(self.plan.clone(), inputs.places),
        };
        let (written, result) = match segment {
            Segment::Trunk { rows } => (self.trunk.narrow(0, 0, rows)?, self.trunk.clone()),
            Segment::Head { picked, .. } => (self.x.narrow(0, 0, picked)?, self.x.narrow(0, 0, picked)?),
        };
        let ran = self.recordings.run(segment, &written, &|| step(&given))?;
        Ok((result, ran))
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::rc::Rc;

    use candle_core::bail;

    use super::*;

    const SEGMENT: Segment = Segment::Trunk { rows: 2 };

    /// How a recorder misbehaves.
    #[derive(Clone, Copy, PartialEq)]
    enum Fault {
        None,
        CannotRecord,
        ReplaysNothing,
        ReplaysAnother,
    }

    /// Records what a step leaves in `out` when it reads `input`, with a fault.
    struct Tape {
        fault: Fault,
        replays: Rc<Cell<usize>>,
    }

    impl Recorder for Tape {
        fn prepare(&self, step: &dyn Fn() -> Result<()>) -> Result<()> {
            step()
        }

        fn record(&self, _: &dyn Fn() -> Result<()>) -> Result<Box<dyn Recording>> {
            if self.fault == Fault::CannotRecord {
                bail!("no capture\nbacktrace")
            }
            Ok(Box::new(Tape { fault: self.fault, replays: Rc::clone(&self.replays) }))
        }
    }

    impl Recording for Tape {
        fn replay(&self, step: &dyn Fn() -> Result<()>) -> Result<()> {
            self.replays.set(self.replays.get() + 1);
            match self.fault {
                Fault::ReplaysNothing => Ok(()),
                _ => step(),
            }
        }
    }

    fn row(value: f32) -> Tensor {
        Tensor::full(value, (2, 3), &Device::Cpu).unwrap()
    }

    /// Three steps of one shape with a recorder that has a fault: how they ran, and what they left.
    fn three(fault: Fault) -> (Vec<Ran>, Vec<f32>, usize) {
        let replays = Rc::new(Cell::new(0));
        let mut recordings = Recordings::new(Box::new(Tape { fault, replays: Rc::clone(&replays) }));
        let (out, calls) = (row(7.0), Cell::new(0));
        let (mut ran, mut left) = (Vec::new(), Vec::new());
        for value in [1f32, 2.0, 3.0] {
            let step = || {
                calls.set(calls.get() + 1);
                // The second call is what the first replay runs.
                let off = fault == Fault::ReplaysAnother && calls.get() == 2;
                Ok(row(if off { value.next_up() } else { value }))
            };
            ran.push(recordings.run(SEGMENT, &out, &step).unwrap());
            left.push(out.to_vec2::<f32>().unwrap()[1][2]);
            if matches!(ran.last(), Some(Ran::Refused(_))) {
                break;
            }
        }
        (ran, left, replays.get())
    }

    #[test]
    fn a_shape_runs_then_is_recorded_then_replayed() {
        let (ran, left, replays) = three(Fault::None);
        assert_eq!(ran, [Ran::Plainly, Ran::Recorded, Ran::Replayed]);
        assert_eq!((left, replays), (vec![1.0, 2.0, 3.0], 2));
    }

    /// Whatever a recorder does, the step's own result is what is left.
    #[test]
    fn a_recording_that_is_not_the_step_is_refused() {
        for (fault, why) in [
            (Fault::CannotRecord, "no capture"),
            (Fault::ReplaysNothing, "a replay of Trunk { rows: 2 } came to another result"),
            (Fault::ReplaysAnother, "a replay of Trunk { rows: 2 } came to another result"),
        ] {
            let (ran, left, _) = three(fault);
            assert_eq!(ran, [Ran::Plainly, Ran::Refused(why.to_owned())]);
            assert_eq!(left, [1.0, 2.0]);
        }
    }

    /// A segment reads the inputs of its own step, from places that stay, whatever lay there before.
    #[test]
    fn inputs_are_those_of_the_step() {
        use crate::model::device::ops::Places;
        let made = Made { model: row(0.0).id(), cache: row(0.0).id() };
        let mut graphs = Graphs::new(made, Box::new(Again), 8, 3, &Device::Cpu).unwrap();
        let places = Places { queries: 0, order: 0, blocks: 0, picked: 2 };
        let inputs = |ids: &[u32], count| Inputs { ids: ids.to_vec(), chosen: None, numbers: vec![1; count], places };
        let step = |given: &Given| given.ids.to_dtype(DType::F32)?.unsqueeze(1)?.broadcast_as((2, 3))?.contiguous();
        for ids in [[1, 2], [3, 4], [5, 6], [7, 8]] {
            let (x, _) = graphs.run(SEGMENT, &inputs(&ids, 8), &step).unwrap();
            assert!(graphs.is_trunk(&x));
            let x = x.to_dtype(DType::U32).unwrap().to_vec2::<u32>().unwrap();
            assert_eq!([x[0][0], x[1][2], x[2][0]], [ids[0], ids[1], 0]);
        }
        assert!(graphs.fits(&inputs(&[0; MOST_ROWS], 8)));
        assert!(!graphs.fits(&inputs(&[0; MOST_ROWS + 1], 8)) && !graphs.fits(&inputs(&[0], 9)));
    }

    #[test]
    fn shapes_have_recordings_of_their_own() {
        let mut recordings = Recordings::new(Box::new(Again));
        let mut run = |segment| recordings.run(segment, &row(0.0), &|| Ok(row(1.0))).unwrap();
        let head = |head, picked| Segment::Head { head, rows: 2, picked };
        assert_eq!([run(SEGMENT), run(SEGMENT)], [Ran::Plainly, Ran::Recorded]);
        assert_eq!([run(head(0, 2)), run(head(1, 2)), run(head(0, 1))], [Ran::Plainly, Ran::Plainly, Ran::Plainly]);
        assert_eq!([run(head(1, 2)), run(SEGMENT)], [Ran::Recorded, Ran::Replayed]);
    }
}
