//! Looking at the workers.

use std::collections::BTreeMap;

use super::Queue;
use super::inspect::{first, whole};
use super::views::WorkerView;
use crate::error::{Error, Result};
use crate::id::WorkerId;

/// Workers that are read in one round trip.
const BATCH: usize = 500;

impl Queue {
    /// Live workers, in the order of their ids.
    pub async fn workers(&self) -> Result<Vec<WorkerView>> {
        let beats: Vec<(String, f64)> = {
            let mut pipe = redis::pipe();
            pipe.cmd("ZRANGE").arg(self.keys().workers()).arg(0).arg(-1).arg("WITHSCORES");
            first(self.link().bulk(&pipe).await?)?
        };
        let mut ids: Vec<(WorkerId, f64)> =
            beats.into_iter().filter_map(|(id, seen)| Some((id.parse().ok()?, seen))).collect();
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        ids.sort_by(|(one, _), (other, _)| one.cmp(other));
        let (drained, mut hosts) = futures::try_join!(self.drained(), self.nodes())?;
        hosts.retain(|host| host.cluster == crate::id::HOSTS);
        let mut workers = Vec::with_capacity(ids.len());
        for batch in ids.chunks(BATCH) {
            let mut pipe = redis::pipe();
            for (id, _) in batch {
                pipe.cmd("HGETALL").arg(self.keys().worker(id));
            }
            for ((id, seen), answer) in batch.iter().zip(self.link().bulk(&pipe).await?) {
                let mut fields: BTreeMap<String, String> =
                    redis::from_redis_value(answer).map_err(Error::reply)?;
                let mut text = |name: &str| fields.remove(name).unwrap_or_default();
                let host = text("host");
                workers.push(WorkerView {
                    drained: drained.get(&host).cloned(),
                    avoided: hosts
                        .iter()
                        .find(|of| of.name.as_str() == host)
                        .map(|of| (of.until, of.reason.clone())),
                    host,
                    version: text("version"),
                    place: text("place"),
                    slots: text("slots").parse().unwrap_or(0),
                    running: text("running").parse().unwrap_or(0),
                    draining: text("draining") == "1",
                    paused: Some(text("paused")).filter(|why| !why.is_empty()),
                    nodes: text("nodes").parse().unwrap_or(0),
                    seen: whole(*seen),
                    id: id.clone(),
                });
            }
        }
        Ok(workers)
    }
}
