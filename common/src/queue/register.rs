//! Registering runs that Redis has lost, because it was emptied or because a failover lost the last second.

use std::collections::HashMap;
use std::time::Duration;

use super::{Claimed, Queue};
use crate::build::{Build, BuildSpec, BuildState};
use crate::error::Result;
use crate::id::{BuildId, NodeName, Token, WorkerId};
use crate::library::REGISTER;
use crate::queue::script::{Args, Reply};

/// A run as a worker knows it: its own, or one that it found by its marks.
#[derive(Debug, Clone)]
pub struct Registration {
    /// The token on the run: its build, and the holder who last acted on it.
    pub token: Token,
    /// Who registers it and holds it from now on. A worker other than the token's must wait while that one
    /// may still register it itself.
    pub worker: WorkerId,
    /// Where the run lives (see [`super::Claim::place`]).
    pub place: String,
    /// How long the lease lasts from now.
    pub lease: Duration,
    /// What was asked for. Its secrets are not needed: the run has them.
    pub spec: BuildSpec,
    /// The number of the run.
    pub attempt: u32,
    /// When the build was first asked for, Unix milliseconds.
    pub asked: u64,
    /// When the run began, Unix milliseconds; its duration counts from here.
    pub claimed: u64,
    /// When it was seen alive, Unix milliseconds; `None` while it starts.
    pub started: Option<u64>,
    /// The node that it is on.
    pub node: Option<NodeName>,
}

/// The result of a registration. A repeated call gets the same.
#[derive(Debug, Clone)]
pub enum Registered {
    /// The run is held with this token, as after an adoption. If the build has another id, that build has
    /// taken over the run: the image was requested again while Redis did not know this one.
    Leased(Box<Claimed>),
    /// That build makes the same image in its own run: remove this run.
    Taken(BuildId),
    /// The build has ended: remove its run.
    Ended(BuildState),
    /// Redis knows a later holder, or has put the build back into line: let go of the run.
    Stale,
    /// Its holder may still register it: ask again after this time.
    Wait(Duration),
}

impl Queue {
    /// Registers a run again. If Redis already knows the build, nothing changes.
    pub async fn register(&self, run: &Registration) -> Result<Registered> {
        let args = Args::new()
            .show("id", run.token.build)
            .show("epoch", run.token.epoch)
            .text("holder", run.token.worker.as_str())
            .text("worker", run.worker.as_str())
            .text("place", &run.place)
            .show("lease", run.lease.as_millis())
            .show("attempt", run.attempt)
            .show("asked", run.asked)
            .show("claimed", run.claimed)
            .maybe("started", run.started)
            .maybe("node", run.node.as_ref())
            .with(super::submit::spec_words(&run.spec));
        let mut reply = self.call(&REGISTER, args).await?;
        match reply.tag.as_str() {
            "held" => Ok(Registered::Leased(Box::new(held(&mut reply, &run.worker)?))),
            "taken" => Ok(Registered::Taken(reply.parse("id")?)),
            "ended" => Ok(Registered::Ended(reply.parse("state")?)),
            "stale" => Ok(Registered::Stale),
            "wait" => Ok(Registered::Wait(Duration::from_millis(reply.parse("left")?))),
            _ => Err(reply.unknown()),
        }
    }
}

fn held(reply: &mut Reply, worker: &WorkerId) -> Result<Claimed> {
    let id: BuildId = reply.parse("id")?;
    let token = Token { build: id, epoch: reply.parse("epoch")?, worker: worker.clone() };
    let fields: HashMap<String, String> = reply.get("fields")?;
    let build = Build::from_fields(id, fields)?;
    Ok(Claimed { token, build, adopted: true, orphaned: None, avoided: Vec::new() })
}
