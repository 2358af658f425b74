//! One model in every way in which users keep models: described as it was saved, with PyTorch's logits.
//!
//! `tests/data/checkpoints/variants.py` wrote the files.

use std::collections::BTreeMap;
use std::path::PathBuf;

use passk::checkpoint::{Checkpoint, CheckpointError, Kind};
use passk::model::{Config, Heads, Model};
use serde_json::Value as Json;

use super::{fixtures, json};

fn folder() -> PathBuf {
    fixtures().join("variants")
}

/// As the runner puts a checkpoint together: low-rank changes on their base, then what the model's shape tells.
fn open(name: &str) -> (Checkpoint, Config) {
    let mut checkpoint = Checkpoint::open(&folder().join(name)).unwrap();
    if checkpoint.kind == Kind::Lora {
        checkpoint.merge_onto(Checkpoint::open_folder(&folder().join("base")).unwrap());
    }
    let config = Config::from_folder(&folder().join("base")).unwrap();
    checkpoint.fit(config.head_dim(), config.tied_output);
    (checkpoint, config)
}

fn logits(checkpoint: &Checkpoint, config: Config, ids: &[u32]) -> Vec<f32> {
    Model::load(checkpoint, config, Heads::All).unwrap().all_logits(ids).unwrap().concat()
}

fn flat(json: &Json) -> Vec<f32> {
    match json {
        Json::Array(members) => members.iter().flat_map(flat).collect(),
        number => vec![number.as_f64().unwrap() as f32],
    }
}

#[test]
fn every_variant_has_pytorchs_metadata_and_logits() {
    let expected = json(&folder().join("expected.json"));
    let ids = ids(&expected["ids"]);
    let files = expected["files"].as_object().unwrap();
    assert_eq!(files.len(), 26);
    for (name, expected) in files {
        let (mut checkpoint, config) = open(name);
        assert_eq!(format!("{:?}", checkpoint.kind).to_lowercase(), expected["kind"], "{name}");
        assert_eq!(checkpoint.epoch, expected["epoch"].as_f64(), "{name}");
        for (metrics, key) in [(&checkpoint.train_metrics, "train_metrics"), (&checkpoint.val_metrics, "val_metrics")] {
            let wanted: BTreeMap<String, f64> = serde_json::from_value(expected[key].clone()).unwrap();
            assert_eq!(*metrics, wanted, "{name}");
        }
        assert_eq!(checkpoint.config, expected["config"], "{name}");

        for (what, flag) in [("rank", "--lora-rank"), ("alpha", "--lora-alpha")] {
            let lacks = name == "lora_without_rank.pt" || name == "lora_without_alpha.pt" && what == "alpha";
            if lacks && !(what == "alpha" && checkpoint.lora.rank.is_none()) {
                let error = checkpoint.expect(&config.tensors()).unwrap_err();
                assert!(
                    matches!(error, CheckpointError::LoraConfig { .. }) && error.to_string().contains(flag),
                    "{error}"
                );
                checkpoint.lora.rank = Some(2);
            }
        }
        if name.starts_with("lora_without") {
            checkpoint.lora.alpha = Some(6.0);
        }
        let ours = logits(&checkpoint, config, &ids);
        let theirs = flat(&expected["logits"]);
        assert_eq!(ours.len(), theirs.len(), "{name}");
        let worst = ours.iter().zip(&theirs).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(worst < 1e-4, "{name}: off by {worst:e}");
    }
}

/// Weights of 16 bits are kept in 16, but where a low-rank change makes them others.
#[test]
fn weights_take_the_memory_that_they_are_stored_in() {
    let bytes = |checkpoint: &Checkpoint, config: Config| Model::load(checkpoint, config, Heads::All).unwrap().bytes();
    let (full, config) = open("full.pt");
    let norm = config.dim * size_of::<f32>(); // a vector, in f32 always
    let matrices = bytes(&full, config) - norm;
    for name in ["bf16.pt", "f16.pt", "bf16.safetensors"] {
        let (narrow, config) = open(name);
        assert_eq!(bytes(&narrow, config) - norm, matrices / 2, "{name}");
    }
    let (mut changed, config) = open("lora.pt");
    changed.merge_onto(open("bf16.pt").0);
    changed.fit(config.head_dim(), config.tied_output);
    // It changes queries and values of two blocks, and has the third itself, in f32.
    let projections = (config.dim + 2 * config.n_kv_heads * config.head_dim()) * config.dim;
    let block = projections + (config.dim + 3 * config.hidden_dim) * config.dim;
    assert_eq!(bytes(&changed, config) - norm, matrices / 2 + (2 * projections + block) * 2);
}

/// Read a few rows at a time and in another order: views, low-rank changes and rotary rows in halves are among them.
#[test]
fn rows_are_the_same_values() {
    let expected = json(&folder().join("expected.json"));
    for name in expected["files"].as_object().unwrap().keys() {
        let (mut checkpoint, config) = open(name);
        (checkpoint.lora.rank, checkpoint.lora.alpha) = (Some(2), Some(6.0));
        for (weight, shape) in config.tensors() {
            let width: usize = shape[1..].iter().product();
            let mut values = vec![f32::NAN; shape[0] * width];
            let rows = checkpoint.rows(&weight).unwrap();
            for (piece, values) in values.chunks_mut(3 * width).enumerate().rev() {
                rows.read(3 * piece, values).unwrap();
            }
            let beyond = rows.read(shape[0], &mut vec![0.0; width]).unwrap_err().to_string();
            assert!(beyond.contains(&weight) && beyond.contains("no rows from"), "{beyond}");
            rows.finish().unwrap();
            assert_eq!(values, checkpoint.read_f32(&weight).unwrap(), "{name}: {weight}");
        }
    }
}

#[test]
fn low_rank_changes_are_refused_where_they_do_not_fit() {
    let alone = Checkpoint::open(&folder().join("lora.pt")).unwrap();
    let config = Config::from_folder(&folder().join("base")).unwrap();
    let error = alone.expect(&config.tensors()).unwrap_err().to_string();
    assert!(error.contains("lora.pt") && error.contains("base model was not opened"), "{error}");

    let (mut other_rank, config) = open("lora.pt");
    other_rank.lora.rank = Some(4);
    let error = other_rank.expect(&config.tensors()).unwrap_err().to_string();
    assert!(error.contains("says rank 4, and the change of layers.0.attention.wq.weight has rank 2"), "{error}");
}

// --- Hugging Face folders ------------------------------------------------------------------------------

pub(super) fn ids(json: &Json) -> Vec<u32> {
    flat(json).into_iter().map(|id| id as u32).collect()
}

pub(super) fn hugging_face(name: &str) -> (Model, Json) {
    let folder = fixtures().join("hf").join(name);
    let mut checkpoint = Checkpoint::open(&folder).unwrap();
    let config = Config::from_folder(&folder).unwrap();
    checkpoint.fit(config.head_dim(), config.tied_output);
    let model = Model::load(&checkpoint, config, Heads::All).unwrap();
    (model, json(&fixtures().join("hf/expected.json"))[name].clone())
}

fn check_generation(name: &str) {
    let (model, expected) = hugging_face(name);
    let cases = expected["cases"].as_array().unwrap();
    assert_eq!(cases.len(), 10);
    for (at, case) in cases.iter().enumerate() {
        let (prompt, theirs) = (ids(&case["prompt"]), ids(&case["tokens"]));
        assert_eq!(crate::agreement::greedy(&model, &prompt, theirs.len()), theirs, "{name}: prompt {at}");
        if at == 5 {
            let logits = model.all_logits(&prompt).unwrap().concat();
            let last = &logits[logits.len() - model.config().vocab_size..];
            let worst = last.iter().zip(flat(&expected["logits"])).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(worst < 1e-4, "{name}: off by {worst:e}");
        }
    }
}

#[test]
fn a_sharded_folder_with_scaled_rotation_continues_as_transformers_does() {
    check_generation("llama3");
}

#[test]
fn a_folder_with_a_tied_output_continues_as_transformers_does() {
    check_generation("tied");
    // It is kept once.
    let (model, _) = hugging_face("tied");
    let config = model.config();
    let elements = config.tensors().iter().map(|(_, shape)| shape.iter().product::<usize>()).sum::<usize>();
    assert!(model.bytes() <= (elements - config.vocab_size * config.dim) * size_of::<f32>());
}

#[test]
fn an_index_is_held_to_its_word() {
    let from = fixtures().join("hf/llama3");
    let check = |change: &dyn Fn(&mut Json), words: &str| {
        let folder = tempfile::tempdir().unwrap();
        for entry in std::fs::read_dir(&from).unwrap() {
            let path = entry.unwrap().path();
            std::fs::copy(&path, folder.path().join(path.file_name().unwrap())).unwrap();
        }
        let path = folder.path().join("model.safetensors.index.json");
        let mut index = json(&path);
        change(&mut index["weight_map"]);
        std::fs::write(&path, index.to_string()).unwrap();
        let error = Checkpoint::open(folder.path()).unwrap_err().to_string();
        assert!(error.contains(words) && error.contains(folder.path().to_str().unwrap()), "{words}: {error}");
    };
    check(&|map| map["model.norm.weight"] = "../model.safetensors".into(), "is not the name of a file beside it");
    check(&|map| map["model.norm.weight"] = "..".into(), "is not the name of a file beside it");
    check(&|map| map["model.norm.weight"] = "gone.safetensors".into(), "No such file");
    check(&|map| map["model.more.weight"] = "model-00001-of-00004.safetensors".into(), "model.more.weight is not in");
    check(&|map| drop(map.as_object_mut().unwrap().remove("model.norm.weight")), "which it does not list");
    check(&|map| *map = Json::Array(vec![]), "invalid type");
    check(&|map| *map = serde_json::json!({}), "lists no tensors");
}
