//! The model agrees with PyTorch: logits of all heads, and what greedy decoding makes of them.

use std::path::PathBuf;

use passk::checkpoint::Checkpoint;
use passk::model::{Config, Heads, Model, Picked, Row, Span, Threads};
use serde::Deserialize;

/// Written by `tests/data/checkpoints/make.py` from a PyTorch forward.
#[derive(Deserialize)]
struct Expected {
    ids: Vec<u32>,
    /// (heads, positions, vocab)
    logits: Vec<Vec<Vec<f32>>>,
    prompt: Vec<u32>,
    greedy: Vec<u32>,
}

fn fixture(name: &str) -> (Model, Expected) {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data/checkpoints").join(name);
    let checkpoint = Checkpoint::open(&folder.join("checkpoint_best.pt")).unwrap();
    let config = Config::from_folder(&folder.join("model")).unwrap();
    let expected = std::fs::read_to_string(folder.join("expected.json")).unwrap();
    (Model::load(&checkpoint, config, Heads::All).unwrap(), serde_json::from_str(&expected).unwrap())
}

/// Greedy decoding through the cache, one token a step.
pub(crate) fn greedy(model: &Model, prompt: &[u32], tokens: usize) -> Vec<u32> {
    let mut cache = model.cache();
    let mut work = model.workspace(Threads::All);
    let (prefix, mut own) = (Span::default(), Span::default());
    let mut ids = prompt.to_vec();
    let mut fed = 0;
    while ids.len() < prompt.len() + tokens {
        cache.grow(&mut own, ids.len() - fed);
        let row = |position: usize| Row { token: ids[position], position, prefix: &prefix, own: &own };
        let rows: Vec<Row> = (fed..ids.len()).map(row).collect();
        model.trunk(&rows, &mut cache, &mut work).unwrap();
        model.run_heads(0..1, &rows, Picked::All, Picked::These(&[rows.len() - 1]), &mut cache, &mut work);
        let logits = model.logits(&mut work);
        let best = (0..logits.len()).max_by(|&a, &b| logits[a].total_cmp(&logits[b])).unwrap();
        fed = ids.len();
        ids.push(best as u32);
    }
    ids.split_off(prompt.len())
}

fn check(name: &str, heads: usize) {
    let (model, expected) = fixture(name);
    let logits = model.all_logits(&expected.ids).unwrap();
    assert_eq!((logits.len(), expected.logits.len()), (heads, heads));
    for (head, (ours, theirs)) in logits.iter().zip(&expected.logits).enumerate() {
        let theirs: Vec<f32> = theirs.iter().flatten().copied().collect();
        assert_eq!(ours.len(), theirs.len());
        let worst = ours.iter().zip(&theirs).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(worst < 1e-4, "{name}: head {head} is off by {worst:e}");
    }
    assert_eq!(expected.greedy.len(), 64);
    assert_eq!(greedy(&model, &expected.prompt, 64), expected.greedy, "{name}");
}

#[test]
fn four_heads() {
    check("heads4", 4);
}

#[test]
fn one_head() {
    check("heads1", 1);
}

#[test]
fn grouped_keys_and_values() {
    check("grouped", 2);
}
