//! One row, one result: batch size, order, company, n, threads and interruptions never change a sample.

use std::collections::BTreeMap;
use std::path::Path;

use passk::checkpoint::Checkpoint;
use passk::prompt::Format;
use passk::sampler::engine::{Engine, Options};
use passk::sampler::{Request, Sample, Sampler, Sampling};
use passk::suite::{Micro, Suite};
use passk::task::Task;

const SAMPLING: Sampling = Sampling { temperature: 0.8, top_p: 0.95, max_tokens: 48, seed: 5 };

fn tasks() -> Vec<Task> {
    let tasks = Micro.tasks(Path::new("storage")).unwrap();
    tasks.into_iter().step_by(9).collect()
}

/// The samples 0..n of `tasks`, keyed by what they are.
fn sample(tasks: &[Task], n: u32, batch: usize) -> BTreeMap<(String, u32), Sample> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("storage/micro");
    let checkpoint = Checkpoint::open(&root.join("checkpoints/baseline/checkpoint_best.pt")).unwrap();
    let options = Options { batch, ..Options::default() };
    let mut engine =
        Engine::load(&checkpoint, &root.join("models/micro-mtp"), SAMPLING, options, &mut |_, _| {}).unwrap();
    let request = |task: &Task| Request {
        task: task.id.clone(),
        prompt: Format::Raw.prompt(task, &[], &Micro.stops()),
        indices: (0..n).collect(),
    };
    let requests: Vec<Request> = tasks.iter().map(request).collect();
    let mut samples = BTreeMap::new();
    let mut keep = |sample: Sample| samples.insert((sample.task.to_string(), sample.index), sample).is_none();
    engine.sample(&requests, &mut keep).unwrap();
    assert_eq!(samples.len(), tasks.len() * n as usize);
    samples
}

#[test]
fn batch_limits_do_not_matter() {
    let tasks = tasks();
    let one = sample(&tasks, 6, 1);
    assert_eq!(one, sample(&tasks, 6, 7));
    assert_eq!(one, sample(&tasks, 6, 64));
    assert_eq!(one, sample(&tasks, 6, 200)); // more rows than one matrix product takes
    let distinct: std::collections::HashSet<&str> = one.values().map(|sample| sample.completion.as_str()).collect();
    assert!(distinct.len() > tasks.len(), "samples of a task are all alike: nothing was compared");
}

#[test]
fn company_and_order_do_not_matter() {
    let tasks = tasks();
    let all = sample(&tasks, 6, 64);
    let mut backwards = tasks.clone();
    backwards.reverse();
    assert_eq!(all, sample(&backwards, 6, 64));
    for (key, alone) in sample(&tasks[2..3], 6, 64) {
        assert_eq!(all[&key], alone);
    }
}

#[test]
fn the_first_five_of_twenty_are_the_five() {
    let tasks = tasks();
    let twenty = sample(&tasks, 20, 64);
    for (key, five) in sample(&tasks, 5, 64) {
        assert_eq!(twenty[&key], five);
    }
}
