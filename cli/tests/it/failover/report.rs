//! The results of several rounds.

use std::fmt;
use std::time::Duration;

use super::outage::Kind;
use crate::numbered::Numbered;

pub(super) struct Report {
    kind: Kind,
    away: Vec<Duration>,
    pub(super) runs_killed: usize,
    pub(super) attempts_used: usize,
    /// Streams that ended before their builds, or with an error.
    pub(super) streams_broken: usize,
    /// Logs, and streams of them.
    pub(super) log: Numbered,
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
            log: Numbered::default(),
            starts: 0,
            longest_without_start: Duration::ZERO,
        }
    }

    pub(super) fn away(&mut self, length: Duration) {
        self.away.push(length);
    }

    pub(super) fn is_clean(&self) -> bool {
        [self.runs_killed, self.attempts_used, self.streams_broken] == [0; 3] && self.log.is_clean()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let longest = self.away.iter().max().copied().unwrap_or_default();
        write!(
            f,
            "{:?}: {} rounds, Redis away for {:.1} s at most; runs killed {}, attempts used {}, streams broken {}, \
             lines lost {}, doubled {}, out of order {} (of {}, in logs and streams), builds started {}, longest time without a start {:.1} s",
            self.kind,
            self.away.len(),
            longest.as_secs_f64(),
            self.runs_killed,
            self.attempts_used,
            self.streams_broken,
            self.log.lost,
            self.log.doubled,
            self.log.disordered,
            self.log.lines,
            self.starts,
            self.longest_without_start.as_secs_f64(),
        )?;
        self.log.notes.iter().take(5).try_for_each(|note| write!(f, "\n  unexpected line: {note}"))
    }
}
