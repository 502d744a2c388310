//! The people who watch the slow build.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use anyhow::Result;
use serde_json::Value;

use super::fairlane::Fairlane;
use crate::http;

/// Stack of a watcher's thread: enough for a loop that reads lines.
const STACK_BYTES: usize = 256 * 1024;

/// What the watchers have seen so far.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// Watchers that got the `end` event.
    told: AtomicUsize,
    /// Number of log lines that each watcher got.
    lines: Mutex<Vec<usize>>,
    /// Lines that the first watcher saw and nobody has printed yet.
    fresh: Mutex<Vec<String>>,
}

/// Streams of one build, each on a separate connection.
pub(crate) struct Watchers {
    seen: Arc<Seen>,
    threads: Vec<thread::JoinHandle<()>>,
}

/// What the watchers saw in the end.
pub(crate) struct Audience {
    /// Watchers that received the `end` event.
    pub(crate) told: usize,
    /// The number of log lines that each of them got.
    pub(crate) lines: Vec<usize>,
}

impl Watchers {
    /// Opens `count` streams.
    pub(crate) fn start(fairlane: &Fairlane, id: &str, count: usize) -> Result<Self> {
        let seen = Arc::new(Seen { lines: Mutex::new(vec![0; count]), ..Seen::default() });
        let mut threads = Vec::new();
        for number in 0..count {
            let (seen, server, path) =
                (Arc::clone(&seen), fairlane.address(), format!("/v1/builds/{id}/events"));
            let watch = move || {
                let result = http::events(server, &path, |event, data| seen.take(number, event, data));
                if let Err(error) = result {
                    seen.say(format!("watcher {number}: {error:#}"));
                }
            };
            threads.push(thread::Builder::new().stack_size(STACK_BYTES).spawn(watch)?);
        }
        Ok(Self { seen, threads })
    }

    /// Log lines that arrived since the last call.
    pub(crate) fn fresh(&self) -> Vec<String> {
        std::mem::take(&mut *self.seen.fresh.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Waits until all streams have ended.
    pub(crate) fn finish(self) -> Audience {
        for thread in self.threads {
            let _ = thread.join();
        }
        let lines = self.seen.lines.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Audience { told: self.seen.told.load(Ordering::SeqCst), lines }
    }
}

impl Seen {
    /// Handles an event; returns whether to keep reading the stream.
    fn take(&self, number: usize, event: &str, data: &str) -> bool {
        match event {
            "log" => {
                let lines = lines_of(data);
                self.lines.lock().unwrap_or_else(PoisonError::into_inner)[number] += lines.len();
                if number == 0 {
                    for line in lines {
                        self.say(line);
                    }
                }
                true
            }
            "end" => {
                self.told.fetch_add(1, Ordering::SeqCst);
                false
            }
            _ => true,
        }
    }

    fn say(&self, line: String) {
        self.fresh.lock().unwrap_or_else(PoisonError::into_inner).push(line);
    }
}

/// The text of a line: with `--json-logs`, repo2docker's own lines are JSON.
fn message(line: &str) -> String {
    let value: Value = serde_json::from_str(line).unwrap_or(Value::Null);
    value["message"].as_str().unwrap_or(line).trim_end().to_owned()
}

/// The lines in a log event.
fn lines_of(data: &str) -> Vec<String> {
    let event: Value = serde_json::from_str(data).unwrap_or(Value::Null);
    let lines = event["lines"].as_array().into_iter().flatten();
    lines.map(|line| message(line["text"].as_str().unwrap_or_default())).collect()
}
