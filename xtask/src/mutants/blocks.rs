//! Which blocks of the library a test runs: a copy of the library notes each block in Redis's log when it is
//! entered for the first time.

use std::collections::HashSet;

use super::lexer::Code;

/// What a line of Redis's log about a block contains, before its number.
const NOTED: &str = "mutants: block ";

/// Blocks of one file.
pub(crate) struct Blocks {
    /// Of each block: where its first statement may begin, and where it ends.
    places: Vec<(usize, usize)>,
}

impl Blocks {
    pub(crate) fn of(text: &str) -> Self {
        let code = Code::new(text);
        let (mut places, mut open) = (Vec::new(), Vec::new());
        for (at, token) in code.tokens.iter().enumerate() {
            let mut begin = |places: &mut Vec<(usize, usize)>, start: usize| {
                open.push(places.len());
                places.push((start, text.len()));
            };
            if code.is_any(at, &["end", "until", "else", "elseif"]) {
                if let Some(block) = open.pop() {
                    let place: &mut (usize, usize) = &mut places[block];
                    place.1 = token.start;
                }
                if code.is(at, "else") {
                    open.push(places.len());
                    places.push((token.end(), text.len()));
                }
            } else if code.is_any(at, &["then", "do", "repeat"]) {
                begin(&mut places, token.end());
            } else if code.is(at, "function") {
                let bracket =
                    (at..code.tokens.len()).find(|word| code.is(*word, "(")).and_then(|word| code.mate(word));
                begin(&mut places, bracket.map_or(token.end(), |close| code.tokens[close].end()));
            }
        }
        Self { places }
    }

    pub(crate) fn len(&self) -> usize {
        self.places.len()
    }

    /// The smallest block around a place; none if it is in no block.
    pub(crate) fn around(&self, place: usize) -> Option<usize> {
        let fits = |block: &usize| self.places[*block].0 <= place && place < self.places[*block].1;
        (0..self.places.len()).filter(fits).max_by_key(|block| self.places[*block].0)
    }

    /// The file, in which each block notes its number, from `first` on.
    pub(crate) fn noted(&self, text: &str, first: usize) -> String {
        let mut copy = text.to_owned();
        let mut starts: Vec<_> =
            self.places.iter().enumerate().map(|(block, place)| (place.0, block)).collect();
        starts.sort_unstable();
        for (start, block) in starts.into_iter().rev() {
            copy.insert_str(start, &format!(" ENTERED({})", first + block));
        }
        copy
    }
}

/// The function that notes a block, to be put before the library's own text.
pub(crate) fn noting() -> String {
    format!(
        "local ENTERED_ALREADY = {{}}\nlocal function ENTERED(block) if not ENTERED_ALREADY[block] then \
         ENTERED_ALREADY[block] = true redis.log(redis.LOG_WARNING, '{NOTED}' .. block) end end\n"
    )
}

/// The blocks that a log names.
pub(crate) fn entered(log: &str) -> HashSet<usize> {
    let after = log.split(NOTED).skip(1);
    after.filter_map(|rest| rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()).collect()
}
