//! `cargo test --test codecontests -- --checkpoint PATH`

passk::main!(passk::suite::CodeContests);
