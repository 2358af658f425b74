//! Values of a model's weights from what is stored of them.

use rayon::prelude::*;

use super::tensor::{DType, TensorInfo};
use super::{Checkpoint, CheckpointError, Trouble, unreadable};

/// What is stored of a weight.
pub(super) struct Stored<'c> {
    base: &'c TensorInfo,
    change: Option<Change<'c>>,
}

/// A low-rank change, and the checkpoint that says how strong it is.
struct Change<'c> {
    a: &'c TensorInfo, // (rank, in)
    b: &'c TensorInfo, // (out, rank)
    checkpoint: &'c Checkpoint,
}

/// A weight that can be read.
pub(super) struct Weight<'c> {
    pub(super) base: &'c TensorInfo,
    /// A (rank, in), B (out, rank), and alpha / rank.
    change: Option<(&'c TensorInfo, &'c TensorInfo, f32)>,
    head_dim: Option<usize>,
}

impl Checkpoint {
    /// What there is of a weight, in this file or its base.
    pub(super) fn find(&self, name: &str) -> Option<Stored<'_>> {
        let stored = match self.tied_output && name == "output.weight" {
            true => "tok_embeddings.weight",
            false => name,
        };
        let stem = stored.strip_suffix(".weight").unwrap_or(stored);
        let part = |part: &str| self.tensors.get(&format!("{stem}.{part}"));
        let own = self.tensors.get(stored).or_else(|| part("linear.weight"));
        let below = match own {
            Some(base) => Stored { base, change: None },
            None => self.base.as_ref()?.find(name)?,
        };
        match (part("lora_A"), part("lora_B")) {
            (Some(a), Some(b)) => Some(Stored { change: Some(Change { a, b, checkpoint: self }), ..below }),
            (None, None) => Some(below),
            // Half a change is none.
            _ => None,
        }
    }

    /// The type that loses no bit of a weight's f32 values: bf16 or f16 where it is stored in so few bits and no low-rank
    /// change is added, else f32.
    pub(crate) fn exact_dtype(&self, name: &str) -> DType {
        let Some(Stored { base, change: None }) = self.find(name) else { return DType::F32 };
        match base.dtype {
            DType::BF16 | DType::F8E4M3 | DType::F8E5M2 => DType::BF16,
            DType::F16 => DType::F16,
            _ => DType::F32,
        }
    }

    /// A weight and how it is made.
    pub(super) fn weight(&self, name: &str) -> Result<Weight<'_>, CheckpointError> {
        let missing = || unreadable(&self.path, format!("tensor {name}: there is no such tensor").into());
        let Stored { base, change } = self.find(name).ok_or_else(missing)?;
        let change = change.map(|change| Ok::<_, CheckpointError>((change.a, change.b, change.strength(name)?)));
        Ok(Weight { base, change: change.transpose()?, head_dim: self.head_dim })
    }
}

impl Stored<'_> {
    /// What has not the shape that it should have.
    pub(super) fn misshapen(&self, name: &str, shape: &[usize]) -> Option<String> {
        let differs = |name: &str, found: &[usize], wanted: &[usize]| {
            (found != wanted).then(|| format!("{name} {found:?} instead of {wanted:?}"))
        };
        differs(name, &self.base.shape, shape).or_else(|| {
            let (Change { a, b, .. }, [out, width]) = (self.change.as_ref()?, shape) else { return None };
            let rank = a.shape.first().copied().unwrap_or(0);
            let stem = name.strip_suffix(".weight").unwrap_or(name);
            let side =
                |side: &str, found: &[usize], wanted: [usize; 2]| differs(&format!("{stem}.{side}"), found, &wanted);
            side("lora_A", &a.shape, [rank, *width]).or_else(|| side("lora_B", &b.shape, [*out, rank]))
        })
    }
}

impl Change<'_> {
    /// alpha / rank.
    fn strength(&self, name: &str) -> Result<f32, CheckpointError> {
        let path = || self.checkpoint.path.clone();
        let lora = self.checkpoint.lora;
        let lacking = |what, flag| CheckpointError::LoraConfig { path: path(), what, flag };
        let rank = lora.rank.ok_or_else(|| lacking("rank", "--lora-rank"))?;
        let alpha = lora.alpha.ok_or_else(|| lacking("alpha", "--lora-alpha"))?;
        let stored = self.a.shape.first().copied().unwrap_or(0);
        if rank != stored || rank == 0 {
            let trouble = format!("its lora_config says rank {rank}, and the change of {name} has rank {stored}");
            return Err(unreadable(&path(), trouble.into()));
        }
        Ok((alpha / rank as f64) as f32)
    }
}

impl Weight<'_> {
    /// Whether the file holds its values in their order, to be read from anywhere on.
    pub(super) fn is_stored_as_wanted(&self) -> bool {
        let Weight { base, change, .. } = self;
        change.is_none() && !base.halves && base.is_contiguous() && base.readable().is_ok()
    }

    /// Memory for its values.
    pub(super) fn room(&self, name: &str) -> Result<Vec<f32>, CheckpointError> {
        let elements = self.base.elements();
        // Asked for first, since a lack of memory ends the program otherwise; zeroed by the system when it is touched.
        let reserved = self.base.readable().and_then(|()| {
            let reserved = Vec::<f32>::new().try_reserve_exact(elements);
            reserved.map_err(|_| format!("no memory for its {elements} elements").into())
        });
        reserved.map_err(|trouble| self.failed(self.base, name, trouble))?;
        Ok(vec![0.0; elements])
    }

    pub(super) fn failed(&self, tensor: &TensorInfo, name: &str, trouble: Trouble) -> CheckpointError {
        unreadable(&tensor.storage.source.path, trouble.of(&format!("tensor {name}")))
    }

    /// Reads it into `values`, which must have room for exactly all elements.
    pub(super) fn read_f32(&self, name: &str, values: &mut [f32]) -> Result<(), CheckpointError> {
        self.read_part(self.base, name, values)?;
        let Some((a, b, strength)) = self.change else { return Ok(()) };
        let (mut inner, mut outer) = (vec![0.0; a.elements()], vec![0.0; b.elements()]);
        self.read_part(a, &format!("{name} (lora_A)"), &mut inner)?;
        self.read_part(b, &format!("{name} (lora_B)"), &mut outer)?;
        let [rank, width] = a.shape[..] else { return Ok(()) };
        // One row of W: W_i += (alpha / rank) Σ_r B_ir A_r, in this order whatever the threads.
        values.par_chunks_exact_mut(width.max(1)).zip(outer.par_chunks_exact(rank.max(1))).for_each(|(row, b)| {
            for (a, b) in inner.chunks_exact(width).zip(b) {
                let factor = strength * b;
                row.iter_mut().zip(a).for_each(|(value, a)| *value += factor * a);
            }
        });
        Ok(())
    }

    /// One stored tensor, its rotary rows in interleaved order.
    fn read_part(&self, tensor: &TensorInfo, name: &str, values: &mut [f32]) -> Result<(), CheckpointError> {
        let mut read = || {
            if tensor.elements() != values.len() {
                return Err(format!("it has {} elements, not {}", tensor.elements(), values.len()).into());
            }
            tensor.read_f32(values)?;
            match (tensor.halves, self.head_dim) {
                (false, _) => Ok(()),
                (true, Some(head_dim)) => interleave(values, &tensor.shape, head_dim),
                (true, None) => Err("its rows are in Hugging Face's rotary order, and no head width was said".into()),
            }
        };
        read().map_err(|trouble| self.failed(tensor, name, trouble))
    }
}

/// Puts the rows of each head, (head_dim, width), from half-split rotary order into interleaved: rows i and
/// head_dim / 2 + i are a pair, and become 2i and 2i + 1.
fn interleave(values: &mut [f32], shape: &[usize], head_dim: usize) -> Result<(), Trouble> {
    let (&[rows, width], true) = (shape, head_dim >= 2 && head_dim.is_multiple_of(2)) else {
        return Err(format!("its shape {shape:?} is not that of rotary heads of width {head_dim}").into());
    };
    if !rows.is_multiple_of(head_dim) {
        return Err(format!("its {rows} rows are no whole heads of width {head_dim}").into());
    }
    if width == 0 {
        return Ok(());
    }
    values.par_chunks_exact_mut(head_dim * width).for_each_init(Vec::new, |halves, head| {
        halves.clear();
        halves.extend_from_slice(head);
        let (first, second) = halves.split_at(head_dim / 2 * width);
        let pairs = first.chunks_exact(width).zip(second.chunks_exact(width));
        for (pair, (first, second)) in head.chunks_exact_mut(2 * width).zip(pairs) {
            pair[..width].copy_from_slice(first);
            pair[width..].copy_from_slice(second);
        }
    });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_become_pairs() {
        // Two heads of width 4, rows of one element.
        let mut values: Vec<f32> = (0..8).map(|i| i as f32).collect();
        interleave(&mut values, &[8, 1], 4).unwrap();
        assert_eq!(values, [0.0, 2.0, 1.0, 3.0, 4.0, 6.0, 5.0, 7.0]);
        for (shape, head_dim) in [(&[8][..], 4), (&[8, 1], 3), (&[8, 1], 0), (&[6, 1], 4)] {
            assert!(interleave(&mut [0.0; 8], shape, head_dim).is_err());
        }
    }
}
