//! The project in the engine: its settings, its services, its end.

use std::fs::File;
use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Value, json};

use super::engine::{self, ask, wait};
use super::images::{self, Images, of_services};
use crate::http;
use crate::shell::quiet;

/// Each of Redis, dispatchers, `HAProxy` and workers waits for the one before.
const HEALTHY_LIMIT: Duration = Duration::from_mins(3);
/// Images that are built for the project.
const DISPATCHER_IMAGE: &str = "dispatcher";
pub(super) const WORKER_IMAGE: &str = "worker";

/// A project with a name, tokens and ports of its command.
pub(super) struct Project {
    compose: &'static [&'static str],
    pub(super) root: PathBuf,
    folder: PathBuf,
    pub(super) name: String,
    /// Where the dispatchers are published on this host.
    pub(super) address: SocketAddr,
    pub(super) prometheus: SocketAddr,
    pub(super) token: String,
    hub_token: String,
}

/// A live worker.
pub(super) struct Worker {
    pub(super) id: String,
    pub(super) host: String,
}

impl Project {
    /// Writes its settings.
    pub(super) fn prepare(root: &Path, folder: &Path, images: &Images) -> Result<Self> {
        let project = Self {
            compose: engine::compose()?,
            root: root.to_owned(),
            folder: folder.to_owned(),
            name: format!("fairlane-test-{}", std::process::id()),
            address: free_address()?,
            prometheus: free_address()?,
            token: random()?,
            hub_token: random()?,
        };
        let group = quiet(Command::new("stat").args(["-L", "-c", "%g", "/var/run/docker.sock"]))?;
        let example = std::fs::read_to_string(root.join(".env.example"))?;
        let mut settings = String::new();
        for line in example.lines() {
            let Some((name, _)) = line.split_once('=').filter(|_| !line.starts_with('#')) else { continue };
            let value = match name {
                "COMPOSE_PROJECT_NAME" => project.name.clone(),
                "FAIRLANE_TOKEN" => project.token.clone(),
                "FAIRLANE_HUB_TOKEN" => project.hub_token.clone(),
                "DOCKER_GID" => group.trim().to_owned(),
                "FAIRLANE_PUBLISH" => project.address.to_string(),
                "FAIRLANE_PROMETHEUS_PUBLISH" => project.prometheus.to_string(),
                "FAIRLANE_GRAFANA_PUBLISH" => free_address()?.to_string(),
                "FAIRLANE_SLOTS" => "2".to_owned(),
                name if name.ends_with("_PASSWORD") => random()?,
                _ => bail!("what is {name} of .env.example?"),
            };
            settings.extend([name, "=", &value, "\n"]);
        }
        std::fs::write(project.env_file(), settings)?;
        let dockerfile = std::fs::read_to_string(root.join("Dockerfile"))?;
        std::fs::write(folder.join("Dockerfile"), images.dockerfile(&dockerfile))?;
        std::fs::write(folder.join("override.json"), project.changes(images)?.to_string())?;
        Ok(project)
    }

    /// What differs from compose.yaml: names of images, and a service with repositories. JSON is YAML.
    fn changes(&self, images: &Images) -> Result<Value> {
        let mut services = json!({
            "git": {
                "image": self.image(WORKER_IMAGE),
                "build": { "context": self.root, "dockerfile": self.folder.join("Dockerfile"), "target": "repo2docker" },
                "entrypoint": ["python3", "-m", "http.server", "8000", "--directory", "/srv"],
                "command": [],
                // Without it, Python would ignore the signal to stop.
                "init": true,
                "volumes": [format!("{}:/srv:ro", self.folder.join("repositories").display())],
            },
        });
        for (service, image) in [
            ("dispatcher-1", DISPATCHER_IMAGE),
            ("dispatcher-2", DISPATCHER_IMAGE),
            ("worker-1", WORKER_IMAGE),
            ("worker-2", WORKER_IMAGE),
        ] {
            services[service] = json!({ "image": self.image(image), "build": { "dockerfile": self.folder.join("Dockerfile") } });
        }
        for (service, name) in of_services(&self.root)? {
            if let Some(used) = images.of(&name) {
                services[service] = json!({ "image": used });
            }
        }
        Ok(json!({ "services": services }))
    }

    /// The name of an image that is built for this project.
    pub(super) fn image(&self, what: &str) -> String {
        format!("{}/{what}", self.name)
    }

    fn env_file(&self) -> PathBuf {
        self.folder.join("env")
    }

    /// Compose with these arguments.
    pub(super) fn compose<'a>(&self, words: impl IntoIterator<Item = &'a str>) -> Command {
        let mut command = Command::new(self.compose[0]);
        engine::without_buildkit(&mut command);
        command
            .args(&self.compose[1..])
            .args(["--project-name", &self.name, "--env-file"])
            .arg(self.env_file());
        command.args(["--file", "compose.yaml", "--file"]).arg(self.folder.join("override.json"));
        // Settings of this shell would win over those of the file.
        for (name, _) in std::env::vars_os() {
            if ["FAIRLANE_", "COMPOSE_"].iter().any(|start| name.to_string_lossy().starts_with(start)) {
                command.env_remove(name);
            }
        }
        command.args(words).current_dir(&self.root);
        command
    }

    /// Runs Compose, with its output in a file.
    pub(super) fn run<'a>(&self, words: impl IntoIterator<Item = &'a str>) -> Result<()> {
        let mut log = File::options().create(true).append(true).open(self.folder.join("compose.log"))?;
        let mut command = self.compose(words);
        writeln!(log, "+ {command:?}")?;
        let status = command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).status()?;
        ensure!(status.success(), "{}; see {}", status, self.folder.join("compose.log").display());
        Ok(())
    }

    /// The container of a service.
    pub(super) fn container(&self, service: &str) -> Result<String> {
        let of_service = format!("label=com.docker.compose.service={service}");
        let id = ask(["ps", "--all", "--quiet", "--filter", &self.label(), "--filter", &of_service])?;
        ensure!(!id.is_empty() && !id.contains('\n'), "the service {service} has the containers {id:?}");
        Ok(id)
    }

    /// A field of a service's container, as a template of `docker inspect`.
    pub(super) fn inspect(&self, service: &str, template: &str) -> Result<String> {
        ask(["inspect", "--format", template, &self.container(service)?])
    }

    /// Runs a command in a service's container.
    pub(super) fn exec(&self, service: &str, words: &[&str]) -> Result<String> {
        let container = self.container(service)?;
        ask(["exec", &container].into_iter().chain(words.iter().copied()))
    }

    /// Waits until services are healthy.
    pub(super) fn wait_healthy(&self, services: &[&str]) -> Result<()> {
        for service in services {
            wait(&format!("the health of {service}"), HEALTHY_LIMIT, || {
                Ok((self.inspect(service, "{{.State.Health.Status}}")? == "healthy").then_some(()))
            })?;
        }
        Ok(())
    }

    /// A request with `BinderHub`'s token.
    pub(super) fn json(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Value> {
        http::json_with(self.address, &[("Authorization", &self.authorization())], method, path, body)
    }

    /// The header for `BinderHub`'s token.
    pub(super) fn authorization(&self) -> String {
        format!("Bearer {}", self.hub_token)
    }

    /// The live workers.
    pub(super) fn workers(&self) -> Result<Vec<Worker>> {
        let answer = self.json("GET", "/v1/workers", None)?;
        let workers = answer["workers"].as_array().context("no list of workers")?;
        let text = |worker: &Value, field: &str| worker[field].as_str().unwrap_or_default().to_owned();
        Ok(workers
            .iter()
            .map(|worker| Worker { id: text(worker, "id"), host: text(worker, "host") })
            .collect())
    }

    /// Keeps the logs of all services.
    pub(super) fn keep_logs(&self) -> Result<PathBuf> {
        let path = self.folder.join("services.log");
        let file = File::create(&path)?;
        let mut command = self.compose(["--profile", "monitoring", "logs", "--no-color", "--timestamps"]);
        command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file).status()?;
        Ok(path)
    }

    /// Takes everything down, removes the images that were built, and checks that nothing is left.
    pub(super) fn down(&self) -> Result<()> {
        let down = self.run(["--profile", "monitoring", "down", "--volumes", "--remove-orphans"]);
        let images = ask(["image", "ls", "--format", "{{.Repository}}:{{.Tag}}"])?;
        let own = format!("{}/", self.name);
        for image in images.lines().filter(|image| image.starts_with(&own)) {
            ask(["image", "rm", image])?;
        }
        images::prune()?;
        down?;
        for words in [["ps", "--all"].as_slice(), &["network", "ls"], &["volume", "ls"]] {
            let words = words.iter().copied();
            let left = ask(words.clone().chain(["--quiet", "--filter", &self.label()]))?;
            ensure!(left.is_empty(), "docker {} still lists {left}", words.collect::<Vec<_>>().join(" "));
        }
        Ok(())
    }

    fn label(&self) -> String {
        format!("label=com.docker.compose.project={}", self.name)
    }
}

fn free_address() -> Result<SocketAddr> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?)
}

fn random() -> Result<String> {
    let two = [(); 2].map(|()| std::fs::read_to_string("/proc/sys/kernel/random/uuid"));
    let mut text = String::new();
    for part in two {
        text += part?.trim();
    }
    Ok(text.replace('-', ""))
}
