//! Any text as a file of the jail's corpus: read or refused, and no more than that.
#![no_main]
#![allow(dead_code)] // the parser is compiled by itself here

extern crate self as passk; // under which name the parser looks for what follows

use libfuzzer_sys::fuzz_target;

#[path = "../../tests/corpus/head.rs"]
mod head;
#[path = "../../src/program.rs"]
pub mod program;
#[path = "../../src/task.rs"]
pub mod task;
#[path = "../../src/verdict.rs"]
pub mod verdict;
#[path = "../../src/jail"]
pub mod jail {
    mod settings;
    pub use settings::{Isolation, Limits, Start};
}

fuzz_target!(|data: &[u8]| head::check(&String::from_utf8_lossy(data)));
