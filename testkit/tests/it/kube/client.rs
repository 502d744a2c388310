//! The fake, seen by the client library that the worker uses; these run on a real cluster as well.

use std::time::Duration;

use fairlane_testkit::kube::TestCluster;
use fairlane_testkit::{wait_for, wait_for_eq};
use futures::{AsyncBufReadExt, AsyncReadExt, StreamExt, TryStreamExt};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Event, Pod, Secret};
use kube::api::{
    DeleteParams, ListParams, LogParams, Patch, PatchParams, PostParams, Preconditions, WatchEvent,
    WatchParams,
};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config, ResourceExt};
use serde_json::json;

/// Generous: a real cluster pulls images.
const DEADLINE: Duration = Duration::from_mins(1);

async fn client(cluster: &TestCluster) -> anyhow::Result<Client> {
    let config = Kubeconfig::read_from(cluster.kubeconfig())?;
    let config = Config::from_custom_kubeconfig(config, &KubeConfigOptions::default()).await?;
    Ok(Client::try_from(config)?)
}

fn name(what: &str) -> String {
    format!("fairlane-test-{what}-{}", &uuid::Uuid::new_v4().simple().to_string()[..8])
}

fn pod(cluster: &TestCluster, name: &str, script: &str) -> anyhow::Result<Pod> {
    Ok(serde_json::from_value(json!({
        "metadata": { "name": name, "labels": { "test": name } },
        "spec": {
            "restartPolicy": "Never", "terminationGracePeriodSeconds": 1, "automountServiceAccountToken": false,
            "containers": [{ "name": "build", "image": cluster.image(), "command": ["sh", "-c", script] }],
        },
    }))?)
}

fn phase(pod: &Pod) -> &str {
    pod.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or_default()
}

#[tokio::test]
async fn a_kube_pod_is_watched_from_its_creation_to_its_end() -> anyhow::Result<()> {
    let cluster = TestCluster::from_env_or_fake();
    let pods = Api::<Pod>::namespaced(client(&cluster).await?, cluster.namespace());
    let name = name("life");
    let selector = format!("test={name}");
    let list = pods.list(&ListParams::default().labels(&selector)).await?;
    let version = list.metadata.resource_version.unwrap_or_default();
    let mut events = pods.watch(&WatchParams::default().labels(&selector), &version).await?.boxed();

    let created = pods.create(&PostParams::default(), &pod(&cluster, &name, "echo hello; exit 7")?).await?;
    let again = pods.create(&PostParams::default(), &pod(&cluster, &name, "echo no")?).await;
    assert!(matches!(again, Err(kube::Error::Api(status)) if status.reason == "AlreadyExists"));

    let mut phases = Vec::new();
    let ended = loop {
        match events.try_next().await? {
            Some(WatchEvent::Added(pod) | WatchEvent::Modified(pod)) => {
                if phases.last().map(String::as_str) != Some(phase(&pod)) {
                    phases.push(phase(&pod).to_owned());
                }
                if phase(&pod) == "Failed" {
                    break pod;
                }
            }
            other => anyhow::bail!("unexpected: {other:?}"),
        }
    };
    // A real kubelet reports a short run late, and then skips a phase.
    let skips = cluster.fake().is_none() && phases == ["Pending", "Failed"];
    assert!(skips || phases == ["Pending", "Running", "Failed"], "{phases:?}");
    assert_eq!(ended.uid(), created.uid());
    let statuses = ended.status.and_then(|status| status.container_statuses).unwrap_or_default();
    let state = statuses[0].state.as_ref().and_then(|state| state.terminated.clone());
    assert_eq!(state.map(|state| (state.exit_code, state.reason)), Some((7, Some("Error".to_owned()))));
    assert_eq!(pods.logs(&name, &LogParams::default()).await?, "hello\n");

    let wrong = Preconditions {
        uid: Some("00000000-0000-0000-0000-000000000000".to_owned()),
        resource_version: None,
    };
    let refused = pods.delete(&name, &DeleteParams::default().preconditions(wrong)).await;
    assert!(matches!(refused, Err(kube::Error::Api(status)) if status.code == 409));
    let right = Preconditions { uid: created.uid(), resource_version: None };
    pods.delete(&name, &DeleteParams::default().preconditions(right)).await?;
    while !matches!(events.try_next().await?, Some(WatchEvent::Deleted(_))) {}
    Ok(())
}

#[tokio::test]
async fn a_kube_log_is_followed_and_resumed_by_its_timestamps() -> anyhow::Result<()> {
    let cluster = TestCluster::from_env_or_fake();
    let pods = Api::<Pod>::namespaced(client(&cluster).await?, cluster.namespace());
    let name = name("log");
    let script = "for i in 1 2 3; do echo line $i; sleep 0.2; done; printf end";
    pods.create(&PostParams::default(), &pod(&cluster, &name, script)?).await?;
    // Of a pod that is on no node yet the log is empty, and that is no error.
    wait_for("the first line", DEADLINE, async || match pods.logs(&name, &LogParams::default()).await {
        Ok(text) if text.starts_with("line 1") => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
    let options = LogParams { follow: true, timestamps: true, ..LogParams::default() };
    let log = pods.log_stream(&name, &options).await?;
    let lines = log.lines().try_collect::<Vec<_>>().await?;
    let text = lines.iter().filter_map(|line| Some(line.split_once(' ')?.1)).collect::<Vec<_>>();
    assert_eq!(text, ["line 1", "line 2", "line 3", "end"]);

    // `LogParams` rounds to the nearest second, which may lie behind the line: it has to be cut before.
    let (at, _) = lines[2].split_once(' ').unwrap_or_default();
    let since = Timestamp::from_second(at.parse::<Timestamp>()?.as_second())?;
    let resumed = LogParams { since_time: Some(since), ..options.clone() };
    let mut rest = String::new();
    pods.log_stream(&name, &resumed).await?.read_to_string(&mut rest).await?;
    assert!(rest.contains(&lines[2]), "the second of the given time is sent whole: {rest}");
    assert!(rest.ends_with(" end"), "{rest}");

    pods.delete(&name, &DeleteParams::default()).await?;
    wait_for_eq("the pod to be gone", DEADLINE, true, async || {
        pods.get_opt(&name).await.is_ok_and(|pod| pod.is_none())
    })
    .await;
    Ok(())
}

#[tokio::test]
async fn a_kube_secret_reaches_its_pod_and_goes_with_it() -> anyhow::Result<()> {
    let cluster = TestCluster::from_env_or_fake();
    let client = client(&cluster).await?;
    let pods = Api::<Pod>::namespaced(client.clone(), cluster.namespace());
    let secrets = Api::<Secret>::namespaced(client.clone(), cluster.namespace());
    let name = name("secret");
    let secret = serde_json::from_value(
        json!({ "metadata": { "name": name }, "stringData": { "word": "swordfish" } }),
    )?;
    secrets.create(&PostParams::default(), &secret).await?;
    let mut wanted = pod(&cluster, &name, "test \"$WORD\" = swordfish && echo \"$PLAIN\"")?;
    if let Some(spec) = &mut wanted.spec {
        spec.containers[0].env = serde_json::from_value(json!([
            { "name": "WORD", "valueFrom": { "secretKeyRef": { "name": name, "key": "word" } } },
            { "name": "PLAIN", "value": "it is" },
        ]))?;
    }
    let created = pods.create(&PostParams::default(), &wanted).await?;
    let owner = json!({ "metadata": { "ownerReferences": [
        { "apiVersion": "v1", "kind": "Pod", "name": name, "uid": created.uid() },
    ] } });
    secrets.patch(&name, &PatchParams::default(), &Patch::Merge(&owner)).await?;
    wait_for_eq("the pod's phase", DEADLINE, "Succeeded".to_owned(), async || {
        pods.get(&name).await.map(|pod| phase(&pod).to_owned()).unwrap_or_default()
    })
    .await;
    assert_eq!(pods.logs(&name, &LogParams::default()).await?, "it is\n");

    let events = Api::<Event>::namespaced(client, cluster.namespace());
    let of_the_pod = ListParams::default().fields(&format!("involvedObject.name={name}"));
    let reasons =
        events.list(&of_the_pod).await?.into_iter().filter_map(|event| event.reason).collect::<Vec<_>>();
    assert!(reasons.iter().any(|reason| reason == "Scheduled"), "{reasons:?}");
    assert!(reasons.iter().any(|reason| reason == "Started"), "{reasons:?}");

    pods.delete(&name, &DeleteParams::default()).await?;
    wait_for_eq("the secret to be gone with its owner", DEADLINE, true, async || {
        secrets.get_opt(&name).await.is_ok_and(|secret| secret.is_none())
    })
    .await;
    Ok(())
}
