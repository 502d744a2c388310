//! A build as a pod: from a build and the settings to a [`Pod`](k8s_openapi::api::core::v1::Pod), and from a pod
//! back to the build and its state. Nothing here talks to a cluster.
//!
//! - [`pod`], [`secret`]: what is created; [`PodSettings`] and [`Placement`] say how and where.
//! - [`identity`], [`token_patch`], [`selector`]: which build a pod belongs to, by its labels and annotations.
//! - [`probe`]: a pod that is a build's in all but what it runs, to try a node.
//! - [`fit`]: which nodes can run it, by the scheduler's rules.
//! - [`observe`]: what its status and events mean; [`PodCause`] is the one table of failures.

mod age;
mod args;
mod cause;
mod check;
mod events;
pub mod fit;
pub mod gate;
mod identity;
mod make;
mod names;
mod observe;
mod placement;
mod probe;
pub mod quantity;
mod settings;
mod template;

pub(crate) use age::{pending_for, start_delay};
pub use args::KubernetesArgs;
pub use cause::{Failure, PodCause};
pub use identity::{Owner, PodIdentity, identity, selector, token_patch};
pub use make::{owner_patch, pod, sample, secret};
pub(crate) use names::hex;
pub use names::{label_value, pod_name, pod_names};
pub use observe::{Hopeless, Observed, Waiting, gone, has_started, last_words, observe, observe_on};
pub use placement::Placement;
pub use probe::{PROBE, Probe, probe, probe_selector};
pub use settings::PodSettings;
pub use template::PodTemplate;

/// The value of the label `component`. `BinderHub`'s cleaner deletes pods labeled `binderhub-build` and must leave
/// these alone.
pub const COMPONENT: &str = "fairlane-build";
/// Labels and annotations that begin so are ours.
const OURS: &str = "fairlane/";
/// The name of the build container, by which a pod template changes it.
pub const CONTAINER: &str = "builder";
