//! Starting, awaiting and stopping the containers of a pod.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::{sleep, timeout};

use super::log::ContainerLog;
use super::pod::{PodRun, RETRY_INTERVAL};
use super::prepare::Obstacle;
use super::process::{Container, Program};
use super::view::{Ended, State};
use crate::kube::object::text;

/// The exit code of a container that could not be started.
const START_ERROR: i32 = 128;
/// The pause before a second restart or pull: in reality ten seconds, then growing.
const BACK_OFF: Duration = Duration::from_secs(1);

impl PodRun {
    /// Starts one container once nothing is in the way.
    pub(super) async fn bring_up(&mut self, index: usize) {
        let mut tries = 0_u32;
        loop {
            self.node.up().await;
            let Err(obstacle) = self.start(index) else { return };
            tries += 1;
            let Obstacle { reason, message, events } = obstacle.after(tries);
            self.view.containers[index].state = State::Waiting { reason, message };
            self.publish().await;
            if reason == "CreateContainerConfigError" {
                self.say_pulled(index);
            }
            for (warning, reason, message) in events {
                self.event(warning, reason, &message, Some(index));
            }
            sleep(if reason == "ImagePullBackOff" { BACK_OFF } else { RETRY_INTERVAL }).await;
        }
    }

    fn start(&mut self, index: usize) -> Result<(), Obstacle> {
        let (words, environment) = self.prepare(index)?;
        let log = Arc::new(ContainerLog::new());
        let name = self.view.containers[index].name.clone();
        let mut logs = self.logs.lock().unwrap_or_else(PoisonError::into_inner);
        logs.entry(name).or_default().push(Arc::clone(&log));
        drop(logs);
        self.say_pulled(index);
        self.event(false, "Created", "Container created", Some(index));
        let program = Program { words: &words, environment: &environment, folder: self.folder.path() };
        let started = Container::start(&program, &log, &self.shared.groups);
        let now = Timestamp::now();
        let view = &mut self.view.containers[index];
        view.pulled = true;
        view.id = format!("containerd://{0}{0}", uuid::Uuid::new_v4().simple());
        match started {
            Ok(container) => {
                view.state = State::Running { since: now };
                self.running.insert(index, container);
                self.event(false, "Started", "Container started", Some(index));
            }
            Err(error) => {
                log.close();
                let message = start_error(&words, &error);
                let ended = Ended {
                    code: START_ERROR,
                    reason: "StartError",
                    message: Some(message.clone()),
                    started: Timestamp::UNIX_EPOCH,
                    finished: now,
                };
                view.state = State::Terminated(ended);
                self.event(true, "Failed", &format!("Error: {message}"), Some(index));
            }
        }
        Ok(())
    }

    fn say_pulled(&self, index: usize) {
        let image = &self.view.containers[index].image;
        let pulled =
            format!("Container image \"{image}\" already present on machine and can be accessed by the pod");
        self.event(false, "Pulled", &pulled, Some(index));
    }

    /// Waits for the end of one container.
    pub(super) async fn reap(&mut self, index: usize) -> i32 {
        if let Some(container) = self.running.get(&index) {
            let code = container.exited().await;
            self.ended(index, code, None);
        }
        match &self.view.containers[index].state {
            State::Terminated(ended) => ended.code,
            _ => START_ERROR,
        }
    }

    /// Waits for the end of each main container, and reports each.
    pub(super) async fn reap_all(&mut self) {
        loop {
            let main = self.running.iter().filter(|(index, _)| !self.view.containers[**index].init);
            let exits =
                main.map(|(&index, container)| Box::pin(async move { (index, container.exited().await) }));
            let exits = exits.collect::<Vec<_>>();
            if exits.is_empty() {
                return;
            }
            let ((index, code), _, _) = futures::future::select_all(exits).await;
            self.ended(index, code, None);
            let restarts = match text(&self.spec, "/spec/restartPolicy") {
                "Never" => false,
                "OnFailure" => code != 0,
                _ => true,
            };
            if restarts {
                self.restart(index).await;
            }
            self.publish().await;
        }
    }

    /// Restarts at once the first time, then after a pause.
    async fn restart(&mut self, index: usize) {
        let view = &mut self.view.containers[index];
        if let State::Terminated(ended) = &view.state {
            view.last = Some(ended.clone());
        }
        if view.restarts > 0 {
            let (name, pod) = (view.name.clone(), &self.key);
            let pod = format!("{}_{}({})", pod.name, pod.namespace, self.uid);
            let message = Some(format!("back-off 10s restarting failed container={name} pod={pod}"));
            view.state = State::Waiting { reason: "CrashLoopBackOff", message };
            self.publish().await;
            let told = format!("Back-off restarting failed container {name} in pod {pod}");
            self.event(true, "BackOff", &told, Some(index));
            sleep(BACK_OFF).await;
        }
        self.view.containers[index].restarts += 1;
        self.bring_up(index).await;
    }

    /// The log of a container's latest run.
    pub(super) fn latest_log(&self, container: &str) -> Option<Arc<ContainerLog>> {
        let logs = self.logs.lock().unwrap_or_else(PoisonError::into_inner);
        logs.get(container)?.last().cloned()
    }

    pub(super) async fn stop_sidecars(&mut self) {
        for container in self.running.values() {
            container.kill();
        }
        self.collect(None).await;
    }

    fn ended(&mut self, index: usize, code: i32, reason: Option<&'static str>) {
        self.running.remove(&index);
        let State::Running { since } = self.view.containers[index].state else { return };
        let reason = reason.unwrap_or(if code == 0 { "Completed" } else { "Error" });
        let message = self.last_word(index, code);
        let finished = Timestamp::now();
        let ended = Ended { code, reason, message, started: since, finished };
        self.view.containers[index].state = State::Terminated(ended);
    }

    /// Waits for whatever still runs.
    async fn collect(&mut self, reason: Option<&'static str>) {
        let left = self.running.keys().copied().collect::<Vec<_>>();
        for index in left {
            let code = self.running[&index].exited().await;
            self.ended(index, code, reason);
        }
    }

    /// Asks running containers to exit, and kills those that have not within the grace period.
    pub(super) async fn stop(&mut self, grace: Duration, reason: Option<&'static str>) {
        if !self.running.is_empty() && reason.is_none() && !self.dead_silently {
            for index in self.running.keys().copied().collect::<Vec<_>>() {
                let message = format!("Stopping container {}", self.view.containers[index].name);
                self.event(false, "Killing", &message, Some(index));
            }
        }
        self.running.values().for_each(Container::terminate);
        if timeout(grace, self.collect(reason)).await.is_err() || !self.running.is_empty() {
            self.running.values().for_each(Container::kill);
            self.collect(reason).await;
        }
    }
}

fn start_error(words: &[String], error: &std::io::Error) -> String {
    let first = words.first().map_or("", String::as_str);
    let why = match error.kind() {
        std::io::ErrorKind::NotFound => format!("stat {first}: no such file or directory"),
        _ => error.to_string(),
    };
    format!(
        "failed to create containerd task: failed to create shim task: OCI runtime create failed: \
         runc create failed: unable to start container process: exec: \"{first}\": {why}"
    )
}
