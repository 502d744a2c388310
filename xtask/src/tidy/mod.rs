//! The project's rules that no other tool checks. Each message says what to do.

mod crates;
mod cycles;
mod invariants;
mod keys;
mod lua;
mod sizes;
#[cfg(test)]
mod tests;
mod versions;
mod words;

use std::path::Path;

use anyhow::{Context as _, Result, bail};

/// Folders that are not part of the project.
const FOREIGN: &[&str] = &["target", "node_modules", "__pycache__", "venv"];

/// A text file of the project.
pub(crate) struct Source {
    /// Relative to the workspace's folder, with `/`.
    pub(crate) path: String,
    /// Its contents.
    pub(crate) text: String,
}

impl Source {
    /// Whether it only holds tests or benchmarks.
    pub(crate) fn is_test(&self) -> bool {
        let parts: Vec<_> = self.path.split('/').collect();
        parts.iter().any(|part| matches!(*part, "tests" | "benches" | "tests.rs"))
    }

    /// Whether its name ends with this extension, which includes the dot.
    pub(crate) fn has_extension(&self, extension: &str) -> bool {
        self.path.ends_with(extension)
    }
}

/// A problem: where, and what to do.
pub(crate) struct Finding {
    place: String,
    advice: String,
}

impl Finding {
    /// A finding in a file.
    pub(crate) fn in_file(source: &Source, advice: impl Into<String>) -> Self {
        Self { place: source.path.clone(), advice: advice.into() }
    }

    /// A finding at a line, counted from 0.
    pub(crate) fn at_line(source: &Source, line: usize, advice: impl Into<String>) -> Self {
        Self { place: format!("{}:{}", source.path, line + 1), advice: advice.into() }
    }
}

/// Checks all rules and prints the problems.
pub(crate) fn run(root: &Path) -> Result<()> {
    let sources = read_all(root)?;
    let mut findings = Vec::new();
    for check in [
        sizes::check,
        keys::check,
        lua::check,
        invariants::check,
        words::check,
        crates::check,
        cycles::check,
        versions::check,
    ] {
        findings.extend(check(&sources));
    }
    for finding in &findings {
        eprintln!("{}: {}", finding.place, finding.advice);
    }
    match findings.len() {
        0 => Ok(()),
        count => bail!("tidy: {count} problems to fix"),
    }
}

/// The version of everything that is published.
pub(crate) fn version(root: &Path) -> Result<String> {
    let manifest = std::fs::read_to_string(root.join(versions::MANIFEST))?;
    versions::of(&manifest).map(str::to_owned).context("Cargo.toml names no version")
}

fn read_all(root: &Path) -> Result<Vec<Source>> {
    let mut sources = Vec::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        let entries =
            std::fs::read_dir(&folder).with_context(|| format!("cannot list {}", folder.display()))?;
        for entry in entries {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if path.is_symlink() || name.starts_with('.') || FOREIGN.contains(&name.as_ref()) {
                continue;
            }
            if path.is_dir() {
                folders.push(path);
            } else {
                sources.extend(read(root, &path));
            }
        }
    }
    sources.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(sources)
}

/// The file, unless it is not text.
fn read(root: &Path, path: &Path) -> Option<Source> {
    let text = std::fs::read_to_string(path).ok()?;
    let path = path.strip_prefix(root).unwrap_or(path).to_string_lossy().replace('\\', "/");
    Some(Source { path, text })
}
