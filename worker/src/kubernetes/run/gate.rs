//! Lets a run push.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;

use super::{Driver, Step};
use crate::executor::RunEvent;
use crate::kubernetes::pod;

impl Driver {
    /// Lets the run push: the annotation appears in the file that it watches.
    /// Returns whether it may now.
    pub(super) async fn let_push(&mut self, mut pod: Arc<Pod>) -> Step<bool> {
        while self.orders.borrow().stop.is_none() {
            self.may_change(true).await?;
            match self.cluster.identity(&pod.metadata) {
                Ok(identity) if identity.token == self.token => {}
                _ => return Err(RunEvent::Taken),
            }
            match self.cluster.api.patch_pod(&self.name, pod::gate::open_patch(&pod.metadata)).await {
                Ok(_) => {
                    tracing::info!(pod = self.name, "the pod may push");
                    self.worked();
                    return Ok(true);
                }
                Err(error) if error.code() == 404 => return Ok(false),
                // It has changed since it was read.
                Err(error) if matches!(error.code(), 409 | 422) => {
                    match self.cluster.api.pod(&self.name).await {
                        Ok(Some(now)) => pod = Arc::new(now),
                        Ok(None) => return Ok(false),
                        Err(error) => self.failed(&error).await?,
                    }
                }
                Err(error) => self.failed(&error).await?,
            }
        }
        Ok(false)
    }
}
