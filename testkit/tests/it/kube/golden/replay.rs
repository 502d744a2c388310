//! Playing a transcript against the fake.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use fairlane_testkit::kube::{Cluster, Node};
use fairlane_testkit::{wait_for, wait_for_eq};
use futures::StreamExt;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use super::shape::{differences, normal, uids};
use super::transcript::{self, Exchange, Request};

/// Generous: the machine may be busy.
pub(super) const DEADLINE: Duration = Duration::from_secs(30);

/// A transcript and the fake that it is played against.
pub(super) struct Replay {
    pub(super) cluster: Cluster,
    exchanges: Vec<Exchange>,
    client: reqwest::Client,
    /// What the real server gave, and what the fake gave in its place.
    given: HashMap<String, String>,
    found: Vec<String>,
    compared: usize,
}

/// An answer of the fake.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) headers: HeaderMap,
    pub(super) body: Value,
}

/// A stream of the fake that is being read; the task says whether it was cut.
#[derive(Debug)]
pub(super) struct Stream {
    text: Arc<Mutex<String>>,
    task: JoinHandle<bool>,
}

/// A stream of the fake, as far as it was read.
#[derive(Debug)]
pub(super) struct Streamed {
    pub(super) text: String,
    /// It was cut, without its end.
    pub(super) cut: bool,
}

impl Replay {
    /// Starts a fake of one node, as the transcripts' cluster had; nothing where there are no transcripts.
    pub(super) fn start(number: &str) -> anyhow::Result<Option<Self>> {
        let Some(exchanges) = transcript::read(number)? else { return Ok(None) };
        let cluster = Cluster::builder().node(Node::named("vm").allocatable("cpu", "2")).start();
        let (client, given) = (reqwest::Client::new(), HashMap::new());
        Ok(Some(Self { cluster, exchanges, client, given, found: Vec::new(), compared: 0 }))
    }

    /// An exchange of the transcript.
    pub(super) fn exchange(&self, index: usize) -> Exchange {
        self.exchanges[index].clone()
    }

    /// Sends a request of the transcript and compares the whole answer.
    pub(super) async fn step(&mut self, index: usize) -> anyhow::Result<Answer> {
        self.step_with(index, |_| {}, &[]).await
    }

    pub(super) async fn steps(&mut self, indices: impl IntoIterator<Item = usize>) -> anyhow::Result<()> {
        for index in indices {
            self.step(index).await?;
        }
        Ok(())
    }

    /// The same, with a change to the request, and fields (JSON pointers) that are not compared.
    pub(super) async fn step_with(
        &mut self,
        index: usize,
        change: impl FnOnce(&mut Request),
        but: &[&str],
    ) -> anyhow::Result<Answer> {
        let exchange = self.exchange(index);
        let (Some(mut request), Some(response)) = (exchange.request, exchange.response) else {
            anyhow::bail!("{index} is no request");
        };
        change(&mut request);
        let sent = self.send(&request).await?;
        let answer = read(sent).await?;
        self.learn(&response.body, &answer.body);
        let mut differ = Vec::new();
        if response.status != Some(answer.status) {
            differ.push(format!("status: real {:?}, fake {}", response.status, answer.status));
        }
        for header in ["Content-Type", "Retry-After", "Warning"] {
            let fake = answer.headers.get(header).and_then(|value| value.to_str().ok());
            let real = response.headers.get(header).and_then(Value::as_str);
            if real != fake && response.headers.is_object() {
                differ.push(format!("{header}: real {real:?}, fake {fake:?}"));
            }
        }
        let (mut real, mut fake) = (normal(&response.body), normal(&answer.body));
        for pointer in but {
            for value in [&mut real, &mut fake] {
                forget(value, pointer);
            }
        }
        differ.extend(differences(&real, &fake));
        self.report(&format!("{index} {} {} ({})", request.method, request.path, exchange.note), differ);
        Ok(answer)
    }

    /// Sends a streaming request of the transcript; read by [`Replay::end_of`].
    pub(super) async fn stream(
        &mut self,
        index: usize,
        change: impl FnOnce(&mut Request),
    ) -> anyhow::Result<Stream> {
        let exchange = self.exchange(index);
        let (Some(mut request), Some(response)) = (exchange.request, exchange.response) else {
            anyhow::bail!("{index} is no request");
        };
        change(&mut request);
        let sent = self.send(&request).await?;
        let real = response.headers.get("Content-Type").and_then(Value::as_str);
        let fake = sent.headers().get("Content-Type").and_then(|value| value.to_str().ok());
        let mut differ = Vec::new();
        if response.status != Some(sent.status().as_u16()) || (real.is_some() && real != fake) {
            differ.push(format!("real {:?} {real:?}, fake {} {fake:?}", response.status, sent.status()));
        }
        self.report(&format!("{index} {} {}", request.method, request.path), differ);
        let text = Arc::new(Mutex::new(String::new()));
        let read = Arc::clone(&text);
        let task = tokio::spawn(async move {
            let mut chunks = sent.bytes_stream();
            let mut cut = false;
            while let Some(chunk) = chunks.next().await {
                match chunk {
                    Ok(bytes) => locked(&read).push_str(&String::from_utf8_lossy(&bytes)),
                    Err(_) => cut = true,
                }
            }
            cut
        });
        Ok(Stream { text, task })
    }

    /// Waits for the end of a stream.
    pub(super) async fn end_of(&self, stream: Stream) -> anyhow::Result<Streamed> {
        let cut = tokio::time::timeout(DEADLINE * 2, stream.task).await??;
        let text = locked(&stream.text).clone();
        Ok(Streamed { text, cut })
    }

    /// Waits until a stream has said something so many times, and lets go of it.
    pub(super) async fn until(&self, stream: Stream, what: &str, times: usize) -> Streamed {
        let text = wait_for(&format!("{times} times {what}"), DEADLINE, async || {
            let text = locked(&stream.text).clone();
            let whole = text.ends_with('\n') && text.matches(what).count() >= times;
            if whole { Ok(text) } else { Err(text.lines().count()) }
        })
        .await;
        stream.task.abort();
        Streamed { text, cut: false }
    }

    /// Notes what differs, to be told at the end.
    pub(super) fn report(&mut self, what: &str, differ: Vec<String>) {
        self.compared += 1;
        self.found.extend(differ.into_iter().map(|one| format!("{what}\n    {one}")));
    }

    /// Fails where anything differed; `at_least` answers must have been compared.
    #[expect(clippy::print_stdout, reason = "the test runner shows how much was compared")]
    pub(super) fn finish(self, at_least: usize) {
        assert!(self.found.is_empty(), "{} differences:\n{}", self.found.len(), self.found.join("\n"));
        assert!(self.compared >= at_least, "only {} answers were compared", self.compared);
        println!("{} answers are as those of a real server", self.compared);
    }

    /// Creates a pod as the real one of a transcript's answer was.
    pub(super) async fn create_like(&mut self, pod: &Value) -> anyhow::Result<()> {
        let mut spec = pod["spec"].clone();
        for field in ["nodeName", "serviceAccount", "tolerations", "priority", "preemptionPolicy"] {
            if let Some(spec) = spec.as_object_mut() {
                spec.remove(field);
            }
        }
        if let Some(tolerations) = pod.pointer("/spec/tolerations").and_then(Value::as_array)
            && tolerations.iter().any(|one| one["tolerationSeconds"] != 300)
        {
            spec["tolerations"] = json!(tolerations);
        }
        let mut metadata = json!({ "name": pod["metadata"]["name"] });
        for field in ["labels", "annotations", "finalizers"] {
            if !pod["metadata"][field].is_null() {
                metadata[field] = pod["metadata"][field].clone();
            }
        }
        self.create(json!({ "apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec })).await
    }

    /// The same of one that waits for a signal in a loop, and says `ready` when it handles it.
    pub(super) async fn create_like_ready(&mut self, pod: &Value) -> anyhow::Result<()> {
        let mut pod = pod.clone();
        let script = &mut pod["spec"]["containers"][0]["command"][2];
        *script = json!(script.as_str().unwrap_or_default().replacen("while", "echo ready; while", 1));
        self.create_like(&pod).await?;
        self.wait_for_log(pod["metadata"]["name"].as_str().unwrap_or_default(), "ready").await
    }

    /// Creates a pod that runs a script.
    pub(super) async fn create_running(
        &mut self,
        name: &str,
        labels: Value,
        script: &str,
    ) -> anyhow::Result<()> {
        let container = json!({ "name": "build", "image": "docker.io/local/busybox:1", "imagePullPolicy": "Never",
                                "command": ["sh", "-c", script] });
        let mut labels = labels;
        labels["app"] = json!("build");
        self.create(json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": { "name": name, "labels": labels },
            "spec": { "restartPolicy": "Never", "terminationGracePeriodSeconds": 1,
                      "automountServiceAccountToken": false, "containers": [container] },
        }))
        .await
    }

    pub(super) async fn create(&mut self, object: Value) -> anyhow::Result<()> {
        let url = format!("{}/api/v1/namespaces/builds/pods", self.cluster.url());
        let sent = self.client.post(url).bearer_auth(self.cluster.admin_token()).json(&object).send().await?;
        anyhow::ensure!(sent.status() == 201, "cannot create: {}", sent.text().await?);
        Ok(())
    }

    pub(super) async fn wait_for_phase(&self, pod: &str, phase: &str) {
        let what = format!("{pod} to be {phase}");
        wait_for_eq(&what, DEADLINE, phase.to_owned(), async || self.cluster.pod(pod).phase()).await;
    }

    /// Waits until a pod's container waits for this reason.
    pub(super) async fn wait_for_reason(&self, pod: &str, reason: &str) {
        wait_for(&format!("{pod} to wait for {reason}"), DEADLINE, async || {
            let object = self.cluster.pod(pod).object().unwrap_or_default();
            object.to_string().contains(&format!("\"reason\":\"{reason}\"")).then_some(())
        })
        .await;
    }

    /// Waits until a pod's log has a line.
    pub(super) async fn wait_for_log(&self, pod: &str, line: &str) -> anyhow::Result<()> {
        self.wait_for_init_log(pod, "build", line).await;
        Ok(())
    }

    /// Waits until the log of a pod's container has a line.
    pub(super) async fn wait_for_init_log(&self, pod: &str, container: &str, line: &str) {
        wait_for(&format!("{pod} to say {line:?}"), DEADLINE, async || {
            let text = self.log_now(pod, container).await?;
            text.lines().any(|one| one == line).then_some(())
        })
        .await;
    }

    /// Waits until the log of a pod is another.
    pub(super) async fn wait_for_log_other_than(&self, pod: &str, lines: &[String]) {
        wait_for(&format!("another log of {pod}"), DEADLINE, async || {
            let text = self.log_now(pod, "build").await?;
            (!text.is_empty() && text.lines().ne(lines)).then_some(())
        })
        .await;
    }

    async fn log_now(&self, pod: &str, container: &str) -> Option<String> {
        let url =
            format!("{}/api/v1/namespaces/builds/pods/{pod}/log?container={container}", self.cluster.url());
        let sent = self.client.get(&url).bearer_auth(self.cluster.admin_token()).send().await.ok()?;
        sent.error_for_status().ok()?.text().await.ok()
    }

    /// The fake's current version.
    pub(super) async fn version(&self) -> anyhow::Result<String> {
        let url = format!("{}/api/v1/namespaces/builds/pods?limit=1", self.cluster.url());
        let list = self
            .client
            .get(url)
            .bearer_auth(self.cluster.admin_token())
            .send()
            .await?
            .json::<Value>()
            .await?;
        Ok(list["metadata"]["resourceVersion"].as_str().unwrap_or_default().to_owned())
    }

    /// Sends a request as it stands in the transcript, with the fake's uids, versions and tokens in it.
    pub(super) async fn send(&self, request: &Request) -> anyhow::Result<reqwest::Response> {
        let mut url = format!("{}{}", self.cluster.url(), request.path);
        let query = request.query.as_object().cloned().unwrap_or_default();
        let pairs = query
            .iter()
            .map(|(name, value)| (name.clone(), self.translated(value.as_str().unwrap_or_default())));
        let pairs = pairs.collect::<Vec<_>>();
        if !pairs.is_empty() {
            url = reqwest::Url::parse_with_params(&url, &pairs)?.to_string();
        }
        let method = reqwest::Method::from_bytes(request.method.as_bytes())?;
        let mut builder = self.client.request(method, url).headers(headers(&request.headers)?);
        builder = match request.headers.get("Authorization").and_then(Value::as_str) {
            Some(token) if token.contains('<') => builder.bearer_auth(self.cluster.token()),
            Some(token) => builder.header("Authorization", token),
            // Shown with headers, but without a certificate: somebody unknown.
            None if request.headers.get("Accept").is_some() && request.headers.get("(auth)").is_none() => {
                builder
            }
            None => builder.bearer_auth(self.cluster.admin_token()),
        };
        builder = match &request.body {
            Value::Null => builder,
            Value::String(text) => builder.body(text.clone()),
            body => builder.body(self.translated(&body.to_string())),
        };
        Ok(builder.send().await?)
    }

    fn translated(&self, text: &str) -> String {
        if let Some(given) = self.given.get(text) {
            return given.clone();
        }
        uids(text).iter().fold(text.to_owned(), |text, uid| match self.given.get(uid) {
            Some(given) => text.replace(uid, given),
            None => text,
        })
    }

    /// Remembers what the fake gave in place of the real server's names.
    fn learn(&mut self, real: &Value, fake: &Value) {
        for pointer in ["/metadata/uid", "/metadata/resourceVersion", "/metadata/continue"] {
            if let (Some(real), Some(fake)) = (real.pointer(pointer), fake.pointer(pointer))
                && let (Some(real), Some(fake)) = (real.as_str(), fake.as_str())
            {
                self.given.insert(real.to_owned(), fake.to_owned());
            }
        }
        let message = |value: &Value| value["message"].as_str().map(uids).unwrap_or_default();
        self.given.extend(message(real).into_iter().zip(message(fake)));
    }
}

fn locked(text: &Mutex<String>) -> MutexGuard<'_, String> {
    text.lock().unwrap_or_else(PoisonError::into_inner)
}

fn forget(value: &mut Value, pointer: &str) {
    let Some((parent, last)) = pointer.rsplit_once('/') else { return };
    if let Some(fields) = value.pointer_mut(parent).and_then(Value::as_object_mut) {
        fields.remove(last);
    }
}

fn headers(real: &Value) -> anyhow::Result<HeaderMap> {
    let mut headers = HeaderMap::new();
    for (name, value) in real.as_object().into_iter().flatten() {
        if !matches!(name.as_str(), "(auth)" | "Authorization") {
            let value = HeaderValue::from_str(value.as_str().unwrap_or_default())?;
            headers.insert(HeaderName::from_bytes(name.as_bytes())?, value);
        }
    }
    Ok(headers)
}

async fn read(sent: reqwest::Response) -> anyhow::Result<Answer> {
    let (status, headers) = (sent.status().as_u16(), sent.headers().clone());
    let text = sent.text().await?;
    let body = serde_json::from_str(&text).unwrap_or(Value::String(text));
    Ok(Answer { status, headers, body })
}
