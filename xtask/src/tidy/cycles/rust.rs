//! The modules of a crate, and which one names which. Tests do not count.
//!
//! A path counts for the module that defines the item, not for one that only re-exports it with `pub use`.

use std::collections::{BTreeMap, HashMap};

use super::super::Source;
use super::tokens::{Token, group_length, is_word, item_length, tokens};
use super::{Graph, Module};

/// Longest chain of `use` that is followed: a longer one is circular.
const HOPS_MAX: usize = 16;
/// Keywords before a name that a module defines.
const DEFINES: &[&str] = &["fn", "struct", "enum", "trait", "type", "const", "static", "union"];

pub(super) fn graphs(sources: &[Source]) -> Vec<Graph<'_>> {
    let roots = sources.iter().filter_map(|source| {
        let path = source.path.as_str();
        let folder = path.strip_suffix("/src/lib.rs").or_else(|| path.strip_suffix("/src/main.rs"))?;
        Some((folder, source))
    });
    roots.map(|(folder, root)| graph(folder, root, sources)).collect()
}

fn graph<'a>(folder: &'a str, root: &'a Source, sources: &'a [Source]) -> Graph<'a> {
    let mut reader = Reader { folder, sources, scopes: Vec::new(), modules: Vec::new() };
    reader.read_file(root, Vec::new(), None);
    let mut edges = BTreeMap::new();
    for (at, scope) in reader.scopes.iter().enumerate() {
        for (path, line) in &scope.paths {
            let Some(Found::Item(to)) = reader.resolve(at, path, 0) else { continue };
            let to = reader.scopes[to].file;
            if to != scope.file {
                let first: &mut usize = edges.entry((scope.file, to)).or_insert(*line);
                *first = (*first).min(*line);
            }
        }
    }
    Graph { modules: reader.modules, edges }
}

/// A module, in its own file or in braces.
#[derive(Default)]
struct Scope {
    /// The file that it is in, as an index into the modules.
    file: usize,
    parent: Option<usize>,
    children: HashMap<String, usize>,
    /// Names that `use` brings in.
    imports: HashMap<String, Vec<String>>,
    globs: Vec<Vec<String>>,
    defined: Vec<String>,
    /// Every path in it, and its line.
    paths: Vec<(Vec<String>, usize)>,
}

/// What a path leads to.
#[derive(Clone, Copy)]
enum Found {
    Module(usize),
    /// Something that this module defines.
    Item(usize),
}

struct Reader<'a> {
    folder: &'a str,
    sources: &'a [Source],
    scopes: Vec<Scope>,
    modules: Vec<Module<'a>>,
}

impl<'a> Reader<'a> {
    fn read_file(&mut self, source: &'a Source, path: Vec<String>, parent: Option<usize>) -> usize {
        let file = self.modules.len();
        self.modules.push(Module { path, source });
        self.read_scope(&tokens(&source.text), Scope { file, parent, ..Scope::default() })
    }

    fn read_scope(&mut self, tokens: &[Token], scope: Scope) -> usize {
        let scope_at = self.scopes.len();
        self.scopes.push(scope);
        let text = |at: usize| tokens.get(at).map_or("", |token| token.text.as_str());
        let (mut at, mut depth, mut file) = (0, 0_usize, None);
        while at < tokens.len() {
            let before = at.checked_sub(1).map_or("", text);
            match text(at) {
                "#" if text(at + 1) == "[" => {
                    let length = group_length(&tokens[at + 1..]);
                    let attribute: String = (at + 2..at + length).map(text).collect();
                    at += 1 + length;
                    if attribute == "cfg(test)" {
                        at += item_length(&tokens[at..]);
                    } else if let Some(name) = attribute.strip_prefix("path=") {
                        file = Some(name.trim_matches('"').to_owned());
                    }
                    continue;
                }
                "mod" if text(at + 2) == ";" => {
                    self.read_child(scope_at, text(at + 1), file.take());
                    at += 3;
                    continue;
                }
                "mod" if text(at + 2) == "{" => {
                    let length = group_length(&tokens[at + 2..]);
                    let inner = Scope {
                        file: self.scopes[scope_at].file,
                        parent: Some(scope_at),
                        ..Scope::default()
                    };
                    let child = self.read_scope(&tokens[at + 3..at + 1 + length], inner);
                    self.scopes[scope_at].children.insert(text(at + 1).to_owned(), child);
                    at += 2 + length;
                    continue;
                }
                "use" => {
                    let length = item_length(&tokens[at..]);
                    self.read_use(scope_at, &tokens[at + 1..at + length - 1], &[]);
                    at += length;
                    continue;
                }
                "{" => depth += 1,
                "}" => depth = depth.saturating_sub(1),
                word if is_word(&tokens[at]) => {
                    if depth == 0
                        && (DEFINES.contains(&before) || text(at.saturating_sub(2)) == "macro_rules")
                    {
                        self.scopes[scope_at].defined.push(word.to_owned());
                    }
                    let path = path(&tokens[at..]);
                    let length = 2 * path.len() - 1;
                    if path.len() > 1 && ![".", "'", "::"].contains(&before) {
                        self.scopes[scope_at].paths.push((path, tokens[at].line));
                    }
                    at += length;
                    continue;
                }
                _ => {}
            }
            at += 1;
        }
        scope_at
    }

    /// Reads the file of a module that another one declares.
    fn read_child(&mut self, parent: usize, name: &str, file: Option<String>) {
        let Module { path, source } = &self.modules[self.scopes[parent].file];
        let path: Vec<_> = path.iter().cloned().chain([name.to_owned()]).collect();
        let stem = format!("{}/src/{}", self.folder, path.join("/"));
        let beside = source.path.rsplit_once('/').map_or("", |(folder, _)| folder);
        let candidates = match file {
            Some(file) => vec![format!("{beside}/{file}")],
            None => vec![format!("{stem}.rs"), format!("{stem}/mod.rs")],
        };
        let found = self.sources.iter().find(|source| candidates.contains(&source.path));
        if let Some(source) = found {
            let child = self.read_file(source, path, Some(parent));
            self.scopes[parent].children.insert(name.to_owned(), child);
        }
    }

    /// Reads a `use` tree, without its semicolon.
    fn read_use(&mut self, scope: usize, tokens: &[Token], prefix: &[String]) {
        let text = |at: usize| tokens.get(at).map_or("", |token| token.text.as_str());
        let mut at = 0;
        while at < tokens.len() {
            let mut whole = prefix.to_vec();
            while is_word(&tokens[at]) {
                whole.push(text(at).to_owned());
                at += 1;
                if text(at) != "::" {
                    break;
                }
                at += 1;
            }
            let line = tokens[at.min(tokens.len() - 1)].line;
            let into = &mut self.scopes[scope];
            match text(at) {
                "{" => {
                    let length = group_length(&tokens[at..]);
                    self.read_use(scope, &tokens[at + 1..at + length - 1], &whole);
                    at += length;
                }
                "*" => {
                    into.globs.push(whole.clone());
                    into.paths.push((whole.into_iter().chain(["*".to_owned()]).collect(), line));
                    at += 1;
                }
                next => {
                    whole.pop_if(|last| last == "self" && !prefix.is_empty());
                    let name =
                        if next == "as" { text(at + 1) } else { whole.last().map_or("", String::as_str) };
                    into.imports.insert(name.to_owned(), whole.clone());
                    into.paths.push((whole.clone(), line));
                    at += if next == "as" { 2 } else { 0 };
                }
            }
            // The comma.
            at += 1;
        }
    }

    /// What a path in a module leads to; `None` if it leads out of the crate.
    fn resolve(&self, from: usize, path: &[String], hops: usize) -> Option<Found> {
        let (first, rest) = path.split_first()?;
        let mut found = match first.as_str() {
            "crate" => Found::Module(0),
            "self" => Found::Module(from),
            "super" => Found::Module(self.scopes[from].parent?),
            name => self.member(from, name, hops)?,
        };
        for name in rest {
            let Found::Module(module) = found else { break };
            found = match name.as_str() {
                "super" => Found::Module(self.scopes[module].parent?),
                // A glob, or something that a macro defines there.
                name => self.member(module, name, hops).unwrap_or(Found::Item(module)),
            };
        }
        Some(found)
    }

    fn member(&self, module: usize, name: &str, hops: usize) -> Option<Found> {
        let scope = &self.scopes[module];
        if hops > HOPS_MAX {
            return None;
        }
        if let Some(child) = scope.children.get(name) {
            return Some(Found::Module(*child));
        }
        if scope.defined.iter().any(|defined| defined == name) {
            return Some(Found::Item(module));
        }
        if let Some(path) = scope.imports.get(name) {
            return self.resolve(module, path, hops + 1);
        }
        scope.globs.iter().find_map(|path| match self.resolve(module, path, hops + 1)? {
            Found::Module(other) if other != module => self.member(other, name, hops + 1),
            _ => None,
        })
    }
}

/// The path that the tokens begin with.
fn path(tokens: &[Token]) -> Vec<String> {
    let mut path = vec![tokens[0].text.clone()];
    for pair in tokens[1..].chunks(2) {
        match pair {
            [colons, word] if colons.text == "::" && is_word(word) => path.push(word.text.clone()),
            _ => break,
        }
    }
    path
}
