//! A container's files. Its process shares the test's file system, so mounts are in the pod's own folder, and
//! paths in its command and environment are replaced by that.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::Value;

use super::pod::PodRun;
use crate::kube::object::{Key, list, text};

/// Bytes of a termination message that are read.
const MESSAGE_BYTES_MAX: usize = 4096;
/// Bytes and lines of a log that replace it.
const LOG_BYTES_MAX: usize = 2048;
const LOG_LINES_MAX: usize = 80;

/// How often a pod's annotations are shown anew: a real kubelet takes about a second or more.
const FIELDS_INTERVAL: Duration = Duration::from_millis(200);

/// Paths in a container, and where they really are.
#[derive(Debug, Default)]
pub(super) struct Mounts(Vec<(String, String)>);

impl Mounts {
    /// The text with every such path replaced.
    pub(super) fn moved(&self, text: &str) -> String {
        self.0.iter().fold(text.to_owned(), |text, (from, to)| replace_path(&text, from, to))
    }
}

impl PodRun {
    /// Creates a container's volumes, and returns where they are.
    pub(super) fn mounts(&self, container: &Value) -> Mounts {
        let mut mounts =
            vec![(termination_path(container).to_owned(), shown(&self.termination_file(container)))];
        for mount in list(container, "/volumeMounts") {
            let name = text(mount, "/name");
            let volume = list(&self.spec, "/spec/volumes").iter().find(|volume| volume["name"] == name);
            let Some(volume) = volume else { continue };
            let folder = if volume.get("hostPath").is_some() {
                PathBuf::from(text(volume, "/hostPath/path"))
            } else {
                let folder = self.folder.join("volumes").join(name);
                self.lay_out(volume, &folder);
                folder
            };
            let path = match text(mount, "/subPath") {
                "" => folder,
                inner => folder.join(inner),
            };
            mounts.push((text(mount, "/mountPath").trim_end_matches('/').to_owned(), shown(&path)));
        }
        // The longest first, because one may be inside another.
        mounts.sort_by_key(|(from, _)| std::cmp::Reverse(from.len()));
        Mounts(mounts)
    }

    fn lay_out(&self, volume: &Value, folder: &Path) {
        make(folder, None);
        if volume.get("downwardAPI").is_some() {
            let pod = self.shared.store().get_same(&self.key, &self.uid);
            show_fields(volume, folder, &pod.unwrap_or_default());
        }
        let (resource, source, name) = match (volume.get("secret"), volume.get("configMap")) {
            (Some(secret), _) => ("secrets", secret, text(secret, "/secretName")),
            (None, Some(map)) => ("configmaps", map, text(map, "/name")),
            (None, None) => return,
        };
        let key = Key::new(resource, &self.key.namespace, name);
        let Some(object) = self.shared.store().get(&key) else { return };
        let items = list(source, "/items");
        for (key, value) in object["data"].as_object().into_iter().flatten() {
            let item = items.iter().find(|item| item["key"] == key.as_str());
            let path = item.map_or(key.as_str(), |item| text(item, "/path"));
            let value = value.as_str().unwrap_or_default();
            let bytes =
                if resource == "secrets" { BASE64.decode(value).unwrap_or_default() } else { value.into() };
            if items.is_empty() || item.is_some() {
                make(&folder.join(path), Some(&bytes));
            }
        }
    }

    /// Keeps the files that show the pod's annotations up to date, as long as it is polled.
    pub(super) fn keep_fields(&self) -> impl Future<Output = ()> + use<> {
        let (shared, key, uid) = (Arc::clone(&self.shared), self.key.clone(), self.uid.clone());
        let volumes: Vec<Value> = list(&self.spec, "/spec/volumes")
            .iter()
            .filter(|volume| volume.get("downwardAPI").is_some())
            .cloned()
            .collect();
        let folder = self.folder.path().join("volumes");
        async move {
            while !volumes.is_empty() {
                tokio::time::sleep(FIELDS_INTERVAL).await;
                let Some(pod) = shared.store().get_same(&key, &uid) else { continue };
                for volume in &volumes {
                    let folder = folder.join(text(volume, "/name"));
                    if folder.exists() {
                        show_fields(volume, &folder, &pod);
                    }
                }
            }
            std::future::pending::<()>().await;
        }
    }

    /// A container's termination message.
    pub(super) fn last_word(&self, index: usize, code: i32) -> Option<String> {
        let container = self.container_spec(index);
        let written = std::fs::read(self.termination_file(container)).unwrap_or_default();
        if !written.is_empty() {
            return Some(
                String::from_utf8_lossy(&written[..written.len().min(MESSAGE_BYTES_MAX)]).into_owned(),
            );
        }
        if code == 0 || text(container, "/terminationMessagePolicy") != "FallbackToLogsOnError" {
            return None;
        }
        let log = self.latest_log(text(container, "/name"))?;
        let (pieces, _, _) = log.read(0);
        let lines = pieces.iter().skip(pieces.len().saturating_sub(LOG_LINES_MAX));
        let mut tail = lines
            .flat_map(|piece| piece.bytes.iter().copied().chain(piece.ends.then_some(b'\n')))
            .collect::<Vec<_>>();
        tail.drain(..tail.len().saturating_sub(LOG_BYTES_MAX));
        (!tail.is_empty()).then(|| String::from_utf8_lossy(&tail).into_owned())
    }

    fn termination_file(&self, container: &Value) -> PathBuf {
        self.folder.join(format!("termination-log-{}", text(container, "/name")))
    }
}

/// Writes the annotations that a `downwardAPI` volume shows; a missing one is an empty file.
fn show_fields(volume: &Value, folder: &Path, pod: &Value) {
    for item in list(volume, "/downwardAPI/items") {
        let field = text(item, "/fieldRef/fieldPath");
        let name = field.strip_prefix("metadata.annotations['").and_then(|rest| rest.strip_suffix("']"));
        let value = name.and_then(|name| pod["metadata"]["annotations"][name].as_str()).unwrap_or_default();
        let path = folder.join(text(item, "/path"));
        // Left alone where nothing changed: whoever reads it must never see it half written.
        if std::fs::read(&path).is_ok_and(|known| known == value.as_bytes()) {
            continue;
        }
        make(&path, Some(value.as_bytes()));
    }
}

fn termination_path(container: &Value) -> &str {
    text(container, "/terminationMessagePath")
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}

/// Creates a file or a folder; if that fails, the test that needs it will fail.
fn make(path: &Path, bytes: Option<&[u8]>) {
    let folder = if bytes.is_some() { path.parent().unwrap_or(path) } else { path };
    let _ = std::fs::create_dir_all(folder);
    if let Some(bytes) = bytes {
        let _ = std::fs::write(path, bytes);
    }
}

/// Replaces a path wherever it is a whole path or the beginning of a longer one.
fn replace_path(text: &str, from: &str, to: &str) -> String {
    let inside = |letter: char| letter.is_alphanumeric() || matches!(letter, '-' | '_' | '.');
    let mut replaced = String::new();
    let mut rest = text;
    while let Some(at) = rest.find(from).filter(|_| !from.is_empty()) {
        let (before, after) = (&rest[..at], &rest[at + from.len()..]);
        let whole = !before.ends_with(|letter| inside(letter) || letter == '/') && !after.starts_with(inside);
        replaced.push_str(before);
        replaced.push_str(if whole { to } else { from });
        rest = after;
    }
    replaced + rest
}

#[cfg(test)]
mod tests {
    use super::replace_path;

    #[test]
    fn only_whole_paths_are_changed() {
        assert_eq!(
            replace_path("cat /v/x /var '/v' a/v /v", "/v", "/tmp/p"),
            "cat /tmp/p/x /var '/tmp/p' a/v /tmp/p"
        );
    }
}
