//! Mutants that no test can tell from the original, each with the reason: `common/tests/equivalent-mutants.txt`.

use std::collections::HashMap;

use anyhow::{Result, bail};

use super::mutate::Mutant;

/// Where they are, in the workspace.
pub(crate) const PATH: &str = "common/tests/equivalent-mutants.txt";

/// A mutant by what it changes, so that an entry ends with the line that it is about.
type Key = (String, String, String, usize);

/// The reasons, by mutant.
#[derive(Debug, Default)]
pub(crate) struct Known(HashMap<Key, String>);

fn key_of(mutant: &Mutant) -> Key {
    (mutant.file.clone(), mutant.before.clone(), mutant.after.clone(), mutant.number)
}

impl Known {
    /// Reads entries of four lines: `file.lua` (and `#2` for the second such line of the file), `- line`,
    /// `+ changed line`, `= reason`. An entry may leave out what the one before it says too: the file, or the file
    /// and the line.
    pub(crate) fn read(text: &str) -> Result<Self> {
        let (mut file, mut number, mut before, mut after) = (String::new(), 1, String::new(), Vec::new());
        let mut known = HashMap::new();
        for (at, line) in text.lines().enumerate() {
            let rest = line.get(1..).unwrap_or_default().trim();
            match line.chars().next() {
                None | Some('#') => {}
                Some('-') => rest.clone_into(&mut before),
                Some('+') => after.push(rest.to_owned()),
                Some('=') if after.is_empty() => bail!("{PATH}:{}: a reason without a changed line", at + 1),
                Some('=') => {
                    for after in after.drain(..) {
                        known.insert((file.clone(), before.clone(), after, number), rest.to_owned());
                    }
                }
                Some(_) => {
                    let (name, count) = line.split_once(" #").unwrap_or((line, "1"));
                    name.clone_into(&mut file);
                    let Ok(count) = count.parse() else {
                        bail!("{PATH}:{}: '#{count}' is no number", at + 1)
                    };
                    number = count;
                }
            }
        }
        Ok(Self(known))
    }

    pub(crate) fn reason(&self, mutant: &Mutant) -> Option<&str> {
        self.0.get(&key_of(mutant)).map(String::as_str)
    }

    /// Entries that no mutant has any more: their lines have changed.
    pub(crate) fn left_over(&self, mutants: &[Mutant]) -> Vec<String> {
        let mut left: Vec<_> = self
            .0
            .keys()
            .filter(|key| !mutants.iter().any(|mutant| key_of(mutant) == **key))
            .map(|(file, before, after, number)| format!("{file} #{number}\n- {before}\n+ {after}"))
            .collect();
        left.sort();
        left
    }
}
