//! Lines of a build's output: splits bytes into lines, and reads repo2docker's messages.

use std::borrow::Cow;
use std::time::{Duration, Instant};

use fairlane_common::limits::LINE_BYTES_MAX;
use serde::Deserialize;

/// How often a progress bar, whose updates end with a lone `\r`, produces a line.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(1);

/// Splits bytes into lines of valid UTF-8 with at most [`LINE_BYTES_MAX`] bytes.
#[derive(Debug)]
pub(crate) struct Splitter {
    pending: Vec<u8>,
    emitted: Instant,
}

impl Splitter {
    /// A splitter that starts at `now`.
    pub(crate) fn new(now: Instant) -> Self {
        Self { pending: Vec::new(), emitted: now }
    }

    /// The lines that `bytes` complete.
    pub(crate) fn push(&mut self, bytes: &[u8], now: Instant) -> Vec<String> {
        let mut lines = Vec::new();
        for &byte in bytes {
            if byte == b'\n' {
                if self.pending.last() == Some(&b'\r') {
                    self.pending.pop();
                }
                self.emit(&mut lines, now);
                continue;
            }
            // Only the next byte shows whether this is a lone `\r` or the first half of a line ending.
            let progress = self.pending.last() == Some(&b'\r');
            if progress && now.duration_since(self.emitted) >= PROGRESS_INTERVAL {
                self.emit(&mut lines, now);
            }
            self.pending.push(byte);
            if self.pending.len() >= LINE_BYTES_MAX && is_char_end(&self.pending) {
                self.emit(&mut lines, now);
            }
        }
        lines
    }

    /// The last line, if it has no line ending.
    pub(crate) fn finish(mut self, now: Instant) -> Vec<String> {
        let mut lines = Vec::new();
        if !self.pending.is_empty() {
            self.emit(&mut lines, now);
        }
        lines
    }

    fn emit(&mut self, lines: &mut Vec<String>, now: Instant) {
        self.emitted = now;
        let text = String::from_utf8_lossy(&self.pending).into_owned();
        self.pending.clear();
        let mut rest = text.as_str();
        // Replacement characters are longer than the bytes that they replace.
        while rest.len() > LINE_BYTES_MAX {
            let (part, more) = rest.split_at(rest.floor_char_boundary(LINE_BYTES_MAX));
            lines.push(part.to_owned());
            rest = more;
        }
        lines.push(rest.to_owned());
    }
}

/// Whether the bytes end with a complete character, or cannot be UTF-8 because too many bytes form none.
fn is_char_end(bytes: &[u8]) -> bool {
    if bytes.len() >= LINE_BYTES_MAX + 4 {
        return true;
    }
    let tail = &bytes[bytes.len().saturating_sub(4)..];
    match tail.iter().rposition(|byte| byte & 0xC0 != 0x80) {
        Some(at) => match std::str::from_utf8(&tail[at..]) {
            Ok(_) => true,
            // `None` means that the character is incomplete, not that it is invalid.
            Err(error) => error.error_len().is_some(),
        },
        None => true,
    }
}

/// What repo2docker is doing at a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Phase {
    /// Nothing has been printed yet.
    #[default]
    Starting,
    /// Fetching the repository.
    Fetching,
    /// Building the image.
    Building,
    /// The image is made; the run waits until it may push it.
    WaitingToPush,
    /// Pushing it to its registry.
    Pushing,
    /// It has failed.
    Failed,
}

/// A parsed line of repo2docker.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Parsed<'a> {
    /// The phase that it names or implies.
    pub(crate) phase: Option<Phase>,
    /// Its message for people.
    pub(crate) message: Cow<'a, str>,
    /// Whether it came from repo2docker's JSON log.
    pub(crate) json: bool,
}

#[derive(Deserialize)]
struct Json {
    message: Option<serde_json::Value>,
    phase: Option<String>,
    exc_info: Option<String>,
}

/// Reads a line: an object of repo2docker's JSON log, of any release, or plain text.
pub(crate) fn parse(text: &str) -> Parsed<'_> {
    if text.starts_with('{')
        && let Ok(Json { message: Some(message), phase, exc_info }) = serde_json::from_str(text)
    {
        let mut message = match message {
            serde_json::Value::String(text) => text,
            other => other.to_string(),
        };
        if let Some(exception) = exc_info.filter(|text| !text.is_empty()) {
            message.push('\n');
            message.push_str(&exception);
        }
        let said = phase.and_then(|phase| match phase.as_str() {
            "fetching" => Some(Phase::Fetching),
            "building" => Some(Phase::Building),
            "waiting-to-push" => Some(Phase::WaitingToPush),
            "pushing" => Some(Phase::Pushing),
            "failed" | "failure" => Some(Phase::Failed),
            _ => None,
        });
        let phase =
            if said == Some(Phase::Building) && is_push(&message) { Some(Phase::Pushing) } else { said };
        return Parsed { phase, message: Cow::Owned(message), json: true };
    }
    let phase = is_push(text).then_some(Phase::Pushing);
    Parsed { phase, message: Cow::Borrowed(text), json: false }
}

/// Since 2025.08 a push only shows in what the tool prints: docker at its start, `BuildKit` in a numbered step,
/// podman and kaniko if it fails.
fn is_push(message: &str) -> bool {
    message.starts_with("The push refers to repository [")
        || message.strip_prefix('#').is_some_and(|rest| {
            let rest = rest.trim_start_matches(|c: char| c.is_ascii_digit());
            rest.starts_with(" pushing layers") || rest.starts_with(" pushing manifest for ")
        })
        || ["ERROR: failed to push ", "failed to solve: failed to push ", "error pushing image: "]
            .iter()
            .any(|words| message.contains(words))
        || ["Error: writing blob: ", "Error: trying to reuse blob ", "error checking push permissions "]
            .iter()
            .any(|words| message.starts_with(words))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(parts: &[&[u8]]) -> Vec<String> {
        let now = Instant::now();
        let mut splitter = Splitter::new(now);
        let mut lines: Vec<String> = parts.iter().flat_map(|part| splitter.push(part, now)).collect();
        lines.extend(splitter.finish(now));
        lines
    }

    #[test]
    fn lines_end_in_every_way() {
        assert_eq!(split(&[b"a\nb\r\n\nc"]), ["a", "b", "", "c"]);
        assert_eq!(split(&[b"a\r", b"\nb"]), ["a", "b"]);
        assert_eq!(split(&[b"10%\r20%\rdone\n"]), ["10%\r20%\rdone"]);
        assert_eq!(split(&[b"\xff\xfe!\n"]), ["\u{fffd}\u{fffd}!"]);
        assert_eq!(
            split(&["h\u{e4}".as_bytes().split_at(2).0, "h\u{e4}".as_bytes().split_at(2).1]),
            ["h\u{e4}"]
        );
        assert!(split(&[b""]).is_empty());
    }

    #[test]
    fn a_progress_bar_shows_once_a_second() {
        let start = Instant::now();
        let mut splitter = Splitter::new(start);
        assert!(splitter.push(b"1%\r2%\r", start).is_empty());
        assert_eq!(splitter.push(b"3%\r", start + PROGRESS_INTERVAL), ["1%\r2%\r"]);
        assert!(splitter.push(b"4%\r", start + PROGRESS_INTERVAL).is_empty());
        assert_eq!(splitter.finish(start), ["3%\r4%\r"]);
    }

    #[test]
    fn long_lines_come_in_parts_and_lose_nothing() {
        for text in ["x".repeat(50_000), "\u{20ac}".repeat(20_000), "a\u{1f600}".repeat(9_000)] {
            let lines = split(&[text.as_bytes()]);
            assert!(lines.iter().all(|line| line.len() <= LINE_BYTES_MAX + 4), "{}", lines[0].len());
            assert_eq!(lines.concat(), text);
        }
        let wrong = split(&[&vec![0x80; 40_000]]);
        assert!(wrong.iter().all(|line| line.len() <= LINE_BYTES_MAX));
        assert_eq!(wrong.concat().chars().count(), 40_000);
    }

    #[test]
    fn every_release_of_repo2docker_is_read() {
        let table = [
            (r#"{"message": "Cloning", "phase": "fetching"}"#, Some(Phase::Fetching), "Cloning"),
            (r#"{"message": "Picked Git content provider.\n"}"#, None, "Picked Git content provider.\n"),
            (r#"{"message": "Step 1/9", "phase": "building"}"#, Some(Phase::Building), "Step 1/9"),
            (r#"{"message": "x", "phase": "pushing", "progress": {"a": 1}}"#, Some(Phase::Pushing), "x"),
            (
                r#"{"message": "The push refers to repository [r/i]", "phase": "building"}"#,
                Some(Phase::Pushing),
                "The push refers to repository [r/i]",
            ),
            (r#"{"message": "w", "phase": "waiting-to-push"}"#, Some(Phase::WaitingToPush), "w"),
            (
                r#"{"message": "no", "phase": "failed", "exc_info": "Trace"}"#,
                Some(Phase::Failed),
                "no\nTrace",
            ),
            ("{not json", None, "{not json"),
            (r#"{"other": 1}"#, None, r#"{"other": 1}"#),
            ("Collecting numpy", None, "Collecting numpy"),
        ];
        for (line, phase, message) in table {
            let parsed = parse(line);
            assert_eq!((parsed.phase, parsed.message.as_ref()), (phase, message), "{line}");
        }
    }
}
