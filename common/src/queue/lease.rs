//! Holding on to builds: heartbeats that renew leases, reports from a run, letting go.

use std::time::Duration;

use super::{PushLimits, Queue};
use crate::build::BuildState;
use crate::error::Result;
use crate::id::{NodeName, Token, WorkerId};
use crate::library::{GIVE_BACK, LEAVE, RENEW};
use crate::limits;
use crate::queue::script::Args;

/// A worker's heartbeat: what it is, and the leases that it renews.
#[derive(Debug, Clone)]
pub struct Beat {
    /// Who.
    pub worker: WorkerId,
    /// The host's name, for people.
    pub host: String,
    /// The release, for people.
    pub version: String,
    /// Where its runs live (see [`super::Claim::place`]).
    pub place: String,
    /// How many builds it runs at once.
    pub slots: usize,
    /// Whether it is shutting down: it claims no more builds.
    pub draining: bool,
    /// Why it currently accepts no builds, as one sentence ("the cluster is full: …"). It then claims only
    /// orphans (with no free slots). Its runs go on, and only they count as its slots.
    pub paused: Option<String>,
    /// How many nodes its runs can be on; 0 if it cannot tell, and then no node is avoided for everybody.
    pub nodes: usize,
    /// How long leases last from now.
    pub lease: Duration,
    /// What it holds. More than [`limits::RENEW_BATCH`] are renewed in several calls.
    pub held: Vec<Token>,
}

/// The result of one renewal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Renewal {
    /// The lease is good for another term.
    Kept,
    /// The lease is good, but somebody cancelled the build: stop it.
    Cancel,
    /// Another worker has the lease, or the build has ended: let go and touch nothing.
    Stale,
    /// Redis has lost the build, or the claim on it: [`Queue::register`] makes the run known again.
    /// The lease was not renewed.
    Unknown,
}

/// What a worker learns from its heartbeat.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BeatReply {
    /// One for each of [`Beat::held`], in order.
    pub renewals: Vec<Renewal>,
    /// Whether an operator has drained the worker: it claims no builds until that is undone.
    pub drained: bool,
    /// Whether builds fail on the worker's host: it claims none for a while.
    pub host_avoided: bool,
    /// Whether a build could start now, in case a wake-up was lost.
    pub startable: bool,
    /// Orphans of the worker's place that wait for adoption.
    pub orphans: u64,
    /// Nodes that no build should go to at the moment.
    pub avoided: Vec<NodeName>,
    /// Which life of Redis this is.
    pub born: String,
    /// How many runs may push at once.
    pub push_limits: PushLimits,
}

/// Whether the token was still valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reported {
    /// It was; if `cancelling`, stop the build.
    Taken {
        /// Whether somebody cancelled the build.
        cancelling: bool,
    },
    /// It was not: let go and touch nothing.
    Stale,
}

/// How a holder lets go of a build before its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GiveBack {
    /// The run lives on, for another worker to adopt at once.
    Handover,
    /// The run is gone, through no fault of the build: back into line, no attempt used.
    Lost {
        /// What happened, one sentence.
        reason: String,
    },
}

impl Queue {
    /// Renews leases and tells the queue that the worker is alive.
    pub async fn renew(&self, beat: &Beat) -> Result<BeatReply> {
        let mut answer: Option<BeatReply> = None;
        let mut batches: Vec<&[Token]> = beat.held.chunks(limits::RENEW_BATCH).collect();
        if batches.is_empty() {
            batches.push(&[]);
        }
        for batch in batches {
            let reply = self.renew_batch(beat, batch).await?;
            match &mut answer {
                None => answer = Some(reply),
                Some(answer) => answer.renewals.extend(reply.renewals),
            }
        }
        answer.ok_or_else(|| crate::Error::Corrupt("a heartbeat without an answer".to_owned()))
    }

    async fn renew_batch(&self, beat: &Beat, held: &[Token]) -> Result<BeatReply> {
        let paused = beat.paused.as_deref().unwrap_or_default();
        let mut args = Args::new()
            .text("worker", beat.worker.as_str())
            .text("host", &beat.host)
            .text("version", &beat.version)
            .text("place", &beat.place)
            .show("slots", beat.slots)
            .show("running", beat.held.len())
            .flag("ending", beat.draining)
            .show("lease", beat.lease.as_millis())
            .text("paused", paused)
            .show("nodes", beat.nodes);
        for token in held {
            args = args.show("id", token.build).show("epoch", token.epoch);
        }
        let mut reply = self.call(&RENEW, args).await?;
        if reply.tag != "renewed" {
            return Err(reply.unknown());
        }
        let born: String = reply.get("born")?;
        let standing: String = reply.get("standing")?;
        let startable = reply.flag("startable")?;
        let orphans = reply.parse("orphans")?;
        let verdicts: Vec<String> = reply.get("verdicts")?;
        if verdicts.len() != held.len() {
            return Err(crate::Error::Corrupt("renew: it does not answer for each lease".to_owned()));
        }
        let mut renewals = Vec::with_capacity(held.len());
        for verdict in verdicts {
            renewals.push(match verdict.as_str() {
                "kept" => Renewal::Kept,
                "cancel" => Renewal::Cancel,
                "stale" => Renewal::Stale,
                "unknown" => Renewal::Unknown,
                _ => return Err(reply.unknown()),
            });
        }
        let avoided = super::claim::node_names(&mut reply)?;
        let push_limits = PushLimits::of_reply(&mut reply)?;
        self.note_life(&born).await?;
        Ok(BeatReply {
            renewals,
            drained: standing == "drained",
            host_avoided: standing == "avoided",
            startable,
            orphans,
            avoided,
            born,
            push_limits,
        })
    }

    /// Reports that the run is alive (`running`), or only what it is waiting for (`note`).
    pub async fn report(&self, token: &Token, running: bool, note: Option<&str>) -> Result<Reported> {
        let item = token_words(token).flag("running", running).maybe("note", note);
        let mut reply = self.report_together(by_holder(token), item).await?;
        match reply.tag.as_str() {
            "held" => Ok(Reported::Taken { cancelling: reply.flag("cancelling")? }),
            "stale" => Ok(Reported::Stale),
            _ => Err(reply.unknown()),
        }
    }

    /// Lets go of a build before its end. `Ok(None)`: the lease was no longer ours.
    pub async fn give_back(&self, token: &Token, how: &GiveBack) -> Result<Option<BuildState>> {
        let (mode, reason) = match how {
            GiveBack::Handover => ("handover", ""),
            GiveBack::Lost { reason } => ("lost", reason.as_str()),
        };
        let args = by_holder(token).with(token_words(token)).text("mode", mode).text("reason", reason);
        let mut reply = self.call(&GIVE_BACK, args).await?;
        match reply.tag.as_str() {
            "given_back" => Ok(Some(reply.parse("state")?)),
            "stale" => Ok(None),
            _ => Err(reply.unknown()),
        }
    }

    /// Leaves the queue: the worker's slots no longer count. Leases that it still holds expire.
    pub async fn leave(&self, worker: &WorkerId) -> Result<()> {
        self.call(&LEAVE, Args::new().text("kind", "worker").text("id", worker.as_str())).await.map(drop)
    }
}

/// Which build, by which lease; a holder presents it with each call.
pub(super) fn token_words(token: &Token) -> Args {
    Args::new().show("id", token.build).show("epoch", token.epoch)
}

/// Who holds the lease.
pub(super) fn by_holder(token: &Token) -> Args {
    Args::new().text("worker", token.worker.as_str())
}
