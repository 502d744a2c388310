//! Creates a run's pod: once the pods of other runs are gone, only once, and only while the lease holds. Every
//! step may be repeated, because its response may have been lost.

use std::collections::BTreeMap;
use std::time::Duration;

use fairlane_common::queue::Blame;
use fairlane_common::{FailureCause, FailureClass};
use k8s_openapi::api::core::v1::{Pod, Secret};
use tokio::time::Instant;

use super::clear::LOOK_EVERY;
use super::{Driver, Step};
use crate::executor::{Ended, RunEvent, RunFailure};
use crate::kubernetes::cluster::api::{ApiError, Refusal};
use crate::kubernetes::pod::{self, PodIdentity, PodSettings};

/// How long to retry creating a pod if the cluster does not answer; then the build goes back into line, for a
/// worker that can reach the cluster.
const PATIENCE: Duration = Duration::from_mins(3);
/// How long another build whose pod has the same name may take to end.
const OTHER_PATIENCE: Duration = Duration::from_mins(10);
/// How long creating a Secret may be forbidden before that costs the build an attempt: a starting API server
/// briefly refuses what it will allow later.
const FORBIDDEN_PATIENCE: Duration = Duration::from_secs(30);
/// Random digits in a Secret's name.
const SECRET_SUFFIX_LENGTH: usize = 8;
/// Attempts to set a Secret's owner; after that, a worker that adopts the pod or the janitor does it.
const OWN_TRIES: usize = 3;

impl Driver {
    /// Creates the run's pod, or finds it if it already exists.
    pub(super) async fn create(&mut self, env: BTreeMap<String, String>) -> Step<Pod> {
        self.others_gone().await?;
        let cluster = std::sync::Arc::clone(&self.cluster);
        let settings = cluster.pod_settings();
        let secret = if env.is_empty() { None } else { self.create_secret(env, &settings).await? };
        let placement = cluster.nodes.placement(std::mem::take(&mut self.avoided));
        let mut wanted = pod::pod(&self.build, &self.token, &settings, &placement, secret.as_ref());
        if self.gated {
            // Without the right to patch pods, nobody could let the run push.
            if cluster.may_patch() {
                pod::gate::add(&mut wanted);
            } else {
                tracing::info!("the push of this build is not limited: this worker may not patch pods");
            }
        }
        let give_up = Instant::now() + PATIENCE;
        let mut perhaps = false;
        let pod = loop {
            if let Some(pod) = self.may_create(perhaps).await? {
                break pod;
            }
            let made = tokio::select! {
                made = cluster.api.create_pod(&wanted) => made,
                // A worker that adopts the build relies on nothing being requested after the lease has expired.
                () = self.lease_over() => Err(ApiError::Away("the lease ended meanwhile".to_owned())),
            };
            match made {
                Ok(pod) => {
                    tracing::info!(pod = self.name, "created the pod");
                    break pod;
                }
                Err(ApiError::Refused(refusal))
                    if refusal.code == 409 && refusal.reason == "AlreadyExists" =>
                {
                    if let Some(pod) = self.existing().await? {
                        break pod;
                    }
                }
                // Another request changed the quota at the same moment.
                Err(ApiError::Refused(refusal)) if refusal.code == 409 => self.wait(LOOK_EVERY).await,
                Err(ApiError::Refused(refusal)) => return Err(self.refused(&refusal)),
                Err(error) => {
                    perhaps |= matches!(error, ApiError::Away(_));
                    if Instant::now() >= give_up {
                        let lost = RunEvent::Lost(format!("its pod could not be created: {error}"));
                        return Err(if perhaps { RunEvent::HandedOver } else { lost });
                    }
                    self.failed(&error).await?;
                }
            }
        };
        cluster.gate.taken();
        self.worked();
        // The pod may come from an earlier attempt, with another Secret than the one just created; a janitor
        // removes the latter.
        if let Ok(PodIdentity { secret: Some(secret), .. }) = pod::identity(&pod.metadata) {
            self.own_secret(&secret, &pod).await;
        }
        Ok(pod)
    }

    /// Waits until the pod may be created. If the run is stopped while it is unknown whether the pod was created
    /// (`perhaps`), looks for the pod first: an existing pod must be followed and ended like any other.
    async fn may_create(&mut self, perhaps: bool) -> Step<Option<Pod>> {
        while perhaps && self.orders.borrow().stop.is_some() {
            self.may_change(true).await?;
            match self.cluster.api.pod(&self.name).await {
                Ok(Some(pod)) => {
                    let own = |identity: &PodIdentity| identity.token.build == self.token.build;
                    if !self.cluster.identity(&pod.metadata).is_ok_and(|identity| own(&identity)) {
                        break;
                    }
                    if let Some(pod) = self.annotate(pod).await? {
                        return Ok(Some(pod));
                    }
                }
                Ok(None) => break,
                Err(error) => self.failed(&error).await?,
            }
        }
        let stopped = self.orders.borrow().stop.is_some();
        self.may_change(perhaps && !stopped).await.map(|()| None)
    }

    /// The pod of that name, if it belongs to this run; `None` when it is gone.
    async fn existing(&mut self) -> Step<Option<Pod>> {
        let since = Instant::now();
        loop {
            self.may_change(true).await?;
            let pod = match self.cluster.api.pod(&self.name).await {
                Ok(Some(pod)) => pod,
                Ok(None) => return Ok(None),
                Err(error) => {
                    self.failed(&error).await?;
                    continue;
                }
            };
            let identity = match self.cluster.identity(&pod.metadata) {
                Ok(identity) => identity,
                Err(error) => return Err(self.in_the_way(&error)),
            };
            let own = identity.token.build == self.token.build;
            if own && pod.metadata.deletion_timestamp.is_none() {
                if let Some(pod) = self.annotate(pod).await? {
                    return Ok(Some(pod));
                }
                continue;
            }
            self.say("waiting for an earlier pod of that name to end").await?;
            if !own && since.elapsed() >= OTHER_PATIENCE {
                let reason = format!("the pod of the build {} is in the way", identity.token.build);
                return Err(RunEvent::Lost(reason));
            }
            if own || self.is_over(&identity).await {
                let name = self.name.clone();
                self.clear(&name, |_| true).await?;
            } else {
                self.look_again().await;
            }
        }
    }

    /// Whether that pod's build no longer needs it.
    async fn is_over(&self, identity: &PodIdentity) -> bool {
        match self.cluster.queue.build(identity.token.build).await {
            Ok(Some(build)) => build.state.is_ended() || build.attempt > identity.run,
            Ok(None) => false,
            Err(error) => {
                tracing::debug!(%error, "cannot tell whether a pod is still needed");
                false
            }
        }
    }

    /// What a refusal means for the build.
    fn refused(&self, refusal: &Refusal) -> RunEvent {
        let gate = &self.cluster.gate;
        let refusal = &Refusal { message: without_name(&refusal.message).to_owned(), ..refusal.clone() };
        if is_quota(refusal) {
            gate.full(&quota_words(&refusal.message));
            return RunEvent::Lost(format!("the cluster is full: {}", quota_words(&refusal.message)));
        }
        let reason = self.cluster.explain(&ApiError::Refused(refusal.clone()));
        // The contents of the pod may be this build's fault; everything else is the operator's.
        let of_pod = matches!(refusal.code, 400 | 413 | 422 | 500);
        if !of_pod || gate.refused() {
            gate.misconfigured(&reason);
            return RunEvent::Lost(reason);
        }
        RunEvent::Exited(Ended {
            failure: Some(RunFailure {
                class: FailureClass::Repository,
                cause: FailureCause::POD_REFUSED,
                reason,
                blame: Blame::Nobody,
            }),
            ..Ended::default()
        })
    }

    /// The failure if a pod of that name is not ours.
    pub(super) fn in_the_way(&self, error: &anyhow::Error) -> RunEvent {
        let reason = format!(
            "the pod {} is in the way and was left alone: {error:#}. Delete it if nobody needs it, or choose another \
             --installation",
            self.name
        );
        RunEvent::Exited(Ended {
            failure: Some(RunFailure {
                class: FailureClass::Infrastructure,
                cause: FailureCause::POD_EXISTS,
                reason,
                blame: Blame::Nobody,
            }),
            ..Ended::default()
        })
    }

    /// Creates a Secret for the run's pod. Each attempt uses a new name, and an existing Secret of that name is
    /// left alone, so that no pod ever sees another build's credentials. If the response was lost, the Secret has
    /// no owner, and a janitor removes it.
    async fn create_secret(
        &mut self,
        env: BTreeMap<String, String>,
        settings: &PodSettings,
    ) -> Step<Option<Secret>> {
        let began = Instant::now();
        loop {
            self.may_change(false).await?;
            let suffix = &uuid::Uuid::new_v4().simple().to_string()[..SECRET_SUFFIX_LENGTH];
            let Some(mut secret) = pod::secret(&self.build, env.clone(), settings, suffix) else {
                return Ok(None);
            };
            let error = match self.cluster.api.create_secret(&secret).await {
                Ok(uid) => {
                    secret.metadata.uid = Some(uid);
                    return Ok(Some(secret));
                }
                Err(error) => error,
            };
            match &error {
                ApiError::Refused(refusal) if refusal.code == 409 && refusal.reason == "AlreadyExists" => {}
                // A quota that others change in the same moment.
                ApiError::Refused(refusal) if refusal.code == 409 => self.wait(LOOK_EVERY).await,
                // As for pods: the cluster refuses everything at present, and that will pass.
                ApiError::Refused(refusal) if is_of_cluster(refusal) => return Err(self.refused(refusal)),
                // Builds without credentials do not need this right, so claiming does not pause.
                ApiError::Refused(refusal) if refusal.code == 403 && began.elapsed() < FORBIDDEN_PATIENCE => {
                    let note = format!("waiting for the right to create its Secret: {refusal}");
                    self.say(&note).await?;
                    self.wait(LOOK_EVERY).await;
                }
                ApiError::Refused(refusal) => return Err(secret_refused(refusal)),
                _ if began.elapsed() < PATIENCE => self.failed(&error).await?,
                _ => return Err(RunEvent::Lost(format!("its Secret could not be created: {error}"))),
            }
        }
    }

    /// Makes the pod the owner of its Secret, so that both are deleted together. If that fails, a janitor does it
    /// later.
    pub(super) async fn own_secret(&mut self, (name, uid): &(String, String), pod: &Pod) {
        for _ in 0..OWN_TRIES {
            match self.cluster.api.own_secret((name, uid), pod).await {
                Ok(()) => return,
                // It is gone, or another Secret has its name now.
                Err(error) if matches!(error.code(), 404 | 409 | 422) => return,
                Err(error) if error.passes() => self.wait(LOOK_EVERY.max(error.wait())).await,
                Err(error) => {
                    return tracing::warn!(%error, secret = name, "could not set a pod as the owner of its Secret");
                }
            }
        }
    }
}

/// Whether the cluster would refuse any such object at present.
fn is_of_cluster(refusal: &Refusal) -> bool {
    let terminating = refusal.causes.iter().any(|cause| cause == "NamespaceTerminating");
    matches!(refusal.code, 401 | 404) || is_quota(refusal) || terminating
}

fn is_quota(refusal: &Refusal) -> bool {
    refusal.code == 403 && refusal.message.contains("exceeded quota")
}

/// The failure if the Secret is refused for good.
fn secret_refused(refusal: &Refusal) -> RunEvent {
    let hint = if refusal.code == 403 {
        "; a build with credentials needs the rights to create, patch and delete secrets, see the Role in deploy/"
    } else {
        ""
    };
    let reason = format!("the build's credentials cannot be handed to its pod: {refusal}{hint}");
    let (class, cause) = (FailureClass::Infrastructure, FailureCause::SECRETS);
    let failure = RunFailure { class, cause, reason, blame: Blame::Nobody };
    RunEvent::Exited(Ended { failure: Some(failure), ..Ended::default() })
}

/// A refusal's message without the name of the refused object, which differs from attempt to attempt.
fn without_name(message: &str) -> &str {
    let rest = [" is forbidden: ", " is invalid: "].iter().find_map(|words| message.split_once(words));
    rest.filter(|(what, _)| what.ends_with('"') && what.matches(' ').count() == 1)
        .map_or(message, |(_, rest)| rest)
}

/// The part of a refusal that says which quota is used up.
fn quota_words(message: &str) -> String {
    let start = message.find("exceeded quota").unwrap_or(0);
    message[start..].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_reads_the_same_whichever_pod_was_refused() {
        for (message, rest) in [
            (
                r#"pods "a-1" is forbidden: violates PodSecurity "restricted:latest": x"#,
                r#"violates PodSecurity "restricted:latest": x"#,
            ),
            (r#"Pod "a-2" is invalid: spec.tolerations[0]: Required"#, "spec.tolerations[0]: Required"),
            (r#"pods is forbidden: User "u" cannot create"#, r#"pods is forbidden: User "u" cannot create"#),
            ("etcdserver: request is too large", "etcdserver: request is too large"),
        ] {
            assert_eq!(without_name(message), rest);
        }
    }
}
