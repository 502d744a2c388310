//! A pod's log.

use std::sync::{Arc, PoisonError};

use axum::body::Body;
use axum::http::header;
use futures::stream;
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use tokio::sync::watch;

use crate::kube::call::Call;
use crate::kube::kubelet::{ContainerLog, Piece};
use crate::kube::object::{Key, Object, is_terminating, list, text};
use crate::kube::shared::{NodeState, Shared};
use crate::kube::status::{Answer, Cause, Status, response};

/// What a kubelet writes into the body of a followed log when it has run out of inotify instances.
const CANNOT_FOLLOW: &[u8] = b"failed to create fsnotify watcher: too many open files";

/// The options of a log request.
#[derive(Debug, Default)]
struct Options {
    follow: bool,
    timestamps: bool,
    previous: bool,
    since: Option<Timestamp>,
    tail: Option<usize>,
    limit: Option<usize>,
}

/// Answers a GET of `pods/log`.
pub(super) fn answer(shared: &Arc<Shared>, call: &Call) -> Answer {
    let namespace = call.namespace.as_deref().unwrap_or_default();
    let name = call.name.as_deref().unwrap_or_default();
    let options = Options::read(call, name)?;
    let pod = shared.store().get(&Key::new("pods", namespace, name));
    let pod = pod.ok_or_else(|| Status::not_found("pods", name))?;
    let container = container(&pod, call.text("container"))?;
    let node = text(&pod, "/spec/nodeName");
    if node.is_empty() {
        let mut nothing = response(204, "text/plain", "");
        nothing.headers_mut().remove(header::CONTENT_TYPE);
        return Ok(nothing);
    }
    let kubelet = shared.node(node).kubelet.subscribe();
    if !*kubelet.borrow() {
        let message = format!(
            "Get \"https://{node}:10250/containerLogs/{namespace}/{name}/{container}\": dial tcp 127.0.0.1:10250: \
             connect: connection refused"
        );
        return Err(Status::new(500, None, message));
    }
    let log = find_log(shared, &pod, &container, options.previous)?;
    let state = shared.node(node);
    let id = text(&pod, "/status/containerStatuses/0/containerID").to_owned();
    let removal = Removal { shared: Arc::clone(shared), key: Key::new("pods", namespace, name), id };
    if removal.is_done(&state, &log) {
        return Ok(response(
            200,
            "text/plain",
            format!("unable to retrieve container logs for {}", removal.id),
        ));
    }
    let cannot_follow = state.trouble.lock().unwrap_or_else(PoisonError::into_inner).cannot_follow;
    let mut reader = Reader::new(log, kubelet, options, cannot_follow);
    reader.removal = Some((removal, state));
    let lines = stream::unfold(reader, |mut reader| async move {
        let bytes = reader.next().await?;
        Some((Ok::<_, std::io::Error>(bytes), reader))
    });
    Ok(response(200, "text/plain", Body::from_stream(lines)))
}

impl Options {
    fn read(call: &Call, name: &str) -> Result<Self, Status> {
        let refuse = |field: &str, cause: Cause| {
            Status::invalid("PodLogOptions", name, &[Cause { field: field.to_owned(), ..cause }])
        };
        let amount = |parameter: &str, least: i64| -> Result<Option<usize>, Status> {
            match call.number(parameter)? {
                Some(number) if number < least => {
                    let why = format!("must be greater than or equal to {least}");
                    Err(refuse(parameter, Cause::invalid(parameter, &number.to_string(), &why)))
                }
                number => Ok(number.and_then(|number| usize::try_from(number).ok())),
            }
        };
        if !call.text("stream").is_empty() {
            return Err(refuse("stream", Cause::forbidden("stream", "may not be specified")));
        }
        let since_time = call.text("sinceTime");
        let since_seconds = call.number("sinceSeconds")?;
        if !since_time.is_empty() && since_seconds.is_some() {
            let why = "at most one of `sinceTime` or `sinceSeconds` may be specified";
            return Err(refuse("[]", Cause::forbidden("[]", why)));
        }
        let since = match (since_time, since_seconds) {
            ("", None) => None,
            ("", Some(seconds)) => Some(Timestamp::now() - SignedDuration::from_secs(seconds)),
            (time, _) => Some(time.parse::<Timestamp>().map_err(|_| {
                Status::bad_request(format!(
                    "parsing time \"{time}\" as \"2006-01-02T15:04:05Z07:00\": cannot parse \"{time}\" as \"2006\""
                ))
            })?),
        };
        Ok(Self {
            follow: call.flag("follow"),
            timestamps: call.flag("timestamps"),
            previous: call.flag("previous"),
            // The kubelet gets whole seconds only.
            since: since.and_then(|since| Timestamp::from_second(since.as_second()).ok()),
            tail: amount("tailLines", 0)?,
            limit: amount("limitBytes", 1)?,
        })
    }
}

fn container(pod: &Value, asked: &str) -> Result<String, Status> {
    let names = |pointer| list(pod, pointer).iter().map(|one| text(one, "/name")).collect::<Vec<_>>();
    let (main, init) = (names("/spec/containers"), names("/spec/initContainers"));
    let pod_name = text(pod, "/metadata/name");
    if !asked.is_empty() {
        if main.contains(&asked) || init.contains(&asked) {
            return Ok(asked.to_owned());
        }
        return Err(Status::bad_request(format!("container {asked} is not valid for pod {pod_name}")));
    }
    match main.as_slice() {
        [only] => Ok((*only).to_owned()),
        many => {
            let many = many.join(" ");
            let choice = if init.is_empty() {
                format!("[{many}]")
            } else {
                format!("[{many}] or one of the init containers: [{}]", init.join(" "))
            };
            let message =
                format!("a container name must be specified for pod {pod_name}, choose one of: {choice}");
            Err(Status::bad_request(message))
        }
    }
}

fn find_log(
    shared: &Shared,
    pod: &Object,
    container: &str,
    previous: bool,
) -> Result<Arc<ContainerLog>, Status> {
    let name = text(pod, "/metadata/name");
    let handle = shared.pods().get(text(pod, "/metadata/uid")).cloned();
    let logs = handle.map(|handle| {
        let logs = handle.logs.lock().unwrap_or_else(PoisonError::into_inner);
        logs.get(container).cloned().unwrap_or_default()
    });
    let logs = logs.unwrap_or_default();
    let at = if previous { logs.len().checked_sub(2) } else { logs.len().checked_sub(1) };
    match at.and_then(|at| logs.get(at)) {
        Some(log) => Ok(Arc::clone(log)),
        None if previous => Err(Status::bad_request(format!(
            "previous terminated container \"{container}\" in pod \"{name}\" not found"
        ))),
        None => Err(Status::bad_request(format!(
            "container \"{container}\" in pod \"{name}\" is waiting to start: {}",
            waiting_for(pod, container)
        ))),
    }
}

fn waiting_for(pod: &Value, container: &str) -> String {
    let statuses =
        list(pod, "/status/containerStatuses").iter().chain(list(pod, "/status/initContainerStatuses"));
    let status = statuses.into_iter().find(|status| status["name"] == container);
    match status.map_or("", |status| text(status, "/state/waiting/reason")) {
        "" => "ContainerCreating".to_owned(),
        "ErrImagePull" => "image can't be pulled".to_owned(),
        "ImagePullBackOff" => "trying and failing to pull image".to_owned(),
        reason => reason.to_owned(),
    }
}

/// Reads one log for one client.
struct Reader {
    log: Arc<ContainerLog>,
    changed: watch::Receiver<u64>,
    kubelet: watch::Receiver<bool>,
    options: Options,
    /// The number of the next piece.
    at: usize,
    begun: bool,
    over: bool,
    /// Whether it fails after the existing part, like a kubelet that cannot watch files.
    cannot_follow: bool,
    removal: Option<(Removal, Arc<NodeState>)>,
}

/// Whether a container is gone from its runtime although its pod still exists.
struct Removal {
    shared: Arc<Shared>,
    key: Key,
    id: String,
}

impl Removal {
    fn is_done(&self, node: &NodeState, log: &ContainerLog) -> bool {
        let deleted = || self.shared.store().get(&self.key).is_none_or(|pod| is_terminating(&pod));
        node.removes_containers() && log.read(usize::MAX).2 && deleted()
    }
}

impl Reader {
    fn new(
        log: Arc<ContainerLog>,
        kubelet: watch::Receiver<bool>,
        options: Options,
        cannot_follow: bool,
    ) -> Self {
        let changed = log.subscribe();
        let (at, begun, over, removal) = (0, false, false, None);
        Self { log, changed, kubelet, options, at, begun, over, cannot_follow, removal }
    }

    async fn next(&mut self) -> Option<Vec<u8>> {
        loop {
            if self.over {
                return None;
            }
            self.changed.borrow_and_update();
            let (mut pieces, next, closed) = self.log.read(self.at);
            self.at = next;
            if !self.begun {
                self.begun = true;
                self.cut_head(&mut pieces);
            }
            self.over = closed || !self.options.follow;
            let mut bytes = self.render(&pieces);
            if let Some((removal, node)) = &self.removal
                && self.options.follow
                && removal.is_done(node, &self.log)
            {
                let id = &removal.id;
                let error = format!("rpc error: code = Unknown desc = Error: No such container: {id}");
                bytes.extend_from_slice(error.as_bytes());
            }
            if self.options.follow && self.cannot_follow {
                bytes.extend_from_slice(CANNOT_FOLLOW);
                self.over = true;
            }
            if !bytes.is_empty() {
                return Some(bytes);
            }
            if self.over {
                return None;
            }
            tokio::select! {
                changed = self.changed.changed() => self.over = changed.is_err(),
                // A kubelet that shuts down ends its streams normally, although the container keeps running.
                _ = self.kubelet.wait_for(|up| !up) => self.over = true,
            }
        }
    }

    fn cut_head(&self, pieces: &mut Vec<Piece>) {
        if let Some(since) = self.options.since {
            pieces.retain(|piece| piece.at >= since);
        }
        if let Some(tail) = self.options.tail {
            let starts =
                pieces.iter().enumerate().rev().filter(|(_, piece)| piece.starts).map(|(index, _)| index);
            let from = if tail == 0 { pieces.len() } else { starts.take(tail).last().unwrap_or(0) };
            pieces.drain(..from);
        }
    }

    fn render(&mut self, pieces: &[Piece]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for piece in pieces {
            if self.options.timestamps && piece.starts {
                bytes.extend_from_slice(format!("{:.9} ", piece.at).as_bytes());
            }
            bytes.extend_from_slice(&piece.bytes);
            if piece.ends {
                bytes.push(b'\n');
            }
        }
        if let Some(left) = &mut self.options.limit {
            bytes.truncate(*left);
            *left -= bytes.len();
            self.over |= *left == 0;
        }
        bytes
    }
}
