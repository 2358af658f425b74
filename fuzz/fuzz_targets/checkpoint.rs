//! Any bytes as a checkpoint: opened, described, and every tensor read. Errors are welcome; a panic, more than a second
//! or hundreds of megabytes are not.
//!
//! What begins like a pickle is put into an archive first, with the checksum that it then needs.
#![no_main]
#![allow(dead_code, unreachable_pub, unused_imports)] // the reader is compiled by itself here

use std::io::{Cursor, Write};
use std::path::PathBuf;
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;

// Its files lie where they do in the package.
#[path = "../../src"]
mod passk {
    pub(crate) mod checkpoint;
    pub(crate) mod file;
}
use passk::checkpoint::Checkpoint;
use passk::file; // where the reader looks for it

static FILE: LazyLock<PathBuf> = LazyLock::new(|| {
    let memory = PathBuf::from("/dev/shm");
    let folder = if memory.is_dir() { memory } else { std::env::temp_dir() };
    folder.join(format!("passk-fuzz-{}.pt", std::process::id()))
});

fn archive(pickle: &[u8]) -> Vec<u8> {
    let mut zip = zip::ZipWriter::new(Cursor::new(Vec::new()));
    let stored = zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
    let storages = (0..12).map(|key| (format!("a/data/{key}"), &[7; 320][..]));
    for (name, bytes) in storages.chain([("a/data.pkl".to_owned(), pickle)]) {
        zip.start_file(name, stored).unwrap();
        zip.write_all(bytes).unwrap();
    }
    zip.finish().unwrap().into_inner()
}

fuzz_target!(|data: &[u8]| {
    let wrapped = data.starts_with(b"\x80").then(|| archive(data));
    let bytes = wrapped.as_deref().unwrap_or(data);
    std::fs::write(&*FILE, bytes).unwrap();
    let Ok(mut checkpoint) = Checkpoint::open(&FILE) else { return };
    checkpoint.fit(4, false);
    checkpoint.parameters();
    for name in checkpoint.tensors.keys() {
        let values = checkpoint.read_f32(name);
        // No element takes less than a byte.
        assert!(values.map_or(0, |values| values.len()) <= bytes.len(), "{name}");
    }
    let expected: Vec<_> = checkpoint.tensors.iter().map(|(name, tensor)| (name.clone(), tensor.shape.clone())).collect();
    let _ = checkpoint.expect(&expected);
});
