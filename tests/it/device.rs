//! The model for GPUs, on candle's CPU device: what it computes is what the CPU's engine computes.

use std::collections::BTreeMap;

use candle_core::{DType, Device};
use passk::bench::{self, Outcome, Setup};
use passk::checkpoint::Checkpoint;
use passk::model::device::{self, Dtype};
use passk::model::{Config, Heads, Model};
use passk::prompt::Format;
use passk::sampler::backend::Backend;
use passk::sampler::engine::{Decode, Engine, Options};
use passk::sampler::{Request, Sample, Sampler, Sampling};
use passk::suite::{Micro, Suite};
use passk::task::Task;
use passk::tokenizer::Tokenizer;
use serde_json::json;

use crate::workplace::repository;

fn folder() -> std::path::PathBuf {
    repository().join("storage/micro/models/micro-mtp")
}

/// How operations besides matrix products are computed.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Form {
    /// Ours, which a GPU has as kernels.
    Own,
    /// Ours, with all that replaying takes but a device that can record.
    Replayed,
    /// Candle's, as on a GPU that we have no kernels for.
    Composed,
}

fn load(checkpoint: &Checkpoint, config: Config, dtype: DType, form: Form) -> device::Model {
    let model = device::Model::load(checkpoint, config, Heads::All, Device::Cpu, dtype).unwrap();
    match form {
        Form::Own => model,
        Form::Replayed => model.replaying(true),
        Form::Composed => model.composed(),
    }
}

/// Logits of all heads, over prompts longer than one call's rows, with grouped keys and values and without.
#[test]
fn logits_agree_with_the_cpu_engine() {
    for fixture in ["heads4", "heads1", "grouped"] {
        let folder = repository().join("tests/data/checkpoints").join(fixture);
        let checkpoint = Checkpoint::open(&folder.join("checkpoint_best.pt")).unwrap();
        let config = Config::from_folder(&folder.join("model")).unwrap();
        let ids: Vec<u32> = (0..60).map(|i| (i * 31 + 7) % config.vocab_size as u32).collect();
        let ours = Model::load(&checkpoint, config.clone(), Heads::All).unwrap().all_logits(&ids).unwrap();
        let largest = ours.iter().flatten().fold(0f32, |most, logit| most.max(logit.abs()));
        for (form, dtype, near) in [
            (Form::Own, DType::F32, 1e-4),
            (Form::Replayed, DType::F32, 1e-4),
            (Form::Composed, DType::F32, 1e-4),
            (Form::Composed, DType::F16, 1e-2 * largest),
            (Form::Composed, DType::BF16, 8e-2 * largest), // three bits fewer
        ] {
            let theirs = load(&checkpoint, config.clone(), dtype, form).all_logits(&ids).unwrap();
            assert_eq!(ours.len(), theirs.len());
            for (head, (ours, theirs)) in ours.iter().zip(&theirs).enumerate() {
                assert_eq!(ours.len(), theirs.len());
                let off = ours.iter().zip(theirs).map(|(a, b)| (a - b).abs());
                let worst = off.max_by(f32::total_cmp).unwrap();
                assert!(
                    worst < near,
                    "{fixture}, {form:?} in {dtype:?}: head {head} is off by {worst:e} of {largest:e}"
                );
            }
        }
    }
}

const SAMPLING: Sampling = Sampling { temperature: 0.8, top_p: 0.95, max_tokens: 24, seed: 3 };

type Samples = BTreeMap<(String, u32), Sample>;

fn sample<B: Backend>(mut engine: Engine<B>) -> Samples {
    let tasks = Micro.tasks(&repository().join("storage")).unwrap();
    let request = |task: &Task| Request {
        task: task.id.clone(),
        prompt: Format::Raw.prompt(task, &[], &Micro.stops()),
        indices: (0..4).collect(),
    };
    let requests: Vec<Request> = tasks.iter().step_by(13).map(request).collect();
    let plan = engine.plan(&requests).unwrap();
    let mut samples = BTreeMap::new();
    let mut keep = |sample: Sample| samples.insert((sample.task.to_string(), sample.index), sample).is_none();
    engine.sample(&requests, &mut keep).unwrap();
    assert_eq!(samples.len(), requests.len() * 4);
    assert!(engine.cache_bytes() <= plan.cache, "{} bytes, planned were {}", engine.cache_bytes(), plan.cache);
    samples
}

/// One row, one result: batches, drafts and several devices do not change a sample.
#[test]
fn samples_do_not_depend_on_their_company() {
    let file = repository().join("storage/micro/checkpoints/baseline/checkpoint_best.pt");
    let checkpoint = Checkpoint::open(&file).unwrap();
    let cpu = sample(Engine::load(&checkpoint, &folder(), SAMPLING, Options::default(), &mut |_, _| {}).unwrap());
    let mut own = None;
    for form in [Form::Own, Form::Replayed, Form::Composed] {
        let on_candle = |batch, decode, devices| {
            let load = |_| load(&checkpoint, Config::from_folder(&folder()).unwrap(), DType::F32, form);
            let tokenizer = Tokenizer::from_folder(&folder()).unwrap();
            let options = Options { batch, decode, lanes: None };
            sample(Engine::of((0..devices).map(load).collect(), tokenizer, SAMPLING, options))
        };
        let plain = on_candle(1, Decode::Plain, 1);
        assert!(plain == on_candle(20, Decode::Plain, 1), "{form:?}: 20 at once");
        assert!(plain == on_candle(5, Decode::Speculative, 1), "{form:?}: drafts");
        assert!(plain == on_candle(16, Decode::Auto, 2), "{form:?}: two devices");
        if form != Form::Composed {
            assert!(own.get_or_insert_with(|| plain.clone()) == &plain, "{form:?}: replaying");
        }
        // The CPU's engine adds in another order, so that a token may differ here and there, but hardly ever.
        let equal = plain.iter().filter(|(key, sample)| cpu[key].completion == sample.completion).count();
        assert!(equal * 10 >= plain.len() * 9, "{form:?}: {equal} of {} samples are equal", plain.len());
    }
}

/// `passk bench gpu` itself, on candle's CPU device and a few problems of our own.
#[test]
fn the_benchmark_says_what_it_measures() {
    let storage = tempfile::tempdir().unwrap();
    let processed = storage.path().join("datasets_v2/humaneval/processed");
    std::fs::create_dir_all(&processed).unwrap();
    let row = |i: usize| {
        let metadata =
            json!({ "test": "def check(f):\n    assert f(1) == 1\n", "entry_point": "f", "has_tests": true });
        let prompt = format!("def f(x):\n    \"\"\"Multiply x by {i}.\"\"\"\n");
        json!({ "instruction": prompt, "output": "    return x\n", "task_id": format!("T/{i}"), "metadata": metadata })
    };
    let rows: Vec<String> = (0..3).map(|i| row(i).to_string()).collect();
    std::fs::write(processed.join("test.jsonl"), rows.join("\n")).unwrap();
    let model = storage.path().join("micro/models");
    std::fs::create_dir_all(&model).unwrap();
    std::os::unix::fs::symlink(folder(), model.join("micro-mtp")).unwrap();
    let micro = Config::from_folder(&folder()).unwrap();
    let setup = Setup {
        device: Device::Cpu,
        kind: "candle's CPU device".to_owned(),
        dtypes: vec![Dtype::F32],
        large: Config { dim: 64, n_layers: 3, n_heads: 4, n_kv_heads: 4, hidden_dim: 96, n_future_tokens: 2, ..micro },
        dtype: Dtype::F32,
        steps: vec![1, 20],
        lengths: vec![3, 5],
        batch: 4,
        samples: 4,
    };
    let outcome = bench::gpu(&setup, storage.path(), &mut |_| ()).unwrap();
    assert!(outcome.holds(), "{outcome:?}");
    let lengths: Vec<f64> = outcome.speed.iter().map(|speed| speed.mean_completion_tokens).collect();
    assert_eq!(lengths, [3.0, 5.0]);
    assert!(outcome.replays["f32"].replays > 100 && outcome.replays["f32"].refused.is_none(), "{outcome:?}");
    assert!(outcome.steps.iter().all(|step| step.equal && step.replays.replays > 60), "{outcome:?}");
    let off = Outcome { agreement: [("bf16".to_owned(), 0.03)].into(), ..outcome };
    assert!(!off.holds());
}
