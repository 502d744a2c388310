//! The identity of a pod, in its labels and annotations: who owns it, which build it runs and under which lease.
//! They contain the whole build without its secrets, so that an emptied Redis can be refilled from the pods.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail, ensure};
use fairlane_common::{Build, BuildSpec, Token};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::{Value, json};

use super::{COMPONENT, PodSettings, label_value};

pub(super) const INSTALLATION: &str = "fairlane/installation";
/// The queue that it belongs to: two queues may have been given the same installation by mistake.
const QUEUE: &str = "fairlane/queue";
const BUILD: &str = "fairlane/build";
const RUN: &str = "fairlane/run";
const LANE: &str = "fairlane/lane";
const EPOCH: &str = "fairlane/epoch";
const WORKER: &str = "fairlane/worker";
/// The request, as one JSON value.
const SPEC: &str = "fairlane/spec";
// Parts of the same, for workers of the previous release, which do not know `spec`.
const REPO: &str = "fairlane/repo";
const REF: &str = "fairlane/ref";
const IMAGE: &str = "fairlane/image";
const NAME: &str = "fairlane/name";
const PRIORITY: &str = "fairlane/priority";
const ARGS: &str = "fairlane/args";
const PUSH: &str = "fairlane/push";
const LABELS: &str = "fairlane/labels";

/// For tools that continue the trace from the pod.
const TRACEPARENT: &str = "fairlane/traceparent";
const ASKED: &str = "fairlane/asked";
const AVOID: &str = "fairlane/avoid";
const SECRETS: &str = "fairlane/secrets";
/// Name and uid of the Secret that was made for the pod.
const SECRET: &str = "fairlane/secret";
/// `BinderHub` writes this on its own pods, and people's scripts look for it.
pub(super) const BINDER_REPO: &str = "binder-repo";

/// Kubernetes allows 256 KiB of annotations per object; the rest is left for others.
const ANNOTATION_BYTES_MAX: usize = 192 * 1024;

/// Which build a pod runs, read from the pod alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodIdentity {
    /// The lease that its latest holder wrote on it.
    pub token: Token,
    /// The number of the run.
    pub run: u32,
    /// When the build was first requested (Unix milliseconds).
    pub asked: u64,
    /// The request. Its secrets are not on the pod.
    pub spec: BuildSpec,
    /// Whether it had secrets; without them, a new run may fail.
    pub had_secrets: bool,
    /// The Secret that was created for it, if any: its name and uid.
    pub secret: Option<(String, String)>,
    /// Nodes on which it had failed before.
    pub avoid: Vec<String>,
}

/// Which pods and Secrets belong to us: those of one installation and one queue.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Owner {
    installation: String,
    /// The queue's identities, the current one last; empty if it has none yet.
    queues: Vec<String>,
}

impl Owner {
    /// The owner of all objects with this installation's label.
    pub fn new(installation: &str) -> Self {
        Self { installation: label_value(installation), queues: Vec::new() }
    }

    /// Sets the queue's identity; pods with an earlier one still belong to it.
    pub fn set_queue(&mut self, queue: &str) {
        self.queues.retain(|known| known != queue);
        self.queues.push(queue.to_owned());
    }

    /// The queue's current identity.
    pub fn queue(&self) -> Option<&str> {
        self.queues.last().map(String::as_str)
    }

    /// Checks by its labels that a pod or a Secret belongs to us. Objects without a queue label, from earlier
    /// releases, do.
    ///
    /// # Errors
    /// It does not; the message says whose it is, as far as its labels show.
    pub fn check<'a>(&self, label: impl Fn(&str) -> Option<&'a str>) -> Result<()> {
        ensure!(label("component") == Some(COMPONENT), "it is not Fairlane's");
        match label(INSTALLATION) {
            Some(installation) if installation == self.installation => {}
            Some(other) => bail!("it belongs to the installation '{other}'"),
            None => bail!("it belongs to no installation"),
        }
        match label(QUEUE) {
            Some(other) if !self.queues.iter().any(|known| known == other) => {
                bail!("it belongs to another queue ({other}) of the same installation")
            }
            _ => Ok(()),
        }
    }

    /// The same for an object's metadata.
    ///
    /// # Errors
    /// As for [`Self::check`].
    pub fn check_meta(&self, meta: &ObjectMeta) -> Result<()> {
        self.check(|key| meta.labels.as_ref().and_then(|labels| labels.get(key)).map(String::as_str))
    }

    /// The other queue with the same installation that a pod belongs to, if any.
    pub fn stranger<'a>(&self, meta: &'a ObjectMeta) -> Option<&'a str> {
        let labels = meta.labels.as_ref()?;
        let same = labels.get(INSTALLATION).is_some_and(|installation| *installation == self.installation);
        let queue = labels.get(QUEUE).filter(|queue| same && !self.queues.contains(queue))?;
        Some(queue)
    }
}

/// The label selector of all build pods of an installation.
pub fn selector(settings: &PodSettings) -> String {
    format!("component={COMPONENT},{INSTALLATION}={}", label_value(&settings.installation))
}

/// The patch by which a holder writes its token on a pod. It applies only to the object that was `seen`, in that
/// version: if another holder has written its token in between, Kubernetes refuses it.
pub fn token_patch(token: &Token, seen: &ObjectMeta) -> Value {
    json!({
        "metadata": {
            "uid": seen.uid,
            "resourceVersion": seen.resource_version,
            "labels": { BUILD: token.build.to_string() },
            "annotations": token_annotations(token),
        }
    })
}

fn token_annotations(token: &Token) -> BTreeMap<String, String> {
    [(BUILD, token.build.to_string()), (EPOCH, token.epoch.to_string()), (WORKER, token.worker.to_string())]
        .into_iter()
        .map(|(key, value)| (key.to_owned(), value))
        .collect()
}

/// The labels of the pod and the Secret of a run.
pub(super) fn labels(build: &Build, settings: &PodSettings, name: &str) -> BTreeMap<String, String> {
    [
        ("component", COMPONENT.to_owned()),
        ("name", name.to_owned()),
        (INSTALLATION, label_value(&settings.installation)),
        (BUILD, build.id.to_string()),
        (RUN, build.attempt.to_string()),
        (LANE, label_value(build.lane.as_str())),
    ]
    .into_iter()
    .chain(settings.queue.clone().map(|queue| (QUEUE, queue)))
    .map(|(key, value)| (key.to_owned(), value))
    .collect()
}

/// The annotations of a run's pod, whose Secret is created before it.
pub(super) fn annotations(
    build: &Build,
    token: &Token,
    secret: Option<&ObjectMeta>,
) -> BTreeMap<String, String> {
    let spec = &build.spec;
    let mut annotations = token_annotations(token);
    let mut annotate = |key: &str, value: String| {
        if !value.is_empty() {
            annotations.insert(key.to_owned(), value);
        }
    };
    annotate(BINDER_REPO, spec.repo.to_string());
    annotate(SPEC, spec.to_json());
    annotate(REPO, spec.repo.to_string());
    annotate(REF, spec.reference.to_string());
    annotate(IMAGE, spec.image.to_string());
    annotate(NAME, spec.name.clone());
    annotate(PRIORITY, spec.priority.to_string());
    annotate(PUSH, spec.push.to_string());
    annotate(TRACEPARENT, spec.traceparent.clone());
    annotate(ASKED, build.asked.to_string());
    annotate(SECRETS, spec.secrets.is_some().to_string());
    let secret = secret.and_then(|meta| Some(format!("{} {}", meta.name.as_ref()?, meta.uid.as_ref()?)));
    annotate(SECRET, secret.unwrap_or_default());
    annotate(AVOID, json!(build.avoid).to_string());
    annotate(ARGS, json!(spec.args).to_string());
    annotate(LABELS, json!(spec.labels).to_string());
    // The requester's labels are dropped first. Without its arguments, a build cannot be restored; their absence
    // on the pod shows that.
    let fits = |annotations: &BTreeMap<String, String>| {
        annotations.iter().map(|(key, value)| key.len() + value.len()).sum::<usize>() <= ANNOTATION_BYTES_MAX
    };
    if !fits(&annotations) {
        annotations.remove(LABELS);
        let unlabeled = BuildSpec { labels: BTreeMap::new(), ..spec.clone() };
        annotations.insert(SPEC.to_owned(), unlabeled.to_json());
    }
    for key in [ARGS, SPEC] {
        if !fits(&annotations) {
            annotations.remove(key);
        }
    }
    annotations
}

/// Which build a pod (or a Secret) belongs to.
///
/// # Errors
/// An annotation is missing or cannot be read: the pod is not ours, or was changed by hand. The message names the
/// annotation.
pub fn identity(meta: &ObjectMeta) -> Result<PodIdentity> {
    let label = |key: &str| meta.labels.as_ref().and_then(|labels| labels.get(key));
    let annotation = |key: &str| {
        meta.annotations.as_ref().and_then(|annotations| annotations.get(key)).map(String::as_str)
    };
    let need = |key: &'static str| annotation(key).with_context(|| format!("it has no annotation {key}"));
    ensure!(label("component").is_some_and(|component| component == COMPONENT), "it is not a build pod");
    let token = Token {
        build: need(BUILD)?.parse().context(BUILD)?,
        epoch: need(EPOCH)?.parse().context(EPOCH)?,
        worker: need(WORKER)?.parse().context(WORKER)?,
    };
    let flag = |key: &'static str| need(key)?.parse::<bool>().context(key);
    let spec = match annotation(SPEC) {
        Some(text) => serde_json::from_str(text).context(SPEC)?,
        // Written by the previous release, or too long.
        None => BuildSpec {
            name: annotation(NAME).unwrap_or_default().to_owned(),
            priority: need(PRIORITY)?.parse().map_err(anyhow::Error::msg).context(PRIORITY)?,
            args: serde_json::from_str(need(ARGS)?).context(ARGS)?,
            push: flag(PUSH)?,
            labels: annotation(LABELS)
                .map_or_else(|| Ok(BTreeMap::new()), serde_json::from_str)
                .context(LABELS)?,
            ..BuildSpec::new(
                need(REPO)?.parse().context(REPO)?,
                need(REF)?.parse().context(REF)?,
                need(IMAGE)?.parse().context(IMAGE)?,
            )
        },
    };
    let run = label(RUN).with_context(|| format!("it has no label {RUN}"))?;
    Ok(PodIdentity {
        token,
        run: run.parse().context(RUN)?,
        asked: need(ASKED)?.parse().context(ASKED)?,
        spec,
        had_secrets: flag(SECRETS)?,
        secret: annotation(SECRET)
            .and_then(|text| text.split_once(' '))
            .map(|(name, uid)| (name.to_owned(), uid.to_owned())),
        avoid: annotation(AVOID).map_or_else(|| Ok(Vec::new()), serde_json::from_str).context(AVOID)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::{build, token};
    use crate::kubernetes::pod::{Placement, pod};

    fn annotated(build: &Build) -> ObjectMeta {
        pod(build, &token(build), &PodSettings::default(), &Placement::default(), None).metadata
    }

    #[test]
    fn a_pod_carries_its_whole_build_but_no_secret() {
        let mut build = build();
        build.attempt = 3;
        build.asked = 1_764_000_000_000;
        build.avoid = vec!["node-a".to_owned()];
        build.spec.name = "binder name".to_owned();
        build.spec.push = true;
        build.spec.args = vec!["--appendix=RUN \"a\"\nRUN b".to_owned(), "--subdir=é".to_owned()];
        build.spec.labels = [("class".to_owned(), "week 1".to_owned())].into();
        build.spec.secrets = Some("k1:sealed".to_owned());
        // A field of a newer release: passed on unchanged.
        build.spec.newer.insert("memory".to_owned(), json!({ "limit": "2G" }));
        let meta = annotated(&build);
        let found = identity(&meta).unwrap();
        let spec = BuildSpec { secrets: None, ..build.spec.clone() };
        assert_eq!(found.spec, spec);
        assert_eq!((found.token.build, found.token.epoch), (build.id, 1_764_000_000_123));
        assert_eq!((found.run, found.asked, found.had_secrets), (3, build.asked, true));
        assert_eq!(found.avoid, build.avoid);
        assert!(!format!("{meta:?}").contains("sealed"));
    }

    #[test]
    fn pods_of_others_are_told_by_the_annotation_that_is_missing() {
        let meta = annotated(&build());
        let mut earlier = meta.clone();
        earlier.annotations.as_mut().unwrap().remove(SPEC);
        assert_eq!(identity(&earlier).unwrap(), identity(&meta).unwrap(), "written by an earlier release");
        for (meta, key) in [(&meta, EPOCH), (&earlier, EPOCH), (&earlier, REPO), (&earlier, PUSH)] {
            let mut meta = meta.clone();
            meta.annotations.as_mut().unwrap().remove(key);
            assert!(format!("{:#}", identity(&meta).unwrap_err()).contains(key));
            meta.annotations.as_mut().unwrap().insert(key.to_owned(), "?".to_owned());
            assert!(format!("{:#}", identity(&meta).unwrap_err()).contains(key));
        }
        let mut meta = meta.clone();
        meta.labels.as_mut().unwrap().insert("component".to_owned(), "binderhub-build".to_owned());
        assert!(identity(&meta).is_err());
        assert!(identity(&ObjectMeta::default()).is_err());
    }

    #[test]
    fn annotations_stay_below_what_kubernetes_takes() {
        let mut build = build();
        build.spec.labels = (0..32).map(|i| (format!("k{i}"), "\"".repeat(4096))).collect();
        let size = |meta: &ObjectMeta| -> usize {
            meta.annotations.iter().flatten().map(|(key, value)| key.len() + value.len()).sum()
        };
        let meta = annotated(&build);
        assert!(size(&meta) <= ANNOTATION_BYTES_MAX, "{}", size(&meta));
        assert!(identity(&meta).unwrap().spec.labels.is_empty(), "labels can be missed");
        build.spec.args = vec!["\"".repeat(4096); 32];
        let meta = annotated(&build);
        assert!(size(&meta) <= ANNOTATION_BYTES_MAX, "{}", size(&meta));
        assert!(format!("{:#}", identity(&meta).unwrap_err()).contains(ARGS), "arguments cannot");
    }

    #[test]
    fn a_patch_annotates_what_was_seen_and_nothing_else() {
        let build = build();
        let mut meta = annotated(&build);
        meta.uid = Some("u".to_owned());
        meta.resource_version = Some("7".to_owned());
        let token = Token { epoch: 9, ..token(&build) };
        let patch = token_patch(&token, &meta);
        assert_eq!(
            (&patch["metadata"]["uid"], &patch["metadata"]["resourceVersion"]),
            (&json!("u"), &json!("7"))
        );
        let annotations = patch["metadata"]["annotations"].as_object().unwrap();
        for (key, value) in annotations {
            meta.annotations.as_mut().unwrap().insert(key.clone(), value.as_str().unwrap().to_owned());
        }
        assert_eq!(identity(&meta).unwrap().token, token);
    }

    #[test]
    fn what_is_of_another_installation_or_queue_is_not_ones_own() {
        let settings = |installation: &str, queue: Option<&str>| PodSettings {
            installation: installation.to_owned(),
            queue: queue.map(str::to_owned),
            ..PodSettings::default()
        };
        let made = |settings: &PodSettings| {
            pod(&build(), &token(&build()), settings, &Placement::default(), None).metadata
        };
        let mut owner = Owner::new("hub-a");
        let (former, ours) = (made(&settings("hub-a", None)), made(&settings("hub-a", Some("q1"))));
        let (other, theirs) = (made(&settings("hub-b", Some("q1"))), made(&settings("hub-a", Some("q2"))));
        assert!(owner.check_meta(&former).is_ok(), "a release before this one wrote no queue");
        assert!(owner.check_meta(&ours).is_err(), "nobody knows yet which queue this is");
        owner.set_queue("q1");
        assert!(owner.check_meta(&former).is_ok() && owner.check_meta(&ours).is_ok());
        for (meta, says) in [(&other, "the installation 'hub-b'"), (&theirs, "another queue (q2)")] {
            let error = owner.check_meta(meta).unwrap_err().to_string();
            assert!(error.contains(says), "{error}");
        }
        assert_eq!((owner.stranger(&theirs), owner.stranger(&other)), (Some("q2"), None));
        // Redis lost its data, and another worker created a new identity before this one could restore it.
        owner.set_queue("q3");
        assert!(owner.check_meta(&ours).is_ok());
        assert_eq!(owner.queue(), Some("q3"));
        assert!(owner.check_meta(&ObjectMeta::default()).is_err());
    }

    #[test]
    fn the_selector_selects_the_labels() {
        let settings = PodSettings { installation: "hub-1".to_owned(), ..PodSettings::default() };
        let build = build();
        let labels = labels(&build, &settings, "x");
        for term in selector(&settings).split(',') {
            let (key, value) = term.split_once('=').unwrap();
            assert_eq!(labels[key], value);
        }
        for value in labels.values() {
            assert_eq!(label_value(value), *value);
        }
    }
}
