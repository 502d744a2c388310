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

/// The exit code of what could not be started.
const START_ERROR: i32 = 128;

impl PodRun {
    /// Starts one container, as soon as what is in its way is gone.
    pub(super) async fn bring_up(&mut self, index: usize) {
        let mut tries = 0_u32;
        loop {
            self.node.up().await;
            let Err(obstacle) = self.start(index) else { return };
            tries += 1;
            let Obstacle { reason, message, events } = obstacle.after(tries);
            self.view.containers[index].state = State::Waiting { reason, message };
            self.publish().await;
            for (warning, reason, message) in events {
                self.event(warning, reason, &message, Some(index));
            }
            sleep(RETRY_INTERVAL).await;
        }
    }

    fn start(&mut self, index: usize) -> Result<(), Obstacle> {
        let (words, environment) = self.prepare(index)?;
        let log = Arc::new(ContainerLog::new());
        let name = self.view.containers[index].name.clone();
        let mut logs = self.logs.lock().unwrap_or_else(PoisonError::into_inner);
        logs.entry(name).or_default().push(Arc::clone(&log));
        drop(logs);
        let image = self.view.containers[index].image.clone();
        let pulled =
            format!("Container image \"{image}\" already present on machine and can be accessed by the pod");
        self.event(false, "Pulled", &pulled, Some(index));
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

    /// Waits for the end of each main container, telling of each.
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
            self.publish().await;
        }
    }

    pub(super) async fn stop_sidecars(&mut self) {
        for container in self.running.values() {
            container.kill();
        }
        self.collect(None).await;
    }

    fn ended(&mut self, index: usize, code: i32, reason: Option<&'static str>) {
        self.running.remove(&index);
        let view = &mut self.view.containers[index];
        let State::Running { since } = view.state else { return };
        let reason = reason.unwrap_or(if code == 0 { "Completed" } else { "Error" });
        let message = None;
        view.state =
            State::Terminated(Ended { code, reason, message, started: since, finished: Timestamp::now() });
    }

    /// Waits for whatever still runs.
    async fn collect(&mut self, reason: Option<&'static str>) {
        let left = self.running.keys().copied().collect::<Vec<_>>();
        for index in left {
            let code = self.running[&index].exited().await;
            self.ended(index, code, reason);
        }
    }

    /// Asks what runs to end, and kills what has not within its grace.
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
