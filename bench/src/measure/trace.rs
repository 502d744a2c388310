//! The commands that a script runs, and a flat script that runs the same ones.
//!
//! A flat script runs our commands one by one without deciding anything, so its cost is the least that Redis
//! must spend, at any queue size. It is generated from a recorded call, so it cannot get out of date.

use std::time::Duration;

use anyhow::{Context, Result};
use fairlane_common::id::Lane;
use fairlane_common::{Link, Queue};
use futures::StreamExt;
use redis::aio::Monitor;
use redis::cmd;

use crate::raw::ask;

/// How long to wait for commands to appear in the recording.
const RECORD_LIMIT: Duration = Duration::from_secs(2);
/// Times in Unix milliseconds have this many digits.
const TIME_DIGITS: usize = 13;
/// Marks the end of a recorded call.
const MARK: &str = "end of the recorded call";

/// A recording of every command that a Redis receives.
pub(super) struct Recorder {
    link: Link,
    monitor: Monitor,
}

impl Recorder {
    /// Starts recording. Only for a private Redis, because it slows others down.
    pub(super) async fn start(link: &Link) -> Result<Self> {
        Ok(Self { link: link.clone(), monitor: link.monitor().await? })
    }

    /// The commands that scripts have run since the last call.
    pub(super) async fn commands(&mut self) -> Result<Vec<Vec<String>>> {
        ask::<String>(&self.link, cmd("ECHO").arg(MARK)).await?;
        let mut commands = Vec::new();
        let mut lines = self.monitor.on_message::<String>();
        let read = async {
            while let Some(line) = lines.next().await {
                if line.contains(MARK) {
                    return;
                }
                if line.split_once(" lua]").is_some_and(|(head, _)| !head.contains('"')) {
                    commands.push(words(&line));
                }
            }
        };
        tokio::time::timeout(RECORD_LIMIT, read)
            .await
            .context("Redis did not show its commands in time (MONITOR)")?;
        Ok(commands)
    }
}

/// The quoted words of a recorded line.
fn words(line: &str) -> Vec<String> {
    let (mut words, mut word) = (Vec::new(), None::<Vec<u8>>);
    let mut rest = line.bytes();
    while let Some(byte) = rest.next() {
        match (byte, &mut word) {
            (b'"', None) => word = Some(Vec::new()),
            (b'"', Some(_)) => {
                words.extend(word.take().map(|word| String::from_utf8_lossy(&word).into_owned()));
            }
            (b'\\', Some(word)) => match rest.next() {
                Some(b'n') => word.push(b'\n'),
                Some(b'r') => word.push(b'\r'),
                Some(b't') => word.push(b'\t'),
                Some(b'x') => {
                    let digits = [rest.next().unwrap_or(b'0'), rest.next().unwrap_or(b'0')];
                    let text = String::from_utf8_lossy(&digits).into_owned();
                    word.push(u8::from_str_radix(&text, 16).unwrap_or(b'?'));
                }
                Some(other) => word.push(other),
                None => {}
            },
            (other, Some(word)) => word.push(other),
            (_, None) => {}
        }
    }
    words
}

/// The first two builds of a lane, according to the sets.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct LaneHead {
    /// The lane.
    pub(super) lane: String,
    /// Its first build and that build's due.
    pub(super) first: (String, String),
    /// The due of the build behind it, or empty.
    pub(super) then_due: String,
}

/// The lanes that are next and their first builds: a claim finds them itself, a flat script gets them as
/// arguments.
pub(super) async fn lane_heads(queue: &Queue, count: usize) -> Result<Vec<LaneHead>> {
    let mut range = cmd("ZRANGE");
    range.arg(queue.keys().lanes()).arg(0).arg(count.saturating_sub(1));
    let lanes: Vec<String> = ask(queue.link(), &range).await?;
    let mut heads = Vec::with_capacity(lanes.len());
    for lane in lanes.into_iter().filter_map(|lane| lane.parse().ok()) {
        heads.push(lane_head(queue, &lane).await?);
    }
    Ok(heads)
}

/// The first builds of one lane.
pub(super) async fn lane_head(queue: &Queue, lane: &Lane) -> Result<LaneHead> {
    let mut range = cmd("ZRANGE");
    range.arg(queue.keys().lane(lane)).arg(0).arg(1).arg("WITHSCORES");
    let found: Vec<String> = ask(queue.link(), &range).await?;
    let mut found = found.into_iter();
    let mut next = || found.next().unwrap_or_default();
    let first = (next(), next());
    next();
    Ok(LaneHead { lane: lane.to_string(), first, then_due: next() })
}

/// A script that repeats recorded commands for other builds.
#[derive(Debug)]
pub(super) struct Flat {
    script: redis::Script,
    /// The parts of the recording that change from call to call.
    arguments: Vec<String>,
    key: String,
    recorded_ms: u64,
    commands: usize,
}

impl Flat {
    /// Makes one from recorded commands. `names` are the recorded build's id, lane, image and whatever else
    /// differs from build to build; `recorded_ms` is when they were recorded.
    pub(super) async fn of(
        link: &Link,
        key: String,
        commands: &[Vec<String>],
        names: &[&str],
        recorded_ms: u64,
    ) -> Result<Self> {
        let mut arguments: Vec<String> = Vec::new();
        let mut code = "local call, reply = redis.call, {}\n".to_owned();
        for command in commands {
            let mut parts = Vec::new();
            for word in command {
                // Of a stream's entry, the flat script lets Redis choose the time, too.
                let word = if word.strip_suffix("-*").is_some_and(is_time) { "*" } else { word.as_str() };
                let differs =
                    is_time(word) || names.iter().any(|name| !name.is_empty() && word.contains(name));
                if !differs {
                    parts.push(literal(word));
                    continue;
                }
                let at = arguments.iter().position(|known| known == word).unwrap_or_else(|| {
                    arguments.push(word.to_owned());
                    arguments.len() - 1
                });
                parts.push(format!("ARGV[{}]", at + 1));
            }
            // The flat script must return the same data as ours.
            let hand_on = command.first().is_some_and(|name| name.eq_ignore_ascii_case("HGETALL"));
            let lead = if hand_on { "reply[#reply + 1] = " } else { "" };
            code.extend([lead, "call(", &parts.join(", "), ")\n"]);
        }
        code.push_str("return reply\n");
        ask::<()>(link, cmd("SCRIPT").arg("LOAD").arg(&code)).await?;
        Ok(Self { script: redis::Script::new(&code), arguments, key, recorded_ms, commands: commands.len() })
    }

    /// How many commands it runs.
    pub(super) fn commands(&self) -> usize {
        self.commands
    }

    /// Runs it with other names, as pairs (recorded, new), and with times shifted to `now_ms`.
    pub(super) async fn run(&self, link: &Link, names: &[(String, String)], now_ms: u64) -> Result<()> {
        let mut command = cmd("EVALSHA");
        command.arg(self.script.get_hash()).arg(1).arg(&self.key);
        for argument in &self.arguments {
            let known = names.iter().find(|(recorded, _)| recorded == argument);
            let word = match (known, is_time(argument), argument.parse::<u64>()) {
                (Some((_, now)), _, _) => now.clone(),
                (None, true, Ok(time)) => (time + now_ms).saturating_sub(self.recorded_ms).to_string(),
                _ => names
                    .iter()
                    .fold(argument.clone(), |text, (recorded, now)| text.replace(recorded.as_str(), now)),
            };
            command.arg(word);
        }
        ask(link, &command).await
    }
}

fn is_time(word: &str) -> bool {
    word.len() == TIME_DIGITS && word.bytes().all(|byte| byte.is_ascii_digit())
}

/// A string as a Lua literal.
fn literal(word: &str) -> String {
    let escaped: String = word
        .bytes()
        .map(|byte| match byte {
            b'\'' | b'\\' | 0..=31 | 127.. => format!("\\{byte:03}"),
            plain => char::from(plain).to_string(),
        })
        .collect();
    format!("'{escaped}'")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recorded_lines_are_read() {
        let line = r#"1700000000.123456 [0 lua] "HSET" "{f}:build:1" "args" "[\"a\"]" "x" "\x01\n""#;
        assert_eq!(words(line), ["HSET", "{f}:build:1", "args", "[\"a\"]", "x", "\u{1}\n"]);
    }

    #[test]
    fn words_become_lua() {
        assert_eq!(literal("it's\n"), "'it\\039s\\010'");
        assert!(is_time("1795000000000") && !is_time("179500000000x") && !is_time("12"));
    }
}
