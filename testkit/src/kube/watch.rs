//! Watches.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use futures::stream;
use serde_json::json;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use super::call::Call;
use super::object::Kind;
use super::selectors::Selector;
use super::shared::Shared;
use super::status::{Answer, Cause, Status, response};
use super::store::Change;

/// A real server ends a watch without `timeoutSeconds` after 30 to 60 minutes.
const TIMEOUT_DEFAULT: Duration = Duration::from_mins(30);
/// Most changes that a watch gets at once.
const BATCH_MAX: usize = 256;
/// How long before the timeout a last bookmark is sent.
const LAST_BOOKMARK_BEFORE_END: Duration = Duration::from_secs(2);

/// Answers a watch.
pub(super) fn answer(shared: &Arc<Shared>, call: &Call, kind: &'static Kind) -> Answer {
    let selector = call.selector(kind)?;
    let asked = call.text("resourceVersion");
    let version = parse_version(asked)?;
    let streams_list = call.flag("sendInitialEvents");
    if streams_list && call.text("resourceVersionMatch") != "NotOlderThan" {
        let why = "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan";
        return Err(Status::invalid(
            "ListOptions.meta.k8s.io",
            "",
            &[Cause::forbidden("resourceVersionMatch", why)],
        )
        .details(json!({
            "group": "meta.k8s.io", "kind": "ListOptions",
            "causes": [{ "reason": "FieldValueForbidden", "message": format!("Forbidden: {why}"),
                         "field": "resourceVersionMatch" }],
        })));
    }
    let bookmarks = call.flag("allowWatchBookmarks");
    let timeout = call.number("timeoutSeconds")?.and_then(|seconds| u64::try_from(seconds).ok());
    let timeout = timeout.filter(|&seconds| seconds > 0).map_or(TIMEOUT_DEFAULT, Duration::from_secs);
    let mut watcher = Watcher::new(shared, kind, selector, version, bookmarks, timeout);
    if version == 0 || streams_list {
        watcher.begin_with_everything(streams_list);
    }
    let events = stream::unfold(watcher, |mut watcher| async move {
        let events = watcher.next().await?;
        Some((Ok::<_, std::io::Error>(events), watcher))
    });
    Ok(response(200, "application/json", Body::from_stream(events)))
}

fn parse_version(asked: &str) -> Result<u64, Status> {
    if asked.is_empty() {
        return Ok(0);
    }
    asked.parse().map_err(|_| {
        let why = format!("strconv.ParseUint: parsing \"{asked}\": invalid syntax");
        Status::new(500, None, format!("resourceVersion: Invalid value: \"{asked}\": {why}"))
    })
}

struct Watcher {
    shared: Arc<Shared>,
    kind: &'static Kind,
    selector: Selector,
    /// The version up to which everything was sent.
    version: u64,
    changed: watch::Receiver<u64>,
    pending: String,
    end: Instant,
    next_bookmark: Option<Instant>,
    last_bookmark: Option<Instant>,
    over: bool,
}

impl Watcher {
    fn new(
        shared: &Arc<Shared>,
        kind: &'static Kind,
        selector: Selector,
        version: u64,
        bookmarks: bool,
        timeout: Duration,
    ) -> Self {
        let now = Instant::now();
        let last =
            timeout.checked_sub(LAST_BOOKMARK_BEFORE_END).filter(|last| *last > shared.bookmark_interval());
        Self {
            shared: Arc::clone(shared),
            kind,
            selector,
            version,
            changed: shared.store().subscribe(),
            pending: String::new(),
            end: now + timeout,
            next_bookmark: bookmarks.then(|| now + shared.bookmark_interval()),
            last_bookmark: last.filter(|_| bookmarks).map(|last| now + last),
            over: false,
        }
    }

    fn begin_with_everything(&mut self, mark_the_end: bool) {
        let store = self.shared.store();
        for object in store.list(self.kind.resource, None) {
            if self.selector.matches(&object) {
                push_event(&mut self.pending, "ADDED", self.kind, &object.to_string());
            }
        }
        self.version = store.version();
        drop(store);
        if mark_the_end {
            let annotations = json!({ "k8s.io/initial-events-end": "true" });
            self.push_bookmark(&json!({ "annotations": annotations }));
        }
    }

    /// The next events, or the end.
    async fn next(&mut self) -> Option<String> {
        loop {
            if self.over {
                return None;
            }
            self.changed.borrow_and_update();
            self.gather();
            if !self.pending.is_empty() {
                return Some(std::mem::take(&mut self.pending));
            }
            let far = self.end;
            tokio::select! {
                changed = self.changed.changed() => self.over = changed.is_err(),
                () = sleep_until(self.end) => self.over = true,
                () = sleep_until(self.next_bookmark.unwrap_or(far)), if self.next_bookmark.is_some() => {
                    self.next_bookmark = Some(Instant::now() + self.shared.bookmark_interval());
                    self.push_bookmark(&json!({}));
                }
                () = sleep_until(self.last_bookmark.unwrap_or(far)), if self.last_bookmark.is_some() => {
                    self.last_bookmark = None;
                    self.push_bookmark(&json!({}));
                }
            }
        }
    }

    fn gather(&mut self) {
        loop {
            let store = self.shared.store();
            if self.version < store.oldest() {
                let (version, oldest) = (self.version, store.oldest());
                drop(store);
                let status =
                    Status::expired(format!("too old resource version: {version} ({oldest})")).body();
                push_line(&mut self.pending, "ERROR", &status.to_string());
                // The error is sent first, then the stream ends.
                self.over = true;
                return;
            }
            let changes = store.changes_after(self.version, BATCH_MAX);
            drop(store);
            let Some(last) = changes.last() else { return };
            self.version = last.version;
            for change in &changes {
                self.tell(change);
            }
        }
    }

    fn tell(&mut self, change: &Change) {
        if change.key.resource != self.kind.resource {
            return;
        }
        let before = change.before.as_ref().is_some_and(|before| self.selector.matches(before));
        let after = !change.gone && self.selector.matches(&change.after);
        let event = match (before, after) {
            (false, false) => return,
            (false, true) => "ADDED",
            (true, true) => "MODIFIED",
            (true, false) => "DELETED",
        };
        if event == "DELETED" && !change.gone {
            // It is no longer selected: sent in its previous state, with the version of the change.
            let mut last = change.before.as_deref().cloned().unwrap_or_default();
            last["metadata"]["resourceVersion"] = json!(change.version.to_string());
            push_event(&mut self.pending, event, self.kind, &last.to_string());
            return;
        }
        push_event(&mut self.pending, event, self.kind, change.json());
    }

    fn push_bookmark(&mut self, metadata: &serde_json::Value) {
        let mut object = json!({ "metadata": metadata });
        object["metadata"]["resourceVersion"] = json!(self.version.to_string());
        if self.kind.resource == "pods" {
            object["spec"] = json!({ "containers": null });
            object["status"] = json!({});
        }
        push_event(&mut self.pending, "BOOKMARK", self.kind, &object.to_string());
    }
}

/// Stored objects have no kind; those of a watch do.
fn push_event(line: &mut String, event: &str, kind: &Kind, object: &str) {
    let head = format!("{{\"kind\":\"{}\",\"apiVersion\":\"{}\"", kind.name, kind.api_version());
    let tail = object.strip_prefix('{').unwrap_or(object);
    push_line(line, event, &format!("{head},{tail}"));
}

fn push_line(line: &mut String, event: &str, object: &str) {
    // Writing to a string cannot fail.
    let _ = writeln!(line, "{{\"type\":\"{event}\",\"object\":{object}}}");
}
