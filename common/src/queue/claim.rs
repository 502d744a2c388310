//! Claiming: orphans first, then the builds that are next in line.

use std::collections::HashMap;
use std::time::Duration;

use uuid::Uuid;

use super::{Queue, UnreadableClaim};
use crate::build::Build;
use crate::error::Result;
use crate::id::{BuildId, NodeName, Token, WorkerId};
use crate::library::CLAIM;
use crate::queue::script::{Args, Reply};

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
    /// Identifies this request: repeated with the same value, it returns the same builds again.
    pub request: Uuid,
}

/// A build and the lease on it.
#[derive(Debug, Clone)]
pub struct Claimed {
    /// The token that the holder presents from now on.
    pub token: Token,
    /// The build after the claim, without leftovers of earlier runs.
    pub build: Build,
    /// Whether its run may be alive already and is to be adopted, not started.
    pub adopted: bool,
    /// Since when an adopted one had no holder, Unix milliseconds; `None` if this is not known.
    pub orphaned: Option<u64>,
    /// Nodes that no build should go to at the moment; [`Build::avoid`] are its own.
    pub avoided: Vec<NodeName>,
}

/// The result of a claim.
#[derive(Debug, Clone, Default)]
pub struct Claims {
    /// The builds, adopted ones first.
    pub builds: Vec<Claimed>,
    /// Orphans of the worker's place that are still waiting: if there are any, the worker should claim again
    /// at once, even if it is full.
    pub orphans: u64,
    /// Builds that this release cannot read: give them back with [`Queue::set_aside`].
    pub unreadable: Vec<UnreadableClaim>,
    /// An operator has drained the worker: it gets no builds until that is undone.
    pub drained: bool,
    /// Builds fail on the worker's host: it gets none for a while.
    pub avoided: bool,
    /// The worker's heartbeat expired, or it never sent one: it gets no builds until the next one.
    pub unknown: bool,
}

impl Queue {
    /// Claims up to `claim.free` builds, and orphans beyond that.
    pub async fn claim(&self, claim: &Claim) -> Result<Claims> {
        let args = Args::new()
            .text("worker", claim.worker.as_str())
            .text("place", &claim.place)
            .show("free", claim.free.min(crate::limits::CLAIM_BATCH))
            .show("lease", claim.lease.as_millis())
            .show("request", claim.request.simple());
        let mut reply = self.call(&CLAIM, args).await?;
        if reply.tag != "claimed" {
            return Err(reply.unknown());
        }
        let standing: String = reply.get("standing")?;
        let avoided = node_names(&mut reply)?;
        let mut builds = Vec::new();
        let mut unreadable = Vec::new();
        for mut item in reply.items("builds")? {
            let id: String = item.get("id")?;
            let epoch = item.parse("epoch")?;
            let adopted = item.flag("adopted")?;
            let orphaned = item.maybe("orphaned")?;
            let fields = handed_over(item, epoch, claim)?;
            let parsed = id.parse::<BuildId>().map_err(crate::Error::from);
            match parsed.and_then(|id| Build::from_fields(id, fields)) {
                Ok(mut build) => {
                    build.avoid_in(&claim.place);
                    let token = Token { build: build.id, epoch, worker: claim.worker.clone() };
                    builds.push(Claimed { token, build, adopted, orphaned, avoided: avoided.clone() });
                }
                Err(error) => {
                    unreadable.push(UnreadableClaim { id, epoch, adopted, why: error.to_string() });
                }
            }
        }
        Ok(Claims {
            builds,
            orphans: reply.parse("orphans")?,
            unreadable,
            drained: standing == "drained",
            avoided: standing == "avoided",
            unknown: standing == "unknown",
        })
    }
}

/// Merges a build's fields from before the claim with those that the claim wrote.
fn handed_over(mut item: Reply, epoch: u64, claim: &Claim) -> Result<HashMap<String, String>> {
    let mut fields: HashMap<String, String> = item.get("fields")?;
    for name in ["state", "seq", "claimed"] {
        fields.insert(name.to_owned(), item.get(name)?);
    }
    fields.insert("epoch".to_owned(), epoch.to_string());
    fields.insert("worker".to_owned(), claim.worker.to_string());
    fields.insert("place".to_owned(), claim.place.clone());
    Ok(fields)
}

/// The nodes to avoid in a reply. Entries that are not valid node names are skipped.
pub(super) fn node_names(reply: &mut Reply) -> Result<Vec<NodeName>> {
    let names: Vec<String> = reply.get("avoid")?;
    Ok(names.iter().filter_map(|name| name.parse().ok()).collect())
}
