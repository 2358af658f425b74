//! Any bytes as a checkpoint: opened, described, and every tensor read. Errors are welcome; a panic, more than a second
//! or hundreds of megabytes are not.
//!
//! What begins like a pickle is put into an archive first, with the checksum that it then needs.
#![no_main]
#![allow(dead_code, unreachable_pub)] // the reader is compiled by itself here

use std::io::{Cursor, Write};
use std::path::PathBuf;
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;

// Its files lie where they do in the package.
#[path = "../../src"]
mod passk {
    pub(crate) mod checkpoint;
}
use passk::checkpoint::Checkpoint;

static FILE: LazyLock<PathBuf> = LazyLock::new(|| {
    let memory = PathBuf::from("/dev/shm");
    let folder = if memory.is_dir() { memory } else { std::env::temp_dir() };
    folder.join(format!("passk-fuzz-{}.pt", std::process::id()))
});

fn archive(pickle: &[u8]) -> Vec<u8> {
    let mut zip = zip::ZipWriter::new(Cursor::new(Vec::new()));
    let stored = zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
    for (name, bytes) in [("a/data.pkl", pickle), ("a/data/0", &[7; 160]), ("a/data/1", &[0; 64])] {
        zip.start_file(name, stored).unwrap();
        zip.write_all(bytes).unwrap();
    }
    zip.finish().unwrap().into_inner()
}

fuzz_target!(|data: &[u8]| {
    let wrapped = data.starts_with(b"\x80").then(|| archive(data));
    std::fs::write(&*FILE, wrapped.as_deref().unwrap_or(data)).unwrap();
    let Ok(mut checkpoint) = Checkpoint::open(&FILE) else { return };
    checkpoint.fit(4, false);
    checkpoint.parameters();
    for name in checkpoint.tensors.keys() {
        let values = checkpoint.read_f32(name);
        // A tensor is never larger than its file, but for the width of an element.
        assert!(values.map_or(0, |values| values.len()) <= 8 * data.len() + 8 * 300, "{name}");
    }
    let expected: Vec<_> = checkpoint.tensors.iter().map(|(name, tensor)| (name.clone(), tensor.shape.clone())).collect();
    let _ = checkpoint.expect(&expected);
});
