//! Checks whether a pod is valid. What Kubernetes would refuse for every build is found when the worker starts,
//! not when the first build fails.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, bail, ensure};
use k8s_openapi::api::core::v1::{Container, Pod, PodSpec};

use super::{CONTAINER, PodSettings, label_value, quantity, sample};

/// Longest name of a container, a volume or a label's value.
const NAME_BYTES_MAX: usize = 63;

impl PodSettings {
    /// Checks that a pod template fits a build pod.
    ///
    /// # Errors
    /// It does not; the message names the field.
    pub fn check(&self) -> Result<()> {
        if self.template.is_some() {
            check(&sample(self)).context("the pod template does not fit a build pod")?;
        }
        Ok(())
    }
}

/// Checks what can be checked without a cluster.
fn check(pod: &Pod) -> Result<()> {
    for (kind, pairs) in [("labels", &pod.metadata.labels)] {
        for (key, value) in pairs.iter().flatten() {
            ensure!(
                value.len() <= NAME_BYTES_MAX && label_value(value) == *value,
                "metadata.{kind}.{key}: '{value}' is not a label value: use at most 63 letters, digits, '-', '_' and '.'"
            );
        }
    }
    let Some(spec) = &pod.spec else { bail!("spec: it is missing") };
    volumes(spec)?;
    containers(spec)
}

fn volumes(spec: &PodSpec) -> Result<()> {
    let mut names = BTreeSet::new();
    for (i, volume) in spec.volumes.iter().flatten().enumerate() {
        let path = format!("spec.volumes[{i}]");
        is_dns_label(&volume.name, &format!("{path}.name"))?;
        ensure!(names.insert(&volume.name), "{path}: there are two volumes '{}'", volume.name);
        let value = serde_json::to_value(volume)?;
        let sources = value.as_object().map_or(0, |fields| fields.len().saturating_sub(1));
        ensure!(
            sources == 1,
            "{path}: the volume '{}' has {sources} sources, and needs exactly one; Fairlane's own volumes cannot \
             become another kind",
            volume.name
        );
    }
    Ok(())
}

fn containers(spec: &PodSpec) -> Result<()> {
    let mut names = BTreeSet::new();
    let lists =
        [("initContainers", spec.init_containers.as_deref()), ("containers", Some(&spec.containers[..]))];
    for (list, containers) in lists {
        for (i, container) in containers.unwrap_or_default().iter().enumerate() {
            let path = format!("spec.{list}[{i}]");
            is_dns_label(&container.name, &format!("{path}.name"))?;
            ensure!(names.insert(&container.name), "{path}: there are two containers '{}'", container.name);
            ensure!(
                container.image.as_deref().is_some_and(|image| !image.trim().is_empty()),
                "{path}.image: the container '{}' needs an image (the build container is called '{CONTAINER}')",
                container.name
            );
            mounts(spec, container, &path)?;
            resources(container, &path)?;
        }
    }
    Ok(())
}

fn mounts(spec: &PodSpec, container: &Container, path: &str) -> Result<()> {
    let mut paths = BTreeSet::new();
    for (i, mount) in container.volume_mounts.iter().flatten().enumerate() {
        let path = format!("{path}.volumeMounts[{i}]");
        ensure!(
            spec.volumes.iter().flatten().any(|volume| volume.name == mount.name),
            "{path}.name: there is no volume '{}'",
            mount.name
        );
        ensure!(mount.mount_path.starts_with('/'), "{path}.mountPath: it must be an absolute path");
        ensure!(
            paths.insert(&mount.mount_path),
            "{path}.mountPath: two volumes are mounted at {}",
            mount.mount_path
        );
    }
    Ok(())
}

fn resources(container: &Container, path: &str) -> Result<()> {
    let Some(resources) = &container.resources else { return Ok(()) };
    for (kind, amounts) in [("limits", &resources.limits), ("requests", &resources.requests)] {
        for (name, amount) in amounts.iter().flatten() {
            ensure!(
                quantity::parse(&amount.0).is_some_and(|number| number >= 0.0),
                "{path}.resources.{kind}.{name}: '{}' is not a quantity such as 500m, 2 or 2Gi",
                amount.0
            );
        }
    }
    Ok(())
}

fn is_dns_label(name: &str, path: &str) -> Result<()> {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let fits = (1..=NAME_BYTES_MAX).contains(&name.len())
        && name.chars().all(plain)
        && !name.starts_with('-')
        && !name.ends_with('-');
    ensure!(fits, "{path}: '{name}' is invalid: use at most 63 lowercase letters, digits and '-'");
    Ok(())
}
