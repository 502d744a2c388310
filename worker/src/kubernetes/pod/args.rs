//! The options for running builds on Kubernetes.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::ArgAction;
use clap::builder::BoolishValueParser;

use super::settings::{BUILD_IMAGE_DEFAULT, BUILDERS_DEFAULT, DOCKER_SOCKET_DEFAULT};
use super::{PodSettings, PodTemplate, label_value};
use crate::settings::command::CommandTemplate;

/// Options of the kubernetes executor, and of `fairlane doctor`.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Kubernetes")]
pub struct KubernetesArgs {
    /// Namespace of the build pods [default: the kubeconfig's, or the worker's own]
    #[arg(long, env = "FAIRLANE_NAMESPACE")]
    pub namespace: Option<String>,
    /// Name of the cluster; runs are only adopted within it [default: derived from its certificate authority]
    #[arg(long, value_name = "NAME", env = "FAIRLANE_CLUSTER")]
    pub cluster: Option<String>,
    /// Name that marks this installation's build pods; other pods are left alone [default: the prefix]
    #[arg(long, value_name = "NAME", env = "FAIRLANE_INSTALLATION")]
    pub installation: Option<String>,
    /// Image of the build container
    #[arg(long, value_name = "IMAGE", env = "FAIRLANE_BUILD_IMAGE", default_value = BUILD_IMAGE_DEFAULT)]
    pub build_image: String,
    /// Run the command in place of the build image's entry point, not through it
    #[arg(long, value_name = "BOOL", env = "FAIRLANE_REPLACE_ENTRYPOINT", default_value_t = false, default_missing_value = "true",
        num_args = 0..=1, require_equals = true, action = ArgAction::Set, value_parser = BoolishValueParser::new())]
    pub replace_entrypoint: bool,
    /// The container engine's socket on the nodes; 'none' for build images that need no socket
    #[arg(long, value_name = "PATH", env = "FAIRLANE_DOCKER_SOCKET", default_value = DOCKER_SOCKET_DEFAULT)]
    pub docker_socket: String,
    /// Secret with a config.json for pushing; not used by builds with registry credentials of their own
    #[arg(long, value_name = "SECRET", env = "FAIRLANE_PUSH_SECRET")]
    pub push_secret: Option<String>,
    /// Prefer the same node for all builds of a repository, to use its cache
    #[arg(long, value_name = "BOOL", env = "FAIRLANE_STICKY_BUILDS", default_value_t = false, default_missing_value = "true",
        num_args = 0..=1, require_equals = true, action = ArgAction::Set, value_parser = BoolishValueParser::new())]
    pub sticky_builds: bool,
    /// Label selector of the pods that run a container engine on each node
    #[arg(long, value_name = "SELECTOR", env = "FAIRLANE_BUILDERS", default_value = BUILDERS_DEFAULT)]
    pub builders: String,
    /// YAML file with a pod that is merged into each build pod
    #[arg(long, value_name = "FILE", env = "FAIRLANE_POD_TEMPLATE")]
    pub pod_template: Option<PathBuf>,
}

impl KubernetesArgs {
    /// The checked settings that result from these options. `prefix` is the default name of the installation;
    /// `command` runs for at most `deadline`.
    ///
    /// # Errors
    /// An option is invalid; the message says which, and what is allowed.
    pub fn settings(self, prefix: &str, command: CommandTemplate, deadline: Duration) -> Result<PodSettings> {
        let Self {
            namespace,
            cluster,
            installation,
            build_image,
            replace_entrypoint,
            docker_socket,
            push_secret,
            sticky_builds,
            builders,
            pod_template,
        } = self;
        let installation =
            installation.filter(|name| !name.is_empty()).unwrap_or_else(|| label_value(prefix));
        let cluster = cluster.filter(|name| !name.is_empty());
        for (option, name) in [("--installation", Some(&installation)), ("--cluster", cluster.as_ref())] {
            ensure!(
                name.is_none_or(|name| !name.is_empty() && label_value(name) == *name),
                "{option}: '{}' is invalid: use at most 63 letters, digits, '-', '_' and '.', with a letter or \
                 digit at both ends",
                name.map_or("", String::as_str),
            );
        }
        ensure!(!build_image.trim().is_empty(), "--build-image: name the image that builds");
        ensure!(
            builders.split(',').all(|term| !term.trim().is_empty()),
            "--builders: '{builders}' is not a label selector such as {BUILDERS_DEFAULT}"
        );
        for (option, name) in [("--namespace", &namespace), ("--push-secret", &push_secret)] {
            if let Some(name) = name.as_deref().filter(|name| !name.is_empty()) {
                check_name(name).with_context(|| option.to_owned())?;
            }
        }
        let template = pod_template.filter(|file| !file.as_os_str().is_empty());
        let template = template.map(|file| PodTemplate::read(&file)).transpose()?;
        let settings = PodSettings {
            namespace: namespace.filter(|name| !name.is_empty()),
            cluster,
            installation,
            queue: None,
            build_image,
            command,
            replace_entrypoint,
            docker_socket: socket(&docker_socket)?,
            push_secret: push_secret.filter(|name| !name.is_empty()),
            sticky: sticky_builds,
            builders,
            template,
            deadline,
        };
        settings.check()?;
        Ok(settings)
    }
}

/// A path on the nodes, or `None` for no socket. A leading `unix://` is removed, as in `BinderHub`.
fn socket(text: &str) -> Result<Option<String>> {
    if matches!(text, "" | "none" | "None") {
        return Ok(None);
    }
    let path = text.strip_prefix("unix://").unwrap_or(text);
    ensure!(
        path.starts_with('/') && path.len() > 1 && !path.split('/').any(|part| part == ".."),
        "--docker-socket: '{text}' is not an absolute path; use 'none' for build images that need no socket"
    );
    Ok(Some(path.to_owned()))
}

/// The name of an object, as Kubernetes accepts it.
fn check_name(name: &str) -> Result<()> {
    let edge = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let fits = name.len() <= 253
        && name.starts_with(edge)
        && name.ends_with(edge)
        && name.chars().all(|c| edge(c) || matches!(c, '-' | '.'));
    ensure!(
        fits,
        "'{name}' is not a Kubernetes name: use lowercase letters, digits, '-' and '.', with a letter or digit at both ends"
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: KubernetesArgs,
    }

    fn settings(line: &[&str]) -> Result<PodSettings> {
        let args = Line::try_parse_from([&["worker"], line].concat())?.args;
        args.settings("hub:1", CommandTemplate::default(), Duration::from_hours(1))
    }

    #[test]
    fn options_and_defaults() {
        let found = settings(&[]).unwrap();
        let usual = PodSettings::default();
        assert_eq!(found.installation, "hub-1");
        assert_eq!((&found.build_image, &found.docker_socket), (&usual.build_image, &usual.docker_socket));
        assert_eq!((found.push_secret, found.namespace, found.sticky), (None, None, false));
        let line = [
            "--docker-socket=unix:///var/run/dind/docker.sock",
            "--sticky-builds",
            "--push-secret=push",
            "--namespace=builds",
            "--cluster=prod.1",
            "--replace-entrypoint",
        ];
        let found = settings(&line).unwrap();
        assert_eq!(found.docker_socket.as_deref(), Some("/var/run/dind/docker.sock"));
        assert!(found.sticky && found.replace_entrypoint);
        assert_eq!(found.push_secret.as_deref(), Some("push"));
        assert_eq!((found.namespace.as_deref(), found.cluster.as_deref()), (Some("builds"), Some("prod.1")));
        assert!(!settings(&["--sticky-builds=no"]).unwrap().sticky);
        for none in ["--docker-socket=none", "--docker-socket="] {
            assert_eq!(settings(&[none]).unwrap().docker_socket, None);
        }
    }

    #[test]
    fn bad_options_say_what_is_allowed() {
        for (option, says) in [
            ("--docker-socket=docker.sock", "--docker-socket: 'docker.sock' is not an absolute path"),
            ("--docker-socket=/var/../sock", "--docker-socket"),
            ("--docker-socket=tcp://h:1", "--docker-socket"),
            ("--namespace=Builds", "--namespace: 'Builds' is not a Kubernetes name"),
            ("--push-secret=a_b", "--push-secret"),
            ("--installation=-a", "--installation: '-a' is invalid"),
            ("--cluster=a/b", "--cluster: 'a/b' is invalid"),
            ("--build-image= ", "--build-image"),
            ("--builders=", "--builders: '' is not a label selector"),
            ("--pod-template=/no/such/file", "the pod template /no/such/file"),
        ] {
            let error = format!("{:#}", settings(&[option]).unwrap_err());
            assert!(error.contains(says), "{option}: {error}");
        }
    }

    #[test]
    fn a_template_that_does_not_fit_is_refused_at_start() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("pod.yaml");
        let option = format!("--pod-template={}", file.display());
        for (text, says) in [
            ("spec: { nodeSelectr: {} }", "spec.nodeSelectr"),
            ("spec: { volumes: [{ name: docker-socket, emptyDir: {} }] }", "2 sources"),
        ] {
            std::fs::write(&file, text).unwrap();
            let error = format!("{:#}", settings(&[&option]).unwrap_err());
            assert!(error.contains(says) && error.contains("pod template"), "{error}");
        }
        std::fs::write(&file, "spec: { priorityClassName: builds }").unwrap();
        assert!(settings(&[&option]).unwrap().template.is_some());
    }
}
