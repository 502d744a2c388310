use serde_json::{Value, json};

use super::*;

/// A pod on node `n1`, whose container has a memory limit.
fn pod(status: &Value) -> Pod {
    let resources = json!({ "limits": { "memory": "16Mi" } });
    serde_json::from_value(json!({
        "metadata": { "name": "p", "uid": "u1", "creationTimestamp": "2026-11-22T11:00:00Z" },
        "spec": { "nodeName": "n1", "containers": [{ "name": "builder", "resources": resources }] },
        "status": status,
    }))
    .unwrap()
}

fn deleted(status: &Value) -> Pod {
    let mut pod = pod(status);
    pod.metadata.deletion_timestamp =
        Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(Timestamp::UNIX_EPOCH));
    pod
}

fn condition(kind: &str, status: &str, reason: &str, message: &str) -> Value {
    json!({ "type": kind, "status": status, "reason": reason, "message": message,
        "lastTransitionTime": "2026-11-22T11:00:05Z" })
}

fn builder(state: &Value) -> Value {
    json!([{ "name": "builder", "state": state, "ready": false, "restartCount": 0, "image": "i", "imageID": "" }])
}

fn ended_with(code: i32, reason: &str) -> Value {
    builder(&json!({ "terminated": { "exitCode": code, "reason": reason } }))
}

fn running() -> Value {
    builder(&json!({ "running": { "startedAt": "2026-11-22T11:00:10Z" } }))
}

fn waits(reason: &str, message: &str) -> Value {
    builder(&json!({ "waiting": { "reason": reason, "message": message } }))
}

fn event(reason: &str, message: &str, second: u32) -> Event {
    serde_json::from_value(json!({
        "metadata": {}, "involvedObject": { "uid": "u1" }, "reason": reason, "message": message,
        "lastTimestamp": format!("2026-11-22T11:00:{second:02}Z"),
    }))
    .unwrap()
}

fn failure(pod: &Pod) -> (Exit, Failure) {
    match observe(pod, &[]) {
        Observed::Ended { exit, failure: Some(failure) } => (exit, failure),
        other => panic!("{other:?}"),
    }
}

fn waiting(pod: &Pod, events: &[Event]) -> Waiting {
    match observe(pod, events) {
        Observed::Pending(waiting) => waiting,
        other => panic!("{other:?}"),
    }
}

/// As they come from a node that takes its pods back, the builder ended by a signal.
fn disrupted(reason: &str, message: &str) -> Value {
    json!({ "phase": "Failed", "containerStatuses": ended_with(9, "Error"),
        "conditions": [condition("DisruptionTarget", "True", reason, message)] })
}

#[test]
fn while_a_pull_is_awaited_the_last_error_is_shown() {
    let back_off = "Back-off pulling image \"i\"";
    let waits_for =
        |message| json!({ "phase": "Pending", "containerStatuses": waits("ImagePullBackOff", message) });
    let events = [
        event("Failed", "Failed to pull image \"i\": rpc error: code = Unknown desc = no such host", 1),
        event("Failed", "Error: ErrImagePull", 2),
        event("BackOff", back_off, 3),
    ];
    // A new API server says it in the status, an old one only in the events.
    let new = format!("{back_off}: ErrImagePull: denied");
    for (message, events, expected) in [
        (new.as_str(), &events[..], new.as_str()),
        (back_off, &events[..], "rpc error: code = Unknown desc = no such host"),
        (back_off, &[], back_off),
    ] {
        assert_eq!(waiting(&pod(&waits_for(message)), events).note, format!("node n1: {expected}"));
    }
}

#[test]
fn ends_are_told_by_the_container_before_the_phase() {
    for phase in ["Running", "Succeeded", "Failed"] {
        let found =
            observe(&pod(&json!({ "phase": phase, "containerStatuses": ended_with(0, "Completed") })), &[]);
        let exit = Exit { code: Some(0), ..Exit::default() };
        assert_eq!(
            found,
            Observed::Ended { exit, failure: None },
            "{phase}: also beside a sidecar that runs on"
        );
        let found =
            observe(&pod(&json!({ "phase": phase, "containerStatuses": ended_with(7, "Error") })), &[]);
        let exit = Exit { code: Some(7), ..Exit::default() };
        assert_eq!(found, Observed::Ended { exit, failure: None }, "{phase}");
    }
    let found = observe(&pod(&json!({ "phase": "Succeeded" })), &[]);
    assert!(matches!(found, Observed::Ended { exit: Exit { code: Some(0), .. }, failure: None }));
}

/// Each pod has failed of that cause, and its reason says that.
fn check(rows: Vec<(Pod, PodCause, &str)>) {
    for (pod, cause, says) in rows {
        let (_, found) = failure(&pod);
        assert_eq!(found.cause, cause, "{found:?}");
        assert!(found.reason.contains(says) && !found.reason.contains('{'), "{says}: {found:?}");
    }
}

/// A pod that the kubelet has ended itself.
fn for_reason(reason: &str, message: &str, containers: &Value) -> Pod {
    pod(&json!({ "phase": "Failed", "reason": reason, "message": message, "containerStatuses": containers }))
}

#[test]
fn the_pods_own_reason_outranks_its_container() {
    use PodCause::{Deadline, NodePressure, NodeShutdown, OwnDisk, Rejected};
    let killed = ended_with(137, "Error");
    let volume = "Usage of EmptyDir volume \"s\" exceeds the limit \"8Mi\". ";
    let container = "Container builder exceeded its local ephemeral storage limit \"1Gi\". ";
    let whole = "Pod ephemeral local storage usage exceeds the total limit of containers 1Gi. ";
    let low = "The node was low on resource: ephemeral-storage. Threshold quantity: 1Gi, available: 10Mi. ";
    let active = "Pod was active on the node longer than the specified deadline";
    let absent = waits("ErrImageNeverPull", "image \"i\" is not present");
    check(vec![
        (for_reason("Evicted", volume, &killed), OwnDisk, "exceeds the limit \"8Mi\""),
        (for_reason("Evicted", container, &killed), OwnDisk, "1Gi"),
        (for_reason("Evicted", whole, &Value::Null), OwnDisk, "1Gi"),
        (for_reason("Evicted", low, &Value::Null), NodePressure, "node n1 ran short"),
        (for_reason("Evicted", low, &killed), NodePressure, "ephemeral-storage"),
        (for_reason("DeadlineExceeded", active, &killed), Deadline, "deadline"),
        (for_reason("DeadlineExceeded", active, &absent), Deadline, "not present"),
        (for_reason("OutOfcpu", "Pod was rejected", &Value::Null), Rejected, "OutOfcpu"),
        (for_reason("NodeAffinity", "Pod was rejected", &Value::Null), Rejected, "node n1 rejected"),
        (
            for_reason("Terminated", "imminent node shutdown", &ended_with(143, "Error")),
            NodeShutdown,
            "shut down",
        ),
        (for_reason("Odd", "so it is", &Value::Null), PodCause::Unexplained, "Odd: so it is"),
    ]);
}

#[test]
fn disruptions_are_told_from_the_builds_own_end() {
    use PodCause::{Deleted, Drained, NodeLost, NodeShutdown, Preempted, Tainted};
    let collected = json!({ "phase": "Failed", "containerStatuses": running(),
        "conditions": [condition("DisruptionTarget", "True", "DeletionByPodGC", "PodGC: node no longer exists")] });
    let given_up = json!({ "phase": "Failed", "containerStatuses": running() });
    let unknown =
        json!({ "phase": "Failed", "containerStatuses": ended_with(137, "ContainerStatusUnknown") });
    let killed = json!({ "phase": "Failed", "containerStatuses": ended_with(137, "Error") });
    let never_started = json!({ "phase": "Failed", "containerStatuses": waits("ContainerCreating", "") });
    let undone = json!({ "phase": "Failed", "containerStatuses": ended_with(1, "Error"),
        "conditions": [condition("DisruptionTarget", "False", "PreemptionByScheduler", "no more")] });
    check(vec![
        (pod(&disrupted("PreemptionByScheduler", "preempting")), Preempted, "higher priority: preempting"),
        (
            deleted(&disrupted("EvictionByEvictionAPI", "evicting")),
            Drained,
            "node n1, which is being drained",
        ),
        (deleted(&disrupted("DeletionByTaintManager", "deleting")), Tainted, "taint: deleting"),
        (pod(&disrupted("TerminationByKubelet", "ended")), NodeShutdown, "shut down"),
        (deleted(&collected), NodeLost, "node n1 was lost with the build pod on it: PodGC"),
        (pod(&given_up), NodeLost, "node n1 was lost"),
        (pod(&unknown), NodeLost, "node n1 was lost"),
        (deleted(&killed), Deleted, "somebody deleted the build pod on node n1"),
        (deleted(&never_started), Deleted, "somebody deleted"),
    ]);
    assert!(matches!(observe(&pod(&undone), &[]), Observed::Ended { failure: None, .. }));
}

#[test]
fn containers_that_fail_for_another_cause_than_their_command() {
    use PodCause::{CannotStart, InitFailed, NodeMemory, OwnMemory};
    let oom = json!({ "phase": "Failed", "containerStatuses": ended_with(137, "OOMKilled") });
    let mut without_limit = pod(&oom);
    without_limit.spec.as_mut().unwrap().containers[0].resources = None;
    let init = json!({ "phase": "Failed", "containerStatuses": waits("PodInitializing", ""),
        "initContainerStatuses": [{ "name": "fetch", "ready": false, "restartCount": 0, "image": "i",
            "imageID": "", "state": { "terminated": { "exitCode": 4, "reason": "Error" } } }] });
    let start = json!({ "terminated": { "exitCode": 128, "reason": "StartError",
        "startedAt": "1970-01-01T00:00:00Z", "message": "exec: \"/no/such\": no such file or directory" } });
    check(vec![
        (pod(&oom), OwnMemory, "its limit of 16Mi"),
        (without_limit, NodeMemory, "node n1 ran out of memory"),
        (pod(&init), InitFailed, "fetch ended with exit code 4"),
        (pod(&json!({ "phase": "Failed", "containerStatuses": builder(&start) })), CannotStart, "/no/such"),
    ]);
}

#[test]
fn a_success_counts_whatever_befell_the_pod() {
    let mut status = disrupted("EvictionByEvictionAPI", "Eviction API: evicting");
    status["containerStatuses"] = ended_with(0, "Completed");
    assert!(matches!(observe(&deleted(&status), &[]), Observed::Ended { failure: None, .. }));
}

#[test]
fn a_silent_node_is_waited_for_until_its_pod_is_given_up() {
    let conditions = json!([
        condition("Ready", "False", "", ""),
        condition("ContainersReady", "True", "", ""),
        condition("PodScheduled", "True", "", ""),
    ]);
    let status = json!({ "phase": "Running", "containerStatuses": running(), "conditions": conditions });
    let Observed::Running { note: Some(note) } = observe(&pod(&status), &[]) else { panic!() };
    assert!(note.contains("node n1 does not answer"), "{note}");
    // Deleted, by whomever: only the kubelet could say that it is gone, and it never will.
    let (exit, found) = failure(&deleted(&status));
    assert_eq!((exit, found.cause), (Exit::default(), PodCause::NodeLost));
    // A kubelet that answers ends it in order.
    let status = json!({ "phase": "Running", "containerStatuses": running(), "conditions": [] });
    assert_eq!(observe(&deleted(&status), &[]), Observed::Running { note: None });
}

#[test]
fn waiting_says_what_for() {
    let refused = "0/1 nodes are available: 1 Insufficient cpu, 1 Insufficient memory. no new claims to deallocate, \
        preemption: 0/1 nodes are available: 1 Preemption is not helpful for scheduling.";
    let unschedulable = {
        let mut pod = pod(
            &json!({ "phase": "Pending", "conditions": [condition("PodScheduled", "False", "Unschedulable", refused)] }),
        );
        pod.spec.as_mut().unwrap().node_name = None;
        pod
    };
    let fresh = {
        let mut pod = pod(&json!({ "phase": "Pending" }));
        pod.spec.as_mut().unwrap().node_name = None;
        pod
    };
    let on_node = |reason: &str, message: &str| {
        pod(&json!({ "phase": "Pending", "containerStatuses": waits(reason, message),
            "conditions": [condition("PodScheduled", "True", "", "")] }))
    };
    for (pod, cause, says) in vec![
        (fresh, PodCause::Pending, "waiting for the scheduler"),
        (
            unschedulable,
            PodCause::Unschedulable,
            "waiting for a node: 0/1 nodes are available: 1 Insufficient cpu, 1 Insufficient memory",
        ),
        (on_node("ContainerCreating", ""), PodCause::Pending, "being set up on node n1"),
        (on_node("PodInitializing", ""), PodCause::Pending, "its init containers are running on node n1"),
        (
            on_node("ErrImageNeverPull", "Container image \"i\" is not present with pull policy of Never"),
            PodCause::ImageAbsent,
            "node n1: Container image \"i\" is not present with pull policy of Never",
        ),
        (
            on_node("ErrImagePull", "dial tcp: connection refused"),
            PodCause::ImagePull,
            "node n1: dial tcp: connection refused",
        ),
        (
            on_node("ImagePullBackOff", "Back-off pulling image \"i\""),
            PodCause::ImagePull,
            "node n1: Back-off pulling image \"i\"",
        ),
        (
            on_node("InvalidImageName", "couldn't parse image name"),
            PodCause::ImageName,
            "node n1: couldn't parse image name",
        ),
        (
            on_node("CreateContainerConfigError", "secret \"no-such\" not found"),
            PodCause::MissingObject,
            "node n1: secret \"no-such\" not found",
        ),
        (
            on_node("CreateContainerError", "context deadline exceeded"),
            PodCause::CannotCreate,
            "node n1: context deadline exceeded",
        ),
    ] {
        let found = waiting(&pod, &[]);
        assert_eq!((found.note.as_str(), found.hopeless.failure.cause), (says, cause));
        assert_eq!(found.hopeless.patience, cause.patience());
        assert!(found.since.is_some());
    }
}

#[test]
fn events_say_why_a_container_is_not_made() {
    let pod = pod(&json!({ "phase": "Pending", "containerStatuses": waits("ContainerCreating", "") }));
    let no_socket = "MountVolume.SetUp failed for volume \"docker-socket\" : hostPath type check failed: /var/run/docker.sock is not a socket file";
    let no_secret = "MountVolume.SetUp failed for volume \"docker-config\" : secret \"push\" not found";
    let summed_up =
        "Unable to attach or mount volumes: unmounted volumes=[x]: timed out waiting for the condition";
    let of_another = Event {
        involved_object: k8s_openapi::api::core::v1::ObjectReference {
            uid: Some("u2".to_owned()),
            ..Default::default()
        },
        ..event("FailedMount", no_socket, 50)
    };
    for (events, cause, says) in [
        (
            vec![event("FailedMount", no_socket, 9), event("Scheduled", "ok", 1)],
            PodCause::NoSocket,
            "not a socket file",
        ),
        (
            vec![event("FailedMount", no_socket, 9), event("FailedMount", summed_up, 20)],
            PodCause::NoSocket,
            "not a socket file",
        ),
        (vec![event("FailedMount", no_secret, 9)], PodCause::MissingObject, "secret \"push\" not found"),
        (
            vec![event("FailedMount", "MountVolume.SetUp failed: no such device", 9)],
            PodCause::MountFailed,
            "no such device",
        ),
        (vec![event("FailedCreatePodSandBox", "failed to setup network", 9)], PodCause::NoSandbox, "network"),
        (
            vec![event(
                "FailedCreatePodSandBox",
                "(combined from similar events): failed to setup network",
                9,
            )],
            PodCause::NoSandbox,
            "node n1: failed to setup network",
        ),
        (
            vec![event("Pulling", "Pulling image \"r/i:1\"", 9)],
            PodCause::Pending,
            "is pulling the build image r/i:1",
        ),
        // What came later has got past it.
        (
            vec![event("Pulled", "pulled", 12), event("FailedMount", no_socket, 9)],
            PodCause::Pending,
            "being set up",
        ),
        (vec![of_another], PodCause::Pending, "being set up"),
    ] {
        let found = waiting(&pod, &events);
        assert_eq!(found.hopeless.failure.cause, cause, "{events:?}");
        assert!(found.note.contains(says), "{found:?}");
    }
    let blamed = waiting(&pod, &[event("FailedMount", no_socket, 9)]).hopeless.failure;
    assert_eq!(blamed.blame(), fairlane_common::queue::Blame::Certain);
}

#[test]
fn the_longest_words_are_cut() {
    let pod = pod(&json!({ "phase": "Failed", "reason": "Evicted", "message": "é\n".repeat(5000) }));
    assert!(failure(&pod).1.reason.len() < 400);
}

#[test]
fn the_last_words_are_the_commands_own() {
    let ended = |reason: &str, message: &str| {
        let state = json!({ "terminated": { "exitCode": 1, "reason": reason, "message": message } });
        pod(&json!({ "phase": "Failed", "containerStatuses": builder(&state) }))
    };
    assert_eq!(last_words(&ended("Error", "last words\n")), Some("last words\n"));
    assert_eq!(last_words(&ended("StartError", "exec: no such file")), None);
    assert_eq!(last_words(&ended("Error", "")), None);
    assert_eq!(last_words(&pod(&json!({ "phase": "Running", "containerStatuses": running() }))), None);
}

/// As a real cluster gave it, two minutes after its node was lost: no kubelet had taken it.
const NEVER_TAKEN: &str = r#"{
  "metadata": {
    "name": "unstarted", "namespace": "nslost", "uid": "65a98ad6-374b-4112-abc4-e5d56298c2a0", "generation": 2,
    "creationTimestamp": "2026-11-29T17:28:52Z",
    "deletionGracePeriodSeconds": 30, "deletionTimestamp": "2026-11-29T17:31:15Z"
  },
  "spec": { "nodeName": "node-c", "containers": [{ "name": "builder", "image": "docker.io/library/busybox:1" }] },
  "status": {
    "phase": "Pending", "qosClass": "BestEffort",
    "conditions": [
      { "type": "PodScheduled", "status": "True", "lastProbeTime": null, "lastTransitionTime": "2026-11-29T17:28:52Z" },
      { "type": "DisruptionTarget", "status": "True", "reason": "DeletionByTaintManager",
        "message": "Taint manager: deleting due to NoExecute taint", "observedGeneration": 1,
        "lastProbeTime": null, "lastTransitionTime": "2026-11-29T17:30:45Z" }
    ]
  }
}"#;

#[test]
fn a_pod_that_no_kubelet_took_is_lost_with_its_node() {
    let mut pod: Pod = serde_json::from_str(NEVER_TAKEN).unwrap();
    let (_, found) = failure(&pod);
    assert_eq!(found.cause, PodCause::NodeLost);
    assert!(found.reason.contains("node-c"), "{found:?}");
    // A kubelet had taken it: it may end it yet, within its time, unless its node is not heard of.
    pod.status.as_mut().unwrap().start_time = pod.metadata.creation_timestamp.clone();
    let patience = waiting(&pod, &[]).hopeless.patience.unwrap();
    assert!((30..=60).contains(&patience.as_secs()), "{patience:?}");
    assert!(matches!(
        observe_on(&pod, &[], true),
        Observed::Ended { failure: Some(Failure { cause: PodCause::NodeLost, .. }), .. }
    ));
    // Before it was given up people are told.
    (pod.metadata.deletion_timestamp, pod.status.as_mut().unwrap().conditions) = (None, None);
    let Observed::Pending(waits) = observe_on(&pod, &[], true) else { panic!("it may start yet") };
    assert_eq!(waits.note, "node node-c does not answer");
}
