//! Which logs of ended builds are to be archived. The work is shared through Redis: whichever dispatcher asks takes a few
//! builds for a while, so each log is archived once, however many dispatchers there are and whichever of them dies.

use std::time::Duration;

use super::Queue;
use crate::error::{Error, Result};
use crate::id::BuildId;
use crate::library::ARCHIVE;
use crate::queue::script::Args;

/// For how long nobody else gets a build that was taken: longer than an attempt may last.
const HOLD: Duration = Duration::from_mins(2);

/// What became of a log that was taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Archived {
    /// It is archived.
    Done,
    /// There is no log.
    None,
    /// Try it again after this time. `why` is what went wrong, if anything did.
    Again {
        /// Until the next attempt.
        wait: Duration,
        /// What went wrong.
        why: Option<String>,
    },
    /// It cannot be archived any more.
    Lost(String),
}

/// What to do next.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ArchiveRound {
    /// Builds whose logs this process archives now.
    pub taken: Vec<BuildId>,
    /// Builds whose logs were given up by this call.
    pub lost: Vec<BuildId>,
    /// How many logs wait, including those taken.
    pub waiting: u64,
}

/// How archiving goes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ArchiveState {
    /// How many logs wait to be archived.
    pub waiting: u64,
    /// Why the latest attempt failed, if none has succeeded since.
    pub error: Option<String>,
    /// When it failed, Unix milliseconds.
    pub error_at: Option<u64>,
    /// How many logs were given up so far.
    pub lost: u64,
    /// When the latest of them was, Unix milliseconds.
    pub lost_at: Option<u64>,
    /// Why it was.
    pub lost_why: Option<String>,
}

impl Queue {
    /// Reports what became of the logs taken before, and takes up to `most` more. Logs of builds that ended longer ago
    /// than `patience` are given up.
    pub async fn archive(
        &self,
        results: &[(BuildId, Archived)],
        most: usize,
        patience: Duration,
    ) -> Result<ArchiveRound> {
        let mut args = Args::new()
            .show("most", most)
            .show("hold", HOLD.as_millis())
            .show("patience", patience.as_millis());
        for (id, result) in results {
            let (word, wait, why) = match result {
                Archived::Done => ("done", Duration::ZERO, ""),
                Archived::None => ("none", Duration::ZERO, ""),
                Archived::Again { wait, why } => ("again", *wait, why.as_deref().unwrap_or_default()),
                Archived::Lost(why) => ("lost", Duration::ZERO, why.as_str()),
            };
            args = args.show("id", id).text("result", word).show("wait", wait.as_millis()).text("why", why);
        }
        let mut reply = self.call(&ARCHIVE, args).await?;
        let mut ids = |name| -> Result<Vec<BuildId>> {
            let texts: Vec<String> = reply.get(name)?;
            Ok(texts.iter().filter_map(|text| text.parse().ok()).collect())
        };
        let (taken, lost) = (ids("taken")?, ids("lost")?);
        Ok(ArchiveRound { taken, lost, waiting: reply.parse("waiting")? })
    }

    /// How archiving goes; all zero if nobody archives logs.
    pub async fn archive_state(&self) -> Result<ArchiveState> {
        let mut pipe = redis::pipe();
        pipe.cmd("ZCARD").arg(self.keys().archive());
        pipe.cmd("HMGET")
            .arg(self.keys().archive_state())
            .arg(&["error", "error_at", "lost", "lost_at", "lost_why"]);
        let mut answers = self.link().bulk(&pipe).await?.into_iter();
        let mut next = || answers.next().unwrap_or(redis::Value::Nil);
        let waiting = redis::from_redis_value(next()).map_err(Error::reply)?;
        let (error, error_at, lost, lost_at, lost_why): (_, _, Option<u64>, _, _) =
            redis::from_redis_value(next()).map_err(Error::reply)?;
        Ok(ArchiveState { waiting, error, error_at, lost: lost.unwrap_or(0), lost_at, lost_why })
    }
}
