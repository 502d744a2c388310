//! Copies the logs of ended builds to the archive. Every dispatcher with an archive does so. The queue says which logs are
//! due, and gives each to one dispatcher for a while, so each is copied once; if that dispatcher dies on the way, another
//! one copies the log.
//!
//! No build waits for this. A store that is away is tried again until a log's patience is over; then the log is given up,
//! and that is reported.

use std::sync::Arc;
use std::time::Duration;

use fairlane_common::id::BuildId;
use fairlane_common::queue::{Archived, Queue};
use fairlane_common::{Result, limits};
use futures::{StreamExt, stream};
use tokio_util::sync::CancellationToken;

use crate::archive::LogArchive;
use crate::log_text::{newest_run, text};
use crate::metrics::{ArchiveResult, Metrics};
use crate::upkeep::outage::{Outage, jitter};

/// How often to ask for logs when none is due.
const EVERY: Duration = Duration::from_secs(2);
/// Logs that are taken per call, and copied at the same time: each may have some megabytes.
const AT_ONCE: usize = 4;
/// How long a log is tried, well before Redis forgets it.
const PATIENCE: Duration = Duration::from_hours(6);
/// How long a log that could not be stored rests.
const REST: Duration = Duration::from_secs(5);
/// Longest pause of this process while its store is away.
const PAUSE_MAX: Duration = Duration::from_mins(1);
/// The last lines may arrive this long after the end of a build.
const END_WAIT: Duration = Duration::from_secs(10);
/// How often to look for them.
const END_LOOK: Duration = Duration::from_secs(2);

/// Archives logs until `shutdown`.
pub(crate) async fn run(
    queue: Queue,
    archive: LogArchive,
    metrics: Arc<Metrics>,
    shutdown: CancellationToken,
) {
    let mut outage = Outage::new("taking logs to archive");
    let mut results: Vec<(BuildId, Archived)> = Vec::new();
    // How many rounds in a row met a store that was away; after each, this process rests.
    let (mut failures, mut rests) = (0_u32, false);
    while !shutdown.is_cancelled() {
        // Before it rests it only reports, so that others may have what it could not store.
        let most = if rests { 0 } else { AT_ONCE };
        let pause = match queue.archive(&results, most, PATIENCE).await {
            Ok(round) => {
                outage.over();
                report_lost(&round.lost, &metrics);
                results = stream::iter(round.taken)
                    .map(|id| one(&queue, &archive, id))
                    .buffer_unordered(AT_ONCE)
                    .collect()
                    .await;
                count(&results, &metrics);
                let pause =
                    if rests { (EVERY * 2_u32.pow(failures.min(6) - 1)).min(PAUSE_MAX) } else { EVERY };
                rests = false;
                match results.iter().find_map(|(_, result)| failure(result)) {
                    Some(why) => {
                        if failures == 0 {
                            tracing::warn!(why, "a log could not be archived; trying again until it works");
                        }
                        (failures, rests) = (failures.saturating_add(1), true);
                    }
                    None if failures > 0 && results.iter().any(|(_, result)| *result == Archived::Done) => {
                        failures = 0;
                        tracing::info!("logs are archived again");
                    }
                    None => {}
                }
                if results.is_empty() { pause } else { Duration::ZERO }
            }
            Err(error) => outage.backoff(&error, EVERY),
        };
        if !pause.is_zero() {
            tokio::select! {
                () = tokio::time::sleep(jitter(pause)) => {}
                () = shutdown.cancelled() => {}
            }
        }
    }
    // What was taken and is not reported is taken by another dispatcher later, and stored again.
    if let Err(error) = queue.archive(&results, 0, PATIENCE).await {
        tracing::debug!(%error, "the last results of archiving could not be reported");
    }
}

/// Why a log could not be archived.
fn failure(result: &Archived) -> Option<&str> {
    match result {
        Archived::Again { why, .. } => why.as_deref(),
        _ => None,
    }
}

fn report_lost(lost: &[BuildId], metrics: &Metrics) {
    metrics.note_archived(ArchiveResult::GivenUp, lost.len() as u64);
    for id in lost {
        tracing::error!(build.id = %id, "the log of a build was not archived and will be lost");
    }
}

fn count(results: &[(BuildId, Archived)], metrics: &Metrics) {
    for (_, result) in results {
        match result {
            Archived::Done => metrics.note_archived(ArchiveResult::Stored, 1),
            _ if failure(result).is_some() => metrics.note_archived(ArchiveResult::Failed, 1),
            // What is lost is counted when the queue has noted it.
            Archived::Again { .. } | Archived::None | Archived::Lost(_) => {}
        }
    }
}

/// Copies one log.
async fn one(queue: &Queue, archive: &LogArchive, id: BuildId) -> (BuildId, Archived) {
    let result = match read(queue, id).await {
        Ok(Read::Whole(text)) => match archive.put(id, text).await {
            Ok(()) => Archived::Done,
            Err(why) => Archived::Again { wait: REST, why: Some(why) },
        },
        Ok(Read::None) => Archived::None,
        Ok(Read::Removed) => Archived::Lost("it was removed from Redis to free memory".to_owned()),
        Ok(Read::NotYet) => Archived::Again { wait: END_LOOK, why: None },
        // Redis does not answer, and so nothing can be reported either.
        Err(error) => Archived::Again { wait: REST, why: Some(format!("its log cannot be read: {error}")) },
    };
    (id, result)
}

enum Read {
    Whole(String),
    /// The build has no log.
    None,
    /// Its last lines may still come.
    NotYet,
    Removed,
}

async fn read(queue: &Queue, id: BuildId) -> Result<Read> {
    let Some(build) = queue.build(id).await? else { return Ok(Read::Removed) };
    if build.log_pruned.as_deref() == Some("gone") {
        return Ok(Read::Removed);
    }
    let run = newest_run(queue, &build).await?;
    let (mut whole, mut after) = (String::new(), "0-0".to_owned());
    loop {
        let page = queue.read_log(id, run, &after, limits::LOG_PAGE).await?;
        let Some(last) = page.entries.last() else { break };
        after.clone_from(&last.id);
        whole.push_str(&text(&page));
    }
    let is_complete = build.log_end.as_ref().is_none_or(|end| *end == after);
    if !is_complete && is_fresh(queue, build.ended).await? {
        return Ok(Read::NotYet);
    }
    Ok(if whole.is_empty() { Read::None } else { Read::Whole(whole) })
}

/// Whether a build ended so recently that its last lines may still arrive. By Redis's clock.
async fn is_fresh(queue: &Queue, ended: Option<u64>) -> Result<bool> {
    let now = queue.snapshot().await?.now;
    Ok(ended.is_some_and(|ended| u128::from(now.saturating_sub(ended)) < END_WAIT.as_millis()))
}
