//! Modules must not depend on each other in a cycle. A parent and its children may: that is how Rust groups
//! things.
//!
//! Each reader turns a crate or a package into a graph: its nodes are files, and an edge means that one file names
//! something that another one defines. [`check`] reports each set of files that all reach each other.

mod python;
mod rust;
#[cfg(test)]
mod tests;
mod tokens;

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::{Finding, Source};

/// Which file names which in one crate or package.
struct Graph<'a> {
    modules: Vec<Module<'a>>,
    /// From (from, to) to the first line of `from` that names `to`, counted from 0.
    edges: BTreeMap<(usize, usize), usize>,
}

/// One file.
struct Module<'a> {
    /// Its path in the crate: `["kubernetes", "pod"]`.
    path: Vec<String>,
    source: &'a Source,
}

impl Module<'_> {
    fn name(&self) -> String {
        self.path.join("::")
    }

    fn is_kin(&self, other: &Self) -> bool {
        self.path.starts_with(&other.path) || other.path.starts_with(&self.path)
    }
}

pub(crate) fn check(sources: &[Source]) -> Vec<Finding> {
    let graphs = rust::graphs(sources).into_iter().chain(python::graphs(sources));
    graphs.flat_map(|graph| cycles(&graph)).collect()
}

/// One finding for each set of modules that all reach each other.
fn cycles(graph: &Graph<'_>) -> Vec<Finding> {
    let count = graph.modules.len();
    let next: Vec<Vec<usize>> = (0..count).map(|from| successors(graph, from)).collect();
    let reached: Vec<Vec<bool>> = (0..count).map(|from| reachable(&next, from)).collect();
    let mut findings = Vec::new();
    let mut reported = vec![false; count];
    for first in 0..count {
        let cycle: Vec<usize> =
            (first..count).filter(|at| reached[first][*at] && reached[*at][first]).collect();
        if cycle.is_empty() || reported[first] {
            continue;
        }
        for at in &cycle {
            reported[*at] = true;
        }
        let names: Vec<_> = cycle.iter().map(|at| graph.modules[*at].name()).collect();
        let mut advice = format!(
            "these modules depend on each other: {}; remove one of these references",
            names.join(", ")
        );
        for ((from, to), line) in &graph.edges {
            if cycle.contains(from) && next[*from].contains(to) && cycle.contains(to) {
                let (from, to) = (&graph.modules[*from], &graph.modules[*to]);
                let _ = write!(advice, "\n    {}:{} names {}", from.source.path, line + 1, to.name());
            }
        }
        findings.push(Finding::in_file(graph.modules[first].source, advice));
    }
    findings
}

fn successors(graph: &Graph<'_>, from: usize) -> Vec<usize> {
    let edges = graph.edges.keys().filter(|(at, _)| *at == from).map(|(_, to)| *to);
    edges.filter(|to| !graph.modules[from].is_kin(&graph.modules[*to])).collect()
}

fn reachable(next: &[Vec<usize>], from: usize) -> Vec<bool> {
    let mut reached = vec![false; next.len()];
    let mut open = next[from].clone();
    while let Some(at) = open.pop() {
        if !std::mem::replace(&mut reached[at], true) {
            open.extend(&next[at]);
        }
    }
    reached
}
