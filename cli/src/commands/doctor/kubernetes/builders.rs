//! Whether the container engine whose socket build pods mount runs on the nodes of build pods.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{Node, Pod};

use super::answer::Answer;
use super::nodes::names;
use crate::commands::doctor::findings::Findings;

/// The socket of the node's own Docker.
const DOCKER_SOCKET: &str = "/var/run/docker.sock";
/// The prefix of a Docker runtime's name.
const DOCKER_RUNTIME: &str = "docker://";

/// What the settings say about the engine.
pub(super) struct Engine<'a> {
    /// The socket's path on the nodes.
    pub(super) socket: &'a str,
    /// A label selector for the engine's daemons.
    pub(super) selector: &'a str,
    pub(super) namespace: &'a str,
}

/// Checks the engine on the nodes that build pods go to. If these are unknown, one ready daemon is enough.
pub(super) fn judge(
    engine: &Engine<'_>,
    daemons: &Answer<Vec<Pod>>,
    nodes: Option<&[&Node]>,
    findings: &mut Findings,
) {
    let Engine { socket, selector, namespace } = engine;
    let daemons = match daemons {
        Answer::Known(daemons) => daemons,
        Answer::Denied => return,
        Answer::Failed(why) => {
            let text = format!("cannot tell whether anything listens on {socket} on the nodes: {why}");
            findings.warning("builders", text, "Try again.");
            return;
        }
    };
    let has_docker = *socket == DOCKER_SOCKET
        && nodes.is_some_and(|nodes| !nodes.is_empty() && nodes.iter().all(|node| runs_docker(node)));
    if daemons.is_empty() {
        if has_docker {
            findings.ok("builders", format!("the nodes run Docker, whose socket is {socket}"));
            return;
        }
        findings.warning(
            "builders",
            format!(
                "no pod in {namespace} has the labels {selector}, so it is unknown whether anything listens on {socket} \
                 on the nodes"
            ),
            "Name the labels of your daemons (dind, pink, docker-api) with --builders, or set --docker-socket to none for \
             build images that need no socket.",
        );
        return;
    }
    let folders = host_folders(daemons);
    if !has_docker && !folders.is_empty() && !folders.iter().any(|folder| lies_in(socket, folder)) {
        let folders = folders.iter().copied().collect::<Vec<_>>().join(", ");
        findings.error(
            "builders",
            format!(
                "the daemons ({selector}) share {folders} with their nodes, but {socket} is not in there"
            ),
            "Set --docker-socket to the daemons' socket on the nodes, such as /var/run/dind/docker.sock.",
        );
    }
    ready(engine, daemons, nodes, findings);
}

/// Checks on which nodes daemons are ready.
fn ready(engine: &Engine<'_>, daemons: &[Pod], nodes: Option<&[&Node]>, findings: &mut Findings) {
    let Engine { socket, selector, .. } = engine;
    let ready: BTreeSet<&str> =
        daemons.iter().filter(|pod| is_ready(pod)).filter_map(|pod| node_of(pod)).collect();
    let Some(nodes) = nodes else {
        let all = daemons.len();
        if ready.is_empty() {
            findings.error("builders", format!("none of the {all} daemons ({selector}) is ready"), ADVICE);
        } else {
            findings.ok("builders", format!("daemons are ready on {}", names(ready)));
        }
        return;
    };
    if nodes.is_empty() {
        // A cluster without nodes for builds is reported with the nodes.
        return;
    }
    let wanted = nodes.iter().filter_map(|node| node.metadata.name.as_deref());
    let missing: Vec<&str> = wanted.filter(|name| !ready.contains(name)).collect();
    if missing.is_empty() {
        findings.ok("builders", format!("a daemon is ready on each of the {} nodes for builds", nodes.len()));
        return;
    }
    let why = daemons.iter().filter(|pod| !is_ready(pod)).find_map(why_not_ready);
    let why = why.map(|why| format!(" ({why})")).unwrap_or_default();
    findings.error(
        "builders",
        format!(
            "no daemon with the labels {selector} is ready on {}: builds that go there fail without {socket}{why}",
            names(missing)
        ),
        ADVICE,
    );
}

/// Whether the engine's socket is on a node, as far as the API shows.
pub(super) enum Socket {
    There,
    /// The daemon there is not ready, and why, in brackets.
    Missing(String),
    /// Nothing that the API knows provides it.
    Unknown,
}

/// Looks for the engine's daemon on one node.
pub(super) fn on_node(engine: &Engine<'_>, daemons: &Answer<Vec<Pod>>, node: &Node) -> Socket {
    if engine.socket == DOCKER_SOCKET && runs_docker(node) {
        return Socket::There;
    }
    let Answer::Known(daemons) = daemons else { return Socket::Unknown };
    if daemons.is_empty() {
        return Socket::Unknown;
    }
    let here = || daemons.iter().filter(|pod| node_of(pod) == node.metadata.name.as_deref());
    if here().any(is_ready) {
        return Socket::There;
    }
    let why = here().find_map(why_not_ready).map(|why| format!(" ({why})"));
    Socket::Missing(why.unwrap_or_default())
}

const ADVICE: &str = "`kubectl describe` their pods. If a node should have none, keep builds off it with the node selector \
                      of the pod template.";

fn runs_docker(node: &Node) -> bool {
    let info = node.status.as_ref().and_then(|status| status.node_info.as_ref());
    info.is_some_and(|info| info.container_runtime_version.starts_with(DOCKER_RUNTIME))
}

fn node_of(pod: &Pod) -> Option<&str> {
    pod.spec.as_ref()?.node_name.as_deref()
}

fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    pod.metadata.deletion_timestamp.is_none()
        && conditions.iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

fn why_not_ready(pod: &Pod) -> Option<String> {
    let status = pod.status.as_ref()?;
    let waiting = status
        .container_statuses
        .as_deref()
        .unwrap_or_default()
        .iter()
        .find_map(|container| container.state.as_ref()?.waiting.as_ref()?.reason.clone());
    let reason = waiting.or_else(|| status.reason.clone()).or_else(|| status.phase.clone())?;
    Some(format!("{}: {reason}", pod.metadata.name.as_deref().unwrap_or_default()))
}

/// The host folders that the daemons mount.
fn host_folders(daemons: &[Pod]) -> BTreeSet<&str> {
    let volumes = daemons.iter().filter_map(|pod| pod.spec.as_ref()?.volumes.as_deref()).flatten();
    volumes.filter_map(|volume| Some(volume.host_path.as_ref()?.path.as_str())).collect()
}

fn lies_in(path: &str, folder: &str) -> bool {
    // On nodes, `/var/run` is a link to `/run`.
    let plain = |path: &str| {
        path.strip_prefix("/var/run/").map_or_else(|| path.to_owned(), |rest| format!("/run/{rest}"))
    };
    let (path, folder) = (plain(path), plain(folder));
    path.strip_prefix(folder.trim_end_matches('/'))
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::commands::doctor::findings::Level;
    use fairlane_testkit::kube::examples::node;

    const DIND: &str = "/var/run/dind/docker.sock";

    fn daemon(node: &str, ready: &str) -> Pod {
        let waiting = json!({ "name": "dind", "image": "d", "imageID": "", "ready": false, "restartCount": 3,
                              "state": { "waiting": { "reason": "CrashLoopBackOff" } } });
        let statuses = if ready == "True" { json!([]) } else { json!([waiting]) };
        let pod = json!({
            "metadata": { "name": format!("dind-{node}") },
            "spec": { "nodeName": node, "containers": [], "volumes": [
                { "name": "run", "hostPath": { "path": "/var/run/dind" } },
                { "name": "lib", "hostPath": { "path": "/var/lib/dind" } } ] },
            "status": { "phase": "Running", "conditions": [{ "type": "Ready", "status": ready }],
                        "containerStatuses": statuses },
        });
        serde_json::from_value(pod).unwrap()
    }

    fn runtime(version: &str) -> Value {
        let fields = [
            "architecture",
            "bootID",
            "kernelVersion",
            "kubeProxyVersion",
            "kubeletVersion",
            "machineID",
            "operatingSystem",
            "osImage",
            "systemUUID",
        ];
        let mut info: serde_json::Map<String, Value> =
            fields.iter().map(|field| ((*field).to_owned(), json!(""))).collect();
        info.insert("containerRuntimeVersion".to_owned(), json!(version));
        json!({ "status": { "nodeInfo": info } })
    }

    fn said(socket: &str, daemons: &Answer<Vec<Pod>>, nodes: Option<&[Node]>) -> Vec<(Level, String)> {
        let mut findings = Findings::default();
        let engine = Engine { socket, selector: "app=dind", namespace: "builds" };
        let nodes = nodes.map(|nodes| nodes.iter().collect::<Vec<_>>());
        judge(&engine, daemons, nodes.as_deref(), &mut findings);
        findings.0.iter().map(|one| (one.level, one.in_full())).collect()
    }

    #[track_caller]
    fn says(found: &[(Level, String)], level: Level, words: &str) {
        assert!(
            found.iter().any(|(of, text)| *of == level && text.contains(words)),
            "no {words:?} in {found:#?}"
        );
    }

    #[test]
    fn a_daemon_on_each_node_for_builds_is_well() {
        let nodes = [node("a", "1Gi", &json!({})), node("b", "1Gi", &json!({}))];
        let both = Answer::Known(vec![daemon("a", "True"), daemon("b", "True")]);
        let found = said(DIND, &both, Some(&nodes));
        says(&found, Level::Ok, "each of the 2 nodes");
        assert_eq!(found.len(), 1, "{found:?}");
        says(&said(DIND, &both, None), Level::Ok, "ready on a, b");
    }

    #[test]
    fn a_node_without_its_daemon_is_an_error() {
        let nodes = [node("a", "1Gi", &json!({})), node("b", "1Gi", &json!({}))];
        let one = Answer::Known(vec![daemon("a", "True")]);
        says(&said(DIND, &one, Some(&nodes)), Level::Error, "is ready on b: builds that go there fail");
        let ill = Answer::Known(vec![daemon("a", "True"), daemon("b", "False")]);
        says(&said(DIND, &ill, Some(&nodes)), Level::Error, "dind-b: CrashLoopBackOff");
        says(
            &said(DIND, &Answer::Known(vec![daemon("b", "False")]), None),
            Level::Error,
            "none of the 1 daemons",
        );
    }

    #[test]
    fn a_socket_that_no_daemon_shares_is_an_error() {
        let nodes = [node("a", "1Gi", &json!({}))];
        let daemons = Answer::Known(vec![daemon("a", "True")]);
        says(
            &said(DOCKER_SOCKET, &daemons, Some(&nodes)),
            Level::Error,
            "but /var/run/docker.sock is not in there",
        );
        let linked = said("/run/dind/docker.sock", &daemons, Some(&nodes));
        assert!(linked.iter().all(|(level, _)| *level == Level::Ok), "{linked:?}");
        says(&said("/var/run/dind2/docker.sock", &daemons, Some(&nodes)), Level::Error, "is not in there");
    }

    #[test]
    fn without_daemons_only_the_nodes_own_docker_can_be_told() {
        let none = Answer::Known(Vec::new());
        let docker = [node("a", "1Gi", &runtime("docker://20.10"))];
        says(&said(DOCKER_SOCKET, &none, Some(&docker)), Level::Ok, "the nodes run Docker");
        says(&said(DIND, &none, Some(&docker)), Level::Warning, "it is unknown whether");
        let containerd = [node("a", "1Gi", &runtime("containerd://2.1"))];
        says(&said(DOCKER_SOCKET, &none, Some(&containerd)), Level::Warning, "it is unknown whether");
        says(
            &said(DOCKER_SOCKET, &Answer::Failed("timed out".to_owned()), None),
            Level::Warning,
            "timed out",
        );
    }
}
