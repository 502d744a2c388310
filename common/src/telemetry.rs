//! Log lines of our processes: to stderr, as text for people or as JSON for machines.

mod flat;

use std::io::Write;
use std::os::fd::AsFd;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::JsonFields;

/// The default log filter.
pub const FILTER_DEFAULT: &str = "info";
/// The Kubernetes client logs as errors what its callers expect and report once themselves. To see its
/// messages, name it in the filter.
const KUBE_CLIENT: &str = "kube_client";
/// How long a log write may block before lines are dropped, so that a slow reader does not delay the process.
const PATIENCE: Duration = Duration::from_millis(100);
/// How many bytes a pipe accepts at once if it accepts any.
const CHUNK: usize = 4096;

/// The shape of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One object a line, without nesting.
    Json,
}

impl std::str::FromStr for LogFormat {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            _ => Err(format!("'{text}' is not one of text, json")),
        }
    }
}

/// Log lines dropped since the last one that was written.
static DROPPED: Mutex<u64> = Mutex::new(0);

/// Standard error, for a process that continues if nobody reads it any more: a failed write has nowhere to be
/// reported, panicking would kill the task, and blocking would stop the whole process.
struct Stderr(LogFormat);

impl Write for Stderr {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let mut dropped = DROPPED.lock().unwrap_or_else(PoisonError::into_inner);
        let mut out = std::io::stderr().lock();
        // After a reader has caused a drop, do not wait for it again until it reads.
        let patience = if *dropped == 0 { PATIENCE } else { Duration::ZERO };
        if !takes(&out, patience) {
            *dropped += 1;
            return Ok(bytes.len());
        }
        if *dropped > 0 {
            let _ = out.write_all(gap(self.0, *dropped).as_bytes());
            *dropped = 0;
        }
        for chunk in bytes.chunks(CHUNK) {
            if !takes(&out, PATIENCE) {
                *dropped += 1;
                break;
            }
            let _ = out.write_all(chunk);
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Whether a write would not block. If that cannot be determined, the write itself will report the error.
fn takes(out: &impl AsFd, patience: Duration) -> bool {
    let give_up = Instant::now() + patience;
    loop {
        let left = give_up.saturating_duration_since(Instant::now());
        let limit = Timespec { tv_sec: 0, tv_nsec: left.subsec_nanos().into() };
        match poll(&mut [PollFd::new(out, PollFlags::OUT)], Some(&limit)) {
            Ok(0) => return false,
            Err(Errno::INTR) => {}
            _ => return true,
        }
    }
}

/// The message that replaces dropped lines.
fn gap(format: LogFormat, lines: u64) -> String {
    match format {
        LogFormat::Text => format!(" WARN {lines} log lines were dropped here: nobody read them\n"),
        LogFormat::Json => {
            format!("{{\"level\":\"WARN\",\"message\":\"log lines were dropped here\",\"lines\":{lines}}}\n")
        }
    }
}

/// Adds to a filter that the Kubernetes client is silent, unless the filter names it.
fn without_kube_client(filter: &str) -> String {
    if filter.contains(KUBE_CLIENT) { filter.to_owned() } else { format!("{filter},{KUBE_CLIENT}=off") }
}

/// Starts logging. `filter` as in `RUST_LOG` (`info`, `fairlane_worker=debug,warn`); a second call
/// changes nothing.
///
/// # Errors
/// A filter that cannot be read.
pub fn init(filter: &str, format: LogFormat, color: bool) -> Result<(), String> {
    let filter = EnvFilter::try_new(without_kube_client(filter))
        .map_err(|e| format!("the log filter '{filter}' cannot be read: {e}"))?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(move || Stderr(format))
        .with_ansi(color);
    let started = match format {
        LogFormat::Text => builder.try_init(),
        LogFormat::Json => builder.fmt_fields(JsonFields::new()).event_format(flat::Flat).try_init(),
    };
    // Tests run several processes' code in one process; the logging of the first is used.
    let _ = started;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kubernetes_client_is_silent_unless_it_is_named() {
        for (filter, expected) in [
            (FILTER_DEFAULT, "info,kube_client=off"),
            ("fairlane_worker=debug,warn", "fairlane_worker=debug,warn,kube_client=off"),
            ("info,kube_client=debug", "info,kube_client=debug"),
        ] {
            assert_eq!(without_kube_client(filter), expected);
            EnvFilter::try_new(expected).unwrap();
        }
        EnvFilter::try_new(without_kube_client("")).unwrap();
    }

    #[test]
    fn a_pipe_that_nobody_reads_takes_nothing_once_it_is_full() {
        let (reader, mut pipe) = std::io::pipe().unwrap();
        let mut written = 0;
        while takes(&pipe, Duration::ZERO) {
            pipe.write_all(&[b'x'; CHUNK]).unwrap();
            written += CHUNK;
        }
        assert!(written >= CHUNK, "{written}");
        drop(reader);
        assert!(takes(&pipe, PATIENCE), "the write says that nobody is there");
    }
}
