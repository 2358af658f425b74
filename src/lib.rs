//! passk evaluates code-generation checkpoints as cargo tests.
//!
//! ```text
//! Task → Prompt → Sample → Program → Verdict → Tally → pass@k → Record → { snapshot, journal }
//! ```
//!
//! Every benchmark problem is one [libtest-mimic](libtest_mimic) test case. Completions are sampled from a
//! multi-token-prediction LLaMA checkpoint (or taken from a file), each runs as a Python program against the problem's
//! tests, and the counts are compared with an accepted snapshot. Data flows left to right; what stands right of
//! *Record* reads records only.
//!
//! # A benchmark of one's own
//!
//! A name, the tasks, and one line: the file below is a whole test target (`harness = false` in Cargo.toml), with all
//! of passk's and libtest's flags.
//!
//! ```no_run
#![doc = include_str!("../tests/squares.rs")]
//! ```

pub mod args;
pub mod bench;
pub mod checkpoint;
pub mod compare;
pub mod dataset;
mod file;
mod http;
pub mod jail;
pub mod journal;
pub mod model;
pub mod output;
pub mod program;
pub mod prompt;
pub mod record;
pub mod report;
mod revision;
pub mod runner;
pub mod sampler;
pub mod score;
pub mod snapshot;
pub mod suite;
pub mod task;
pub mod tokenizer;
pub mod track;
pub mod verdict;

pub use dataset::DatasetError;
pub use suite::Suite;
pub use task::Task;

/// The `main` of a harness target: `passk::main!(MySuite);`.
#[macro_export]
macro_rules! main {
    ($suite:expr) => {
        fn main() -> ::std::process::ExitCode {
            $crate::runner::harness(&$suite)
        }
    };
}
