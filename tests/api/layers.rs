//! The modules of the library stand in layers, and know only those below their own.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

const LIBRARY: &str = include_str!("../../src/lib.rs");

/// The layer of each module, counted from the top, as the map in `lib.rs` has it: lines like
/// ``//! 8. [`routes`], [`http`]``.
fn layers() -> HashMap<&'static str, usize> {
    let mut layers = HashMap::new();
    for line in LIBRARY.lines() {
        let numbered = line.strip_prefix("//! ").and_then(|line| line.split_once(". [`"));
        let Some((layer, modules)) = numbered else { continue };
        let layer = layer.parse().unwrap();
        for module in modules.trim_end_matches("`]").split("`], [`") {
            assert_eq!(layers.insert(module, layer), None, "{module} is listed twice");
        }
    }
    layers
}

/// Every source file of the library, with its module.
fn files() -> Vec<(String, PathBuf)> {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let modules = LIBRARY.lines().filter_map(|line| line.strip_prefix("pub mod "));
    let mut files = Vec::new();
    for module in modules.map(|module| module.trim_end_matches(';')) {
        files.push((module.to_owned(), src.join(format!("{module}.rs"))));
        let mut folders = vec![src.join(module)];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).into_iter().flatten() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else if path.extension().is_some_and(|extension| extension == "rs") {
                    files.push((module.to_owned(), path));
                }
            }
        }
    }
    files
}

/// The modules of the library that a file names in its code; its tests may use any.
fn named(source: &str) -> Vec<&str> {
    let code = source.split("#[cfg(test)]\nmod tests").next().unwrap();
    let lines = code.lines().filter(|line| !line.trim_start().starts_with("//"));
    let paths = lines.flat_map(|line| line.split("crate::").skip(1));
    let end = |path: &str| path.find(|c: char| c != '_' && !c.is_ascii_lowercase());
    paths.map(|path| path.split_at(end(path).unwrap_or(path.len())).0).collect()
}

#[test]
fn every_module_has_a_layer_and_knows_only_those_below() {
    let layers = layers();
    let mut uses = 0;
    for (module, path) in files() {
        let own = *layers.get(&*module).unwrap_or_else(|| panic!("{module} has no layer"));
        for other in named(&fs::read_to_string(&path).unwrap()) {
            let other_layer = *layers.get(other).unwrap_or_else(|| panic!("{path:?}: {other}"));
            let below = other == module || own < other_layer;
            assert!(below, "{} is above {module}: {}", other, path.display());
            uses += 1;
        }
    }
    // What is read here is the code, and not nothing.
    assert!(uses > 100, "{uses}");
}
