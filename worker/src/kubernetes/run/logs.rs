//! A run's log: one stream that is followed and, whenever it ends, resumed after the last line that was read. The
//! end of a stream is not the end of the container; only the container's status shows that.

use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use fairlane_common::log::LogLine;
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;
use tracing::Instrument;

use super::sync::{Resume, Window};
use super::timestamped::{TimestampedLines, is_end_of_removed, is_of_removed};
use crate::executor::RunEvent;
use crate::kubernetes::cluster::Cluster;
use crate::kubernetes::cluster::api::ApiError;
use crate::kubernetes::pod::CONTAINER;
use crate::time::backoff::jittered;

/// First pause before a stream is resumed.
const PAUSE_FIRST: Duration = Duration::from_millis(250);
/// Longest pause: after an interruption, a line is at most this late.
const PAUSE_MAX: Duration = Duration::from_secs(10);
/// How much longer the next pause is after a stream that ended at once but had new lines: a kubelet that cannot
/// follow logs still sends the newest lines with each request.
const SLOWER: f64 = 1.25;
/// A stream that lasted this long was not a failure.
const GOOD: Duration = Duration::from_secs(10);
/// How long the last lines may take once the container has ended.
const END_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a stream may continue after its container has ended before the log is read again.
const TRAIL: Duration = Duration::from_secs(3);
/// A stream on which nothing arrives for this long is resumed, because the server may be gone.
const IDLE: Duration = Duration::from_mins(5);
/// After this many failures in a row, people are told that the log cannot be read.
const FAILURES_TOLD: u32 = 3;
/// How many times following a log is started if it panics.
const TRIES_MAX: u32 = 3;

/// The phase of a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// It has not started: there is no log.
    Pending,
    Running,
    /// It runs as far as is known, but its pod is being deleted.
    Ending,
    Ended,
    /// It has ended, and its pod is being deleted: its log may be gone before the pod is.
    Deleted,
    /// Its pod ended before it started: there will never be a log.
    NeverStarted,
}

impl Phase {
    fn is_over(self) -> bool {
        matches!(self, Self::Ended | Self::Deleted)
    }
}

/// How a stream ended.
enum Read {
    /// Normally. `settled`: the container had already ended, and there was nothing new.
    Whole {
        settled: bool,
    },
    /// With all its lines, because its container no longer exists.
    Removed,
    Cut(String),
    /// After all existing lines, the kubelet reported that it cannot follow the log.
    Unfollowed(String),
    Failed(ApiError),
    /// Nobody wants the lines any more.
    Unwanted,
}

/// Follows one container's log.
pub(super) struct LogFollower {
    cluster: Arc<Cluster>,
    name: String,
    phase: watch::Receiver<Phase>,
    out: mpsc::Sender<RunEvent>,
    window: Window,
    failures: u32,
    /// Whether people were told about the failures.
    told: bool,
    /// Whether the last stream ended normally.
    whole: bool,
    /// Whether the last stream ended because its container had been removed: there is nothing more to read.
    removed: bool,
    /// Whether the current stream has had new lines.
    news: bool,
    /// Whether the current stream has had any line of the container.
    heard: bool,
    /// Whether it was logged that the log cannot be followed.
    slow: bool,
    /// An incomplete last line, from when the log was last read to its end.
    rest: Vec<LogLine>,
}

impl LogFollower {
    /// Follows the log in a separate task, which ends with the log or with the handle.
    pub(super) fn spawn(
        cluster: Arc<Cluster>,
        name: String,
        phase: watch::Receiver<Phase>,
        out: mpsc::Sender<RunEvent>,
        window: Window,
    ) -> AbortOnDropHandle<()> {
        let follower = Self::new(cluster, name, phase, out, window);
        AbortOnDropHandle::new(tokio::spawn(follower.follow_safely(|f| f.follow().boxed()).in_current_span()))
    }

    fn new(
        cluster: Arc<Cluster>,
        name: String,
        phase: watch::Receiver<Phase>,
        out: mpsc::Sender<RunEvent>,
        window: Window,
    ) -> Self {
        Self {
            cluster,
            name,
            phase,
            out,
            window,
            failures: 0,
            told: false,
            whole: false,
            removed: false,
            news: false,
            heard: false,
            slow: false,
            rest: Vec::new(),
        }
    }

    /// Follows the log again if that panics: a panic must not look like the end of the log.
    async fn follow_safely(mut self, follow: for<'a> fn(&'a mut Self) -> BoxFuture<'a, ()>) {
        for _ in 0..TRIES_MAX {
            if AssertUnwindSafe(follow(&mut self)).catch_unwind().await.is_ok() {
                return;
            }
            tracing::error!(pod = self.name, "the task that follows a log panicked");
            self.say("the log could not be followed here: lines may be missing").await;
        }
        self.say("the rest of the log cannot be followed").await;
    }

    async fn follow(&mut self) {
        let mut pause = PAUSE_FIRST;
        let mut end_by = None;
        loop {
            let phase = self.phase.wait_for(|phase| *phase != Phase::Pending).await.map(|phase| *phase);
            let Ok(phase) = phase else { return };
            if phase == Phase::NeverStarted && self.window.since().is_none() {
                return self
                    .say("the build's container was not seen to start, so there is no log of it")
                    .await;
            }
            let ended = !matches!(phase, Phase::Running | Phase::Ending);
            if ended && end_by.is_none() {
                end_by = Some(Instant::now() + END_TIMEOUT);
                pause = PAUSE_FIRST;
            }
            let began = Instant::now();
            let read = async {
                let read = self.read(ended).await;
                if let Read::Failed(error) = &read {
                    tokio::time::sleep(error.wait()).await;
                }
                read
            };
            let read = match end_by {
                Some(end) => tokio::time::timeout_at(end, read).await,
                None => Ok(read.await),
            };
            let news = std::mem::take(&mut self.news);
            if began.elapsed() >= GOOD {
                pause = PAUSE_FIRST;
            }
            let slower = if news && !matches!(read, Ok(Read::Unfollowed(_))) { SLOWER } else { 2.0 };
            match read {
                Ok(Read::Unwanted | Read::Whole { settled: true }) => return,
                Ok(Read::Whole { .. }) => self.whole = true,
                Ok(Read::Removed) => (self.whole, self.removed) = (true, true),
                Ok(Read::Unfollowed(why)) => self.unfollowed(&why),
                Ok(Read::Cut(why)) => tracing::debug!(why, "the log stream broke off; resuming it"),
                Ok(Read::Failed(error)) if error.code() == 404 && (ended || self.whole) => return,
                Ok(Read::Failed(error)) if phase == Phase::Deleted && is_of_removed(&error.to_string()) => {
                    if !self.removed {
                        self.say("the pod was deleted, so the end of the log may be missing").await;
                    }
                    return;
                }
                Ok(Read::Failed(error)) => self.failed(&error, phase).await,
                Err(_) => {
                    self.say("the end of the log could not be read in time").await;
                    return;
                }
            }
            let wait = jittered(pause);
            pause = pause.mul_f64(slower).min(PAUSE_MAX);
            let mut phase = self.phase.clone();
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                changed = phase.wait_for(|phase| phase.is_over()), if !ended => {
                    if changed.is_err() {
                        return;
                    }
                }
            }
        }
    }

    /// Reads one stream to its end. `ended`: whether its container had ended before.
    async fn read(&mut self, ended: bool) -> Read {
        let since = self.window.since();
        // A log that is complete is not followed, because following uses up an inotify instance on the node.
        let stream = match self.cluster.api.read_log(&self.name, CONTAINER, since, !ended).await {
            Ok(stream) => stream,
            Err(error) => return Read::Failed(error),
        };
        let mut stream = pin!(stream);
        let (mut splitter, mut resume) = (TimestampedLines::new(), self.window.resume());
        self.heard = false;
        let mut phase = self.phase.clone();
        let mut trail = None;
        loop {
            let idle = trail.unwrap_or_else(|| Instant::now() + IDLE);
            let chunk = tokio::select! {
                chunk = stream.next() => chunk,
                () = tokio::time::sleep_until(idle) => return Read::Cut("nothing came".to_owned()),
                changed = phase.wait_for(|phase| phase.is_over()), if !ended && trail.is_none() => {
                    if changed.is_err() {
                        return Read::Unwanted;
                    }
                    trail = Some(Instant::now() + TRAIL);
                    continue;
                }
            };
            let lines = match chunk {
                Some(Ok(bytes)) => splitter.push(&bytes),
                Some(Err(error)) => return Read::Cut(error),
                None if ended => return self.end(resume, splitter.finish()).await,
                None => {
                    // An incomplete last line will be sent again, unless it is a message of the kubelet.
                    let strange = |line: &LogLine| {
                        line.t.is_empty() && !line.text.starts_with(|c: char| c.is_ascii_digit())
                    };
                    return match splitter.finish().pop().filter(strange) {
                        Some(line) => self.complaint(line.text, false),
                        None => Read::Whole { settled: false },
                    };
                }
            };
            for line in lines {
                if let Some(read) = self.take(&mut resume, line, ended).await {
                    return read;
                }
            }
        }
    }

    /// Interprets a line that comes from the kubelet, not from the container.
    fn complaint(&self, why: String, ended: bool) -> Read {
        if !ended && is_end_of_removed(&why) {
            return Read::Removed;
        }
        let of_following = self.heard || ["inotify", "fsnotify"].iter().any(|word| why.contains(word));
        if !ended && of_following && !why.is_empty() {
            return Read::Unfollowed(why);
        }
        Read::Failed(ApiError::Away(if why.is_empty() { "an empty answer".to_owned() } else { why }))
    }

    /// The end of a log whose container had ended. A kubelet that shuts down also ends streams normally, so the
    /// log only counts as complete once another read brings nothing new.
    async fn end(&mut self, mut resume: Resume, rest: Vec<LogLine>) -> Read {
        if self.news || rest != self.rest {
            self.rest = rest;
            return Read::Whole { settled: false };
        }
        for line in rest {
            if let Some(read) = self.take(&mut resume, line, true).await {
                return read;
            }
        }
        Read::Whole { settled: true }
    }

    /// Handles one line of a stream. Returns how the stream ended, if this line ends it.
    async fn take(&mut self, resume: &mut Resume, line: LogLine, ended: bool) -> Option<Read> {
        if line.t.is_empty() {
            return Some(self.complaint(line.text, ended));
        }
        (self.failures, self.told, self.heard, self.removed) = (0, false, true, false);
        for line in resume.push(line) {
            self.news = true;
            self.window.note(&line);
            if self.out.send(RunEvent::Line(line)).await.is_err() {
                return Some(Read::Unwanted);
            }
        }
        None
    }

    /// The log is complete so far; its lines just arrive later than they could.
    fn unfollowed(&mut self, why: &str) {
        self.failures = 0;
        if !std::mem::replace(&mut self.slow, true) {
            tracing::warn!(
                pod = self.name,
                why,
                "the kubelet cannot follow this log: its lines arrive up to 10 s late; raise fs.inotify.max_user_instances on the node"
            );
        }
    }

    async fn failed(&mut self, error: &ApiError, phase: Phase) {
        tracing::debug!(%error, "the log cannot be read");
        self.failures += 1;
        // This must not count as silence.
        if self.out.send(RunEvent::Unheard).await.is_err() {
            return;
        }
        // If the whole API is away, or the container ends, people are told elsewhere.
        let over = phase != Phase::Running || self.removed;
        if self.failures >= FAILURES_TOLD
            && !over
            && !self.told
            && self.cluster.pods.away().borrow().is_none()
        {
            self.told = true;
            let hint = if error.code() == 403 { "; the worker needs the right to get pods/log" } else { "" };
            self.say(&format!("the log cannot be read right now; the build continues ({error}{hint})")).await;
            let _ = self.out.send(RunEvent::Unreadable).await;
        }
    }

    /// Adds a line to the log that does not come from the build.
    async fn say(&self, text: &str) {
        tracing::warn!("{text}");
        let line = LogLine { t: String::new(), text: format!("[fairlane] {text}") };
        // Fails only if nobody receives it any more.
        let _ = self.out.send(RunEvent::Line(line)).await;
    }
}

#[cfg(test)]
mod tests {
    use fairlane_common::Queue;
    use fairlane_testkit::{RedisServer, kube as fake};

    use super::*;
    use crate::kubernetes::client;
    use crate::settings::Settings;

    async fn lines_of(follow: for<'a> fn(&'a mut LogFollower) -> BoxFuture<'a, ()>) -> Vec<String> {
        let (redis, there) = (RedisServer::start_default().await, fake::Cluster::start());
        let queue = Queue::open(&redis.url().parse().unwrap(), "fairlane").await.unwrap();
        let way = client::Cluster::of_file(&there.kubeconfig(), None, None).await.unwrap();
        let (out, mut events) = mpsc::channel(10);
        let cluster = Arc::new(Cluster::new(way, &Settings::default(), &queue));
        let phase = watch::channel(Phase::Running).1;
        let follower = LogFollower::new(cluster, "pod".to_owned(), phase, out, Window::of_stored(&[]));
        follower.follow_safely(follow).await;
        let mut lines = Vec::new();
        while let Some(RunEvent::Line(line)) = events.recv().await {
            lines.push(line.text);
        }
        lines
    }

    #[tokio::test]
    async fn a_panic_is_no_end_of_the_log() {
        let missing = "[fairlane] the log could not be followed here: lines may be missing";
        let lines = lines_of(|follower| {
            async move {
                follower.failures += 1;
                assert!(follower.failures > 1, "as the test wants it");
                follower.say("the rest").await;
            }
            .boxed()
        });
        assert_eq!(lines.await, [missing, "[fairlane] the rest"]);
        // A task that always panics is not restarted forever.
        let lines = lines_of(|_| async { panic!("as the test wants it") }.boxed()).await;
        let last = "[fairlane] the rest of the log cannot be followed";
        assert_eq!(lines, [missing, missing, missing, last]);
    }
}
