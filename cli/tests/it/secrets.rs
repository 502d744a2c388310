//! No secret can be found in Redis, logs, responses, arguments of processes, or pods.

use std::collections::BTreeSet;
use std::process::Command;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use fairlane_testkit::kube::Cluster;
use fairlane_testkit::{AppendOnly, Process, RedisServer, TempDir, wait_for};
use reqwest::{Client, RequestBuilder};
use serde_json::{Value, json};

use crate::setup::{COMMIT, Gate, LIMIT, address_of, fairlane};

const GIT_PASSWORD: &str = "git-pass-Zq81";
const REGISTRY_PASSWORD: &str = "registry-pass-Wx72";
const TOKEN: &str = "operators-token-Vy63-0123456789";
const OTHER_TOKEN: &str = "hubs-token-Ut54-0123456789";
const REDIS_PASSWORD: &str = "redis-pass-Sr45";
const SEAL_KEY: &str = "7e3a9c5d1b2f4e6071829304a5b6c7d87e3a9c5d1b2f4e6071829304a5b6c7d8";

/// The system, and all its secrets.
struct Scene {
    home: TempDir,
    redis: RedisServer,
    processes: Vec<Process>,
    url: String,
    client: Client,
    /// Everything that could be seen, and where.
    seen: Vec<(String, String)>,
}

impl Scene {
    /// One dispatcher, and no worker yet.
    async fn start() -> Self {
        let home = TempDir::new();
        let redis = RedisServer::builder()
            .tcp()
            .password(REDIS_PASSWORD)
            .append_only(AppendOnly::Always)
            .start()
            .await;
        let tokens = format!("hub submit,read {OTHER_TOKEN}\n");
        std::fs::write(home.join("tokens"), tokens).unwrap();
        let client = Client::builder().no_proxy().build().unwrap();
        let mut scene = Self { home, redis, processes: vec![], url: String::new(), client, seen: vec![] };
        let mut command = scene.command(&["dispatcher", "--listen", "127.0.0.1:0"]);
        command.env("FAIRLANE_TOKEN", TOKEN).env("FAIRLANE_TOKENS_FILE", scene.home.join("tokens"));
        command.env("FAIRLANE_REQUESTS_PER_TOKEN", "100000/1m");
        let process = Process::spawn("dispatcher", &mut command);
        scene.url = address_of(&process).await;
        scene.processes.push(process);
        scene
    }

    /// A process that logs as much as it can.
    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = fairlane(&self.home, arguments.iter().copied());
        command
            .args(["--log", "debug"])
            .env("FAIRLANE_REDIS_URL", self.redis.tcp_url())
            .env("FAIRLANE_SEAL_KEY", format!("a:{SEAL_KEY}"));
        command
    }

    async fn worker(&mut self, arguments: &[&str], change: impl FnOnce(&mut Command)) {
        let mut command = self.command(arguments);
        change(&mut command);
        let process = Process::spawn("worker", &mut command);
        process.wait_for_line("worker is ready", LIMIT).await;
        self.processes.push(process);
    }

    async fn send(&self, request: RequestBuilder) -> (u16, String) {
        let response = tokio::time::timeout(LIMIT, request.send()).await.expect("an answer in time").unwrap();
        let status = response.status().as_u16();
        let text = tokio::time::timeout(LIMIT, response.text()).await.expect("all of it in time").unwrap();
        (status, text)
    }

    /// Requests a build with secrets, and builds with misplaced ones.
    async fn submit(&mut self) -> String {
        let body = json!({
            "repo": "https://git.example.org/owner/private",
            "ref": COMMIT,
            "image": "registry.example.org/private:1",
            "push": true,
            "secrets": {
                "git_credentials": format!("username=someone\npassword={GIT_PASSWORD}"),
                "registry_credentials": {
                    "registry": "registry.example.org", "username": "u", "password": REGISTRY_PASSWORD
                },
            },
        });
        let request = self.client.post(format!("{}/v1/builds", self.url)).bearer_auth(TOKEN).json(&body);
        let (status, text) = self.send(request).await;
        assert_eq!(status, 202, "{text}");
        let answer: Value = serde_json::from_str(&text).unwrap();
        self.seen.push(("the answer to the request".to_owned(), text));
        // Misplaced secrets are refused, and must not be shown either.
        for (field, value) in [
            ("repo", json!(format!("https://someone:{GIT_PASSWORD}@git.example.org/o/n"))),
            ("image", json!(format!("u:{REGISTRY_PASSWORD}@registry.example.org/n"))),
            (
                "secrets",
                json!({ "git_credentials": [GIT_PASSWORD], "registry_credentials": REGISTRY_PASSWORD }),
            ),
            ("labels", json!({ "a": [GIT_PASSWORD] })),
        ] {
            let mut bad = body.clone();
            bad[field] = value;
            let request = self.client.post(format!("{}/v1/builds", self.url)).bearer_auth(TOKEN).json(&bad);
            let (status, text) = self.send(request).await;
            assert_eq!(status, 422, "{field}: {text}");
            self.seen.push((format!("the refusal of {field}"), text));
        }
        answer["id"].as_str().unwrap().to_owned()
    }

    /// Requests everything that can be read with GET.
    async fn look_at_pages(&mut self, id: &str) {
        let (_, document) = self.send(self.client.get(format!("{}/openapi.json", self.url))).await;
        let paths: Value = serde_json::from_str(&document).unwrap();
        let gets = paths["paths"].as_object().unwrap().iter().filter(|(_, item)| item.get("get").is_some());
        let paths: Vec<String> = gets.map(|(path, _)| path.clone()).collect();
        assert!(paths.len() >= 12, "{paths:?}");
        self.seen.push(("/openapi.json".to_owned(), document));
        for path in paths {
            // Streams of a build end when the build does.
            let known = path.replace("{id}", id).replace("{lane}", "git.example.org/owner/private");
            for token in [TOKEN, OTHER_TOKEN, "a-token-nobody-knows"] {
                let request = self.client.get(format!("{}{known}", self.url)).bearer_auth(token);
                let (status, text) = self.send(request).await;
                assert!(status != 500, "{known}: {text}");
                self.seen.push((format!("GET {known}"), text));
            }
        }
    }

    /// Reads every key in Redis, and its files.
    async fn look_at_redis(&mut self) {
        let client = redis::Client::open(self.redis.admin_url()).unwrap();
        let mut connection = client.get_multiplexed_async_connection().await.unwrap();
        let keys: Vec<String> = redis::cmd("KEYS").arg("*").query_async(&mut connection).await.unwrap();
        assert!(keys.len() > 5, "{keys:?}");
        for key in keys {
            let kind: String = redis::cmd("TYPE").arg(&key).query_async(&mut connection).await.unwrap();
            let look = match kind.as_str() {
                "string" => redis::cmd("GET").arg(&key).clone(),
                "hash" => redis::cmd("HGETALL").arg(&key).clone(),
                "list" => redis::cmd("LRANGE").arg(&key).arg(0).arg(-1).clone(),
                "set" => redis::cmd("SMEMBERS").arg(&key).clone(),
                "zset" => redis::cmd("ZRANGE").arg(&key).arg(0).arg(-1).clone(),
                "stream" => redis::cmd("XRANGE").arg(&key).arg("-").arg("+").clone(),
                // The key is gone by now.
                "none" => continue,
                other => panic!("{key} is a {other}"),
            };
            let value: redis::Value = look.query_async(&mut connection).await.unwrap();
            self.seen.push((format!("the key {key}"), format!("{key} {}", plain(&value))));
        }
        let mut folders = vec![self.redis.dir().to_owned()];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
                let path = entry.path();
                let name = path.display().to_string();
                if path.is_dir() {
                    folders.push(path);
                } else if name.contains(".aof") || name.contains(".rdb") {
                    let bytes = std::fs::read(&path).unwrap();
                    self.seen.push((name, String::from_utf8_lossy(&bytes).into_owned()));
                }
            }
        }
    }

    /// Reads the arguments of all processes that we have started, and of their children.
    fn look_at_arguments(&mut self) -> usize {
        let mut ours: BTreeSet<u32> = self.processes.iter().map(Process::pid).collect();
        // A child usually has a higher number than its parent; a few rounds find the others, too.
        for _ in 0..4 {
            for entry in std::fs::read_dir("/proc").unwrap().flatten() {
                let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
                    continue;
                };
                let stat = std::fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
                let parent =
                    stat.rsplit_once(") ").and_then(|(_, rest)| rest.split(' ').nth(1)?.parse().ok());
                if parent.is_some_and(|parent| ours.contains(&parent)) {
                    ours.insert(pid);
                }
            }
        }
        for pid in &ours {
            let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            self.seen
                .push((format!("the arguments of {pid}"), String::from_utf8_lossy(&line).replace('\0', " ")));
        }
        ours.len()
    }

    fn look_at_logs(&mut self) {
        for process in &self.processes {
            assert!(process.stderr().len() > 200, "{} tells little", process.name());
            self.seen.push((format!("the log of {}", process.name()), process.stderr()));
            self.seen.push((format!("the output of {}", process.name()), process.stdout()));
        }
    }

    /// Checks that nothing seen contains a secret in any form.
    fn find_nothing(&self) {
        let texts: Vec<_> = [GIT_PASSWORD, REGISTRY_PASSWORD, TOKEN, OTHER_TOKEN, REDIS_PASSWORD, SEAL_KEY]
            .iter()
            .flat_map(|secret| forms(secret))
            .collect();
        for (place, text) in &self.seen {
            for (secret, form) in &texts {
                let at = text.find(form.as_str());
                let around = at.map(|at| text[..at].chars().rev().take(80).collect::<Vec<_>>());
                let around = around.map(|around| around.into_iter().rev().collect::<String>());
                assert!(at.is_none(), "{place} shows {secret} (as {form}) after {around:?}");
            }
        }
    }
}

/// A secret, and the encodings in which it could be hidden.
fn forms(secret: &'static str) -> Vec<(&'static str, String)> {
    let bytes = secret.as_bytes();
    let hex: String = bytes
        .iter()
        .flat_map(|byte| [byte >> 4, byte & 15])
        .map(|n| char::from_digit(n.into(), 16).unwrap())
        .collect();
    // In base64, a text depends on what precedes it, and its ends on what surrounds it.
    let base64 = (0..3).map(|skip| {
        let padded = [&vec![b'x'; skip], bytes].concat();
        let text = base64(&padded);
        let (start, end) = (if skip == 0 { 0 } else { 4 }, text.len() / 4 * 4 - 4);
        text[start..end].to_owned()
    });
    let numbers = bytes.iter().map(u8::to_string).collect::<Vec<_>>().join(", ");
    [secret.to_owned(), hex, numbers].into_iter().chain(base64).map(|form| (secret, form)).collect()
}

fn base64(bytes: &[u8]) -> String {
    BASE64_STANDARD.encode(bytes)
}

fn plain(value: &redis::Value) -> String {
    match value {
        redis::Value::BulkString(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        redis::Value::SimpleString(text) => text.clone(),
        redis::Value::Array(values) | redis::Value::Set(values) => {
            values.iter().map(plain).collect::<Vec<_>>().join(" ")
        }
        redis::Value::Map(pairs) => {
            pairs.iter().map(|(a, b)| format!("{} {}", plain(a), plain(b))).collect::<Vec<_>>().join(" ")
        }
        other => format!("{other:?}"),
    }
}

#[test]
fn every_form_of_a_secret_would_be_found() {
    let forms = forms(GIT_PASSWORD);
    for text in [
        format!("a {GIT_PASSWORD} b"),
        base64(format!("username=x\npassword={GIT_PASSWORD}\n").as_bytes()),
        base64(format!("xusername=x\npassword={GIT_PASSWORD}\n").as_bytes()),
        base64(format!("xxusername=x\npassword={GIT_PASSWORD}\n").as_bytes()),
        format!("{:?}", GIT_PASSWORD.as_bytes()),
    ] {
        assert!(forms.iter().any(|(_, form)| text.contains(form.as_str())), "{text}");
    }
}

#[tokio::test]
async fn no_secret_is_in_redis_in_logs_in_answers_or_in_arguments() {
    let mut scene = Scene::start().await;
    let gate = Gate::new(&scene.home);
    // The build has the secrets, and prints only their lengths.
    let script = scene.home.join("build.sh");
    let text = format!(
        "echo \"git ${{#GIT_CREDENTIAL_ENV}} registry ${{#CONTAINER_ENGINE_REGISTRY_CREDENTIALS}}\"\n{}\n",
        gate.template()
    );
    std::fs::write(&script, text).unwrap();
    let template = format!("/bin/sh {} {{repo}}", script.display());
    scene.worker(&["worker", "--command", &template], |_| {}).await;
    let id = scene.submit().await;
    scene.look_at_redis().await;

    // While the build runs, its log shows that it has the secrets.
    let log = scene.client.get(format!("{}/v1/builds/{id}/log", scene.url)).bearer_auth(TOKEN);
    wait_for("the build to run", LIMIT, async || {
        let (_, text) = scene.send(log.try_clone().unwrap()).await;
        if text.contains("git 39 registry") { Ok(()) } else { Err(text) }
    })
    .await;
    let count = scene.look_at_arguments();
    assert!(count >= 5, "a dispatcher, a worker, a supervisor, a shell, a cat: {count}");
    scene.look_at_redis().await;
    gate.open("over").await;
    scene.look_at_pages(&id).await;
    let (_, build) =
        scene.send(scene.client.get(format!("{}/v1/builds/{id}", scene.url)).bearer_auth(TOKEN)).await;
    assert!(build.contains("\"state\":\"succeeded\""), "{build}");
    scene.look_at_redis().await;
    let of_build = scene.seen.iter().rfind(|(place, _)| place.ends_with(&format!(":build:{id}"))).unwrap();
    assert!(!of_build.1.contains("secrets"), "they are gone with the build: {}", of_build.1);
    scene.look_at_logs();
    scene.find_nothing();
}

#[tokio::test]
async fn no_secret_is_in_any_pod_kube() {
    let cluster = Cluster::start();
    let mut scene = Scene::start().await;
    // The build has the secrets, and prints only their lengths.
    let template = "sh -c 'printenv GIT_CREDENTIAL_ENV | wc -c' {repo}";
    let kubeconfig = cluster.kubeconfig();
    let arguments = ["worker", "--executor=kubernetes", "--docker-socket=none", "--replace-entrypoint"];
    let more = ["--build-image=example.org/builder:1", "--command", template];
    scene
        .worker(&[&arguments[..], &more].concat(), |command| _ = command.env("KUBECONFIG", kubeconfig))
        .await;
    let id = scene.submit().await;
    scene.look_at_pages(&id).await;
    let (_, build) =
        scene.send(scene.client.get(format!("{}/v1/builds/{id}", scene.url)).bearer_auth(TOKEN)).await;
    let log = scene.client.get(format!("{}/v1/builds/{id}/log", scene.url)).bearer_auth(TOKEN);
    let (_, log) = scene.send(log).await;
    assert_eq!(log.trim(), "40", "{build}");
    scene.look_at_redis().await;
    let pods = cluster.pods_created();
    assert_eq!(pods.len(), 1, "{pods:?}");
    for pod in pods.into_iter().chain(cluster.pods()) {
        scene.seen.push(("a pod".to_owned(), pod.to_string()));
    }
    scene.look_at_logs();
    scene.find_nothing();
}
