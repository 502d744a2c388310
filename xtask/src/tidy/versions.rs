//! Everything that is delivered has one version: that of the workspace.

use super::{Finding, Source};

/// Where else it is written, and what stands before it.
const COPIES: &[(&str, &str)] = &[
    ("deploy/helm/fairlane/Chart.yaml", "\nversion: "),
    ("deploy/helm/fairlane/Chart.yaml", "\nappVersion: "),
    ("deploy/kubernetes/kustomization.yaml", "newTag: "),
    ("deploy/binderhub/kustomization.yaml", "newTag: "),
    ("binderhub/pyproject.toml", "\nversion = "),
    ("binderhub/fairlane_binderhub/__init__.py", "\n__version__ = "),
    ("docs/binderhub.md", "fairlane_binderhub-"),
    ("docs/kubernetes.md", "registry.example.org/fairlane:"),
];
pub(super) const MANIFEST: &str = "Cargo.toml";
const BEFORE: &str = "[workspace.package]\nversion = \"";

/// Every copy is the same.
pub(super) fn check(sources: &[Source]) -> Vec<Finding> {
    let named = |path: &str| sources.iter().find(|source| source.path == path);
    let Some(manifest) = named(MANIFEST) else { return Vec::new() };
    let Some(version) = of(&manifest.text) else {
        return vec![Finding::in_file(manifest, "[workspace.package] must begin with `version`")];
    };
    let mut findings = Vec::new();
    for (path, before) in COPIES {
        let Some(source) = named(path) else { continue };
        let mut copies = source.text.match_indices(before).peekable();
        if copies.peek().is_none() {
            findings
                .push(Finding::in_file(source, format!("the version is expected after `{}`", before.trim())));
        }
        for (at, _) in copies {
            let copy = source.text[at + before.len()..].trim_start_matches('"');
            let rest = copy.strip_prefix(version);
            if rest.is_none_or(|rest| rest.starts_with(|next: char| next.is_ascii_digit() || next == '.')) {
                let line = source.text[..at + before.len()].matches('\n').count();
                findings.push(Finding::at_line(
                    source,
                    line,
                    format!("the version is {version}, as in {MANIFEST}"),
                ));
            }
        }
    }
    findings
}

/// The workspace's version, from its `Cargo.toml`.
pub(super) fn of(manifest: &str) -> Option<&str> {
    manifest.split_once(BEFORE)?.1.split('"').next()
}
