//! Removes pods that are in the way of a run's own.

use std::time::Duration;

use tokio::time::Instant;

use super::follow::GONE_TIMEOUT;
use super::{Driver, Step};
use crate::kubernetes::cluster::api::Version;
use crate::kubernetes::pod::PodIdentity;

/// How often a pod that is in the way is checked, in addition to the watch.
pub(super) const LOOK_EVERY: Duration = Duration::from_secs(3);
/// Twice the default grace period of Kubernetes.
const GRACE_MAX: Duration = Duration::from_mins(1);

impl Driver {
    /// Waits until no pod of another run of this build is left: of an earlier one, or of a later one that Redis
    /// has lost in a failover.
    pub(super) async fn others_gone(&mut self) -> Step<()> {
        let (build, run) = (self.token.build, self.build.attempt);
        let is_other = |identity: &PodIdentity| identity.token.build == build && identity.run != run;
        let mut listed = self.cluster.pods.listed();
        while *listed.borrow_and_update() == 0 {
            self.may_change(false).await?;
            tokio::select! {
                _ = listed.changed() => {}
                () = self.look_again() => {}
            }
        }
        // The previous run's pod in any case, others if the watch shows them.
        let mut names =
            if run > 1 { self.cluster.pod_names(&self.build, run - 1).to_vec() } else { Vec::new() };
        for pod in self.cluster.pods.there() {
            let other = self.cluster.identity(&pod.metadata).is_ok_and(|identity| is_other(&identity));
            if let Some(name) = pod.metadata.name.clone().filter(|name| other && !names.contains(name)) {
                names.push(name);
            }
        }
        for name in names {
            self.clear(&name, is_other).await?;
        }
        Ok(())
    }

    /// Deletes a pod that is no longer needed, and waits until it is gone.
    pub(super) async fn clear(&mut self, name: &str, needless: impl Fn(&PodIdentity) -> bool) -> Step<()> {
        let mut seen = self.cluster.pods.subscribe(name);
        let mut give_up: Option<Instant> = None;
        let mut uid = None;
        loop {
            self.may_change(false).await?;
            seen.mark_unchanged();
            let pod = match self.cluster.api.pod(name).await {
                Ok(Some(pod)) => pod,
                Ok(None) => return Ok(()),
                Err(error) => {
                    self.failed(&error).await?;
                    continue;
                }
            };
            // Another pod has that name now.
            if uid.is_some() && uid != pod.metadata.uid {
                return Ok(());
            }
            match self.cluster.identity(&pod.metadata) {
                Ok(identity) if needless(&identity) => {}
                _ => return Ok(()),
            }
            uid.clone_from(&pod.metadata.uid);
            if pod.metadata.deletion_timestamp.is_none() {
                match self.cluster.api.delete_pod(name, &Version::of(&pod), None).await {
                    Ok(()) => tracing::info!(pod = name, "deleted a pod that is no longer needed"),
                    Err(error) if error.code() == 409 => {}
                    Err(error) => self.failed(&error).await?,
                }
                continue;
            }
            let over = *give_up.get_or_insert_with(|| Instant::now() + GRACE_MAX + GONE_TIMEOUT);
            if over <= Instant::now() {
                tracing::warn!(pod = name, "a deleted pod does not terminate; treating its node as lost");
                return Ok(());
            }
            self.say("waiting for the pod of another run to end").await?;
            tokio::select! {
                _ = seen.changed() => {}
                () = self.look_again() => {}
            }
        }
    }

    pub(super) async fn look_again(&mut self) {
        self.wait(LOOK_EVERY).await;
    }
}
