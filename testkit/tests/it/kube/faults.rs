//! The faults of the fake API, each seen by a plain HTTP client.

use std::time::{Duration, Instant};

use fairlane_testkit::kube::{Cluster, Fault};
use fairlane_testkit::wait_for_eq;
use futures::StreamExt;
use reqwest::StatusCode;
use serde_json::{Value, json};

use super::plain::{DEADLINE, Plain};

#[tokio::test]
async fn kube_answers_can_be_lost_after_they_were_carried_out() -> anyhow::Result<()> {
    let cluster = Cluster::start();
    let api = Plain::of(&cluster);
    cluster.next("create pods", Fault::Cut);
    assert!(api.create_pod("a", "true").await.is_err(), "nothing is answered");
    assert_eq!(cluster.pods_created().len(), 0, "nothing was done");
    cluster.next("create pods", Fault::LosesAnswer);
    assert!(api.create_pod("a", "true").await.is_err(), "nothing is answered");
    assert_eq!(cluster.pods_created().len(), 1, "it was done");
    assert_eq!(api.create_pod("a", "true").await?, StatusCode::CONFLICT);
    assert_eq!(cluster.requests("create pods"), 3);
    Ok(())
}

#[tokio::test]
async fn kube_faults_are_for_some_requests_and_end() -> anyhow::Result<()> {
    let cluster = Cluster::start();
    let api = Plain::of(&cluster);
    cluster.next_times(2, "list pods", Fault::Fails(503));
    cluster.next("* secrets", Fault::Forbidden);
    assert_eq!(api.get("pods").await?.status(), 503);
    assert_eq!(api.get("events").await?.status(), 200, "others are spared");
    assert_eq!(api.get("pods").await?.status(), 503);
    assert_eq!(api.get("pods").await?.status(), 200, "two were meant");
    assert_eq!(api.get("secrets").await?.status(), 403);
    cluster.always("list pods", Fault::Throttled(7));
    let throttled = api.get("pods").await?;
    let after =
        throttled.headers().get("retry-after").and_then(|value| value.to_str().ok()).map(str::to_owned);
    assert_eq!((throttled.status().as_u16(), after.as_deref()), (429, Some("7")));
    cluster.all_is_well();
    assert_eq!(api.get("pods").await?.status(), 200);
    let late = Duration::from_millis(200);
    cluster.next("list pods", Fault::Delay(late));
    let since = Instant::now();
    assert_eq!(api.get("pods").await?.status(), 200);
    assert!(since.elapsed() >= late);
    Ok(())
}

#[tokio::test]
async fn kube_streams_are_cut_or_ended_where_it_was_said() -> anyhow::Result<()> {
    let cluster = Cluster::start();
    let api = Plain::of(&cluster);
    api.create_pod("a", "echo 1234567890; echo abcdefghij").await?;
    wait_for_eq("the pod to end", DEADLINE, "Succeeded".to_owned(), async || cluster.pod("a").phase()).await;
    for (fault, cut) in [(Fault::CutsStreamAfter(15), true), (Fault::EndsStreamAfter(15), false)] {
        cluster.next("get pods/log", fault);
        let mut chunks = api.get("pods/a/log?follow=true").await?.bytes_stream();
        let (mut read, mut was_cut) = (Vec::new(), false);
        while let Some(chunk) = chunks.next().await {
            match chunk {
                Ok(bytes) => read.extend_from_slice(&bytes),
                Err(_) => was_cut = true,
            }
        }
        assert_eq!((String::from_utf8_lossy(&read).as_ref(), was_cut), ("1234567890\nabcd", cut));
    }
    Ok(())
}

#[tokio::test]
async fn kube_watches_that_run_are_told_that_they_expired() -> anyhow::Result<()> {
    let cluster = Cluster::start();
    let api = Plain::of(&cluster);
    let list = api.get("pods").await?.json::<Value>().await?;
    let version = list["metadata"]["resourceVersion"].as_str().unwrap_or_default().to_owned();
    let watch = api.get(&format!("pods?watch=true&resourceVersion={version}")).await?;
    cluster.watches_expire();
    let events = tokio::time::timeout(DEADLINE, watch.text()).await??;
    let event = serde_json::from_str::<Value>(&events)?;
    assert_eq!((&event["type"], &event["object"]["code"]), (&json!("ERROR"), &json!(410)));
    let resumed = api.get(&format!("pods?watch=true&resourceVersion={version}")).await?;
    assert!(tokio::time::timeout(DEADLINE, resumed.text()).await??.contains("\"code\":410"));
    Ok(())
}

#[tokio::test]
async fn kube_rights_are_taken_one_by_one_and_told_by_reviews() -> anyhow::Result<()> {
    let cluster = Cluster::start();
    let api = Plain::of(&cluster);
    let may = async |verb: &str, resource: &str| -> anyhow::Result<Value> {
        let attributes = json!({ "namespace": cluster.namespace(), "verb": verb, "resource": resource });
        let review = json!({ "spec": { "resourceAttributes": attributes } });
        let path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
        Ok(api.post(path, &review).await?.json::<Value>().await?["status"]["allowed"].clone())
    };
    assert_eq!(may("list", "secrets").await?, json!(true));
    cluster.forbids("list secrets");
    assert_eq!(may("list", "secrets").await?, json!(false));
    assert_eq!(may("create", "secrets").await?, json!(true));
    assert_eq!(api.get("secrets").await?.status(), 403);
    cluster.permits("list secrets");
    assert_eq!(api.get("secrets").await?.status(), 200);
    cluster.permits_only(&["list pods"]);
    assert_eq!(api.get("pods").await?.status(), 200);
    assert_eq!(api.create_pod("a", "true").await?, StatusCode::FORBIDDEN);
    Ok(())
}

#[tokio::test]
async fn kube_quotas_refuse_what_they_have_no_room_for_and_count() -> anyhow::Result<()> {
    let cluster = Cluster::start();
    let api = Plain::of(&cluster);
    cluster.add_pod_quota("few", 1);
    assert_eq!(api.create_pod("a", "sleep 600").await?, StatusCode::CREATED);
    assert_eq!(api.create_pod("b", "true").await?, StatusCode::FORBIDDEN);
    let quotas = api.get("resourcequotas").await?.json::<Value>().await?;
    assert_eq!(quotas["items"][0]["status"]["used"]["pods"], "1");
    cluster.remove("resourcequotas", "few");
    assert_eq!(api.create_pod("b", "true").await?, StatusCode::CREATED);
    let memory = json!({ "metadata": { "name": "memory" }, "spec": { "hard": { "limits.memory": "1Gi" } } });
    cluster.add("", "resourcequotas", cluster.namespace(), memory);
    assert_eq!(api.create_pod("c", "true").await?, StatusCode::FORBIDDEN, "it names no limit");
    Ok(())
}
