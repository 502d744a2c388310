//! A client that follows a build, and resumes where its stream broke off.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use super::engine::wait;
use super::project::Project;
use super::repositories::{LINE, Repository};
use crate::http::{self, Event};

/// A dispatcher is seen as dead within seconds; until then `HAProxy` may answer 503.
const TRIES_MAX: u32 = 60;
const TRY_AGAIN: Duration = Duration::from_millis(500);
/// A build is retried 10 s after its worker died, on a machine that may be busy.
const END_LIMIT: Duration = Duration::from_mins(5);

/// What has come so far.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// Run and number of each line, in the order of their arrival.
    pub(super) lines: Vec<(u64, u32)>,
    /// How often the stream broke off and was resumed.
    pub(super) resumed: u32,
    /// The event `end`.
    end: Option<Value>,
    /// All lines, for whoever looks for a fault.
    text: String,
    last_id: String,
}

/// A build that is followed.
pub(super) struct Watch {
    pub(super) id: String,
    lines: u32,
    seen: Arc<Mutex<Seen>>,
}

impl Watch {
    /// Asks for a build with `BinderHub`'s token, and follows it.
    pub(super) fn submit(project: &Project, name: &str, repository: &Repository) -> Result<Self> {
        let image = format!("{}:{}", project.image(name), &repository.commit[..12]);
        let body = json!({ "repo": repository.url, "ref": repository.commit, "image": image });
        let answer = project.json("POST", "/v1/builds", Some(&body))?;
        let id = answer["id"].as_str().unwrap_or_default().to_owned();
        ensure!(!id.is_empty(), "no id in {answer}");
        let watch = Self { id, lines: repository.lines, seen: Arc::default() };
        let (seen, path) = (Arc::clone(&watch.seen), format!("/v1/builds/{}/events", watch.id));
        let (address, authorization) = (project.address, project.authorization());
        thread::spawn(move || {
            let mut tries = 0;
            while locked(&seen).end.is_none() && tries < TRIES_MAX {
                let last_id = locked(&seen).last_id.clone();
                let headers = [("Authorization", authorization.as_str()), ("Last-Event-ID", &last_id)];
                let headers = &headers[..if last_id.is_empty() { 1 } else { 2 }];
                let mut is_first = true;
                // A broken stream is as good as one that ended early.
                let _ = http::events_with(address, headers, &path, |event| {
                    let mut seen = locked(&seen);
                    seen.resumed += u32::from(is_first && !last_id.is_empty());
                    (is_first, tries) = (false, 0);
                    seen.take(event);
                    seen.end.is_none()
                });
                tries += 1;
                thread::sleep(TRY_AGAIN);
            }
        });
        Ok(watch)
    }

    /// What has come so far.
    pub(super) fn seen(&self) -> MutexGuard<'_, Seen> {
        locked(&self.seen)
    }

    /// Waits until `is_so` of what has come.
    pub(super) fn wait(&self, what: &str, is_so: impl Fn(&Seen) -> bool) -> Result<()> {
        wait(what, END_LIMIT, || {
            let seen = self.seen();
            ensure!(
                seen.end.is_none() || is_so(&seen),
                "the build ended before: {:?}\n{}",
                seen.end,
                seen.text
            );
            Ok(is_so(&seen).then_some(()))
        })
    }

    /// Waits for its success, and checks that each line of each run came once and in order. Only the last run, whose
    /// number is returned, must have all lines.
    pub(super) fn succeeds(&self) -> Result<u64> {
        self.wait("the end of the build", |seen| seen.end.is_some())?;
        let seen = self.seen();
        let end = seen.end.clone().unwrap_or_default();
        ensure!(end["state"] == "succeeded", "the build has ended: {end}\n{}", seen.text);
        let last = seen.lines.last().map_or(0, |(run, _)| *run);
        for run in 1..=last {
            let numbers: Vec<u32> =
                seen.lines.iter().filter(|line| line.0 == run).map(|(_, number)| *number).collect();
            let count = u32::try_from(numbers.len())?;
            let is_whole = numbers.iter().copied().eq(1..=count) && (run < last || count == self.lines);
            ensure!(is_whole, "run {run} of {} printed the lines {numbers:?}\n{}", self.id, seen.text);
        }
        ensure!(seen.lines.is_sorted(), "lines of another run came in between: {:?}", seen.lines);
        Ok(last)
    }
}

impl Seen {
    fn take(&mut self, event: &Event) {
        if !event.id.is_empty() {
            self.last_id.clone_from(&event.id);
        }
        let data: Value = serde_json::from_str(&event.data).unwrap_or_default();
        match event.name.as_str() {
            "log" => {
                let run = data["run"].as_u64().unwrap_or_default();
                for line in data["lines"].as_array().into_iter().flatten() {
                    let text = line["text"].as_str().unwrap_or_default();
                    self.text.extend([&run.to_string(), ": ", text, "\n"]);
                    for after in text.split(LINE).skip(1) {
                        let number: String = after.chars().take_while(char::is_ascii_digit).collect();
                        self.lines.extend(number.parse().ok().map(|number| (run, number)));
                    }
                }
            }
            "end" => self.end = Some(data),
            name => self.text.extend([name, ": ", &event.data, "\n"]),
        }
    }
}

fn locked(seen: &Mutex<Seen>) -> MutexGuard<'_, Seen> {
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}
