//! `cargo test --test humaneval -- --checkpoint PATH`

passk::main!(passk::suite::HumanEval);
