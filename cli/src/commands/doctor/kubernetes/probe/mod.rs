//! `fairlane nodes probe`: one pod like a build's on one node, through the scheduler; what it shows, and what to do.

mod follow;
mod results;

use std::time::Duration;

use anyhow::{Result, ensure};
use fairlane_clikit::exit::{Exit, Stop};
use fairlane_clikit::output::Output;
use fairlane_worker::pod::fit::requested;
use fairlane_worker::pod::{self, Observed, PodSettings, Probe, observe};
use k8s_openapi::api::core::v1::{Node, Pod};
use tokio::signal::unix::{SignalKind, signal};

use self::follow::Follow;
use super::api::{Asker, Trial};
use super::nodes::DISK;
use super::{Answer, Site, pools, site, trial};
use crate::args::NodesProbe;
use crate::commands::doctor::findings::Findings;

/// What a build needs at least, whatever the pod template requests: its clone and its context.
const DISK_MIN: f64 = 1024.0 * 1024.0 * 1024.0;
/// How much later than this command the cluster ends the pod.
const DEADLINE_SLACK: Duration = Duration::from_mins(1);
/// The value of `--connect` for no host.
const NO_HOST: &str = "none";
/// The socket in build pods.
const SOCKET_IN_POD: &str = "/var/run/docker.sock";

pub(in crate::commands) async fn run(args: NodesProbe, output: Output) -> Result<Exit> {
    let hosts = hosts(&args.connect)?;
    let mut findings = Findings::default();
    let Some(site) = site(&args.kubernetes, &args.prefix, None, &mut findings).await else {
        return Ok(findings.finish(output));
    };
    let asker = Asker::new(&site.cluster);
    let node = match asker.nodes().await {
        Answer::Known(nodes) => match named(nodes, &args.node) {
            Ok(node) => Some(node),
            Err(others) => {
                let text = format!("the cluster has no node {}", args.node);
                findings.error("node", text, format!("It has {others}."));
                return Ok(findings.finish(output));
            }
        },
        Answer::Denied | Answer::Failed(_) => None,
    };
    clear_up(&asker, &site.settings).await;
    let name = format!("{}-{:08x}", pod::PROBE, fastrand::u32(..));
    let probe_pod = made(&site, &args, &name, &hosts);
    // From here on, a signal no longer ends this process, so the pod is deleted first.
    let mut stop = [signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?];
    // Not interrupted: only its answer says whether there is a pod to delete.
    let created = match asker.create_pod(&probe_pod).await {
        Trial::Taken(pod) => *pod,
        Trial::Failed(why) => {
            findings.error("pod", format!("cannot be created: {why}"), "Try again.");
            delete(&asker, &name, None, &mut findings).await;
            return Ok(findings.finish(output));
        }
        refused @ Trial::Refused(..) => {
            refuse(&refused, &site.cluster.namespace, &mut findings);
            return Ok(findings.finish(output));
        }
    };
    output.talk(&format!("Created the pod {name} in {}.", site.cluster.namespace));
    let follow = Follow {
        asker: &asker,
        settings: &site.settings,
        build_pod: &site.pod,
        node: (&args.node, node.as_ref()),
        timeout: args.timeout,
        output,
    };
    let [interrupted, terminated] = &mut stop;
    let stopped = tokio::select! {
        () = follow.to_end(created.clone(), &mut findings) => false,
        _ = interrupted.recv() => true,
        _ = terminated.recv() => true,
    };
    let deleted = delete(&asker, &name, created.metadata.uid.as_deref(), &mut findings).await;
    if stopped && deleted {
        output.talk(&format!("Interrupted; the pod {name} was deleted."));
        return Ok(Exit::Interrupted);
    }
    let exit = findings.finish(output);
    Ok(if stopped { Exit::Interrupted } else { exit })
}

/// The hosts to reach, checked.
fn hosts(given: &[String]) -> Result<Vec<String>> {
    let hosts: Vec<String> = given.iter().filter(|host| *host != NO_HOST).cloned().collect();
    for host in &hosts {
        let is_host = host.rsplit_once(':').is_some_and(|(name, port)| {
            !name.is_empty()
                && !name.contains(char::is_whitespace)
                && port.parse::<u16>().is_ok_and(|port| port > 0)
        });
        ensure!(
            is_host,
            Stop::usage(format!("--connect: '{host}' is not HOST:PORT, such as github.com:443"))
        );
    }
    Ok(hosts)
}

/// The node of that name, or the names of the others.
fn named(nodes: Vec<Node>, wanted: &str) -> Result<Node, String> {
    let mut others = Vec::new();
    for node in nodes {
        if node.metadata.name.as_deref() == Some(wanted) {
            return Ok(node);
        }
        others.extend(node.metadata.name);
    }
    let others = super::nodes::names(others.iter().map(String::as_str));
    Err(if others.is_empty() { "none".to_owned() } else { others })
}

fn made(site: &Site, args: &NodesProbe, name: &str, hosts: &[String]) -> Pod {
    let need = requested(&site.pod, DISK).max(DISK_MIN) / 1024.0;
    let socket = site.settings.docker_socket.as_ref().map_or("", |_| SOCKET_IN_POD);
    let fixed =
        ["sh", "-c", results::CHECK, "fairlane-probe", socket, &format!("{need:.0}")].map(str::to_owned);
    let command: Vec<String> = fixed.into_iter().chain(hosts.iter().cloned()).collect();
    let deadline = args.timeout + DEADLINE_SLACK;
    pod::probe(&site.settings, &Probe { name, node: &args.node, command: &command, deadline })
}

fn refuse(refused: &Trial, namespace: &str, findings: &mut Findings) {
    if let Trial::Refused(403, message) = refused
        && message.contains("cannot create resource")
    {
        let text = format!("this account may not create pods in {namespace}");
        findings.error(
            "rights",
            text,
            "Run it in a worker's pod: kubectl exec deployment/fairlane-worker -- ….",
        );
    } else if let Trial::Refused(403, message) = refused
        && message.contains("exceeded quota")
    {
        let text = format!("the namespace has no room for the pod: {message}");
        findings.error("quota", text, "Raise the quota, or try again when fewer builds run.");
    } else {
        trial::judge(refused, namespace, findings);
    }
}

/// Deletes the pods of earlier probes that were killed before they could.
async fn clear_up(asker: &Asker<'_>, settings: &PodSettings) {
    let Answer::Known(pods) = asker.pods(&pod::probe_selector(settings)).await else { return };
    for old in pods.iter().filter(|old| matches!(observe(old, &[]), Observed::Ended { .. })) {
        if let (Some(name), Some(uid)) = (&old.metadata.name, &old.metadata.uid) {
            // Whatever fails here is tried again by the next probe.
            drop(asker.delete_pod(name, Some(uid)).await);
        }
    }
}

/// Deletes the probe's pod; returns whether that worked, and reports it if not.
async fn delete(asker: &Asker<'_>, name: &str, uid: Option<&str>, findings: &mut Findings) -> bool {
    let Err(why) = asker.delete_pod(name, uid).await else { return true };
    findings.warning(
        "pod",
        format!("the probe's pod could not be deleted: {why}"),
        format!("It ends by itself, and the next probe removes it; or `kubectl delete pod {name}`."),
    );
    false
}

/// What keeps a build off the node, as far as its object says.
fn obstacles(build_pod: &Pod, node: Option<&Node>) -> Vec<(String, String)> {
    let Some(node) = node else { return Vec::new() };
    let found = pod::fit::obstacles(build_pod, node);
    found.iter().map(|obstacle| pools::refusal(build_pod, node, obstacle)).collect()
}

#[cfg(test)]
mod tests {
    use super::hosts;

    #[test]
    fn hosts_have_a_port() {
        let given = |hosts: &[&str]| hosts.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(hosts(&given(&["none"])).unwrap(), Vec::<String>::new());
        assert_eq!(hosts(&given(&["a.b:443", "[::1]:5"])).unwrap().len(), 2);
        for bad in ["a.b", ":443", "a b:443", "a:0", "a:x", ""] {
            let error = hosts(&given(&[bad])).unwrap_err().to_string();
            assert!(error.contains("--connect") && error.contains("github.com:443"), "{bad}: {error}");
        }
    }
}
