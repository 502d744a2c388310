//! What is in the program: a software bill of materials in the `CycloneDX` format.
//!
//! It comes from Cargo itself, not from a generator: `cargo tree` knows exactly which crates the program is made of, with
//! the features of this package alone, and nothing has to be installed for it.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use crate::shell::{cargo, quiet};

/// How `cargo tree` prints a crate: its depth, name, version, source and license.
const FORMAT: &str = " {p}|{l}";

/// The document, with this version of ours.
pub(crate) fn of(root: &Path, version: &str) -> Result<String> {
    let words = ["tree", "--locked", "--package", "fairlane", "--edges", "normal,build", "--no-dedupe"];
    let tree = quiet(cargo(root, &words).args(["--prefix", "depth", "--format", FORMAT]))?;
    let lock = std::fs::read_to_string(root.join("Cargo.lock"))?;
    let document = document(&tree, &sums(&lock), version)?;
    Ok(serde_json::to_string_pretty(&document)? + "\n")
}

/// The document of a tree.
fn document(tree: &str, sums: &BTreeMap<String, String>, version: &str) -> Result<Value> {
    let mut components = BTreeMap::new();
    let mut dependencies: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut above: Vec<String> = Vec::new();
    for line in tree.lines() {
        let read = || {
            let (depth, rest) = line.split_once(' ')?;
            let (package, license) = rest.split_once('|')?;
            let mut words = package.split(' ');
            let (name, version) = (words.next()?, words.next()?.strip_prefix('v')?);
            Some((depth.parse::<usize>().ok()?, name, version, license))
        };
        let (depth, name, of, license) = read().with_context(|| format!("cargo tree prints {line:?}"))?;
        let id = format!("pkg:cargo/{name}@{of}");
        above.truncate(depth);
        if let Some(user) = above.last() {
            dependencies.entry(user.clone()).or_default().push(id.clone());
        }
        dependencies.entry(id.clone()).or_default();
        above.push(id.clone());
        components.entry(id).or_insert_with_key(|id| component(id, name, of, license, sums));
    }
    let own =
        components.remove(&format!("pkg:cargo/fairlane@{version}")).context("fairlane is not in its tree")?;
    let edges = dependencies.into_iter().map(|(id, mut on)| {
        on.sort();
        on.dedup();
        json!({ "ref": id, "dependsOn": on })
    });
    Ok(json!({
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": { "component": application(own) },
        "components": components.values().collect::<Vec<_>>(),
        "dependencies": edges.collect::<Vec<_>>(),
    }))
}

fn component(id: &str, name: &str, version: &str, license: &str, sums: &BTreeMap<String, String>) -> Value {
    let mut component = json!({
        "type": "library", "bom-ref": id, "name": name, "version": version, "purl": id, "scope": "required",
    });
    if !license.is_empty() {
        // Older crates separate their licenses by a slash.
        let expression = license.replace(" / ", "/").replace('/', " OR ");
        component["licenses"] = json!([{ "expression": expression }]);
    }
    if let Some(sum) = sums.get(id) {
        component["hashes"] = json!([{ "alg": "SHA-256", "content": sum }]);
    }
    component
}

fn application(mut component: Value) -> Value {
    component["type"] = json!("application");
    component
}

/// The checksums of the crates, from `Cargo.lock`.
fn sums(lock: &str) -> BTreeMap<String, String> {
    let field = |package: &str, name: &str| {
        let line = package.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(" = \""))?;
        Some(line.trim_end_matches('"').to_owned())
    };
    let packages = lock.split("[[package]]").skip(1);
    let sum = |package: &str| {
        let id = format!("pkg:cargo/{}@{}", field(package, "name")?, field(package, "version")?);
        Some((id, field(package, "checksum")?))
    };
    packages.filter_map(sum).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_becomes_components_with_licenses_sums_and_dependencies() {
        let tree = "0 fairlane v0.1.0 (/src/cli)|BSD-3-Clause\n1 a v1.0.0|MIT/Apache-2.0\n2 b v2.0.0|MIT\n1 b v2.0.0|MIT\n";
        let lock = "[[package]]\nname = \"b\"\nversion = \"2.0.0\"\nchecksum = \"12ab\"\n";
        let found = document(tree, &sums(lock), "0.1.0").unwrap();
        assert_eq!(found["metadata"]["component"]["purl"], "pkg:cargo/fairlane@0.1.0");
        assert_eq!(found["components"][0]["licenses"][0]["expression"], "MIT OR Apache-2.0");
        assert_eq!(found["components"][1]["hashes"][0]["content"], "12ab");
        assert_eq!(found["components"].as_array().unwrap().len(), 2, "{found}");
        let on: Vec<_> =
            found["dependencies"].as_array().unwrap().iter().map(|one| &one["dependsOn"]).collect();
        assert_eq!(
            on,
            [&json!(["pkg:cargo/b@2.0.0"]), &json!([]), &json!(["pkg:cargo/a@1.0.0", "pkg:cargo/b@2.0.0"])]
        );
    }

    #[test]
    fn the_programs_own_document_has_what_it_is_made_of_and_nothing_else() {
        let root = crate::root().unwrap();
        let version = crate::tidy::version(&root).unwrap();
        let found: Value = serde_json::from_str(&of(&root, &version).unwrap()).unwrap();
        let components = found["components"].as_array().unwrap();
        let has = |name: &str| components.iter().find(|component| component["name"] == name);
        for name in ["redis", "kube", "aws-lc-sys", "fairlane-worker"] {
            assert!(has(name).is_some(), "no {name}");
        }
        // Those of tests and of other programs.
        for name in ["fairlane-testkit", "proptest", "plotters", "xtask"] {
            assert!(has(name).is_none(), "{name}");
        }
        for component in components {
            let ours = component["name"].as_str().unwrap().starts_with("fairlane-");
            assert!(component["licenses"].is_array(), "{component}");
            assert_eq!(component["hashes"].is_array(), !ours, "{component}");
        }
    }
}
