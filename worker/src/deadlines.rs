//! The deadlines of a run.

use std::time::Duration;

use tokio::time::Instant;

use crate::settings::Settings;

/// How long a run may be silent, and how long it may take.
pub(crate) struct Deadlines {
    pending: Duration,
    start: Duration,
    silence: Duration,
    total: Duration,
    /// When it was claimed, then when it was up.
    began: Instant,
    up: bool,
    /// What it waits for before that.
    note: String,
    last_line: Option<Instant>,
}

impl Deadlines {
    pub(crate) fn new(settings: &Settings) -> Self {
        Self {
            pending: settings.pending_timeout,
            start: settings.start_timeout,
            silence: settings.silence_timeout,
            total: settings.total_timeout,
            began: Instant::now(),
            up: false,
            note: String::new(),
            last_line: None,
        }
    }

    /// It is up: its times count from now on.
    pub(crate) fn up(&mut self) {
        self.began = Instant::now();
        self.up = true;
    }

    pub(crate) fn note(&mut self, note: &str) {
        note.clone_into(&mut self.note);
    }

    pub(crate) fn line(&mut self) {
        self.last_line = Some(Instant::now());
    }

    pub(crate) fn next(&self) -> Instant {
        if !self.up {
            return self.began + self.pending;
        }
        let quiet = self.last_line.map_or(self.began + self.start, |line| line + self.silence);
        quiet.min(self.began + self.total)
    }

    /// What to say when [`Self::next`] has come.
    pub(crate) fn passed(&self) -> String {
        let now = Instant::now();
        let seconds = |time: Duration| humantime::format_duration(time).to_string();
        match self.last_line {
            _ if !self.up && self.note.is_empty() => {
                format!("the build did not start within {}", seconds(self.pending))
            }
            _ if !self.up => {
                format!("the build did not start within {}: {}", seconds(self.pending), self.note)
            }
            _ if now >= self.began + self.total => {
                format!("the build took longer than {}", seconds(self.total))
            }
            None => format!("the build wrote nothing within {} of its start", seconds(self.start)),
            Some(_) => format!("the build wrote nothing for {}", seconds(self.silence)),
        }
    }
}
