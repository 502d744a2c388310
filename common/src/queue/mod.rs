//! The queue's operations. Those that change state are one Lua function each; [`inspect`] only reads.

mod activity;
mod archive;
mod args;
mod aside;
mod by;
mod calls;
pub mod campaigns;
mod cancel;
mod claim;
mod counts;
mod finish;
mod forecast;
mod history;
mod identity;
pub mod inspect;
mod lease;
mod libraries;
mod line;
mod listing;
mod logs;
pub mod memory;
mod nodes;
mod outlook;
mod past;
mod people;
mod persistence;
mod policy;
mod pressure;
mod push;
mod reap;
mod register;
mod rules;
pub(crate) mod script;
mod since;
mod spend;
mod spread;
mod submit;
mod together;
mod usage;
mod views;
mod visitor;
mod wake;
mod why;
mod workers;

use std::sync::{Arc, Mutex, PoisonError};

pub use activity::{Act, ActFilter, Change, ChangeFilter};
pub use archive::{ArchiveRound, ArchiveState, Archived};
pub use aside::{Aside, Loaded, Unreadable, UnreadableClaim};
pub use by::By;
pub use cancel::{Cancelled, Promoted};
pub use claim::{Claim, Claimed, Claims};
pub use counts::Counts;
pub use finish::{Finish, Finished, Outcome};
pub use history::{FailedByClass, KEPT, Sample, Samples, Waiting, in_steps};
pub use lease::{Beat, BeatReply, GiveBack, Renewal, Reported};
pub use logs::{LogBudget, LogKeep, LogLimits, Prune, Pruned, parse_size, tend_logs_on};
pub use nodes::{Blame, Cleared};
pub use outlook::Outlook;
pub use people::{DispatcherBeat, DispatcherBeatReply};
pub use persistence::Durability;
pub use policy::{Order, Policy, PolicyInForce};
pub use pressure::{Crowd, Overdue, Pressure};
pub use push::{PushAnswer, PushAsk, PushLimits};
pub use reap::Reaped;
pub use register::{Registered, Registration};
pub use rules::{DrainChange, Drained, RuleChange, Rules};
pub use since::Since;
pub use spend::{Spend, Spent};
pub use submit::{Admitted, Submit, Submitted};
pub use usage::{Usage, Use};
pub use visitor::{Stage, Visitor, many, spoken};
pub use wake::{OrphanNews, Waiter};
pub use why::{Why, span};

use crate::clock::Clock;
use crate::connection::Link;
use crate::error::Result;
use crate::keys::Keys;
use crate::library::OPEN;
use crate::limits;
use crate::queue::calls::Calls;
use crate::queue::memory::Gauge;
use crate::queue::script::{Args, Carrier};
use crate::redis_url::RedisUrl;

/// The layout that this release writes. The major version changes if older releases could not work with it.
pub const SCHEMA: &str = "1.0";

/// A handle on the queue, cheap to clone.
#[derive(Debug, Clone)]
pub struct Queue {
    link: Link,
    keys: Arc<Keys>,
    clock: Clock,
    born: Arc<Mutex<String>>,
    outbox: Arc<together::Outbox>,
    gauge: Arc<Gauge>,
    carrier: Arc<Carrier>,
    calls: Calls,
}

impl Queue {
    /// Connects to the queue under `prefix`, and makes it if this Redis has none.
    ///
    /// # Errors
    /// [`crate::Error::Schema`] when another release's layout is there,
    /// [`crate::Error::Setting`] when this Redis is too old,
    /// [`crate::Error::Unavailable`] when Redis does not answer.
    pub async fn open(url: &RedisUrl, prefix: &str) -> Result<Self> {
        Self::open_with(Link::open(url).await?, prefix, Clock::Redis).await
    }

    /// Opens a queue with a simulated clock. Only for a private Redis: replays, tests.
    pub async fn open_simulated(url: &RedisUrl, prefix: &str, clock: Clock) -> Result<Self> {
        Self::open_with(Link::open(url).await?, prefix, clock).await
    }

    async fn open_with(link: Link, prefix: &str, clock: Clock) -> Result<Self> {
        let queue = Self {
            link,
            keys: Arc::new(Keys::new(prefix)?),
            clock,
            born: Arc::default(),
            outbox: Arc::default(),
            gauge: Arc::default(),
            carrier: Arc::default(),
            calls: Calls::default(),
        };
        let info = queue.link.redis_info(&queue.keys.schema()).await?;
        info.check_version()?;
        if matches!(queue.clock, Clock::Redis) {
            for warning in info.warnings() {
                tracing::warn!("{warning}");
            }
        }
        queue.reopen().await?;
        Ok(queue)
    }

    /// Creates the queue if there is none, and remembers the life id of this Redis.
    pub(crate) async fn reopen(&self) -> Result<()> {
        let simulated = matches!(self.clock, Clock::Simulated(_));
        let known = self.life();
        let args = Args::new()
            .text("schema", SCHEMA)
            .show("life", uuid::Uuid::new_v4().simple())
            .flag("simulated", simulated)
            .text("known", known)
            .show("refill", limits::REFILL.as_millis());
        let mut reply = self.call_once(&OPEN, &args).await?;
        if reply.tag == "schema" {
            return Err(crate::Error::Schema { found: reply.get("found")?, known: SCHEMA });
        }
        let born: String = reply.get("born")?;
        let mut known = self.born.lock().unwrap_or_else(PoisonError::into_inner);
        if !known.is_empty() && *known != born {
            tracing::warn!(born, "Redis was emptied: the queue starts afresh");
        }
        *known = born;
        Ok(())
    }

    fn life(&self) -> String {
        self.born.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Compares the life id in an answer with the one known. A different one means that Redis was emptied:
    /// then the queue is told, so that nothing starts until workers have registered their runs.
    pub(crate) async fn note_life(&self, born: &str) -> Result<()> {
        if born.is_empty() || self.life() == born { Ok(()) } else { self.reopen().await }
    }

    /// The names of the keys.
    pub fn keys(&self) -> &Keys {
        &self.keys
    }

    /// The connection.
    pub fn link(&self) -> &Link {
        &self.link
    }

    /// The same queue over a separate connection, opened on first use, for calls that must not wait behind
    /// others. In a Cluster it cannot reach the logs.
    #[must_use]
    pub fn apart(&self) -> Self {
        let link = self.link.apart(&self.keys.schema());
        Self { link, outbox: Arc::default(), ..self.clone() }
    }

    fn outbox(&self) -> &together::Outbox {
        &self.outbox
    }

    pub(crate) fn gauge(&self) -> &Gauge {
        &self.gauge
    }

    pub(crate) fn calls(&self) -> &Calls {
        &self.calls
    }

    pub(crate) fn carrier(&self) -> &Carrier {
        &self.carrier
    }

    pub(crate) fn clock(&self) -> &Clock {
        &self.clock
    }
}
