//! How build pods are made, checked.

use std::time::Duration;

use super::PodTemplate;
use crate::settings::command::CommandTemplate;

/// `BinderHub`'s own.
pub(crate) const BUILD_IMAGE_DEFAULT: &str = "quay.io/jupyterhub/repo2docker:2024.07.0";
/// `BinderHub`'s own: Docker on the node.
pub(crate) const DOCKER_SOCKET_DEFAULT: &str = "/var/run/docker.sock";
/// The pods of `BinderHub`'s chart that run a container engine on each node.
pub(crate) const BUILDERS_DEFAULT: &str = "component=image-builder,app=binder";

/// How build pods are made.
#[derive(Debug, Clone)]
pub struct PodSettings {
    /// The namespace of the pods; `None`: that of the kubeconfig, or the worker's own.
    pub namespace: Option<String>,
    /// The cluster's name; `None`: made from its certificate authority.
    pub cluster: Option<String>,
    /// Whose pods they are: pods of other installations in the namespace are left alone.
    pub installation: String,
    /// The queue's identity, once it is known: tells two queues apart that were given the same installation.
    pub queue: Option<String>,
    /// The image that builds.
    pub build_image: String,
    /// What is run in it.
    pub command: CommandTemplate,
    /// Whether the command takes the place of the image's entry point, or is handed to it.
    pub replace_entrypoint: bool,
    /// The container engine's socket on the nodes; `None` for images that need none.
    pub docker_socket: Option<String>,
    /// The Secret with a `config.json` for pushing, unless a build brings its own.
    pub push_secret: Option<String>,
    /// Whether builds of a repository go to the same node, for its cache.
    pub sticky: bool,
    /// The label selector of the pods that run a container engine on each node.
    pub builders: String,
    /// What is merged into each pod.
    pub template: Option<PodTemplate>,
    /// The longest run: a net for when no worker is left that could end it.
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
