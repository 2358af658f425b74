//! `cargo test --test micro`: runs by itself on its own checkpoint.

passk::main!(passk::suite::Micro);
