//! Puts a script together: its own text behind those shared parts that it needs, and no others.
//!
//! Redis makes every function of a script anew at each call, used or not; with all of the shared
//! ones that took longer than half of a submit's commands. So a block that is seldom entered begins
//! with a comment of three dashes: what only that block needs is made there.

use std::collections::BTreeSet;

/// The shared files, in the order in which they build on one another.
const SHARED: &[&str] = &[
    include_str!("../lua/prelude.lua"),
    include_str!("../lua/lanes.lua"),
    include_str!("../lua/ends.lua"),
    include_str!("../lua/nodes.lua"),
];

/// The whole text of the script that is `body`.
pub(crate) fn with_shared(body: &str) -> String {
    assemble(SHARED, body)
}

fn assemble(shared: &[&'static str], body: &str) -> String {
    let parts: Vec<Part> = shared.iter().flat_map(|text| parts(text)).collect();
    let sections = sections(body);
    let usual: String = sections.iter().filter(|(is_seldom, _)| !is_seldom).map(|(_, text)| *text).collect();
    let made = needed(&parts, &usual);
    let mut whole: String = made.iter().map(|index| parts[*index].text).collect();
    for (is_seldom, section) in sections {
        if is_seldom {
            whole.extend(needed(&parts, section).difference(&made).map(|index| parts[*index].text));
        }
        whole.push_str(section);
    }
    whole
}

/// The parts that some text uses, and those that they use.
fn needed(parts: &[Part], text: &str) -> BTreeSet<usize> {
    let mut wanted: BTreeSet<&str> = words(text).collect();
    let mut needed = BTreeSet::new();
    // Later parts use earlier ones, never the other way round: Lua's locals see only what is above.
    for (index, part) in parts.iter().enumerate().rev() {
        if part.names.iter().any(|name| wanted.contains(name)) {
            needed.insert(index);
            wanted.extend(words(part.text));
        }
    }
    needed
}

/// A script's text in pieces: blocks that are seldom entered, and what lies between them.
fn sections(body: &str) -> Vec<(bool, &str)> {
    let (mut sections, mut start, mut at, mut is_seldom) = (Vec::new(), 0, 0, false);
    for line in body.split_inclusive('\n') {
        let begins = !is_seldom && line.trim_start().starts_with("---");
        let ends = is_seldom && (line.starts_with("end") || line.starts_with("else"));
        if begins || ends {
            sections.push((is_seldom, &body[start..at]));
            (start, is_seldom) = (at, begins);
        }
        at += line.len();
    }
    sections.push((is_seldom, &body[start..]));
    sections
}

/// A `local` at the left margin: what it names, and all lines up to the next one.
struct Part {
    names: Vec<&'static str>,
    text: &'static str,
}

/// The parts of a shared file. Comments at the left margin belong to the part below them.
fn parts(file: &'static str) -> Vec<Part> {
    let mut starts = Vec::new();
    let (mut at, mut comment) = (0, None);
    for line in file.split_inclusive('\n') {
        if line.starts_with("local ") {
            starts.push(comment.unwrap_or(at));
        }
        comment = line.starts_with("--").then(|| comment.unwrap_or(at));
        at += line.len();
    }
    let ends = starts.iter().skip(1).copied().chain([file.len()]);
    let texts = starts.iter().zip(ends).map(|(start, end)| &file[*start..end]);
    texts.map(|text| Part { names: names(text), text }).collect()
}

/// What a part's `local` names: one function, or variables.
fn names(part: &'static str) -> Vec<&'static str> {
    let line = part.lines().find_map(|line| line.strip_prefix("local ")).unwrap_or_default();
    if let Some(function) = line.strip_prefix("function ") {
        return words(function).take(1).collect();
    }
    words(line.split('=').next().unwrap_or_default()).collect()
}

/// The words of some Lua that may name a local: not those in quotes, in comments or behind a dot.
fn words(text: &str) -> impl Iterator<Item = &str> {
    text.lines().flat_map(|line| {
        let mut found = Vec::new();
        let mut rest = line;
        let mut dotted = false;
        while let Some(next) = rest.chars().next() {
            let length = match next {
                '-' if rest.starts_with("--") => break,
                '\'' => rest[1..].find('\'').map_or(rest.len(), |end| end + 2),
                c if c.is_ascii_alphanumeric() || c == '_' => {
                    rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len())
                }
                c => c.len_utf8(),
            };
            let word = &rest[..length];
            if !dotted && word.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') {
                found.push(word);
            }
            dotted = word == ".";
            rest = &rest[length..];
        }
        found
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const BASE: &str =
        "-- Purpose: x\nlocal call = redis.call\nlocal a, b -- two\nif 1 then\n  a = call()\nend\n\n";
    const MORE: &str = "-- adds\nlocal function add(x) return a + x end\n\n-- takes away\nlocal function sub(x)\n  \
                        local add = 1\n  return x - 1\nend\nlocal twice = function(x) return add(add(x)) end\n";

    #[test]
    fn only_what_is_needed_is_taken_in_order() {
        let whole = |body: &str| assemble(&[BASE, MORE], body);
        assert_eq!(whole("return 'twice'.sub -- add\n"), "return 'twice'.sub -- add\n");
        assert_eq!(
            whole("return twice(2)\n"),
            [
                BASE,
                "-- adds\nlocal function add(x) return a + x end\n\n",
                "local twice = function(x) return add(add(x)) end\n",
                "return twice(2)\n",
            ]
            .concat()
        );
        assert!(whole("return b").starts_with("-- Purpose: x\nlocal call = redis.call\nlocal a, b"));
    }

    #[test]
    fn what_only_a_seldom_block_needs_is_made_there() {
        let body = "if a then\n  --- seldom\n  return twice(1)\nelse\n  return sub(1)\nend\nreturn 1\n";
        let parts = parts(MORE);
        let [add, sub, twice] = &parts[..] else { panic!("three parts are expected") };
        let (before, after) = body.split_at("if a then\n".len());
        // It has a variable of that name, which cannot be told from the function.
        let whole = [BASE, add.text, sub.text, before, twice.text, after].concat();
        assert_eq!(assemble(&[BASE, MORE], body), whole);
    }

    // What looks otherwise would be cut in the wrong place, or missed.
    #[test]
    fn shared_files_are_written_as_the_cutter_reads_them() {
        for file in SHARED {
            let whole: String = parts(file).iter().map(|part| part.text).collect();
            assert_eq!(whole, *file, "something stands in front of the first local");
            for line in file.lines() {
                assert!(
                    !line.contains(['"', '\\']) && !line.contains("[["),
                    "only plain single quotes: {line}"
                );
                let margin = line.starts_with(|c: char| !c.is_whitespace());
                let known =
                    ["local ", "--", "end", "if ", "else", "}"].iter().any(|start| line.starts_with(start));
                assert!(!margin || known, "this is no local, nor part of one: {line}");
            }
        }
    }

    #[test]
    fn no_two_shared_parts_have_one_name() {
        let all: Vec<&str> = SHARED.iter().flat_map(|file| parts(file)).flat_map(|part| part.names).collect();
        let distinct: BTreeSet<&str> = all.iter().copied().collect();
        assert_eq!(distinct.len(), all.len());
        assert!(distinct.contains("place") && distinct.contains("now"));
    }
}
