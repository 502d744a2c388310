//! `fairlane bench watchers`: many streams of one build on one dispatcher.

use std::net::SocketAddr;
use std::process::Stdio;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use fairlane_clikit::program;
use fairlane_common::id::{BuildId, Token};
use fairlane_common::log::{Appended, LogLine, LogWriter};
use futures::StreamExt;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

use super::Report;
use super::drain::claim;
use super::meter::{as_f64, own_cpu, quantile, round};
use super::scene::Scene;
use crate::raw::RedisCost;

/// The program whose dispatcher is measured.
const PROGRAM: &str = "fairlane";
/// Lines per second, as a verbose build writes them.
const LINES_PER_SECOND: u32 = 5;
/// How long the dispatcher may take to start.
const START_LIMIT: Duration = Duration::from_secs(20);
/// How long a response may take.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);
/// How long the last lines may take to arrive.
const LAST_LINE_LIMIT: Duration = Duration::from_secs(30);
/// Streams opened at a time.
const OPEN_AT_ONCE: usize = 200;
/// Length of a line's mark, `line-0000042;`, which may be split between two reads.
const MARK_BYTES: usize = 13;
/// Open files other than the streams.
const OTHER_FILES: u64 = 200;

/// When each line was written, and when the last watcher received it.
struct Lines {
    begun: Instant,
    written: Vec<AtomicU64>,
    seen: Vec<AtomicU32>,
    last: Vec<AtomicU64>,
}

pub(super) async fn run(scene: &Scene, n: u32, seconds: u32) -> Result<Report> {
    raise_files(u64::from(n))?;
    let (mut child, address) = start_dispatcher(scene).await?;
    let measured = watch(scene, n, seconds, &child, address).await;
    child.kill().await?;
    measured
}

async fn watch(scene: &Scene, n: u32, seconds: u32, child: &Child, address: SocketAddr) -> Result<Report> {
    let pid = child.id().context("the dispatcher has ended")?;
    scene.queue.renew(&scene.beat(&scene.worker, 4)).await?;
    let id = scene.submit(0, 0).await?;
    let claimed = claim(scene, 1).await?.pop().context("the build was not claimed")?;
    scene.queue.report(&claimed.token, true, None).await?;
    let count = (seconds * LINES_PER_SECOND) as usize;
    let lines: &'static Lines = Box::leak(Box::new(Lines::new(count)));

    // The first stream opens the build's channel, which is not part of the cost of each further one.
    let mut readers = vec![tokio::spawn(follow(address, id, lines))];
    wait_for_streams(address, 1).await?;
    let empty = resident(pid)?;
    let opened = Instant::now();
    let streams = futures::stream::iter(1..n).map(|_| async { open(address, id).await });
    let mut streams = streams.buffer_unordered(OPEN_AT_ONCE);
    while let Some(stream) = streams.next().await {
        readers.push(tokio::spawn(read(stream?, lines)));
    }
    wait_for_streams(address, n).await?;
    let opened = opened.elapsed();
    let full = resident(pid)?;

    let (cpu, own, cost) = (cpu_of(pid)?, own_cpu(), RedisCost::of(scene.queue.link()).await?);
    let writing = Instant::now();
    write_lines(scene, &claimed.token, lines).await?;
    lines.wait_for_last(n).await;
    let wall = writing.elapsed().as_secs_f64();
    let after = RedisCost::of(scene.queue.link()).await?;
    let (cpu, own) = (cpu_of(pid)? - cpu, own_cpu() - own);
    let streaming = resident(pid)?;
    readers.iter().for_each(tokio::task::JoinHandle::abort);

    let delays = lines.delays();
    let complete = lines.seen.iter().filter(|seen| seen.load(Ordering::Relaxed) >= n).count();
    let late = delays.iter().filter(|delay| **delay > Duration::from_secs(1)).count();
    let each = |bytes: u64| as_f64(bytes.saturating_sub(empty)) / f64::from(n.max(2) - 1);
    let facts = json!({
        "bench": "watchers",
        "watchers": n,
        "lines": count,
        "lines_that_all_have": complete,
        "lines_later_than_1_s": late,
        "last_watcher_p50_ms": round(quantile(&delays, 0.5)),
        "last_watcher_p99_ms": round(quantile(&delays, 0.99)),
        "last_watcher_max_ms": round(quantile(&delays, 1.0)),
        "open_seconds": round(opened.as_secs_f64()),
        "resident_bytes_with_one": empty,
        "bytes_each_open": each(full).round(),
        "bytes_each_streaming": each(streaming).round(),
        "dispatcher_cpu_of_a_core": round(cpu / wall),
        "own_cpu_of_a_core": round(own / wall),
        "redis_cpu_of_a_core": round((after.cpu_seconds - cost.cpu_seconds) / wall),
        "redis_connections": after.connections,
    });
    let line = format!(
        "watchers {n}: {:.1} KB each, {:.1} KB while lines come; a line reaches the last one within {:.0} ms (p50), \
         {:.0} ms (p99), {:.0} ms (max); {late} of {count} lines later than 1 s, {complete} seen by all; \
         {:.0} % of a core; {} connections to Redis",
        each(full) / 1000.0,
        each(streaming) / 1000.0,
        quantile(&delays, 0.5),
        quantile(&delays, 0.99),
        quantile(&delays, 1.0),
        cpu / wall * 100.0,
        after.connections,
    );
    Ok(Report { line, facts })
}

impl Lines {
    fn new(count: usize) -> Self {
        let zeros = || (0..count).map(|_| AtomicU64::new(0)).collect();
        let seen = (0..count).map(|_| AtomicU32::new(0)).collect();
        Self { begun: Instant::now(), written: zeros(), seen, last: zeros() }
    }

    fn now(&self) -> u64 {
        u64::try_from(self.begun.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    fn saw(&self, line: usize) {
        if let (Some(seen), Some(last)) = (self.seen.get(line), self.last.get(line)) {
            last.fetch_max(self.now(), Ordering::Relaxed);
            seen.fetch_add(1, Ordering::Relaxed);
        }
    }

    async fn wait_for_last(&self, watchers: u32) {
        let begun = Instant::now();
        let done = || self.seen.last().is_none_or(|seen| seen.load(Ordering::Relaxed) >= watchers);
        while !done() && begun.elapsed() < LAST_LINE_LIMIT {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    fn delays(&self) -> Vec<Duration> {
        let pairs = self.written.iter().zip(&self.last);
        let delay = |(written, last): (&AtomicU64, &AtomicU64)| {
            Duration::from_micros(
                last.load(Ordering::Relaxed).saturating_sub(written.load(Ordering::Relaxed)),
            )
        };
        pairs.map(delay).collect()
    }
}

/// Writes the lines as a worker would, one call each.
async fn write_lines(scene: &Scene, token: &Token, lines: &Lines) -> Result<()> {
    let mut writer = LogWriter::new(scene.queue.clone(), token.clone(), 1, "0-0".to_owned());
    let mut ticks = tokio::time::interval(Duration::from_secs(1) / LINES_PER_SECOND);
    let mut beat = scene.beat(&scene.worker, 4);
    beat.held = vec![token.clone()];
    for number in 0..lines.written.len() {
        ticks.tick().await;
        if number.is_multiple_of(10) {
            scene.queue.renew(&beat).await?;
        }
        let text =
            format!("line-{number:07}; Collecting something-or-other>=1.2.3 (from -r requirements.txt)");
        lines.written[number].store(lines.now(), Ordering::Relaxed);
        let line = LogLine { t: String::new(), text };
        if writer.append(&[line]).await? == Appended::Stale {
            bail!("the simulated worker lost its lease");
        }
    }
    Ok(())
}

async fn open(address: SocketAddr, id: BuildId) -> Result<TcpStream> {
    let mut stream = TcpStream::connect(address).await.context("a stream cannot be opened")?;
    let request = format!("GET /v1/builds/{id}/events HTTP/1.1\r\nHost: {address}\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    Ok(stream)
}

async fn follow(address: SocketAddr, id: BuildId, lines: &'static Lines) -> Result<()> {
    read(open(address, id).await?, lines).await
}

/// Reads one stream and records when each line arrives.
async fn read(mut stream: TcpStream, lines: &'static Lines) -> Result<()> {
    let mut buffer = vec![0; 4096];
    let mut kept = 0;
    loop {
        let read = stream.read(&mut buffer[kept..]).await?;
        if read == 0 {
            return Ok(());
        }
        let have = kept + read;
        let mut done = 0;
        for at in 0..have.saturating_sub(MARK_BYTES - 1) {
            let mark = &buffer[at..at + MARK_BYTES];
            if mark.starts_with(b"line-") && mark.ends_with(b";") {
                let number =
                    std::str::from_utf8(&mark[5..MARK_BYTES - 1]).ok().and_then(|text| text.parse().ok());
                lines.saw(number.unwrap_or(usize::MAX));
                done = at + MARK_BYTES;
            }
        }
        // A mark may continue in the next read.
        let from = done.max(have.saturating_sub(MARK_BYTES - 1));
        buffer.copy_within(from..have, 0);
        kept = have - from;
    }
}

/// Starts a dispatcher as a separate process; returns it and the address that it listens on.
async fn start_dispatcher(scene: &Scene) -> Result<(Child, SocketAddr)> {
    let address = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    let program = program::of_ours(PROGRAM)
        .with_context(|| format!("the program {PROGRAM} is neither beside this one nor in PATH"))?;
    let child = Command::new(program)
        .args(["dispatcher", "--log", "warn", "--listen", &address.to_string(), "--prefix", &scene.prefix])
        .env("FAIRLANE_REDIS_URL", &scene.url)
        .env_remove("FAIRLANE_TOKEN")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .context("the dispatcher cannot be started")?;
    let begun = Instant::now();
    while ask(address, "/readyz").await.is_err() {
        if begun.elapsed() > START_LIMIT {
            bail!("the dispatcher is not ready after {} s", START_LIMIT.as_secs());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok((child, address))
}

/// The body of the response to a GET, if it succeeds.
async fn ask(address: SocketAddr, path: &str) -> Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    let request = format!("GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    tokio::time::timeout(ANSWER_LIMIT, stream.read_to_string(&mut answer)).await??;
    let (head, body) = answer.split_once("\r\n\r\n").context("the head of a response has no end")?;
    let status = head.split(' ').nth(1).unwrap_or_default();
    if status != "200" {
        bail!("{path} returned {status}");
    }
    Ok(body.to_owned())
}

/// Waits until the dispatcher serves `n` streams.
async fn wait_for_streams(address: SocketAddr, n: u32) -> Result<()> {
    let begun = Instant::now();
    loop {
        let text = ask(address, "/metrics").await?;
        let streams = text.lines().find_map(|line| line.strip_prefix("fairlane_streams "));
        if streams
            .and_then(|count| count.trim().parse::<f64>().ok())
            .is_some_and(|count| count >= f64::from(n))
        {
            return Ok(());
        }
        if begun.elapsed() > LAST_LINE_LIMIT {
            bail!("the dispatcher serves {} of {n} streams", streams.unwrap_or("none"));
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Raises the limit on open files, so that this process and the dispatcher that it starts can open a file for each
/// stream.
fn raise_files(streams: u64) -> Result<()> {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum })?;
    if limit.maximum.is_some_and(|most| most < streams + OTHER_FILES) {
        bail!(
            "{streams} streams need that many open files, but the limit is {}; raise it (ulimit -Hn) or use fewer",
            limit.maximum.unwrap_or(0)
        );
    }
    Ok(())
}

/// Resident memory of a process, in bytes.
fn resident(pid: u32) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    let kb: u64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kb * 1024)
}

/// CPU seconds that a process has used; Linux counts them in hundredths.
fn cpu_of(pid: u32) -> Result<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let fields = stat.rsplit_once(')').context("no stat")?.1.split_whitespace().skip(11).take(2);
    Ok(as_f64(fields.filter_map(|ticks| ticks.parse::<u64>().ok()).sum()) / 100.0)
}
