//! The integration tests, in one binary.
#![allow(clippy::unwrap_used)] // a test that cannot go on has failed

mod agreement;
mod architecture;
mod checkpoint;
mod command;
mod compare;
mod device;
mod gate;
mod hardship;
mod harness;
mod jail;
mod progress;
mod rule;
mod speculate;
mod split;
mod statistics;
mod suites;
mod track;
mod trouble;
mod workplace;
