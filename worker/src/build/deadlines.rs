//! The deadlines of a run.

use std::sync::Arc;
use std::time::Duration;

use fairlane_common::FailureCause;
use tokio::time::Instant;

use crate::settings::Settings;
use crate::time::stall::Stalls;

/// How long a run may be silent, and how long it may take. Time in which its worker was suspended counts toward
/// neither, because the worker could not see what the run did.
pub(crate) struct Deadlines {
    pending: Duration,
    start: Duration,
    silence: Duration,
    total: Duration,
    stalls: Arc<Stalls>,
    /// When it was claimed; once it is up, when it came up.
    began: Instant,
    up: bool,
    /// What it waits for until it is up.
    note: String,
    last_line: Option<Instant>,
    /// Whether its lines are not being read at present.
    paused: bool,
    /// Since when it has waited to push: neither silence nor the total time counts meanwhile.
    held: Option<Instant>,
    /// How the total time is counted.
    counted: Counted,
}

/// The time that a run had been up at a certain moment, and that moment.
struct Counted {
    before: Option<Duration>,
    since: Instant,
    /// How long the worker had been suspended by then.
    stalled: Duration,
}

impl Deadlines {
    /// `ran`: how long the run has already been up, if it is up and this is known.
    pub(crate) fn new(settings: &Settings, stalls: Arc<Stalls>, ran: Option<Duration>) -> Self {
        let now = Instant::now();
        Self {
            pending: settings.pending_timeout,
            start: settings.start_timeout,
            silence: settings.silence_timeout,
            total: settings.total_timeout,
            counted: Counted { before: ran, since: now, stalled: stalls.total(now) },
            stalls,
            began: now,
            up: false,
            note: String::new(),
            last_line: None,
            paused: false,
            held: None,
        }
    }

    /// The run is up: its time limits count from now on; the total time counts from when it first was.
    pub(crate) fn up(&mut self) {
        let now = Instant::now();
        self.began = now;
        self.up = true;
        if self.counted.before.is_none() {
            let stalled = self.stalls.total(now);
            self.counted = Counted { before: Some(Duration::ZERO), since: now, stalled };
        }
    }

    pub(crate) fn note(&mut self, note: &str) {
        note.clone_into(&mut self.note);
    }

    pub(crate) fn line(&mut self) {
        self.last_line = Some(Instant::now());
    }

    /// Its lines are no longer read, or are read again: a pause does not count as silence.
    pub(crate) fn pause(&mut self, paused: bool) {
        if self.paused && !paused && self.up {
            self.line();
        }
        self.paused = paused;
    }

    /// It waits to push from now on, or no longer does.
    pub(crate) fn hold(&mut self, holds: bool) {
        if holds == self.held.is_some() {
            return;
        }
        let (before, now) = (self.ran(), Instant::now());
        self.counted = Counted { before, since: now, stalled: self.stalls.total(now) };
        self.held = holds.then_some(now);
        self.line();
    }

    /// How long it has been up, without waiting to push; `None` if it is not.
    pub(crate) fn ran(&self) -> Option<Duration> {
        if self.held.is_some() {
            return self.counted.before;
        }
        let now = Instant::now();
        let Counted { before, since, stalled } = &self.counted;
        let counts = (now - *since).saturating_sub(self.stalls.total(now).saturating_sub(*stalled));
        before.map(|before| before + counts)
    }

    pub(crate) fn next(&self) -> Instant {
        let now = Instant::now();
        // What happened during a suspension is only seen now.
        let from = |moment: Instant| self.stalls.last_end(now).map_or(moment, |until| until.max(moment));
        if !self.up {
            return from(self.began) + self.pending;
        }
        if let Some(since) = self.held {
            return from(since) + self.total;
        }
        let end = self.end(now);
        if self.paused {
            return end;
        }
        let quiet = self.last_line.map_or(from(self.began) + self.start, |line| from(line) + self.silence);
        quiet.min(end)
    }

    /// When the total time is used up.
    fn end(&self, now: Instant) -> Instant {
        now + self.total.saturating_sub(self.ran().unwrap_or_default())
    }

    /// What to say when [`Self::next`] has come, and what the run has failed of.
    pub(crate) fn passed(&self) -> (FailureCause, String) {
        let seconds = |time: Duration| humantime::format_duration(time).to_string();
        if !self.up {
            let note = if self.note.is_empty() { String::new() } else { format!(": {}", self.note) };
            let reason = format!("the build did not start within {}{note}", seconds(self.pending));
            return (FailureCause::PENDING, reason);
        }
        if self.held.is_some() {
            let reason = format!("the build waited to push for longer than {}", seconds(self.total));
            return (FailureCause::TOO_LONG, reason);
        }
        if self.ran().is_some_and(|ran| ran >= self.total) {
            return (FailureCause::TOO_LONG, format!("the build took longer than {}", seconds(self.total)));
        }
        let reason = match self.last_line {
            None => format!("the build wrote nothing within {} of its start", seconds(self.start)),
            Some(_) => format!("the build wrote nothing for {}", seconds(self.silence)),
        };
        (FailureCause::SILENT, reason)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn deadlines(clock: &Arc<Stalls>, ran: Option<Duration>) -> Deadlines {
        let settings = Settings {
            pending_timeout: 10 * SECOND,
            start_timeout: 20 * SECOND,
            silence_timeout: 30 * SECOND,
            total_timeout: 100 * SECOND,
            ..Settings::default()
        };
        Deadlines::new(&settings, Arc::clone(clock), ran)
    }

    /// Time that passes while the process is not suspended.
    async fn live(clock: &Stalls, time: Duration) {
        for _ in 0..time.as_secs() {
            tokio::time::advance(SECOND).await;
            clock.tick();
        }
    }

    fn left(deadlines: &Deadlines) -> Duration {
        deadlines.next().saturating_duration_since(Instant::now())
    }

    #[tokio::test(start_paused = true)]
    async fn a_stall_counts_for_no_deadline() {
        let clock = Arc::new(Stalls::default());
        let mut run = deadlines(&clock, None);
        live(&clock, 4 * SECOND).await;
        assert_eq!(left(&run), 6 * SECOND);
        tokio::time::advance(3600 * SECOND).await;
        assert_eq!(left(&run), 10 * SECOND, "before its first tick");
        clock.tick();
        live(&clock, SECOND).await;
        assert_eq!(left(&run), 9 * SECOND);
        run.up();
        run.line();
        live(&clock, 25 * SECOND).await;
        assert_eq!(left(&run), 5 * SECOND);
        tokio::time::advance(3600 * SECOND).await;
        clock.tick();
        assert_eq!(left(&run), 30 * SECOND, "nobody knows what was said meanwhile");
        for _ in 0..3 {
            live(&clock, 24 * SECOND).await;
            run.line();
        }
        // Of all that time, only half a second between two ticks counts toward the run.
        assert_eq!(left(&run), 2500 * SECOND / 1000);
        live(&clock, 3 * SECOND).await;
        assert_eq!(run.passed().1, "the build took longer than 1m 40s");
    }

    #[tokio::test(start_paused = true)]
    async fn an_adopted_run_has_only_what_is_left_of_its_time() {
        let clock = Arc::new(Stalls::default());
        let mut run = deadlines(&clock, Some(85 * SECOND));
        live(&clock, 5 * SECOND).await;
        run.up();
        assert_eq!(left(&run), 10 * SECOND);
        assert_eq!(run.ran(), Some(90 * SECOND));
        let mut late = deadlines(&clock, Some(500 * SECOND));
        late.up();
        assert_eq!(left(&late), Duration::ZERO);
        assert_eq!(late.passed().1, "the build took longer than 1m 40s");
    }

    #[tokio::test(start_paused = true)]
    async fn a_run_whose_lines_are_not_taken_is_not_silent() {
        let clock = Arc::new(Stalls::default());
        let mut run = deadlines(&clock, None);
        run.up();
        run.line();
        run.pause(true);
        live(&clock, 40 * SECOND).await;
        assert_eq!(left(&run), 60 * SECOND);
        run.pause(false);
        assert_eq!(left(&run), 30 * SECOND);
    }

    #[tokio::test(start_paused = true)]
    async fn waiting_to_push_counts_for_neither_silence_nor_the_total_time() {
        let clock = Arc::new(Stalls::default());
        let mut run = deadlines(&clock, Some(10 * SECOND));
        run.up();
        run.line();
        live(&clock, 20 * SECOND).await;
        run.hold(true);
        run.hold(true);
        assert_eq!(left(&run), 100 * SECOND);
        live(&clock, 90 * SECOND).await;
        assert_eq!((left(&run), run.ran()), (10 * SECOND, Some(30 * SECOND)));
        assert_eq!(run.passed().1, "the build waited to push for longer than 1m 40s");
        run.hold(false);
        assert_eq!(left(&run), 30 * SECOND, "silence counts from now on");
        live(&clock, 25 * SECOND).await;
        run.line();
        live(&clock, 25 * SECOND).await;
        assert_eq!((left(&run), run.ran()), (5 * SECOND, Some(80 * SECOND)));
    }
}
