//! The cluster that build pods run in: [`api`] asks it questions; the other modules check the answers.

mod answer;
mod api;
mod builders;
#[cfg(test)]
mod manifests;
mod nodes;
mod quota;
mod rights;
mod trial;

use fairlane_common::queue::inspect::WorkerView;
use fairlane_worker::command::{CommandTemplate, TEMPLATE_DEFAULT};
use fairlane_worker::kubernetes::client::Cluster;
use fairlane_worker::pod::{self, PodSettings};
use futures::StreamExt;
use futures::stream;
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

/// Checks the cluster in which a worker with the same settings would build.
pub(super) async fn look(args: &Doctor, workers: &[WorkerView], findings: &mut Findings) {
    let (settings, pod) = match settings_and_pod(args) {
        Ok(made) => made,
        Err(error) => {
            let advice =
                "A worker with these settings does not start: correct the option, or the file that it names.";
            findings.error("settings", exit::in_full(&error), advice);
            return;
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
            return;
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
            return;
        }
    }
    places(&cluster, workers, findings);
    let answers = ask(&cluster, &settings, &pod).await;
    judge(&settings, &pod, &cluster.namespace, &answers, findings);
}

fn settings_and_pod(args: &Doctor) -> anyhow::Result<(PodSettings, Pod)> {
    let command = CommandTemplate::parse(args.command.as_deref().unwrap_or(TEMPLATE_DEFAULT))?;
    let deadline = fairlane_worker::Settings::default().total_timeout;
    let settings = args.kubernetes.clone().settings(&args.prefix, command, deadline)?;
    let pod = pod::sample(&settings);
    Ok((settings, pod))
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
    // The scheduler and the quotas see the pod with the cluster's defaults and changes.
    let pod = if let Trial::Taken(pod) = &answers.trial { pod } else { pod };
    let nodes = known("nodes", &answers.nodes, findings);
    if let Some(nodes) = nodes {
        nodes::judge(pod, nodes, findings);
    }
    let for_builds = nodes.map(|nodes| nodes::for_builds(pod, nodes));
    match settings.docker_socket.as_deref() {
        Some(socket) => {
            let engine = builders::Engine { socket, selector: &settings.builders, namespace };
            builders::judge(&engine, &answers.daemons, for_builds.as_deref(), findings);
        }
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
