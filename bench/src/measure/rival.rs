//! The yardstick's turns: sent by redis-benchmark if it is installed, otherwise by our own client.

use std::path::PathBuf;
use std::process::Stdio;

use super::yardstick::{Bare, BareQueue};
use anyhow::{Context, Result, bail};
use fairlane_clikit::program;
use tokio::process::Command;

use super::meter::{Sample, at_once};

/// Its name, for Redis and for Valkey.
const PROGRAMS: [&str; 2] = ["redis-benchmark", "valkey-benchmark"];

/// Which client sends the yardstick's requests.
#[derive(Debug)]
pub(super) enum Rival {
    /// redis-benchmark, over the socket of our private server.
    Program {
        /// Path of the program.
        program: PathBuf,
        /// The server's socket.
        socket: PathBuf,
        /// Its name and version, as it prints them.
        release: String,
    },
    /// Our own client, and why.
    Own(&'static str),
}

impl Rival {
    /// Looks for redis-benchmark. It is only used with our private server: others may need a password, and
    /// everybody can read a command's arguments.
    pub(super) async fn find(socket: Option<PathBuf>) -> Self {
        let Some(socket) = socket else {
            return Self::Own("redis-benchmark is only used with the benchmark's own server");
        };
        let Some(program) = PROGRAMS.iter().find_map(|name| program::find(name)) else {
            return Self::Own(
                "redis-benchmark is not in PATH (Debian, Ubuntu: `sudo apt-get install redis-tools`)",
            );
        };
        let said = Command::new(&program).arg("--version").output().await;
        let release = said.map(|said| String::from_utf8_lossy(&said.stdout).trim().to_owned());
        Self::Program { program, socket, release: release.unwrap_or_default() }
    }

    /// Its name, for the report.
    pub(super) fn name(&self) -> String {
        match self {
            Self::Program { release, .. } => release.clone(),
            Self::Own(why) => format!("own client: {why}"),
        }
    }

    /// A warning if the yardstick is not the usual one.
    pub(super) fn warning(&self) -> Option<String> {
        match self {
            Self::Program { .. } => None,
            Self::Own(why) => Some(format!("the built-in client sends the yardstick's requests: {why}")),
        }
    }

    /// One turn: `count` times each of `operations`, with a limited number of requests in flight.
    pub(super) async fn turn(
        &self,
        bare: &BareQueue,
        operations: &[Bare],
        count: u32,
        at_a_time: u32,
        payload: &str,
    ) -> Result<Sample> {
        let Self::Program { program, socket, .. } = self else {
            return Sample::of(bare.link(), own(bare, operations, count, at_a_time, payload)).await;
        };
        let work = async {
            let mut quantiles = (0.0, 0.0);
            for operation in operations {
                let mut command = Command::new(program);
                command.arg("-s").arg(socket).args(["-c", "1", "--csv"]);
                command.args(["-n", &count.to_string(), "-P", &at_a_time.to_string()]);
                command.args(bare.words(*operation, 1, payload));
                let (p50, p99) = measured(&mut command).await?;
                quantiles = (quantiles.0 + p50, quantiles.1 + p99);
            }
            Ok(quantiles)
        };
        Sample::of_program(bare.link(), count, work).await
    }
}

/// The yardstick's turn by our own client.
pub(super) async fn own(
    bare: &BareQueue,
    operations: &[Bare],
    count: u32,
    at_a_time: u32,
    payload: &str,
) -> Result<Vec<std::time::Duration>> {
    at_once(0..count, at_a_time, |i| async move {
        for operation in operations {
            let there = match operation {
                Bare::Enqueue => bare.enqueue(u64::from(i), payload).await.map(|()| true),
                Bare::Take => bare.take(u64::from(i)).await,
                Bare::Acknowledge => bare.acknowledge(u64::from(i)).await,
            };
            if !there? {
                bail!("the bare queue is empty");
            }
        }
        Ok(())
    })
    .await
}

/// Runs redis-benchmark; returns the median and the 99th percentile of its requests, in milliseconds.
async fn measured(command: &mut Command) -> Result<(f64, f64)> {
    let said = command.stdin(Stdio::null()).output().await.context("redis-benchmark does not start")?;
    let text = String::from_utf8_lossy(&said.stdout);
    let times = said.status.success().then(|| times(&text)).flatten();
    times.with_context(|| {
        format!("redis-benchmark printed no figures: {text}{}", String::from_utf8_lossy(&said.stderr))
    })
}

/// The median and the 99th percentile in its CSV, whose first line names the columns.
fn times(csv: &str) -> Option<(f64, f64)> {
    let mut lines = csv.lines().filter(|line| line.starts_with('"'));
    let (names, values) = (lines.next()?, lines.next_back()?);
    // The command is in the first column and may contain commas, so columns are counted from the end.
    let column = |name: &str| -> Option<f64> {
        let from_end = names.rsplit(',').position(|column| column.trim_matches('"') == name)?;
        values.rsplit(',').nth(from_end)?.trim_matches('"').parse().ok()
    };
    Some((column("p50_latency_ms")?, column("p99_latency_ms")?))
}

#[cfg(test)]
mod tests {
    use super::times;

    #[test]
    fn the_figures_of_redis_benchmark_are_read() {
        let csv = "\"test\",\"rps\",\"avg_latency_ms\",\"min_latency_ms\",\"p50_latency_ms\",\"p95_latency_ms\",\
                   \"p99_latency_ms\",\"max_latency_ms\"\n\"EVALSHA 1,2\",\"9.00\",\"0.2\",\"0.1\",\"0.215\",\"0.3\",\
                   \"0.4\",\"0.5\"\n";
        assert_eq!(times(csv), Some((0.215, 0.4)));
        assert_eq!(times("Could not connect\n"), None);
    }
}
