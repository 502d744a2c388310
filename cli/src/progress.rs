//! Shows a build that is being followed: on a terminal a line that is redrawn, elsewhere plain lines.

use std::fmt::Write;
use std::time::Duration;

use fairlane_clikit::human;
use fairlane_clikit::output::{Colors, Output, Tone, clean};
use fairlane_common::build::BuildState;
use fairlane_common::clock::millis;
use fairlane_dispatcher::api::{BuildView, EndEvent, LogLine};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};
use tokio::time::Instant;

use crate::follow::Happening;

/// How often the line is redrawn.
const TICK: Duration = Duration::from_millis(120);
/// Width of the progress bar of a running build, in characters.
const BAR: usize = 24;

/// Shows what happens to one build.
pub(crate) struct Progress {
    output: Output,
    bar: ProgressBar,
    latest: Option<(BuildState, Option<u64>, Option<String>)>,
    live_since: Option<(u32, Instant)>,
    began: Instant,
}

impl Progress {
    pub(crate) fn new(output: Output) -> Self {
        let bar = if output.is_live() {
            let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
            bar.enable_steady_tick(TICK);
            bar
        } else {
            ProgressBar::hidden()
        };
        Self { output, bar, latest: None, live_since: None, began: Instant::now() }
    }

    /// Shows what happened.
    pub(crate) fn show(&mut self, happening: &Happening, json: &str) {
        if self.output.is_json() {
            self.show_json(happening, json);
            return;
        }
        match happening {
            Happening::State(state) => self.state(&state.build),
            Happening::Log(log) => {
                for line in &log.lines {
                    for text in shown(line, self.output) {
                        self.bar.suspend(|| self.output.data(&text));
                    }
                }
            }
            Happening::Notice(notice) => {
                self.talk(&self.output.paint_talk(Tone::Faint, &clean(&notice.text, Colors::Drop)));
            }
            Happening::Moved(moved) => {
                self.talk(&format!("Redis was emptied; build {} goes on as {}", moved.id, moved.to));
            }
            Happening::Lost(why) => self.talk(&self.output.paint_talk(Tone::Warning, why)),
            Happening::End(end) => self.end(end),
        }
    }

    fn show_json(&self, happening: &Happening, json: &str) {
        let event = match happening {
            Happening::State(_) => "state",
            Happening::Log(_) => "log",
            Happening::Notice(_) => "notice",
            Happening::Moved(_) => "moved",
            Happening::End(_) => "end",
            Happening::Lost(_) => return,
        };
        let mut object = serde_json::Map::from_iter([("event".to_owned(), event.into())]);
        if let Ok(serde_json::Value::Object(data)) = serde_json::from_str(json) {
            object.extend(data);
        }
        self.output.json(&object);
    }

    fn talk(&self, line: &str) {
        self.bar.suspend(|| self.output.talk(line));
    }

    fn state(&mut self, build: &BuildView) {
        let line = sentence(build);
        if self.output.is_live() {
            self.draw(build, line);
            return;
        }
        // Without a terminal, a line is only printed if something besides the time estimate has changed.
        let news = (build.state, build.position, build.note.clone());
        if !build.state.is_ended() && self.latest.as_ref() != Some(&news) {
            self.latest = Some(news);
            self.output.talk(&line);
        }
    }

    fn draw(&mut self, build: &BuildView, line: String) {
        let running =
            matches!(build.state, BuildState::Starting | BuildState::Running | BuildState::Orphaned);
        if !running {
            self.live_since = None;
        } else if self.live_since.is_none_or(|(run, _)| run != build.run) {
            self.live_since = Some((build.run, live_since(build)));
        }
        let paint = if self.output.talks_in_color() { "{spinner:.cyan} {msg}" } else { "{spinner} {msg}" };
        let style = match self.live_since {
            Some((_, since)) => {
                let expected = Duration::from_secs(build.expected_seconds.max(1));
                ProgressStyle::with_template(&format!("{paint} {{run}}")).map(|style| {
                    style.with_key("run", move |_: &ProgressState, to: &mut dyn Write| {
                        run_bar(since, expected, to);
                    })
                })
            }
            None => ProgressStyle::with_template(paint),
        };
        if let Ok(style) = style {
            self.bar.set_style(style);
        }
        self.bar.set_message(line);
    }

    fn end(&self, end: &EndEvent) {
        self.bar.finish_and_clear();
        let took = human::span(millis(self.began.elapsed()));
        let reason = end.reason.as_deref().map(|reason| clean(reason, Colors::Drop));
        let said = |word: &str, tone| {
            let class = end.class.map(|class| format!(" ({class})")).unwrap_or_default();
            // "cancelled by an operator" already contains the word.
            let why = reason.as_ref().map(|reason| match reason.strip_prefix(word) {
                Some(rest) => rest.to_owned(),
                None => format!(": {reason}"),
            });
            let why = why.unwrap_or_default();
            format!("{}{class}{why}", self.output.paint_talk(tone, word))
        };
        self.output.talk(&match end.state {
            Some(BuildState::Succeeded) => {
                let image = clean(&end.image, Colors::Drop);
                format!("{}: {image}, watched for {took}", self.output.paint_talk(Tone::Good, "succeeded"))
            }
            Some(BuildState::Cancelled) => said("cancelled", Tone::Warning),
            Some(state) => said(state.word(), Tone::Bad),
            None => said("lost with the queue's data; submit it again", Tone::Bad),
        });
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// A build's state, in words.
pub(crate) fn sentence(build: &BuildView) -> String {
    let note =
        build.note.as_deref().map(|note| format!(", {}", clean(note, Colors::Drop))).unwrap_or_default();
    let failed = build.failed_attempts;
    let again = if failed > 0 { format!(", attempt {}", failed + 1) } else { String::new() };
    match build.state {
        BuildState::Queued => {
            let position = match (build.position, build.line) {
                (Some(position), Some(line)) => format!(": {} of {line} in line", ordinal(position)),
                (Some(position), None) => format!(": {} in line", ordinal(position)),
                _ => String::new(),
            };
            let why = build
                .why
                .as_deref()
                .map(|why| clean(why, Colors::Drop))
                .filter(|why| !why.contains("in line"));
            let why = why.map(|why| format!(", {why}")).unwrap_or_default();
            let eta = build
                .eta_seconds
                .map(|eta| format!(", ready {}", human::about(eta * 1000)))
                .unwrap_or_default();
            format!("queued{position}{why}{eta}{again}")
        }
        BuildState::Orphaned => format!("its worker is gone, another one is taking over{again}"),
        state => format!("{state}{again}{note}"),
    }
}

/// 1st, 2nd, 3rd, 4th.
pub(crate) fn ordinal(number: u64) -> String {
    let end = match (number % 10, number % 100) {
        (_, 11..=13) => "th",
        (1, _) => "st",
        (2, _) => "nd",
        (3, _) => "rd",
        _ => "th",
    };
    format!("{number}{end}")
}

/// A log line as people read it, which may be several lines.
pub(crate) fn shown(line: &LogLine, output: Output) -> Vec<String> {
    lines_of(&line.text, if output.has_color() { Colors::Keep } else { Colors::Drop })
}

/// repo2docker writes JSON objects; people read the messages in them.
pub(crate) fn lines_of(text: &str, colors: Colors) -> Vec<String> {
    #[derive(serde::Deserialize)]
    struct Wrapped {
        message: String,
    }
    let message = text.starts_with('{').then(|| serde_json::from_str::<Wrapped>(text).ok()).flatten();
    let text = message.as_ref().map_or(text, |wrapped| wrapped.message.as_str());
    text.trim_end_matches(['\r', '\n']).split('\n').map(|line| clean(line, colors)).collect()
}

/// When the current run began. This machine's clock is good enough for a progress bar.
fn live_since(build: &BuildView) -> Instant {
    let started = build.started_ms.or(build.claimed_ms).unwrap_or(u64::MAX);
    let now = u64::try_from(jiff::Timestamp::now().as_millisecond()).unwrap_or(0);
    let gone = Duration::from_millis(now.saturating_sub(started)).min(Duration::from_hours(24));
    Instant::now().checked_sub(gone).unwrap_or_else(Instant::now)
}

fn run_bar(since: Instant, expected: Duration, to: &mut dyn Write) {
    let gone = since.elapsed();
    // The bar must not look complete before the build is.
    let share = (gone.as_secs_f64() / expected.as_secs_f64()).min(0.97);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "a share of a few characters"
    )]
    let full = (share * BAR as f64) as usize;
    let (done, left) = ("━".repeat(full), "┄".repeat(BAR - full));
    // A failure does not matter, because the bar will be redrawn soon.
    let _ =
        write!(to, "{done}{left} {} of about {}", human::span(millis(gone)), human::span(millis(expected)));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn log_lines_of_repo2docker_are_unwrapped() {
        for (text, lines) in [
            (r#"{"message": "Step 1/3 : FROM\n", "phase": "building"}"#, vec!["Step 1/3 : FROM"]),
            (r#"{"message": "a\nb\n", "phase": "building"}"#, vec!["a", "b"]),
            (r#"{"message": "10 %\r20 %", "phase": "pushing"}"#, vec!["20 %"]),
            (r#"{"other": 1}"#, vec![r#"{"other": 1}"#]),
            ("plain\u{1b}[2J", vec!["plain"]),
            ("{not json", vec!["{not json"]),
        ] {
            assert_eq!(lines_of(text, Colors::Drop), lines, "{text}");
        }
    }

    #[test]
    fn places_in_line() {
        let said: Vec<String> = [1, 2, 3, 4, 11, 12, 13, 21, 102, 111].into_iter().map(ordinal).collect();
        assert_eq!(said, ["1st", "2nd", "3rd", "4th", "11th", "12th", "13th", "21st", "102nd", "111th"]);
    }
}
