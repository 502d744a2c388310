//! Claiming: orphans first, then the builds that are next in line.

use std::collections::HashMap;
use std::time::Duration;

use uuid::Uuid;

use super::{Queue, UnreadableClaim};
use crate::build::{Build, HANDED};
use crate::error::Result;
use crate::id::{BuildId, NodeName, Token, WorkerId};
use crate::library::CLAIM;
use crate::script::{Args, Reply};

/// A worker's request for work.
#[derive(Debug, Clone)]
pub struct Claim {
    /// Who claims.
    pub worker: WorkerId,
    /// Where its runs live: `process:<worker>`, `k8s:<cluster>/<namespace>`. Only orphans of this
    /// place are adopted.
    pub place: String,
    /// Free slots. Orphans may be handed out beyond them.
    pub free: usize,
    /// How long the leases last from now.
    pub lease: Duration,
    /// Names this request: repeated with the same value it gives the same builds again.
    pub request: Uuid,
}

/// A build and the lease on it.
#[derive(Debug, Clone)]
pub struct Claimed {
    /// What the holder shows from now on.
    pub token: Token,
    /// The build after the claim, without what earlier runs left.
    pub build: Build,
    /// Whether its run may be alive already and is to be adopted, not started.
    pub adopted: bool,
    /// Nodes that no build should go to at the moment; [`Build::avoid`] are its own.
    pub avoided: Vec<NodeName>,
}

/// What a claim gave.
#[derive(Debug, Clone, Default)]
pub struct Claims {
    /// The builds, adopted ones first.
    pub builds: Vec<Claimed>,
    /// Orphans of the worker's place that still wait: it should claim again at once, full or not.
    pub orphans: u64,
    /// Builds that this release cannot read: give them back with [`Queue::set_aside`].
    pub unreadable: Vec<UnreadableClaim>,
    /// An operator has drained the worker: it gets no builds until that is undone.
    pub drained: bool,
    /// Builds fail on the worker's host: it gets none for a while.
    pub avoided: bool,
    /// The worker's heartbeat ran out, or it never had one: it gets no builds before the next one.
    pub unknown: bool,
}

impl Queue {
    /// Claims up to `claim.free` builds, and orphans beyond that.
    pub async fn claim(&self, claim: &Claim) -> Result<Claims> {
        let args = Args::new()
            .text(claim.worker.as_str())
            .text(&claim.place)
            .show(claim.free.min(crate::limits::CLAIM_BATCH))
            .show(claim.lease.as_millis())
            .show(claim.request.simple());
        let mut reply = self.call(&CLAIM, args).await?;
        if reply.tag != "claimed" {
            return Err(reply.unknown());
        }
        let count: usize = reply.parse()?;
        let orphans = reply.parse()?;
        let standing: String = reply.next()?;
        let mut builds = Vec::with_capacity(count);
        let mut unreadable = Vec::new();
        for _ in 0..count {
            let id: String = reply.next()?;
            let epoch = reply.parse()?;
            let adopted = reply.next::<String>()? == "1";
            let fields = handed_over(&mut reply, epoch, claim)?;
            let parsed = id.parse::<BuildId>().map_err(crate::Error::from);
            match parsed.and_then(|id| Build::from_fields(id, fields)) {
                Ok(mut build) => {
                    build.avoid_in(&claim.place);
                    let token = Token { build: build.id, epoch, worker: claim.worker.clone() };
                    builds.push(Claimed { token, build, adopted, avoided: Vec::new() });
                }
                Err(error) => {
                    unreadable.push(UnreadableClaim { id, epoch, adopted, why: error.to_string() });
                }
            }
        }
        let avoided = node_names(&mut reply)?;
        for one in &mut builds {
            one.avoided.clone_from(&avoided);
        }
        Ok(Claims {
            builds,
            orphans,
            unreadable,
            drained: standing == "drained",
            avoided: standing == "avoided",
            unknown: standing == "unknown",
        })
    }
}

/// A build's fields: what the claim has just written, and what it has read.
fn handed_over(reply: &mut Reply, epoch: u64, claim: &Claim) -> Result<HashMap<String, String>> {
    let written = [
        ("state", reply.next()?),
        ("seq", reply.next()?),
        ("claimed", reply.next()?),
        ("epoch", epoch.to_string()),
        ("worker", claim.worker.to_string()),
        ("place", claim.place.clone()),
    ];
    let read: Vec<Option<String>> = reply.next()?;
    let read = HANDED.into_iter().zip(read).filter_map(|(name, value)| Some((name, value?)));
    Ok(read.chain(written).map(|(name, value)| (name.to_owned(), value)).collect())
}

/// The nodes at the end of a reply. One whose name cannot be read is nobody's to avoid.
pub(super) fn node_names(reply: &mut Reply) -> Result<Vec<NodeName>> {
    Ok(reply.rest()?.iter().filter_map(|name| name.parse().ok()).collect())
}
