//! Arrows between modules run one way: down the floors that ARCHITECTURE.md draws.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// The floors, ground first. A module may use modules of lower floors only.
const FLOORS: [&[&str]; 9] = [
    &["file"],
    &["task", "verdict", "score", "output", "tokenizer", "checkpoint", "http", "revision"],
    &["program", "prompt", "dataset", "model"],
    &["suite", "jail", "sampler"],
    &["record", "args"],
    &["journal", "snapshot", "compare"],
    &["track"],
    &["report"],
    &["runner", "bench"],
];

fn floor(module: &str) -> usize {
    FLOORS
        .iter()
        .position(|modules| modules.contains(&module))
        .unwrap_or_else(|| panic!("module `{module}` is on no floor: put it on one, here and in ARCHITECTURE.md"))
}

/// Modules → the modules that their files name in `crate::…` paths.
fn uses() -> BTreeMap<String, BTreeSet<String>> {
    let mut uses: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("src")];
    let root = folders[0].clone();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            if path.extension().is_none_or(|extension| extension != "rs") {
                continue;
            }
            let inside = path.strip_prefix(&root).unwrap().with_extension("");
            let module = inside.iter().next().unwrap().to_string_lossy().into_owned();
            if module == "lib" || module == "main" {
                continue;
            }
            let text = fs::read_to_string(&path).unwrap();
            // Tests may look wherever they like, and links in doc comments are no uses.
            let code = text.split("#[cfg(test)]").next().unwrap_or_default();
            let lines = code.lines().map(str::trim_start).filter(|line| !line.starts_with("//"));
            let used = uses.entry(module.clone()).or_default();
            for part in lines.flat_map(|line| line.split("crate::").skip(1)) {
                let name: String = part.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
                assert!(!name.is_empty(), "{}: `use crate::{{…}}`: write one line a module", path.display());
                if name != module {
                    used.insert(name);
                }
            }
        }
    }
    uses
}

#[test]
fn arrows_run_down() {
    let uses = uses();
    assert!(uses["runner"].contains("jail"), "the reader of `use` lines sees nothing");
    for (module, used) in &uses {
        for other in used {
            assert!(
                floor(other) < floor(module),
                "`{module}` (floor {}) uses `{other}` (floor {})",
                floor(module),
                floor(other)
            );
        }
    }
}

#[test]
fn what_must_never_be() {
    let uses = uses();
    let never = |module: &str, others: &[&str]| {
        for other in others {
            assert!(!uses[module].contains(*other), "`{module}` must not know `{other}`");
        }
    };
    never("model", &["suite", "task", "prompt", "program"]);
    never("sampler", &["jail", "program", "verdict"]);
    never("jail", &["task", "suite", "sampler"]);
    never("snapshot", &["jail", "sampler", "model", "suite"]);
    never("track", &["jail", "sampler", "model", "suite"]);
    for reader in ["compare", "report"] {
        never(
            reader,
            &["jail", "sampler", "model", "suite", "program", "prompt", "dataset", "checkpoint", "runner", "track"],
        );
    }
    never("journal", &["jail", "model", "suite"]);
}

/// Every file with unsafe code, and how many places of it. One more is a decision, and has its reason beside it.
const UNSAFE: [(&str, usize); 5] = [
    ("src/jail/spawn.rs", 3),
    ("src/jail/sys.rs", 11),
    ("src/model/device/launch.rs", 3),
    ("src/model/kernel.rs", 4),
    ("src/model/kernel/sums.rs", 13),
];

#[test]
fn unsafe_code_is_counted_and_has_its_reasons() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut folders = vec![root.join("src")];
    let mut found = BTreeMap::new();
    while let Some(folder) = folders.pop() {
        for path in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let text = fs::read_to_string(&path).unwrap_or_default();
            let lines: Vec<&str> = text.lines().collect();
            let name = path.strip_prefix(root).unwrap().display().to_string();
            for (at, line) in lines.iter().enumerate() {
                let code = line.split("//").next().unwrap_or_default();
                if !name.ends_with(".rs")
                    || !["unsafe {", "unsafe impl", "unsafe fn"].iter().any(|word| code.contains(word))
                {
                    continue;
                }
                *found.entry(name.clone()).or_insert(0) += 1;
                let before = &lines[at.saturating_sub(6)..at];
                assert!(before.iter().any(|line| line.contains("SAFETY:")), "{name}:{}: without a reason", at + 1);
            }
        }
    }
    let allowed = UNSAFE.iter().map(|(file, count)| ((*file).to_owned(), *count)).collect();
    assert_eq!(found, allowed, "the places of unsafe code have changed: see whether each is needed, and count again");
}
