//! Follows logs of launch events that grow, also past their rotation.

use std::collections::VecDeque;
use std::fs::{File, Metadata};
use std::io::{BufRead as _, BufReader, Seek as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, sync_channel};

use anyhow::Result;
use fairlane_clikit::exit::Stop;

use crate::events::{self, LINE_BYTES_MAX, Launch};
use crate::lines::BadLines;

/// Lines of standard input that are read ahead.
const AHEAD_MAX: usize = 10_000;
/// Launches that are kept; those of a busy week on mybinder.org fit five times.
const LAUNCHES_MAX: usize = 1_000_000;
const DAY_MS: u64 = 86_400_000;

/// Logs that are followed, and the launches of their last days.
#[derive(Debug)]
pub struct Follow {
    logs: Vec<Log>,
    launches: VecDeque<Launch>,
    days: u64,
}

#[derive(Debug)]
struct Log {
    from: From,
    name: String,
    line: u64,
    partial: Vec<u8>,
}

#[derive(Debug)]
enum From {
    File { path: PathBuf, file: BufReader<File>, at: Place },
    Input(Receiver<Vec<u8>>),
}

/// Which file it is: two files of the same name have different ones.
type Place = (u64, u64);

fn place(of: &Metadata) -> Place {
    (of.dev(), of.ino())
}

impl Follow {
    /// Opens logs, from their beginning; `-` is standard input. Launches of their last `days` days are kept.
    ///
    /// # Errors
    /// When one cannot be opened.
    pub fn open(paths: &[PathBuf], days: u64) -> Result<Self> {
        let logs = paths.iter().map(|path| Log::open(path)).collect::<Result<_>>()?;
        Ok(Self { logs, launches: VecDeque::new(), days })
    }

    /// Reads what has been written since the last call. Returns the lines that are no events, by log.
    ///
    /// # Errors
    /// When a log cannot be read.
    pub fn read(&mut self) -> Result<Vec<BadLines>> {
        let mut all_bad = Vec::new();
        for log in &mut self.logs {
            let mut bad = BadLines::of(log.name.clone());
            while let Some(line) = log.next_line().map_err(|error| unreadable(&log.name, &error))? {
                log.line += 1;
                if line.trim_ascii().is_empty() {
                    continue;
                }
                let too_long = || format!("has more than {LINE_BYTES_MAX} bytes: too long for an event");
                let parsed = if line.len() > LINE_BYTES_MAX { Err(too_long()) } else { events::parse(&line) };
                match parsed {
                    Ok(launch) => self.launches.push_back(launch),
                    Err(why) => bad.add(log.line, why),
                }
                if self.launches.len() > LAUNCHES_MAX {
                    self.launches.pop_front();
                }
            }
            all_bad.push(bad);
        }
        let newest = self.launches.iter().map(|launch| launch.minute).max().unwrap_or_default();
        let oldest = newest.saturating_sub(self.days * DAY_MS);
        self.launches.retain(|launch| launch.minute >= oldest);
        Ok(all_bad)
    }

    /// The launches of the last days.
    pub fn launches(&mut self) -> &[Launch] {
        self.launches.make_contiguous()
    }
}

fn unreadable(name: &str, error: &std::io::Error) -> Stop {
    Stop::usage(format!("the events {name} cannot be read: {error}"))
}

impl Log {
    fn open(path: &Path) -> Result<Self> {
        let (from, name) = if path == Path::new("-") {
            (From::Input(input()), "standard input".to_owned())
        } else {
            let name = path.display().to_string();
            let (file, at) = opened(path).map_err(|error| unreadable(&name, &error))?;
            (From::File { path: path.to_owned(), file, at }, name)
        };
        Ok(Self { from, name, line: 0, partial: Vec::new() })
    }

    /// The next whole line; `None` if there is none yet.
    fn next_line(&mut self) -> std::io::Result<Option<Vec<u8>>> {
        let (path, file, at) = match &mut self.from {
            From::Input(lines) => return Ok(lines.try_recv().ok()),
            From::File { path, file, at } => (path, file, at),
        };
        loop {
            file.read_until(b'\n', &mut self.partial)?;
            if self.partial.ends_with(b"\n") {
                return Ok(Some(std::mem::take(&mut self.partial)));
            }
            // Enough to see that it is too long.
            self.partial.truncate(LINE_BYTES_MAX + 1);
            // The log was renamed, or cut: what was in it is read, and the next one begins.
            let Ok(now) = std::fs::metadata(&*path) else { return Ok(None) };
            if place(&now) == *at && now.len() >= file.stream_position()? {
                return Ok(None);
            }
            (*file, *at) = opened(path)?;
            self.line = 0;
            self.partial.clear();
        }
    }
}

fn opened(path: &Path) -> std::io::Result<(BufReader<File>, Place)> {
    let file = File::open(path)?;
    let at = place(&file.metadata()?);
    Ok((BufReader::new(file), at))
}

/// The lines of standard input, read by a thread: a read of a terminal or a pipe waits.
fn input() -> Receiver<Vec<u8>> {
    let (lines, receiver) = sync_channel(AHEAD_MAX);
    std::thread::spawn(move || {
        let mut from = std::io::stdin().lock();
        loop {
            let mut line = Vec::new();
            match from.read_until(b'\n', &mut line) {
                Ok(1..) if lines.send(line).is_ok() => {}
                _ => break,
            }
        }
    });
    receiver
}

#[cfg(test)]
mod tests {
    use std::fs::OpenOptions;
    use std::io::Write as _;

    use super::*;

    fn event(day: u32, name: &str) -> String {
        format!(
            "{{\"timestamp\": \"2026-11-{day:02}T10:00:00Z\", \"schema\": \"binderhub.jupyter.org/launch\", \"version\": 6, \"provider\": \"GitHub\", \"spec\": \"o/{name}/HEAD\", \"status\": \"success\"}}\n"
        )
    }

    fn append(path: &Path, text: &str) {
        let mut file = OpenOptions::new().append(true).create(true).open(path).unwrap();
        file.write_all(text.as_bytes()).unwrap();
    }

    fn seen(follow: &mut Follow) -> Vec<String> {
        let bad = follow.read().unwrap();
        assert!(bad.iter().all(|bad| bad.count() == 0), "{bad:?}");
        follow.launches().iter().map(|launch| launch.spec.clone()).collect()
    }

    #[test]
    fn a_log_is_followed_past_its_rotation() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("events.log");
        append(&path, &event(1, "a"));
        let mut follow = Follow::open(std::slice::from_ref(&path), 30).unwrap();
        assert_eq!(seen(&mut follow), ["GitHub:o/a/HEAD"]);
        let (half, rest) = (&event(2, "b")[..30], &event(2, "b")[30..]);
        append(&path, half);
        assert_eq!(seen(&mut follow).len(), 1, "half a line is no event yet");
        append(&path, rest);
        assert_eq!(seen(&mut follow).len(), 2);
        // Renamed by logrotate, after one more event.
        append(&path, &event(3, "c"));
        std::fs::rename(&path, folder.path().join("events.log.1")).unwrap();
        append(&path, &event(4, "d"));
        assert_eq!(seen(&mut follow).last().unwrap(), "GitHub:o/d/HEAD");
        assert_eq!(follow.launches().len(), 4);
        // Cut by `copytruncate`.
        std::fs::write(&path, "").unwrap();
        assert_eq!(seen(&mut follow).len(), 4);
        append(&path, &event(5, "e"));
        assert_eq!(seen(&mut follow).len(), 5);
    }

    #[test]
    fn old_launches_are_forgotten_and_broken_lines_are_reported() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("events.log");
        append(&path, &format!("{}broken\n{}", event(1, "a"), event(20, "b")));
        let mut follow = Follow::open(&[path], 7).unwrap();
        let bad = follow.read().unwrap()[0].sentence().unwrap();
        assert!(bad.contains("line 2: not an event"), "{bad}");
        assert_eq!(seen(&mut follow), ["GitHub:o/b/HEAD"]);
    }
}
