//! A benchmark of one's own: `cargo run --example squares -- --samples canonical`.

use passk::{DatasetError, Suite, Task};

struct Squares;

impl Suite for Squares {
    fn name(&self) -> &str {
        "squares"
    }

    fn tasks(&self, _storage: &std::path::Path) -> Result<Vec<Task>, DatasetError> {
        let task = |n: u32| {
            let prompt = format!("def f(x):\n    \"\"\"Return x squared, plus {n}.\"\"\"\n");
            Task::asserts(format!("squares/{n}"), prompt, [format!("assert f(3) == {}", 9 + n)])
                .with_canonical(format!("    return x * x + {n}\n"))
        };
        Ok((0..12).map(task).collect())
    }
}

passk::main!(Squares);
