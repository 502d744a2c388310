//! What a container needs before it can start, and what may be in the way.

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::Value;

use super::pod::PodRun;
use crate::kube::object::{Key, list, text};

/// Why a container waits, and what the kubelet says about it.
#[derive(Debug)]
pub(super) struct Obstacle {
    pub(super) reason: &'static str,
    pub(super) message: Option<String>,
    pub(super) events: Vec<(bool, &'static str, String)>,
}

/// What a container does on a node whose disk is full.
const NO_SPACE: &str = "echo 'write /var/lib/docker/tmp/layer: no space left on device' >&2; exit 1";

/// Command and environment.
type Prepared = (Vec<String>, Vec<(String, String)>);

impl Obstacle {
    fn new(reason: &'static str, message: String, events: Vec<(bool, &'static str, String)>) -> Self {
        Self { reason, message: Some(message), events }
    }

    /// After a failed pull, every other attempt is a backoff.
    pub(super) fn after(self, tries: u32) -> Self {
        if self.reason != "ErrImagePull" || tries % 2 == 1 {
            return self;
        }
        let message = self.message.unwrap_or_default();
        let image = message.split('"').nth(1).unwrap_or_default();
        let back_off = format!("Back-off pulling image \"{image}\"");
        Self::new(
            "ImagePullBackOff",
            format!("{back_off}: ErrImagePull: {message}"),
            vec![(false, "BackOff", back_off), (true, "Failed", "Error: ImagePullBackOff".to_owned())],
        )
    }
}

impl PodRun {
    /// Why the volumes cannot be mounted.
    pub(super) fn mounts_fail(&self) -> Option<String> {
        let trouble = self.trouble();
        if trouble.mounts_fail.is_some() {
            return trouble.mounts_fail;
        }
        let store = self.shared.store();
        list(&self.spec, "/spec/volumes").iter().find_map(|volume| {
            let (resource, name, optional) = match (volume.get("secret"), volume.get("configMap")) {
                (Some(secret), _) => ("secrets", text(secret, "/secretName"), &secret["optional"]),
                (None, Some(map)) => ("configmaps", text(map, "/name"), &map["optional"]),
                (None, None) => return None,
            };
            let there = store.get(&Key::new(resource, &self.key.namespace, name)).is_some();
            let kind = resource.trim_end_matches('s');
            (!there && optional != &Value::Bool(true)).then(|| {
                let volume = text(volume, "/name");
                format!("MountVolume.SetUp failed for volume \"{volume}\" : {kind} \"{name}\" not found")
            })
        })
    }

    /// Command and environment of a container, or what is in the way.
    pub(super) fn prepare(&self, index: usize) -> Result<Prepared, Obstacle> {
        let container = self.container_spec(index);
        self.look_for_image(container)?;
        let mounts = self.mounts(container);
        let mut environment = self.environment(container)?;
        for (_, value) in &mut environment {
            *value = mounts.moved(value);
        }
        let words = if self.trouble().no_space {
            ["sh", "-c", NO_SPACE].map(str::to_owned).to_vec()
        } else {
            ["/command", "/args"]
                .into_iter()
                .flat_map(|pointer| list(container, pointer))
                .filter_map(Value::as_str)
                .map(|word| mounts.moved(&expand(word, &environment)))
                .collect()
        };
        Ok((words, environment))
    }

    /// The container of this number: the init containers come first.
    pub(super) fn container_spec(&self, index: usize) -> &Value {
        let init = list(&self.spec, "/spec/initContainers");
        init.get(index).unwrap_or_else(|| &list(&self.spec, "/spec/containers")[index - init.len()])
    }

    fn trouble(&self) -> crate::kube::shared::Trouble {
        self.node.trouble.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }

    fn look_for_image(&self, container: &Value) -> Result<(), Obstacle> {
        let image = text(container, "/image");
        if image.contains(":::") || image.bytes().any(|byte| byte == b' ') {
            let why = format!(
                "Failed to apply default image tag \"{image}\": couldn't parse image name \"{image}\": \
                 invalid reference format"
            );
            let events = vec![
                (true, "InspectFailed", why.clone()),
                (true, "Failed", "Error: InvalidImageName".to_owned()),
            ];
            return Err(Obstacle::new("InvalidImageName", why, events));
        }
        let Some(why) = self.shared.images().get(image).cloned() else { return Ok(()) };
        if text(container, "/imagePullPolicy") == "Never" {
            let message = format!("Container image \"{image}\" is not present with pull policy of Never");
            let events = vec![
                (true, "ErrImageNeverPull", message.clone()),
                (true, "Failed", "Error: ErrImageNeverPull".to_owned()),
            ];
            return Err(Obstacle::new("ErrImageNeverPull", message, events));
        }
        let message = format!("failed to pull and unpack image \"{image}\": {why}");
        let events = vec![
            (false, "Pulling", format!("Pulling image \"{image}\"")),
            (true, "Failed", format!("Failed to pull image \"{image}\": {message}")),
            (true, "Failed", "Error: ErrImagePull".to_owned()),
        ];
        Err(Obstacle::new("ErrImagePull", message, events))
    }

    fn environment(&self, container: &Value) -> Result<Vec<(String, String)>, Obstacle> {
        let path = std::env::var("PATH").unwrap_or_else(|_| "/usr/bin:/bin".to_owned());
        let home = self.folder.path().display().to_string();
        let mut environment = vec![
            ("PATH".to_owned(), path),
            ("HOSTNAME".to_owned(), self.key.name.clone()),
            ("HOME".to_owned(), home),
        ];
        for source in list(container, "/envFrom") {
            if let Some(secret) = source.get("secretRef") {
                let name = text(secret, "/name");
                let data =
                    self.secret(name).ok_or_else(|| missing(&format!("secret \"{name}\" not found")))?;
                for (variable, value) in data["data"].as_object().into_iter().flatten() {
                    environment.push((variable.clone(), decode(value)));
                }
            }
        }
        for variable in list(container, "/env") {
            let name = text(variable, "/name").to_owned();
            if let Some(value) = self.value_of(variable)? {
                let value = expand(&value, &environment);
                environment.retain(|(known, _)| *known != name);
                environment.push((name, value));
            }
        }
        Ok(environment)
    }

    fn value_of(&self, variable: &Value) -> Result<Option<String>, Obstacle> {
        let Some(source) = variable.get("valueFrom") else {
            return Ok(Some(text(variable, "/value").to_owned()));
        };
        if let Some(field) = source.get("fieldRef") {
            return Ok(Some(self.field(text(field, "/fieldPath"))));
        }
        let Some(reference) = source.get("secretKeyRef") else { return Ok(Some(String::new())) };
        let (name, key) = (text(reference, "/name"), text(reference, "/key"));
        let optional = reference["optional"] == Value::Bool(true);
        match self.secret(name) {
            Some(secret) => match secret["data"].get(key) {
                Some(value) => Ok(Some(decode(value))),
                None if optional => Ok(None),
                None => {
                    Err(missing(&format!("couldn't find key {key} in Secret {}/{name}", self.key.namespace)))
                }
            },
            None if optional => Ok(None),
            None => Err(missing(&format!("secret \"{name}\" not found"))),
        }
    }

    fn field(&self, path: &str) -> String {
        match path {
            "spec.nodeName" => self.node_name.clone(),
            "metadata.uid" => self.uid.clone(),
            _ => text(&self.spec, &format!("/{}", path.replace('.', "/"))).to_owned(),
        }
    }

    fn secret(&self, name: &str) -> Option<crate::kube::object::Object> {
        self.shared.store().get(&Key::new("secrets", &self.key.namespace, name))
    }
}

fn missing(what: &str) -> Obstacle {
    let events = vec![(true, "Failed", format!("Error: {what}"))];
    Obstacle::new("CreateContainerConfigError", what.to_owned(), events)
}

fn decode(value: &Value) -> String {
    let bytes = BASE64.decode(value.as_str().unwrap_or_default()).unwrap_or_default();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Replaces `$(NAME)` with variables, as Kubernetes does; unknown ones stay as they are, and `$$` is a plain `$`.
fn expand(word: &str, environment: &[(String, String)]) -> String {
    let mut expanded = String::new();
    let mut rest = word;
    while let Some(at) = rest.find('$') {
        expanded.push_str(&rest[..=at]);
        rest = &rest[at + 1..];
        if let Some(tail) = rest.strip_prefix('$') {
            rest = tail;
        } else if let Some((name, tail)) = rest.strip_prefix('(').and_then(|open| open.split_once(')'))
            && let Some((_, value)) = environment.iter().find(|(known, _)| known == name)
        {
            expanded.pop();
            expanded.push_str(value);
            rest = tail;
        }
    }
    expanded + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_replaced_and_doubled_signs_escape_them() {
        let environment = [("A".to_owned(), "1".to_owned())];
        for (word, expected) in [
            ("$(A) $$(A) $$$(A)", "1 $(A) $1"),
            ("$(B) $A $", "$(B) $A $"),
            ("n=$$((n+1)); echo $$$$ $$n", "n=$((n+1)); echo $$ $n"),
            ("$(A", "$(A"),
        ] {
            assert_eq!(expand(word, &environment), expected, "{word}");
        }
    }
}
