//! The results of several rounds.

use std::fmt;
use std::time::Duration;

use super::outage::Kind;

pub(super) struct Report {
    kind: Kind,
    away: Vec<Duration>,
    pub(super) runs_killed: usize,
    pub(super) attempts_used: usize,
    /// Streams that ended before their builds, or with an error.
    pub(super) streams_broken: usize,
    pub(super) lines: usize,
    pub(super) lines_lost: usize,
    pub(super) lines_doubled: usize,
    /// Notices within logs; there should be none.
    pub(super) notes: Vec<String>,
    pub(super) starts: usize,
    pub(super) longest_without_start: Duration,
}

impl Report {
    pub(super) fn new(kind: Kind) -> Self {
        Self {
            kind,
            away: Vec::new(),
            runs_killed: 0,
            attempts_used: 0,
            streams_broken: 0,
            lines: 0,
            lines_lost: 0,
            lines_doubled: 0,
            notes: Vec::new(),
            starts: 0,
            longest_without_start: Duration::ZERO,
        }
    }

    pub(super) fn away(&mut self, length: Duration) {
        self.away.push(length);
    }

    /// Compares a log, or a stream of it, with what the run wrote: `line 1` to `line n`, then `end n`.
    pub(super) fn log(&mut self, log: &[String]) {
        let end = log.iter().rev().find_map(|line| line.strip_prefix("end ")?.parse::<usize>().ok());
        let mut seen = vec![0_usize; end.unwrap_or_default() + 1];
        for line in log.iter().filter(|line| !line.starts_with("end ")) {
            let number = line.strip_prefix("line ").and_then(|number| number.parse::<usize>().ok());
            match number.and_then(|number| seen.get_mut(number)) {
                Some(count) => *count += 1,
                None => self.notes.push(line.clone()),
            }
        }
        self.lines += seen.iter().sum::<usize>();
        self.lines_lost += seen.iter().skip(1).filter(|count| **count == 0).count();
        self.lines_lost += usize::from(end.is_none());
        self.lines_doubled += seen.iter().map(|count| count.saturating_sub(1)).sum::<usize>();
    }

    pub(super) fn is_clean(&self) -> bool {
        let costs =
            [self.runs_killed, self.attempts_used, self.streams_broken, self.lines_lost, self.lines_doubled];
        costs == [0; 5] && self.notes.is_empty()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let longest = self.away.iter().max().copied().unwrap_or_default();
        write!(
            f,
            "{:?}: {} rounds, Redis away for {:.1} s at most; runs killed {}, attempts used {}, streams broken {}, \
             lines lost {}, doubled {} (of {}, in logs and streams), builds started {}, longest time without a start {:.1} s",
            self.kind,
            self.away.len(),
            longest.as_secs_f64(),
            self.runs_killed,
            self.attempts_used,
            self.streams_broken,
            self.lines_lost,
            self.lines_doubled,
            self.lines,
            self.starts,
            self.longest_without_start.as_secs_f64(),
        )?;
        self.notes.iter().take(5).try_for_each(|note| write!(f, "\n  unexpected line: {note}"))
    }
}
