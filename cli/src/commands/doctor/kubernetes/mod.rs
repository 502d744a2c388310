//! The cluster that build pods run in: [`api`] asks it questions; the other modules check the answers.

mod answer;
mod api;
mod builders;
#[cfg(test)]
mod manifests;
mod nodes;
mod pools;
pub(in crate::commands) mod probe;
mod quota;
mod rights;
mod trial;

use fairlane_common::queue::inspect::WorkerView;
use fairlane_worker::command::{CommandTemplate, TEMPLATE_DEFAULT};
use fairlane_worker::kubernetes::client::Cluster;
use fairlane_worker::pod::{self, KubernetesArgs, PodSettings};
use futures::StreamExt;
use futures::stream;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, Pod, ResourceQuota};

use self::answer::Answer;
use self::api::{Asker, Trial};
use self::rights::Review;
use self::trial::Use;
use fairlane_clikit::exit;

use super::findings::Findings;
use crate::args::Doctor;

/// Most Secrets that are looked up at the same time.
const SECRETS_AT_ONCE: usize = 4;

/// What the cluster answered.
struct Answers {
    reviews: Vec<Review>,
    nodes: Answer<Vec<Node>>,
    daemons: Answer<Vec<Pod>>,
    quotas: Answer<Vec<ResourceQuota>>,
    secrets: Vec<(String, Use, Answer<bool>)>,
    trial: Trial,
}

/// The cluster in which a worker with these settings would build, and what it would create there.
struct Site {
    cluster: Cluster,
    settings: PodSettings,
    /// A sample of its build pods.
    pod: Pod,
}

/// Checks the cluster in which a worker with the same settings would build.
pub(super) async fn look(args: &Doctor, workers: &[WorkerView], findings: &mut Findings) {
    let found = site(&args.kubernetes, &args.prefix, args.command.as_deref(), findings).await;
    let Some(Site { cluster, settings, pod }) = found else { return };
    places(&cluster, workers, findings);
    let answers = ask(&cluster, &settings, &pod).await;
    judge(&settings, &pod, &cluster.namespace, &answers, findings);
}

/// Checks only which of its nodes can build.
pub(super) async fn look_at_nodes(args: &Doctor, findings: &mut Findings) {
    let found = site(&args.kubernetes, &args.prefix, args.command.as_deref(), findings).await;
    let Some(Site { cluster, settings, pod }) = found else { return };
    let asker = Asker::new(&cluster);
    let (nodes, daemons, trial) =
        tokio::join!(asker.nodes(), asker.pods(&settings.builders), asker.try_pod(&pod));
    let pod = accepted(&trial, &pod);
    match &nodes {
        Answer::Known(nodes) => {
            let engine = engine(&settings, &cluster.namespace).map(|engine| (engine, &daemons));
            pools::judge(&pools::Looked { pod, nodes, engine, now: Timestamp::now() }, findings);
        }
        Answer::Denied => findings.error(
            "nodes",
            "this account may not list nodes",
            "The chart's value rbac.nodes grants it to workers; or use an administrator's kubeconfig.",
        ),
        Answer::Failed(why) => findings.error("nodes", format!("cannot be listed: {why}"), "Try again."),
    }
}

/// Finds the cluster and asks whether it answers; if not, that is reported.
async fn site(
    args: &KubernetesArgs,
    prefix: &str,
    command: Option<&str>,
    findings: &mut Findings,
) -> Option<Site> {
    let (settings, pod) = match settings_and_pod(args, prefix, command) {
        Ok(made) => made,
        Err(error) => {
            let advice =
                "A worker with these settings does not start: correct the option, or the file that it names.";
            findings.error("settings", exit::in_full(&error), advice);
            return None;
        }
    };
    let found = Cluster::find(settings.namespace.as_deref(), settings.cluster.as_deref()).await;
    let cluster = match found {
        Ok(cluster) => cluster,
        Err(error) => {
            findings.error(
                "cluster",
                exit::in_full(&error),
                "The kubernetes executor cannot build without a cluster.",
            );
            return None;
        }
    };
    match cluster.version().await {
        Ok(version) => {
            let text = format!(
                "{} answers, Kubernetes {version} (configured by {})",
                cluster.url(),
                cluster.source()
            );
            findings.ok("cluster", text);
        }
        Err(error) => {
            findings.error("cluster", exit::in_full(&error), "No build starts until it answers.");
            return None;
        }
    }
    Some(Site { cluster, settings, pod })
}

fn settings_and_pod(
    args: &KubernetesArgs,
    prefix: &str,
    command: Option<&str>,
) -> anyhow::Result<(PodSettings, Pod)> {
    let command = CommandTemplate::parse(command.unwrap_or(TEMPLATE_DEFAULT))?;
    let deadline = fairlane_worker::Settings::default().total_timeout;
    let settings = args.clone().settings(prefix, command, deadline)?;
    let pod = pod::sample(&settings);
    Ok((settings, pod))
}

/// The pod as the scheduler and the quotas see it: with the cluster's defaults and changes.
fn accepted<'a>(trial: &'a Trial, pod: &'a Pod) -> &'a Pod {
    if let Trial::Taken(pod) = trial { pod } else { pod }
}

/// The container engine whose socket build pods mount.
fn engine<'a>(settings: &'a PodSettings, namespace: &'a str) -> Option<builders::Engine<'a>> {
    let socket = settings.docker_socket.as_deref()?;
    Some(builders::Engine { socket, selector: &settings.builders, namespace })
}

async fn ask(cluster: &Cluster, settings: &PodSettings, pod: &Pod) -> Answers {
    let asker = Asker::new(cluster);
    let secrets = stream::iter(trial::secrets(pod))
        .map(|(name, of_use)| {
            let asker = &asker;
            async move {
                let answer = asker.has_secret(&name).await;
                (name, of_use, answer)
            }
        })
        .buffered(SECRETS_AT_ONCE)
        .collect::<Vec<_>>();
    let (reviews, nodes, daemons, quotas, trial, secrets) = tokio::join!(
        asker.reviews(),
        asker.nodes(),
        asker.pods(&settings.builders),
        asker.quotas(),
        asker.try_pod(pod),
        secrets,
    );
    Answers { reviews, nodes, daemons, quotas, secrets, trial }
}

fn judge(settings: &PodSettings, pod: &Pod, namespace: &str, answers: &Answers, findings: &mut Findings) {
    rights::judge(&answers.reviews, namespace, findings);
    trial::judge(&answers.trial, namespace, findings);
    trial::judge_secrets(&answers.secrets, namespace, findings);
    let pod = accepted(&answers.trial, pod);
    let nodes = known("nodes", &answers.nodes, findings);
    if let Some(nodes) = nodes {
        nodes::judge(pod, nodes, findings);
    }
    let for_builds = nodes.map(|nodes| nodes::for_builds(pod, nodes));
    match engine(settings, namespace) {
        Some(engine) => builders::judge(&engine, &answers.daemons, for_builds.as_deref(), findings),
        None => findings.ok("builders", "build pods do not mount a container engine's socket"),
    }
    if let Some(quotas) = known("quota", &answers.quotas, findings) {
        quota::judge(pod, quotas, findings);
    }
}

/// The answer, if there is one; reports a failure, except for a missing right.
fn known<'a, T>(about: &'static str, answer: &'a Answer<T>, findings: &mut Findings) -> Option<&'a T> {
    match answer {
        Answer::Known(known) => Some(known),
        Answer::Denied => None,
        Answer::Failed(why) => {
            findings.warning(about, format!("cannot be checked: {why}"), "Try again.");
            None
        }
    }
}

/// Reports workers that build elsewhere, because the kubeconfig may be for the wrong cluster.
fn places(cluster: &Cluster, workers: &[WorkerView], findings: &mut Findings) {
    for worker in workers {
        if let Some(why) = cluster.stranger(&worker.place) {
            let text = format!("the worker {} belongs to another cluster or namespace: {why}", worker.id);
            let advice = "Only workers of the same cluster and namespace take over each other's builds. If this is intended, ignore it.";
            findings.warning("cluster", text, advice);
        }
    }
}
