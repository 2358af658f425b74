//! Seconds and memory of loading a checkpoint, as a JSON line: `cargo bench --bench loading -- CHECKPOINT MODEL_DIR`, or of
//! merely reading the file: `cargo bench --bench loading -- CHECKPOINT`. `benches/loading.py` calls it and sets
//! PyTorch's figures beside it.
#![allow(clippy::print_stdout)] // its result
#![allow(missing_docs)]

use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use passk::checkpoint::Checkpoint;
use passk::model::{Config, Heads, Model};

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    let begun = Instant::now();
    let line = match args.as_slice() {
        [file] => {
            let bytes = std::fs::read(file)?;
            serde_json::json!({ "seconds": begun.elapsed().as_secs_f64(), "bytes": bytes.len() })
        }
        [checkpoint, folder] => {
            let checkpoint = Checkpoint::open(Path::new(checkpoint))?;
            let model = Model::load(&checkpoint, Config::from_folder(Path::new(folder))?, Heads::All)?;
            let seconds = begun.elapsed().as_secs_f64();
            serde_json::json!({ "seconds": seconds, "weights": model.bytes(), "peak": peak_bytes()? })
        }
        _ => bail!("usage: loading CHECKPOINT [MODEL_DIR]"),
    };
    println!("{line}");
    Ok(())
}

/// The most memory this process has held.
fn peak_bytes() -> Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("no VmHWM in /proc/self/status")?;
    Ok(line.trim().trim_end_matches(" kB").parse::<u64>()? * 1024)
}
