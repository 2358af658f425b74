//! Tokens per second of the CPU engine, as JSON lines: one for each model, number of sequences and way of decoding.
//!
//! `cargo bench --bench cpu -- CHECKPOINT MODEL_DIR PROMPT_FILE LENGTH WAY:N…` samples N completions of exactly LENGTH
//! tokens of one prompt, e.g. `plain:20`; where N is 1, of eight tasks with that prompt, one after the other.
//! `benches/compare.py` calls it and sets PyTorch's figures beside it.
#![allow(clippy::print_stdout)] // its result
#![allow(missing_docs)]

use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use passk::checkpoint::Checkpoint;
use passk::model::{Config, Model};
use passk::prompt::Prompt;
use passk::sampler::engine::{Decode, Engine, Options};
use passk::sampler::{Request, Sampler, Sampling};
use passk::task::TaskId;
use passk::tokenizer::Tokenizer;

/// The best of so many runs counts: the machine may be busy with others.
const RUNS: usize = 3;

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    let [checkpoint, folder, prompt, length, ways @ ..] = args.as_slice() else {
        bail!("usage: cpu CHECKPOINT MODEL_DIR PROMPT_FILE LENGTH WAY:N…");
    };
    let checkpoint = Checkpoint::open(Path::new(checkpoint))?;
    let (folder, text) = (Path::new(folder), std::fs::read_to_string(prompt)?);
    let sampling = Sampling { temperature: 0.2, top_p: 0.95, max_tokens: length.parse()?, seed: 0 };
    for way in ways {
        let (decode, n) = way.split_once(':').context("WAY:N")?;
        let decode = match decode {
            "plain" => Decode::Plain,
            "speculative" => Decode::Speculative,
            _ => Decode::Auto,
        };
        let n: u32 = n.parse()?;
        let model = Model::load(&checkpoint, Config::from_folder(folder)?, decode.heads())?;
        let options = Options { batch: 64.min(n as usize), decode, lanes: None };
        let mut engine = Engine::new(model, Tokenizer::from_folder(folder)?.endless(), sampling, options);
        let request = |task: u32| Request {
            task: TaskId::from(format!("bench/{task}").as_str()),
            prompt: Prompt { text: text.clone(), stop: Vec::new() },
            indices: (0..n).collect(),
        };
        // A single sequence is over before its cache is warm, or a choice made.
        let tasks = if n == 1 { 8 } else { 1 };
        let requests: Vec<Request> = (0..tasks).map(request).collect();
        let plan = engine.plan(&requests)?;
        let (mut seconds, mut tokens) = (f64::MAX, 0);
        for _ in 0..RUNS {
            tokens = 0;
            let begun = Instant::now();
            engine.sample(&requests, &mut |sample| {
                tokens += sample.tokens.unwrap_or(0);
                true
            })?;
            seconds = seconds.min(begun.elapsed().as_secs_f64());
        }
        let line = serde_json::json!({
            "way": way,
            "sequences": n,
            "mean_tokens": f64::from(tokens) / f64::from(tasks * n),
            "seconds": seconds,
            "tokens_per_second": f64::from(tokens) / seconds,
            "tokens_per_forward": engine.speculation().tokens_per_forward(),
            "head_acceptance": engine.speculation().acceptance(),
            "cache_bytes": engine.cache_bytes(),
            "planned_cache_bytes": plan.cache,
        });
        println!("{line}");
    }
    Ok(())
}
