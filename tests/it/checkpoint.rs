//! Checkpoints written by PyTorch are read as PyTorch reads them; bad files give errors.
//!
//! `tests/data/checkpoints/make.py` wrote the good ones; `bad` makes the bad ones.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod bad;
mod hostile;
mod peer;
mod variants;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use passk::checkpoint::{self, Checkpoint, CheckpointError, Kind};
use serde_json::Value as Json;

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/checkpoints")
}

fn layout(name: &str) -> PathBuf {
    fixtures().join(format!("layouts/{name}.pt"))
}

fn json(path: &Path) -> Json {
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

/// The error names the file and says these words.
fn assert_says(error: &CheckpointError, path: &Path, words: &[&str]) {
    let message = error.to_string();
    let all = message.contains(path.to_str().unwrap()) && words.iter().all(|word| message.contains(word));
    assert!(all, "{message:?} should name {path:?} and say {words:?}");
}

// --- good files ---------------------------------------------------------------------------------

/// JSON has no infinity: it stands as text there.
fn metrics(expected: &Json) -> BTreeMap<String, f64> {
    let number = |value: &Json| match value {
        Json::String(text) => text.parse().unwrap(),
        value => value.as_f64().unwrap(),
    };
    let entries = expected.as_object().unwrap().iter();
    entries.map(|(name, value)| (name.clone(), number(value))).collect()
}

fn check_layout(name: &str, expected: &Json) {
    let checkpoint = Checkpoint::open(&layout(name)).unwrap();
    let kind = match checkpoint.kind {
        Kind::Full => "full",
        Kind::Lora => "lora",
    };
    assert_eq!(kind, expected["kind"], "{name}");
    assert_eq!(checkpoint.epoch, expected["epoch"].as_f64(), "{name}");
    assert_eq!(checkpoint.train_metrics, metrics(&expected["train_metrics"]), "{name}");
    assert_eq!(checkpoint.val_metrics, metrics(&expected["val_metrics"]), "{name}");
    assert_eq!(checkpoint.config, expected["config"], "{name}");
    assert_eq!(checkpoint.model_path(), expected["config"]["model"]["path"].as_str(), "{name}");
    assert_eq!(Some(checkpoint.parameters()), expected["parameters"].as_u64(), "{name}");
    assert_eq!(checkpoint.stem(), name);

    let tensors = expected["tensors"].as_object().unwrap();
    assert_eq!(checkpoint.tensors.len(), tensors.len(), "{name}");
    for (tensor, expected) in tensors {
        let info = &checkpoint.tensors[tensor];
        assert_eq!(info.dtype.to_string(), expected["dtype"], "{name}: {tensor}");
        assert_eq!(Json::from(info.shape.clone()), expected["shape"], "{name}: {tensor}");
        let values = expected["values"].as_array().unwrap().iter();
        let values: Vec<f32> = values.map(|value| value.as_f64().unwrap() as f32).collect();
        assert_eq!(checkpoint.read_f32(tensor).unwrap(), values, "{name}: {tensor}");
    }
}

#[test]
fn layouts_are_read_as_pytorch_reads_them() {
    let expected = json(&fixtures().join("layouts/expected.json"));
    let expected = expected.as_object().unwrap();
    assert_eq!(fs::read_dir(fixtures().join("layouts")).unwrap().count(), expected.len() + 1);
    for (name, expected) in expected {
        check_layout(name, expected);
    }
}

#[test]
fn a_whole_model_is_described() {
    let path = fixtures().join("heads4/checkpoint_best.pt");
    let checkpoint = Checkpoint::open(&path).unwrap();
    assert_eq!(checkpoint.epoch, Some(3.0));
    assert_eq!(checkpoint.val_metrics["val_loss"], 1.5);
    assert_eq!(checkpoint.model_path(), Some("tests/data/checkpoints/heads4/model"));
    assert_eq!(checkpoint.tensors["layers.1.attention.wq.weight"].shape, [32, 32]);
    assert_eq!(checkpoint.tensors["extra_heads.2.feed_forward.w2.weight"].shape, [32, 48]);
    let digest = blake3::hash(&fs::read(&path).unwrap()).to_hex();
    assert_eq!(checkpoint.digest(&mut |_, _| {}).unwrap(), digest.as_str());
    let error = checkpoint.read_f32("layers.9.ffn_norm.weight").unwrap_err().to_string();
    assert!(error.contains("layers.9.ffn_norm.weight") && error.contains("no such tensor"), "{error}");
}

#[test]
fn weights_are_held_against_a_model() {
    let checkpoint = Checkpoint::open(&layout("value_head")).unwrap();
    let right = [("norm.weight", vec![8]), ("tok_embeddings.weight", vec![5, 8])];
    let other = [("tok_embeddings.weight", vec![8, 5]), ("output.weight", vec![5, 8])];
    let none = [];
    type Weights<'a> = &'a [(&'a str, Vec<usize>)];
    let cases: [(Weights, &[&str]); 3] = [
        (&right, &[]),
        (
            &other,
            &[
                "1 missing: output.weight",
                "1 unexpected: norm.weight",
                "1 misshapen: tok_embeddings.weight [5, 8] instead of [8, 5]",
            ],
        ),
        (&none, &["2 unexpected: norm.weight, tok_embeddings.weight"]),
    ];
    for (expected, words) in cases {
        let expected: Vec<_> = expected.iter().map(|(name, shape)| (name.to_string(), shape.clone())).collect();
        match checkpoint.expect(&expected) {
            Ok(()) => assert!(words.is_empty()),
            Err(error) => assert_says(&error, &layout("value_head"), words),
        }
    }
    // Of many only the first few are listed.
    let many: Vec<_> = (0..100).map(|i| (format!("layers.{i:03}"), vec![1])).collect();
    let error = checkpoint.expect(&many).unwrap_err();
    assert_says(&error, &layout("value_head"), &["100 missing: layers.000, layers.001, layers.002, …;"]);
}

// --- discovery ----------------------------------------------------------------------------------

fn storage(files: &[&str]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for file in files {
        let path = folder.path().join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "").unwrap();
    }
    folder
}

#[test]
fn the_best_checkpoint_of_a_pipeline() {
    let storage = storage(&["baseline/checkpoint_best.pt", "critic/checkpoint_epoch_2.pt", "critic/log.txt"]);
    let dir = storage.path();
    let best = checkpoint::best(dir, "baseline").unwrap();
    assert_eq!(best, dir.join("baseline/checkpoint_best.pt"));

    let error = checkpoint::best(dir, "rho1").unwrap_err();
    assert_says(&error, dir, &["unknown pipeline `rho1`", "has baseline/, critic/"]);
    let error = checkpoint::best(dir, "critic").unwrap_err();
    assert_says(&error, &dir.join("critic/checkpoint_best.pt"), &["has checkpoint_epoch_2.pt"]);
    let error = checkpoint::best(&dir.join("nowhere"), "critic").unwrap_err();
    assert_says(&error, &dir.join("nowhere"), &["does not exist"]);
}

#[test]
fn matches_come_in_epoch_order() {
    let names = ["epoch_10", "best", "epoch_9", "final", "epoch_100", "epoch_9_step_5"];
    let files = names.map(|name| format!("baseline/checkpoint_{name}.pt"));
    let storage = storage(&files.each_ref().map(String::as_str));
    let check = |pattern: &str, expected: &[&str]| {
        let found = checkpoint::matching(storage.path(), "baseline", pattern).unwrap();
        let expected = expected.iter().map(|name| storage.path().join(format!("baseline/checkpoint_{name}.pt")));
        assert_eq!(found, expected.collect::<Vec<_>>(), "{pattern}");
    };
    check("checkpoint_epoch_*.pt", &["epoch_9", "epoch_9_step_5", "epoch_10", "epoch_100"]);
    check("*.pt", &["epoch_9", "epoch_9_step_5", "epoch_10", "epoch_100", "best", "final"]);
    check("*_[bf]*.pt", &["best", "final"]);

    let error = checkpoint::matching(storage.path(), "baseline", "nothing_*.pt").unwrap_err();
    assert_says(&error, &storage.path().join("baseline/nothing_*.pt"), &["checkpoint_epoch_9.pt"]);
    let error = checkpoint::matching(storage.path(), "baseline", "a[").unwrap_err().to_string();
    assert!(error.contains("failed to read the pattern `a[`"), "{error}");
}

#[test]
fn a_missing_file_lists_what_is_there() {
    let storage = storage(&["baseline/checkpoint_best.pt", "baseline/notes.txt"]);
    let dir = storage.path();
    let cases: [(&str, &[&str]); 4] = [
        ("baseline/checkpoint_bset.pt", &["has checkpoint_best.pt"]),
        ("basline/checkpoint_best.pt", &["has baseline/"]),
        ("a/b/c.pt", &["has baseline/"]),
        ("baseline", &["it is a folder", "has checkpoint_best.pt"]),
    ];
    for (path, words) in cases {
        let path = dir.join(path);
        assert_says(&checkpoint::existing(&path).unwrap_err(), &path, words);
        assert_says(&Checkpoint::open(&path).unwrap_err(), &path, words);
    }
    let file = dir.join("baseline/checkpoint_best.pt");
    assert_eq!(checkpoint::existing(&file).unwrap(), file);
}
