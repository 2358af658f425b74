//! How often intervals cover and gates alarm, simulated: `cargo run --example statistics`. tests/it has a smaller one.
#![allow(clippy::print_stdout, clippy::unwrap_used)] // the figures are its result; a simulation that cannot go on has failed

#[allow(dead_code)] // the tests' own parts
#[path = "it/statistics.rs"]
mod statistics;

fn main() {
    println!("{}", statistics::report(2_000));
}
