//! A queue, a cluster (a real one if the environment names it, otherwise a fake), and workers in separate
//! processes that build in it.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use fairlane_common::{Build, BuildId, BuildState};
use fairlane_testkit::kube::{Cluster, TestCluster};
use fairlane_testkit::{Process, redis_url_for, wait_for};
use serde_json::Value;

use super::leftovers::{self, Leftovers};
use crate::scene::{PROGRAM, Scene};

/// Generous: a real cluster pulls images and is slow to end pods.
pub(super) const SOON: Duration = Duration::from_secs(90);

pub(super) struct KubeScene {
    pub(super) scene: Scene,
    pub(super) cluster: TestCluster,
    /// The owner of the pods: tests run in parallel in one namespace.
    pub(super) installation: String,
    client: kube::Client,
}

impl KubeScene {
    /// In the cluster that the environment names, or in a fake with one node.
    pub(super) async fn start() -> Self {
        Self::on(TestCluster::from_env_or_fake()).await
    }

    /// In a fake, for faults that a real cluster cannot have on demand.
    pub(super) async fn faked(cluster: Cluster) -> Self {
        Self::on(TestCluster::faked(cluster)).await
    }

    /// Another queue, with its own Redis, that builds in the same namespace.
    pub(super) async fn beside(&self) -> Self {
        Self::on(self.cluster.clone()).await
    }

    async fn on(cluster: TestCluster) -> Self {
        let client = leftovers::client(cluster.kubeconfig()).await;
        let random = uuid::Uuid::new_v4().simple().to_string();
        let installation = format!("test-{}", &random[..10]);
        Self { scene: Scene::start().await, cluster, installation, client }
    }

    pub(super) fn leftovers(&self) -> Leftovers {
        Leftovers {
            kubeconfig: self.cluster.kubeconfig().to_owned(),
            namespace: self.cluster.namespace().to_owned(),
            installation: self.installation.clone(),
        }
    }

    pub(super) fn fake(&self) -> &Cluster {
        self.cluster.fake().expect("a fake cluster")
    }

    /// A worker that runs `script` for each build, ready to claim.
    pub(super) async fn worker(&self, name: &str, script: &str, more: &[&str]) -> Process {
        let worker = self.spawn(name, script, more);
        worker.wait_for_line("worker is ready", SOON).await;
        worker
    }

    pub(super) fn spawn(&self, name: &str, script: &str, more: &[&str]) -> Process {
        self.spawn_with(self.cluster.kubeconfig(), name, script, more)
    }

    /// The same with another kubeconfig.
    pub(super) fn spawn_with(&self, kubeconfig: &Path, name: &str, script: &str, more: &[&str]) -> Process {
        // Braces mark placeholders in a command.
        let script = script.replace('{', "{{").replace('}', "}}").replace('\'', r#"'"'"'"#);
        let mut command = Command::new(PROGRAM);
        command
            .env("KUBECONFIG", kubeconfig)
            .env("FAIRLANE_KEEP_PODS", "1s")
            .env("RUST_LOG", "info,kube_client=off,fairlane_worker=debug")
            .args([
                "--redis-url",
                &redis_url_for("worker", &self.scene.redis.url()),
                "--host",
                name,
                "--executor=kubernetes",
            ])
            .env("FAIRLANE_SLOTS", "20")
            .args(["--lease=4s", "--heartbeat=500ms"])
            .args(["--docker-socket=none", "--replace-entrypoint", "--build-image", self.cluster.image()])
            .args(["--namespace", self.cluster.namespace(), "--installation", &self.installation])
            .arg(format!("--command=sh -c '{script}' {{repo}} {{ref}}"))
            .args(more);
        Process::spawn(name, &mut command)
    }

    /// The existing pods, including those that are being deleted.
    pub(super) async fn pods(&self) -> Vec<Value> {
        let path = format!("/api/v1/namespaces/{}/pods", self.cluster.namespace());
        let labels = format!("component=fairlane-build,fairlane/installation={}", self.installation);
        let params = kube::api::ListParams::default().labels(&labels);
        let request = kube::core::Request::new(path).list(&params).unwrap();
        let list: Value = self.client.request(request).await.unwrap();
        list["items"].as_array().cloned().unwrap_or_default()
    }

    /// Waits until there are `count` pods, and returns their uids.
    pub(super) async fn pods_running(&self, count: usize) -> Vec<String> {
        wait_for(&format!("{count} pods to run"), SOON, async || {
            let pods = self.pods().await;
            let running = pods.iter().filter(|pod| pod["status"]["phase"] == "Running");
            let mut uids: Vec<String> = running.map(uid).collect();
            uids.sort();
            if uids.len() == count { Ok(uids) } else { Err(format!("{} of {}", uids.len(), pods.len())) }
        })
        .await
    }

    /// Waits until the workers have removed all pods.
    pub(super) async fn pods_gone(&self) {
        wait_for("all pods to be removed", SOON, async || {
            let names: Vec<Value> =
                self.pods().await.iter().map(|pod| pod["metadata"]["name"].clone()).collect();
            if names.is_empty() { Ok(()) } else { Err(format!("{names:?}")) }
        })
        .await;
    }

    pub(super) async fn submit_many(&self, count: usize) -> Vec<BuildId> {
        let mut ids = Vec::new();
        for _ in 0..count {
            ids.push(self.scene.submit().await);
        }
        ids
    }

    pub(super) async fn build_in(&self, id: BuildId, state: BuildState) -> Build {
        self.build_that(id, &format!("the build to be {state}"), |build| build.state == state).await
    }

    /// Waits until `fits` is true for the build.
    pub(super) async fn build_that(&self, id: BuildId, what: &str, fits: impl Fn(&Build) -> bool) -> Build {
        wait_for(what, SOON, async || {
            let build = self.scene.queue.build(id).await.map_err(|e| e.to_string())?;
            let build = build.ok_or_else(|| "no such build".to_owned())?;
            if fits(&build) { Ok(build) } else { Err(format!("{build:?}")) }
        })
        .await
    }

    /// Waits until the only worker of that host is paused with a reason that contains these words; with `None`,
    /// until it is not paused.
    pub(super) async fn paused(&self, host: &str, words: Option<&str>) {
        wait_for(&format!("{host} to be paused or not: {words:?}"), SOON, async || {
            let workers = self.scene.queue.workers().await.map_err(|e| e.to_string())?;
            let paused =
                workers.iter().find(|worker| worker.host == host).map(|worker| worker.paused.clone());
            let fits = match (&paused, words) {
                (Some(Some(why)), Some(words)) => why.contains(words),
                (Some(None), None) => true,
                _ => false,
            };
            if fits { Ok(()) } else { Err(format!("{paused:?}")) }
        })
        .await;
    }

    /// Waits for a line of a run's log.
    pub(super) async fn line(&self, id: BuildId, run: u32, line: &str) {
        wait_for(&format!("the line '{line}'"), SOON, async || {
            let lines = self.scene.log(id, run).await;
            if lines.iter().any(|found| found == line) { Ok(()) } else { Err(format!("{lines:?}")) }
        })
        .await;
    }

    async fn try_log(&self, id: BuildId) -> fairlane_common::Result<Vec<String>> {
        let (mut after, mut lines) = ("0".to_owned(), Vec::new());
        loop {
            let page = self.scene.queue.read_log(id, 1, &after, 500).await?;
            let Some(last) = page.entries.last() else { return Ok(lines) };
            after.clone_from(&last.id);
            lines.extend(page.entries.into_iter().map(|entry| entry.text));
        }
    }

    /// All builds succeed in their first run, with every line of `counting` exactly once.
    pub(super) async fn all_whole(&self, ids: &[BuildId], lines: usize) {
        for id in ids {
            let build = self.build_in(*id, BuildState::Succeeded).await;
            assert_eq!(build.attempt, 1, "{build:?}");
            // The first reads after a restart of Redis use connections that are gone.
            let log = wait_for("the log to be read", SOON, async || {
                self.try_log(*id).await.map_err(|error| error.to_string())
            })
            .await;
            assert_eq!(log, counted(lines), "{id}");
        }
    }
}

impl Drop for KubeScene {
    fn drop(&mut self) {
        // A fake goes with its test.
        if self.cluster.fake().is_none() {
            self.leftovers().clear_now();
        }
    }
}

/// A script that counts lines, one every `seconds`.
pub(super) fn counting(lines: usize, seconds: &str) -> String {
    format!("n=0; while [ $n -lt {lines} ]; do n=$((n+1)); echo \"line $n\"; sleep {seconds}; done")
}

/// The lines that it writes.
pub(super) fn counted(lines: usize) -> Vec<String> {
    (1..=lines).map(|n| format!("line {n}")).collect()
}

pub(super) fn uid(pod: &Value) -> String {
    pod["metadata"]["uid"].as_str().unwrap_or_default().to_owned()
}
