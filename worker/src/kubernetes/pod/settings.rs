//! The checked settings of build pods.

use std::time::Duration;

use super::PodTemplate;
use crate::settings::command::CommandTemplate;

/// `BinderHub`'s default.
pub(crate) const BUILD_IMAGE_DEFAULT: &str = "quay.io/jupyterhub/repo2docker:2024.07.0";
/// `BinderHub`'s default: Docker on the node.
pub(crate) const DOCKER_SOCKET_DEFAULT: &str = "/var/run/docker.sock";
/// The pods of `BinderHub`'s chart that run a container engine on each node.
pub(crate) const BUILDERS_DEFAULT: &str = "component=image-builder,app=binder";

/// The settings of build pods.
#[derive(Debug, Clone)]
pub struct PodSettings {
    /// The pods' namespace; `None`: the kubeconfig's, or the worker's own.
    pub namespace: Option<String>,
    /// The cluster's name; `None`: derived from its certificate authority.
    pub cluster: Option<String>,
    /// The installation that the pods belong to; pods of other installations in the namespace are left alone.
    pub installation: String,
    /// The queue's identity, once it is known. It distinguishes two queues with the same installation.
    pub queue: Option<String>,
    /// The image of the build container.
    pub build_image: String,
    /// The command that runs in it.
    pub command: CommandTemplate,
    /// Whether the command replaces the image's entry point; otherwise it is passed to it.
    pub replace_entrypoint: bool,
    /// The container engine's socket on the nodes; `None` for images that need none.
    pub docker_socket: Option<String>,
    /// The Secret with a `config.json` for pushing, for builds without their own credentials.
    pub push_secret: Option<String>,
    /// Whether builds of one repository prefer the same node, to use its cache.
    pub sticky: bool,
    /// The label selector of the pods that run a container engine on each node.
    pub builders: String,
    /// The template that is merged into each pod.
    pub template: Option<PodTemplate>,
    /// The longest run: a safety net if no worker is left to end it.
    pub deadline: Duration,
}

impl Default for PodSettings {
    fn default() -> Self {
        Self {
            namespace: None,
            cluster: None,
            installation: "fairlane".to_owned(),
            queue: None,
            build_image: BUILD_IMAGE_DEFAULT.to_owned(),
            command: CommandTemplate::default(),
            replace_entrypoint: false,
            docker_socket: Some(DOCKER_SOCKET_DEFAULT.to_owned()),
            push_secret: None,
            sticky: false,
            builders: BUILDERS_DEFAULT.to_owned(),
            template: None,
            deadline: Duration::from_hours(12),
        }
    }
}
