//! Log lines of our processes: to stderr, as text for people or as JSON for machines.

use std::io::Write;

use tracing_subscriber::EnvFilter;

/// What is logged unless something else is asked for. The Kubernetes client reports as errors of its
/// own what its callers expect and report once.
pub const FILTER_DEFAULT: &str = "info,kube_client=off";

/// The shape of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One object a line.
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

/// Standard error, for a process that goes on when nobody reads it any more: of a write that fails
/// nobody can be told, and who tried would panic and take its task along.
struct Stderr;

impl Write for Stderr {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let _ = std::io::stderr().write_all(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Starts logging. `filter` as in `RUST_LOG` (`info`, `fairlane_worker=debug,warn`); a second call
/// changes nothing.
///
/// # Errors
/// A filter that cannot be read.
pub fn init(filter: &str, format: LogFormat, color: bool) -> Result<(), String> {
    let filter =
        EnvFilter::try_new(filter).map_err(|e| format!("the log filter '{filter}' cannot be read: {e}"))?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(|| Stderr).with_ansi(color);
    let started = match format {
        LogFormat::Text => builder.try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
    // Tests start several processes' worth in one; the first one's logging is as good.
    let _ = started;
    Ok(())
}
