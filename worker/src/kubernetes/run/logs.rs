//! A run's log: one stream that is followed and, whenever it ends, resumed after the last line
//! that was taken. The end of a stream is not the end of the container; its status tells that.

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
use super::timestamped::TimestampedLines;
use crate::executor::RunEvent;
use crate::kubernetes::cluster::Cluster;
use crate::kubernetes::cluster::api::ApiError;
use crate::kubernetes::pod::CONTAINER;
use crate::time::backoff::jittered;

/// First pause before a stream is resumed.
const PAUSE_FIRST: Duration = Duration::from_millis(250);
/// Longest pause: how late a line may be after a break.
const PAUSE_MAX: Duration = Duration::from_secs(10);
/// How much longer the next pause is after a stream that ended at once, though it brought something new: a
/// kubelet that can follow no log brings the newest lines at each try.
const SLOWER: f64 = 1.25;
/// A stream that lasted so long was no failure.
const GOOD: Duration = Duration::from_secs(10);
/// How long the last lines may take once the container has ended.
const END_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a stream may go on after its container has ended, before it is read anew.
const TRAIL: Duration = Duration::from_secs(3);
/// A stream on which nothing came for so long is resumed: its other side may be gone.
const IDLE: Duration = Duration::from_mins(5);
/// After so many failures in a row people are told that the log cannot be read.
const FAILURES_TOLD: u32 = 3;
/// So often is a log followed whose following panics.
const TRIES_MAX: u32 = 3;

/// How far a container has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// It has not started: there is no log.
    Pending,
    Running,
    Ended,
    /// Its pod has ended without it: there is no log, and will be none.
    NeverStarted,
}

/// How a stream ended.
enum Read {
    /// In good order; `settled`: of a container that had ended, and nothing was new.
    Whole {
        settled: bool,
    },
    Cut(String),
    /// All that there was, and then the kubelet's word that it cannot follow the log.
    Unfollowed(String),
    Failed(ApiError),
    /// Nobody takes the lines any more.
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
    /// People were told.
    told: bool,
    /// The last stream ended in good order.
    whole: bool,
    /// The present stream has brought something new.
    news: bool,
    /// The present stream has brought any line of the container's.
    heard: bool,
    /// It was said that the log cannot be followed.
    slow: bool,
    /// What came after the last end of a line, when the log was last read to its end.
    rest: Vec<LogLine>,
}

impl LogFollower {
    /// Follows the log in a task of its own, which ends with the log, or with the handle.
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
            news: false,
            heard: false,
            slow: false,
            rest: Vec::new(),
        }
    }

    /// Follows it again where that panics: an end that comes of it must not pass for the log's.
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
                return self.say("the build's container was not seen to start: there is no log of it").await;
            }
            let ended = phase != Phase::Running;
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
                Ok(Read::Unfollowed(why)) => self.unfollowed(&why),
                Ok(Read::Cut(why)) => tracing::debug!(why, "the log stream broke off; resuming it"),
                Ok(Read::Failed(error)) if error.code() == 404 && (ended || self.whole) => return,
                Ok(Read::Failed(error)) => self.failed(&error).await,
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
                changed = phase.wait_for(|phase| *phase == Phase::Ended), if !ended => {
                    if changed.is_err() {
                        return;
                    }
                }
            }
        }
    }

    /// Reads one stream to its end; `ended`: its container had ended before.
    async fn read(&mut self, ended: bool) -> Read {
        let since = self.window.since();
        // What has ended needs no following, which takes an inotify instance of the node.
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
                changed = phase.wait_for(|phase| *phase == Phase::Ended), if !ended && trail.is_none() => {
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
                    // A last line without an end comes again, unless it is the kubelet's.
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

    /// What the kubelet says in a log that is not the container's.
    fn complaint(&self, why: String, ended: bool) -> Read {
        let of_following = self.heard || ["inotify", "fsnotify"].iter().any(|word| why.contains(word));
        if !ended && of_following && !why.is_empty() {
            return Read::Unfollowed(why);
        }
        Read::Failed(ApiError::Away(if why.is_empty() { "an empty answer".to_owned() } else { why }))
    }

    /// The end of a log whose container had ended. A kubelet that stops ends a stream in good order
    /// too: what is new is taken for all only once another read brings nothing more.
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

    /// Takes one line of a stream; what it ends the stream with, if it does.
    async fn take(&mut self, resume: &mut Resume, line: LogLine, ended: bool) -> Option<Read> {
        if line.t.is_empty() {
            return Some(self.complaint(line.text, ended));
        }
        (self.failures, self.told, self.heard) = (0, false, true);
        for line in resume.push(line) {
            self.news = true;
            self.window.note(&line);
            if self.out.send(RunEvent::Line(line)).await.is_err() {
                return Some(Read::Unwanted);
            }
        }
        None
    }

    /// The log is whole as far as it goes; its lines come later than they could.
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

    async fn failed(&mut self, error: &ApiError) {
        tracing::debug!(%error, "the log cannot be read");
        self.failures += 1;
        // Nobody may take it for silence.
        if self.out.send(RunEvent::Unheard).await.is_err() {
            return;
        }
        // That the whole API is away is told otherwise.
        if self.failures >= FAILURES_TOLD && !self.told && self.cluster.pods.away().borrow().is_none() {
            self.told = true;
            let hint = if error.code() == 403 { "; the worker needs the right to get pods/log" } else { "" };
            self.say(&format!("the log cannot be read right now; the build continues ({error}{hint})")).await;
        }
    }

    /// Tells the watchers something that the build did not say.
    async fn say(&self, text: &str) {
        tracing::warn!("{text}");
        let line = LogLine { t: String::new(), text: format!("[fairlane] {text}") };
        // Fails only where nobody listens any more.
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
        // And one that comes back every time is not followed for ever.
        let lines = lines_of(|_| async { panic!("as the test wants it") }.boxed()).await;
        let last = "[fairlane] the rest of the log cannot be followed";
        assert_eq!(lines, [missing, missing, missing, last]);
    }
}
