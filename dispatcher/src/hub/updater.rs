//! Updates the channels: fetches states and logs of all marked builds at once.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use fairlane_common::Error;
use fairlane_common::build::{ALREADY_THERE, Build, BuildState};
use fairlane_common::id::BuildId;
use fairlane_common::log::LogPage;
use fairlane_common::queue::Why;
use futures::StreamExt;
use tokio::time::Instant;

use super::cursor::EntryId;
use super::frame::Piece;
use super::ring::Ring;
use super::{Channel, Hub, PAGE, frame, last_run};
use crate::api::{BuildView, EndEvent, MovedEvent};
use crate::redis_wait::bounded;
use crate::routes::log::GONE_TEXT;
use crate::routes::view;
use crate::upkeep::outage::{Outage, jitter};

/// Lines that arrive within this time are sent in one write. Otherwise, ten thousand watchers of five lines a
/// second would mean fifty thousand writes a second.
const BATCH: Duration = Duration::from_millis(150);
/// How often every watched build is checked, even without a hint.
const FALLBACK: Duration = Duration::from_secs(2);
/// Shortest time between two events that only change a build's position or people.
const PLACE_GAP: Duration = Duration::from_secs(2);
/// Most builds fetched in one round trip.
const ROUND: usize = 64;
/// Builds whose position is computed at the same time.
const WHY_AT_ONCE: usize = 4;
/// How long to wait for the end of a log after its build has ended.
const LOG_END_WAIT: Duration = Duration::from_secs(5);
/// How long a build may be unknown until its streams are told that it is lost. After Redis was emptied,
/// workers register their runs within a lease plus 5 s.
const LOST_AFTER: Duration = Duration::from_secs(15);
/// Pause after a failed round.
const BACKOFF: Duration = Duration::from_millis(500);

/// What the updater remembers about a build between rounds.
struct Progress {
    view: Option<BuildView>,
    told: Instant,
    why: Option<Why>,
    why_at: Option<Instant>,
    ended: Option<Instant>,
    missing: Option<Instant>,
    unreadable: bool,
}

/// What was fetched for one build.
struct News {
    build: Option<Build>,
    run: u32,
    page: LogPage,
}

/// Updates until the dispatcher stops.
pub(super) async fn run(hub: &Arc<Hub>) {
    let mut progress: HashMap<BuildId, Progress> = HashMap::new();
    let mut outage = Outage::new("reading watched builds");
    let mut next_sweep = Instant::now() + jitter(FALLBACK);
    loop {
        tokio::select! {
            () = hub.mark.notified() => {}
            () = tokio::time::sleep_until(next_sweep) => {
                next_sweep = Instant::now() + jitter(FALLBACK);
                hub.mark_all();
                let watched: HashSet<BuildId> = hub.channels().keys().copied().collect();
                progress.retain(|id, _| watched.contains(id));
            }
            () = hub.shutdown.cancelled() => return,
        }
        let ids: Vec<BuildId> = std::mem::take(&mut *hub.marked()).into_iter().collect();
        for ids in ids.chunks(ROUND) {
            rounds(hub, ids, &mut progress, &mut outage).await;
        }
        tokio::select! {
            () = tokio::time::sleep(BATCH) => {}
            () = hub.shutdown.cancelled() => return,
        }
    }
}

/// One round for all of `ids`. If one of them cannot be read, each gets a round of its own.
async fn rounds(hub: &Hub, ids: &[BuildId], progress: &mut HashMap<BuildId, Progress>, outage: &mut Outage) {
    match round(hub, ids, progress).await {
        Ok(()) => outage.over(),
        Err(Error::Corrupt(_)) if ids.len() > 1 => {
            for id in ids {
                if let Err(error) = round(hub, &[*id], progress).await {
                    tracing::error!(build.id = %id, error = %error, "build {id} cannot be read");
                }
            }
        }
        Err(error) => {
            outage.failed(&error);
            hub.marked().extend(ids);
            tokio::time::sleep(jitter(BACKOFF)).await;
            hub.mark.notify_one();
        }
    }
}

async fn round(
    hub: &Hub,
    ids: &[BuildId],
    progress: &mut HashMap<BuildId, Progress>,
) -> fairlane_common::Result<()> {
    let channels: Vec<Arc<Channel>> = {
        let all = hub.channels();
        ids.iter().filter_map(|id| all.get(id).cloned()).collect()
    };
    let channels: Vec<Arc<Channel>> =
        channels.into_iter().filter(|channel| !channel.ring().is_closed()).collect();
    if channels.is_empty() {
        return Ok(());
    }
    let ids: Vec<BuildId> = channels.iter().map(|channel| channel.id).collect();
    let logs: Vec<(BuildId, u32, String)> = channels
        .iter()
        .map(|channel| {
            let ring = channel.ring();
            (channel.id, ring.run(), ring.end().to_string())
        })
        .collect();
    // States are read first: if a build had ended by then, the log read afterwards is complete.
    let loaded = hub.queue.load(&ids).await?;
    let mut builds: HashMap<BuildId, Build> =
        loaded.builds.into_iter().map(|build| (build.id, build)).collect();
    let pages = hub.queue.read_logs(&logs, PAGE).await?;
    look_up_whys(hub, &builds, progress).await;
    for ((channel, (_, run, _)), page) in channels.iter().zip(logs).zip(pages) {
        let news = News { build: builds.remove(&channel.id), run, page };
        let known = progress.entry(channel.id).or_insert_with(Progress::new);
        if let Some(bad) = loaded.unreadable.iter().find(|bad| bad.id == channel.id) {
            // The build is not lost; its streams wait until it can be read.
            if !std::mem::replace(&mut known.unreadable, true) {
                tracing::error!(build.id = %bad.id, why = bad.why, "cannot read a watched build");
            }
            continue;
        }
        known.unreadable = false;
        if apply(hub, channel, known, news) {
            hub.mark(channel.id);
        }
    }
    Ok(())
}

/// Computes why builds wait, unless that was done recently. A build for which this fails is left out, because
/// its position is not worth delaying a log.
async fn look_up_whys(
    hub: &Hub,
    builds: &HashMap<BuildId, Build>,
    progress: &mut HashMap<BuildId, Progress>,
) {
    let now = Instant::now();
    let is_due = |build: &Build| {
        let known = progress.get(&build.id);
        let fresh = known.and_then(|known| known.why_at).is_some_and(|at| now - at < PLACE_GAP.mul_f64(0.7));
        let changed = known.and_then(|known| known.view.as_ref()).is_none_or(|view| view.seq != build.seq);
        // A build that has started only needs this again when it changes.
        changed || (build.state == BuildState::Queued && !fresh)
    };
    let mut asked = Vec::new();
    for build in builds.values().filter(|build| is_due(build)) {
        let (outlook, build, limit) = (Arc::clone(&hub.outlook), build.clone(), hub.bounds.redis_wait);
        asked.push(async move { (build.id, bounded(limit, outlook.why(&build)).await.ok()) });
    }
    let answers: Vec<(BuildId, Option<Why>)> =
        futures::stream::iter(asked).buffer_unordered(WHY_AT_ONCE).collect().await;
    for (id, why) in answers {
        let known = progress.entry(id).or_insert_with(Progress::new);
        (known.why, known.why_at) = (why, Some(now));
    }
}

impl Progress {
    fn new() -> Self {
        let told = Instant::now();
        Self { view: None, told, why: None, why_at: None, ended: None, missing: None, unreadable: false }
    }

    /// Whether `view` differs enough from the last one to be sent.
    fn is_news(&self, view: &BuildView) -> bool {
        let Some(old) = &self.view else { return true };
        let changed = old.seq != view.seq || old.state != view.state || old.note != view.note;
        let queued = view.state == BuildState::Queued;
        let moved = queued && (old.position != view.position || old.why != view.why);
        let moved = moved || old.people != view.people;
        changed || old.cancelling != view.cancelling || (moved && self.told.elapsed() >= PLACE_GAP)
    }
}

/// Puts what was fetched into the channel; returns whether there is more to fetch right away.
fn apply(hub: &Hub, channel: &Channel, known: &mut Progress, mut news: News) -> bool {
    let Some(build) = news.build else {
        missing(channel, known);
        return false;
    };
    // If a build's change counter has started over, the build was registered again after Redis had lost it
    // and its log.
    let anew = known.view.as_ref().is_some_and(|view| view.seq > build.seq);
    if known.missing.take().is_some() || anew {
        channel.sent().lost();
    }
    if let Some(to) = build.moved {
        let data = frame::json(&MovedEvent { id: build.id, to });
        channel.ring().close(None, "moved", &data);
        channel.tell();
        return false;
    }
    let view = view::build(&build, known.why.as_ref().filter(|_| !build.state.is_ended()), true);
    let mut ring = channel.ring();
    let (run, after) = (ring.run(), ring.end());
    let full = news.page.entries.len() >= PAGE;
    // If the build is being retried, its new state must follow the failed run's last lines.
    let is_retry = build.attempt > run;
    let mut changed = !is_retry && push_state(&mut ring, known, &build, &view);
    let repeated = repeated(channel, after, &mut news.page);
    let after = repeated.as_ref().map_or(after, |piece| piece.to);
    if let Some(piece) = repeated {
        ring.push_log(piece);
        changed = true;
    }
    for piece in frame::pieces(run, build.seq, after, None, &news.page) {
        hub.metrics.log_bytes.inc_by(piece.bytes.len() as u64);
        ring.push_log(piece);
        changed = true;
    }
    debug_assert_eq!(run, news.run, "only the updater moves a ring to another run");
    if is_retry && !full {
        changed |= push_state(&mut ring, known, &build, &view);
    }
    let target = last_run(&build);
    let switch = !full && target > run;
    if switch {
        ring.push_run(run + 1);
        changed = true;
    }
    if build.state.is_ended() && !full && !switch {
        changed |= finish(&mut ring, known, &build);
    }
    drop(ring);
    if changed {
        channel.tell();
    }
    full || switch
}

/// Sends the build's state if it has changed.
fn push_state(ring: &mut Ring, known: &mut Progress, build: &Build, view: &BuildView) -> bool {
    if !known.is_news(view) {
        return false;
    }
    // Streams already got this state when they opened.
    let first = known.view.is_none() && ring.is_state(view.seq);
    if !first {
        ring.push_state(build.seq, frame::json(view));
    }
    known.told = Instant::now();
    known.view = Some(view.clone());
    !first
}

/// Removes lines from a page that were already sent before Redis lost the log; returns a piece that skips
/// them.
fn repeated(channel: &Channel, after: EntryId, page: &mut LogPage) -> Option<Piece> {
    let mut sent = channel.sent();
    let count = sent.again(&page.entries);
    let last = count.checked_sub(1).and_then(|last| page.entries[last].id.parse().ok());
    page.entries.drain(..count);
    page.before_gap = page.before_gap.saturating_sub(count);
    sent.note(&page.entries);
    let to = last?;
    Some(Piece { from: after, to, bytes: Bytes::from_static(b": lines that were sent before\n\n") })
}

/// Closes the ring of an ended build once its log is complete, or after a limited wait.
fn finish(ring: &mut Ring, known: &mut Progress, build: &Build) -> bool {
    let log_end =
        build.log_end.as_deref().and_then(|id| id.parse::<EntryId>().ok()).unwrap_or(EntryId::START);
    let ended = *known.ended.get_or_insert_with(Instant::now);
    let gone = build.log_pruned.as_deref() == Some("gone");
    let complete = ring.end() >= log_end || gone;
    if !complete && ended.elapsed() < LOG_END_WAIT {
        return false;
    }
    let text = "the last lines of the log did not arrive in time; GET …/log may have them later";
    let notice = match (gone, complete) {
        (true, _) => Some(("log-removed", GONE_TEXT.to_owned())),
        (false, false) => Some(("log-incomplete", text.to_owned())),
        (false, true) => None,
    };
    let end = EndEvent {
        id: build.id,
        state: Some(build.state),
        class: build.class.filter(|_| build.state == BuildState::Failed),
        cause: build.cause.clone().filter(|_| build.state == BuildState::Failed),
        // A success after a failed attempt still has that attempt's reason, which no longer applies.
        reason: build
            .reason
            .clone()
            .filter(|reason| build.state != BuildState::Succeeded || reason == ALREADY_THERE),
        log_tail: build.log_tail.clone().filter(|_| build.state == BuildState::Failed),
        image: build.spec.image.to_string(),
        attempt: build.attempt_shown(),
        run: last_run(build),
    };
    ring.close(notice, "end", &frame::json(&end));
    true
}

/// Handles a watched build that is unknown. Redis may have been emptied, and its worker may still register
/// it.
fn missing(channel: &Channel, known: &mut Progress) {
    if known.missing.is_none() {
        let text =
            "the queue does not know this build at the moment; waiting for its worker to register it again";
        channel.ring().push_notice("waiting", text.to_owned());
        channel.tell();
    }
    let since = *known.missing.get_or_insert_with(Instant::now);
    if since.elapsed() < LOST_AFTER {
        return;
    }
    let mut ring = channel.ring();
    let end = EndEvent {
        id: channel.id,
        state: None,
        class: None,
        cause: None,
        reason: Some("the queue lost this build when Redis was emptied; request it again".to_owned()),
        log_tail: None,
        image: String::new(),
        attempt: 1,
        run: ring.run(),
    };
    ring.close(None, "end", &frame::json(&end));
    drop(ring);
    channel.tell();
}
