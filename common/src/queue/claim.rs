//! Claiming: orphans first, then the builds that are next in line.

use std::collections::HashMap;
use std::time::Duration;

use uuid::Uuid;

use super::Queue;
use crate::build::Build;
use crate::error::Result;
use crate::id::{BuildId, NodeName, Token, WorkerId};
use crate::script::{Args, CLAIM, Reply};

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
    /// The build, as it is after the claim.
    pub build: Build,
    /// Whether its run may be alive already and is to be adopted, not started.
    pub adopted: bool,
    /// Nodes that no build should go to at the moment; [`Build::avoid`] are its own.
    pub avoided: Vec<NodeName>,
}

impl Queue {
    /// Claims up to `claim.free` builds, and orphans beyond that.
    pub async fn claim(&self, claim: &Claim) -> Result<Vec<Claimed>> {
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
        let mut claimed = Vec::with_capacity(count);
        for _ in 0..count {
            let id: BuildId = reply.parse()?;
            let epoch = reply.parse()?;
            let adopted = reply.next::<String>()? == "1";
            let fields: HashMap<String, String> = reply.next()?;
            let token = Token { build: id, epoch, worker: claim.worker.clone() };
            claimed.push(Claimed {
                token,
                build: Build::from_fields(id, fields)?,
                adopted,
                avoided: Vec::new(),
            });
        }
        let avoided = node_names(&mut reply)?;
        for one in &mut claimed {
            one.avoided.clone_from(&avoided);
        }
        Ok(claimed)
    }
}

/// The nodes at the end of a reply.
pub(super) fn node_names(reply: &mut Reply) -> Result<Vec<NodeName>> {
    reply.rest()?.iter().map(|name| Ok(name.parse()?)).collect()
}
