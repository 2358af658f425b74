//! Which code made a sample.

/// The sources whose change may change a sample or a verdict.
const SOURCES: [&str; 18] = [
    include_str!("checkpoint.rs"),
    include_str!("checkpoint/pickle.rs"),
    include_str!("checkpoint/pt.rs"),
    include_str!("jail.rs"),
    include_str!("jail/python.rs"),
    include_str!("jail/runner.py"),
    include_str!("jail/spawn.rs"),
    include_str!("model.rs"),
    include_str!("model/block.rs"),
    include_str!("model/cache.rs"),
    include_str!("model/config.rs"),
    include_str!("model/math.rs"),
    include_str!("program.rs"),
    include_str!("sampler/engine.rs"),
    include_str!("sampler/noise.rs"),
    include_str!("sampler/nucleus.rs"),
    include_str!("sampler/stop.rs"),
    include_str!("tokenizer.rs"),
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
