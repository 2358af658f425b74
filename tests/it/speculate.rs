//! Drafts of the extra heads, lanes and devices never change a sample.

use std::collections::BTreeMap;

use passk::checkpoint::Checkpoint;
use passk::model::{Config, Heads, Model, ModelError};
use passk::prompt::Format;
use passk::sampler::engine::{Decode, Engine, Options};
use passk::sampler::{Request, Sample, Sampler, SamplerError, Sampling};
use passk::suite::{Micro, Suite};
use passk::task::Task;
use passk::tokenizer::Tokenizer;

use crate::workplace::repository;

/// Temperature and top-p of the rule: greedy, cold, warm; with a nucleus and without.
const SAMPLINGS: [(f64, f64); 5] = [(0.0, 0.95), (0.2, 0.95), (0.8, 0.95), (0.2, 1.0), (0.8, 1.0)];

/// The four ways that must agree: plain one by one, and drafts in three companies.
const WAYS: [Options; 4] = [
    Options { batch: 1, decode: Decode::Plain, lanes: Some(1) },
    Options { batch: 5, decode: Decode::Speculative, lanes: Some(1) },
    Options { batch: 64, decode: Decode::Speculative, lanes: Some(2) },
    Options { batch: 3, decode: Decode::Auto, lanes: None },
];

fn folder() -> std::path::PathBuf {
    repository().join("storage/micro/models/micro-mtp")
}

fn requests(n: u32) -> Vec<Request> {
    let tasks = Micro.tasks(&repository().join("storage")).unwrap();
    let request = |task: &Task| Request {
        task: task.id.clone(),
        prompt: Format::Raw.prompt(task, &[], &Micro.stops()),
        indices: (0..n).collect(),
    };
    tasks.iter().step_by(13).map(request).collect()
}

fn sample(engine: &mut Engine, n: u32) -> BTreeMap<(String, u32), Sample> {
    let requests = requests(n);
    let mut samples = BTreeMap::new();
    let mut keep = |sample: Sample| samples.insert((sample.task.to_string(), sample.index), sample).is_none();
    engine.sample(&requests, &mut keep).unwrap();
    assert_eq!(samples.len(), requests.len() * n as usize);
    samples
}

/// Samples of every way; tokens per forward of the speculative ones.
fn all_ways_agree(name: &str, model: impl Fn(Heads) -> Model) -> f64 {
    let mut best = 0f64;
    for (temperature, top_p) in SAMPLINGS {
        let sampling = Sampling { temperature, top_p, max_tokens: 24, seed: 3 };
        let mut plain = None;
        for way in WAYS {
            let heads = if way.decode == Decode::Plain { Heads::Next } else { Heads::All };
            let tokenizer = Tokenizer::from_folder(&folder()).unwrap();
            let mut engine = Engine::new(model(heads), tokenizer, sampling, way);
            let samples = sample(&mut engine, 3);
            assert!(plain.get_or_insert_with(|| samples.clone()) == &samples, "{name}, T {temperature}, {way:?}");
            best = best.max(engine.speculation().tokens_per_forward().unwrap_or(0.0));
        }
    }
    best
}

#[test]
fn the_four_pipelines() {
    for pipeline in ["baseline", "critic", "verifiable", "rho1"] {
        let file = repository().join(format!("storage/micro/checkpoints/{pipeline}/checkpoint_best.pt"));
        let checkpoint = Checkpoint::open(&file).unwrap();
        let load = |heads| Model::load(&checkpoint, Config::from_folder(&folder()).unwrap(), heads).unwrap();
        let tokens = all_ways_agree(pipeline, load);
        assert!(tokens > 1.5, "{pipeline}: {tokens} tokens a forward: nothing was speculated");
    }
}

fn random(n_future_tokens: usize, heads: Heads) -> Result<Model, ModelError> {
    Model::random(Config { n_future_tokens, ..small() }, heads, 11)
}

fn small() -> Config {
    let micro = Config::from_folder(&folder()).unwrap();
    Config { dim: 40, n_heads: 4, n_kv_heads: 2, hidden_dim: 72, n_layers: 9, ..micro }
}

#[test]
fn random_models_of_any_number_of_heads() {
    for n in [1, 2, 4, 8] {
        let tokens = all_ways_agree(&format!("{n} heads"), |heads| random(n, heads).unwrap());
        assert_eq!(tokens == 0.0, n == 1, "{n} heads: {tokens} tokens a forward");
    }
}

#[test]
fn memory_keeps_to_the_plan_and_does_not_grow() {
    let sampling = Sampling { temperature: 0.8, top_p: 0.95, max_tokens: 40, seed: 3 };
    let options = Options { batch: 16, ..Options::default() };
    let tokenizer = Tokenizer::from_folder(&folder()).unwrap();
    let mut engine = Engine::new(random(4, Heads::All).unwrap(), tokenizer, sampling, options);
    let plan = engine.plan(&requests(8)).unwrap();
    sample(&mut engine, 8);
    let first = engine.cache_bytes();
    assert!(first > 0 && first <= plan.cache, "{first} bytes of keys and values, planned were {}", plan.cache);
    let plan = engine.plan(&requests(100)).unwrap();
    sample(&mut engine, 100);
    let later = engine.cache_bytes();
    assert!(later <= plan.cache, "{later} bytes of keys and values, planned were {}", plan.cache);
}

/// Where every sequence runs to its last token, the plan is used up to a tenth.
#[test]
fn memory_is_what_was_planned() {
    for decode in [Decode::Plain, Decode::Speculative] {
        for max_tokens in [16, 17, 33] {
            let sampling = Sampling { temperature: 0.8, top_p: 0.95, max_tokens, seed: 3 };
            let tokenizer = Tokenizer::from_folder(&folder()).unwrap().endless();
            let options = Options { batch: 12, decode, lanes: Some(1) };
            let mut engine = Engine::new(random(4, decode.heads()).unwrap(), tokenizer, sampling, options);
            let mut requests = requests(12);
            requests.truncate(1);
            requests[0].prompt.stop.clear();
            let plan = engine.plan(&requests).unwrap();
            engine.sample(&requests, &mut |sample| sample.tokens == Some(max_tokens as u32)).unwrap();
            let share = engine.cache_bytes() as f64 / plan.cache as f64;
            assert!((0.9..=1.0).contains(&share), "{decode:?}, {max_tokens} tokens: {share} of what was planned");
        }
    }
}

/// After a short prompt the context has room for more tokens than after a long one.
#[test]
fn the_plan_holds_for_prompts_of_any_length() {
    let sampling = Sampling { temperature: 0.8, top_p: 0.95, max_tokens: 500, seed: 3 };
    let tokenizer = Tokenizer::from_folder(&folder()).unwrap().endless();
    let mut requests = requests(3);
    requests.iter_mut().for_each(|request| request.prompt.stop.clear());
    requests.iter_mut().skip(1).for_each(|request| request.prompt.text.truncate(9));
    let lengths = requests.iter().map(|request| tokenizer.encode(&request.prompt.text).unwrap().len());
    let max_seq_len = lengths.max().unwrap() + 2;
    let model = Model::random(Config { max_seq_len, ..small() }, Heads::Next, 11).unwrap();
    let options = Options { batch: 12, decode: Decode::Plain, lanes: Some(1) };
    let mut engine = Engine::new(model, tokenizer, sampling, options);
    let plan = engine.plan(&requests).unwrap();
    engine.sample(&requests, &mut |_| true).unwrap();
    let bytes = engine.cache_bytes();
    assert!(bytes <= plan.cache, "{bytes} bytes of keys and values, planned were {}", plan.cache);
}

/// Finite weights can still make logits that are not finite: the problem and the position are named.
#[test]
fn logits_that_are_no_numbers_are_an_error() {
    // The norm takes the root of a negative number.
    let config = Config { norm_eps: -1e9, ..Config::from_folder(&folder()).unwrap() };
    let model = Model::random(config, Heads::All, 11).unwrap();
    let sampling = Sampling { temperature: 0.8, top_p: 0.95, max_tokens: 40, seed: 3 };
    let tokenizer = Tokenizer::from_folder(&folder()).unwrap();
    let mut engine = Engine::new(model, tokenizer, sampling, Options::default());
    let requests = requests(1);
    let length = Tokenizer::from_folder(&folder()).unwrap().encode(&requests[0].prompt.text).unwrap().len();
    let error = engine.sample(&requests[..1], &mut |_| true).unwrap_err();
    assert!(matches!(&error, SamplerError::NotFinite { position, .. } if *position == length), "{error}");
    assert!(error.to_string().contains(&requests[0].task.to_string()), "{error}");
}
