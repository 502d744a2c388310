//! The modules of a Python package, and their imports, including those inside functions and those for type
//! checkers only.

use std::collections::BTreeMap;

use super::super::Source;
use super::{Graph, Module};

pub(super) fn graphs(sources: &[Source]) -> Vec<Graph<'_>> {
    let packages = sources.iter().filter(|source| !source.is_test());
    packages
        .filter_map(|source| source.path.strip_suffix("/__init__.py"))
        .map(|folder| graph(folder, sources))
        .collect()
}

fn graph<'a>(folder: &'a str, sources: &'a [Source]) -> Graph<'a> {
    let modules: Vec<Module<'_>> = sources.iter().filter_map(|source| module(folder, source)).collect();
    let package = folder.rsplit('/').next().unwrap_or(folder);
    let mut edges = BTreeMap::new();
    for (from, module) in modules.iter().enumerate() {
        for (line, text) in module.source.text.lines().enumerate() {
            for name in imported(text.trim(), package) {
                let to = modules.iter().position(|other| other.path == [name]);
                if let Some(to) = to.filter(|to| *to != from) {
                    edges.entry((from, to)).or_insert(line);
                }
            }
        }
    }
    Graph { modules, edges }
}

/// A file of the package's own folder; the package itself has no path.
fn module<'a>(folder: &str, source: &'a Source) -> Option<Module<'a>> {
    let name = source.path.strip_prefix(folder)?.strip_prefix('/')?.strip_suffix(".py")?;
    let path = if name == "__init__" { Vec::new() } else { vec![name.to_owned()] };
    (!name.contains('/')).then_some(Module { path, source })
}

/// The package's modules that a line imports. An import statement names its modules in its first line.
fn imported<'a>(line: &'a str, package: &str) -> Vec<&'a str> {
    let first = |path: &'a str| path.split(['.', ' ', ',']).next().unwrap_or_default();
    if let Some(rest) = line.strip_prefix("from . import ") {
        return rest.split(',').map(|name| first(name.trim_matches([' ', '(', ')']))).collect();
    }
    let dotted = line.strip_prefix("from .").or_else(|| {
        let rest = line.strip_prefix("from ").or_else(|| line.strip_prefix("import "))?;
        rest.strip_prefix(package)?.strip_prefix('.')
    });
    dotted.map(first).into_iter().collect()
}
