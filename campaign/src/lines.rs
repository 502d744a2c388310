//! Reads files line by line: lines of bounded length, and those that are broken, with their numbers.

use std::fmt::Write as _;
use std::io::{BufRead, Read as _};

use fairlane_clikit::human;
use fairlane_clikit::output::{Colors, clean};

/// Bad lines that are reported with their reason; further ones are only counted.
const TOLD_MAX: usize = 10;

/// Lines of a file that cannot be used, with reasons for the first ones.
#[derive(Debug, Default)]
pub struct BadLines {
    file: String,
    count: usize,
    first: Vec<(u64, String)>,
}

impl BadLines {
    /// None yet, of the file with this name.
    pub fn of(file: String) -> Self {
        Self { file, ..Self::default() }
    }

    /// Adds a line.
    pub fn add(&mut self, line: u64, why: String) {
        self.count += 1;
        if self.first.len() < TOLD_MAX {
            self.first.push((line, why));
        }
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.count
    }

    /// The message about them; `None` if there are none.
    pub fn sentence(&self) -> Option<String> {
        if self.count == 0 {
            return None;
        }
        let were = if self.count == 1 { "was" } else { "were" };
        let lines = human::many(self.count as u64, "line");
        let mut said = format!("{}: {lines} {were} skipped:", self.file);
        for (line, why) in &self.first {
            // Writing to a string cannot fail.
            let _ = write!(said, "\n  line {line}: {}", clean(why, Colors::Drop));
        }
        if self.count > self.first.len() {
            let _ = write!(said, "\n  and {} more", self.count - self.first.len());
        }
        Some(said)
    }
}

/// Calls `take` with each line that is not blank and its number, and keeps the reasons of those that it refuses. Lines
/// longer than `bytes_max` are bad; `what` names what such a line is too long for.
pub(crate) fn each(
    from: &mut impl BufRead,
    bytes_max: usize,
    what: &str,
    bad: &mut BadLines,
    mut take: impl FnMut(u64, &[u8]) -> Result<(), String>,
) {
    let mut line = Vec::new();
    for number in 1.. {
        line.clear();
        match next(from, bytes_max, &mut line) {
            Ok(0) => break,
            Ok(bytes) if bytes > bytes_max => {
                bad.add(number, format!("has {bytes} bytes: too long for {what}"));
            }
            Ok(_) if line.trim_ascii().is_empty() => {}
            Ok(_) => {
                if let Err(why) = take(number, &line) {
                    bad.add(number, why);
                }
            }
            Err(error) => {
                // The download was interrupted; what came before is usable.
                bad.add(number, format!("the rest of the file cannot be read: {error}"));
                break;
            }
        }
    }
}

/// Reads a line, keeps at most `bytes_max` of it, and returns how long it was.
fn next(from: &mut impl BufRead, bytes_max: usize, line: &mut Vec<u8>) -> std::io::Result<usize> {
    let mut read = from.by_ref().take(bytes_max as u64).read_until(b'\n', line)?;
    if read == bytes_max && line.last() != Some(&b'\n') {
        read += from.skip_until(b'\n')?;
        read = read.max(bytes_max + 1);
    }
    Ok(read)
}
