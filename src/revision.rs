//! Which code made a sample.

/// The sources whose change may change a sample or a verdict.
const SOURCES: &[&str] = &[
    include_str!("checkpoint.rs"),
    include_str!("checkpoint/archive.rs"),
    include_str!("checkpoint/contents.rs"),
    include_str!("checkpoint/digest.rs"),
    include_str!("checkpoint/discover.rs"),
    include_str!("checkpoint/error.rs"),
    include_str!("checkpoint/folder.rs"),
    include_str!("checkpoint/names.rs"),
    include_str!("checkpoint/pickle.rs"),
    include_str!("checkpoint/plain.rs"),
    include_str!("checkpoint/pt.rs"),
    include_str!("checkpoint/rows.rs"),
    include_str!("checkpoint/safetensors.rs"),
    include_str!("checkpoint/source.rs"),
    include_str!("checkpoint/tensor.rs"),
    include_str!("checkpoint/weight.rs"),
    include_str!("jail.rs"),
    include_str!("jail/canary.rs"),
    include_str!("jail/canary.py"),
    include_str!("jail/cell.rs"),
    include_str!("jail/census.rs"),
    include_str!("jail/client.rs"),
    include_str!("jail/drain.rs"),
    include_str!("jail/error.rs"),
    include_str!("jail/fence.rs"),
    include_str!("jail/report.rs"),
    include_str!("jail/settings.rs"),
    include_str!("jail/filter.rs"),
    include_str!("jail/start.rs"),
    include_str!("jail/supervisor.rs"),
    include_str!("jail/survey.rs"),
    include_str!("jail/sys.rs"),
    include_str!("jail/view.rs"),
    include_str!("jail/vigil.rs"),
    include_str!("jail/wire.rs"),
    include_str!("jail/cgroup.rs"),
    include_str!("jail/zygote.py"),
    include_str!("jail/folder.rs"),
    include_str!("jail/group.rs"),
    include_str!("jail/init.rs"),
    include_str!("jail/interpreter.rs"),
    include_str!("jail/job.rs"),
    include_str!("jail/judge.rs"),
    include_str!("jail/split.rs"),
    include_str!("jail/split.py"),
    include_str!("jail/proc.rs"),
    include_str!("jail/python.rs"),
    include_str!("jail/runner.py"),
    include_str!("jail/spawn.rs"),
    include_str!("jail/stdio.rs"),
    include_str!("jail/watch.rs"),
    include_str!("model.rs"),
    include_str!("model/attention.rs"),
    include_str!("model/block.rs"),
    include_str!("model/cache.rs"),
    include_str!("model/config.rs"),
    include_str!("model/device.rs"),
    include_str!("model/device/cache.rs"),
    include_str!("model/device/composed.rs"),
    include_str!("model/device/counts.rs"),
    include_str!("model/device/cuda.rs"),
    include_str!("model/device/graphs.rs"),
    include_str!("model/device/kernels.cu"),
    include_str!("model/device/launch.rs"),
    include_str!("model/device/load.rs"),
    include_str!("model/device/metal.rs"),
    include_str!("model/device/ops.rs"),
    include_str!("model/device/plan.rs"),
    include_str!("model/kernel.rs"),
    include_str!("model/kernel/aligned.rs"),
    include_str!("model/kernel/sums.rs"),
    include_str!("model/math.rs"),
    include_str!("model/weights.rs"),
    include_str!("output.rs"),
    include_str!("program.rs"),
    include_str!("prompt.rs"),
    include_str!("sampler.rs"),
    include_str!("sampler/backend.rs"),
    include_str!("sampler/engine.rs"),
    include_str!("sampler/lane.rs"),
    include_str!("sampler/noise.rs"),
    include_str!("sampler/nucleus.rs"),
    include_str!("sampler/saved.rs"),
    include_str!("sampler/sequence.rs"),
    include_str!("sampler/speculate.rs"),
    include_str!("sampler/stop.rs"),
    include_str!("tokenizer.rs"),
    include_str!("tokenizer/sentencepiece.rs"),
];

/// Their digest. It is part of a run's fingerprint, so that a resumed run never mixes samples of two versions, and a
/// developer who changed the sampler never looks at what the old one made.
pub(crate) fn digest() -> String {
    let mut hasher = blake3::Hasher::new();
    SOURCES.iter().for_each(|source| {
        hasher.update(source.as_bytes());
    });
    hasher.finalize().to_hex()[..12].to_owned()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    #[test]
    fn no_source_is_forgotten() {
        let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        let listed = std::fs::read_to_string(src.join("revision.rs")).unwrap();
        let mut folders: Vec<_> =
            ["checkpoint", "jail", "model", "sampler", "tokenizer"].map(|name| src.join(name)).into();
        while let Some(folder) = folders.pop() {
            for path in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
                let name = path.strip_prefix(&src).unwrap().to_str().unwrap();
                match path.is_dir() {
                    true => folders.push(path),
                    false => assert!(
                        listed.contains(&format!("include_str!(\"{name}\")")),
                        "{name} is missing in revision.rs"
                    ),
                }
            }
        }
    }
}
