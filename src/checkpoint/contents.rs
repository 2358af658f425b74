//! What any file says of itself, in whatever format.

use std::collections::BTreeMap;

use serde_json::Value as Json;

use super::tensor::TensorInfo;

/// No weight has more axes; torch allows 64.
pub(super) const MAX_AXES: usize = 8;

/// What a checkpoint holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Every weight of a model, with low-rank changes beside them perhaps.
    Full,
    /// Low-rank changes to a base model's trunk, and whole extra heads. Such a file can be opened and inspected; its
    /// weights are of use only with those of its base model ([`Checkpoint::merge_onto`](super::Checkpoint::merge_onto)).
    Lora,
}

impl Kind {
    /// Low-rank changes of a matrix that is not there need a base model.
    pub(super) fn of(tensors: &BTreeMap<String, TensorInfo>) -> Kind {
        let lacks_base = |stem: &str| {
            ["weight", "linear.weight"].iter().all(|part| !tensors.contains_key(&format!("{stem}.{part}")))
        };
        match tensors.keys().filter_map(|name| name.strip_suffix(".lora_A")).any(lacks_base) {
            true => Kind::Lora,
            false => Kind::Full,
        }
    }
}

/// How strong low-rank changes are: a matrix becomes W + (alpha / rank) B A (Hu et al. 2021, arXiv 2106.09685, section 4.1).
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Lora {
    /// Rows of A.
    pub rank: Option<usize>,
    /// The numerator.
    pub alpha: Option<f64>,
}

impl Lora {
    /// From the trainers' `lora_config`, or PEFT's.
    pub(super) fn from_json(config: &Json) -> Lora {
        let of = |keys: [&str; 2]| keys.iter().find_map(|key| config.get(key)?.as_f64());
        let rank = of(["rank", "r"]).filter(|rank| rank.fract() == 0.0 && *rank > 0.0);
        Lora { rank: rank.map(|rank| rank as usize), alpha: of(["alpha", "lora_alpha"]) }
    }
}

/// Everything but the tensors' values.
pub(super) struct Contents {
    pub(super) kind: Kind,
    pub(super) epoch: Option<f64>,
    pub(super) train_metrics: BTreeMap<String, f64>,
    pub(super) val_metrics: BTreeMap<String, f64>,
    pub(super) config: Json,
    pub(super) lora: Lora,
    pub(super) metadata: BTreeMap<String, String>,
    pub(super) tensors: BTreeMap<String, TensorInfo>,
}
