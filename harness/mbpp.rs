//! `cargo test --test mbpp -- --checkpoint PATH`

passk::main!(passk::suite::Mbpp);
