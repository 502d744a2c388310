//! A cluster for tests that can also run on a real one.

use std::path::PathBuf;
use std::sync::Arc;

use super::cluster::Cluster;

/// Kubeconfig of a real cluster.
const KUBECONFIG: &str = "FAIRLANE_TEST_KUBECONFIG";
/// Its namespace; `default` if not set.
const NAMESPACE: &str = "FAIRLANE_TEST_NAMESPACE";
/// An image with `sh`.
const IMAGE: &str = "FAIRLANE_TEST_IMAGE";
/// The default image; the fake ignores it.
const DEFAULT_IMAGE: &str = "docker.io/library/busybox:1";

/// A real cluster if `FAIRLANE_TEST_KUBECONFIG` names one, otherwise a private fake.
///
/// Tests that use it have `kube` in their path, choose unique names, clean up, and need only `sh` in the image
/// `FAIRLANE_TEST_IMAGE`.
#[derive(Debug, Clone)]
pub struct TestCluster {
    kubeconfig: PathBuf,
    namespace: String,
    image: String,
    fake: Option<Arc<Cluster>>,
}

impl TestCluster {
    /// The cluster that the environment names, or a fake one.
    pub fn from_env_or_fake() -> Self {
        let image = std::env::var(IMAGE).unwrap_or_else(|_| DEFAULT_IMAGE.to_owned());
        if let Some(kubeconfig) = std::env::var_os(KUBECONFIG).filter(|path| !path.is_empty()) {
            let namespace = std::env::var(NAMESPACE).unwrap_or_else(|_| "default".to_owned());
            return Self { kubeconfig: PathBuf::from(kubeconfig), namespace, image, fake: None };
        }
        Self { image, ..Self::faked(Cluster::start()) }
    }

    /// Uses a fake that a test has made.
    pub fn faked(fake: Cluster) -> Self {
        Self {
            kubeconfig: fake.kubeconfig(),
            namespace: fake.namespace().to_owned(),
            image: DEFAULT_IMAGE.to_owned(),
            fake: Some(Arc::new(fake)),
        }
    }

    /// Its kubeconfig.
    pub fn kubeconfig(&self) -> &std::path::Path {
        &self.kubeconfig
    }

    /// The namespace for pods.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// An image that has `sh`.
    pub fn image(&self) -> &str {
        &self.image
    }

    /// The fake, if it is one: for faults and counters.
    pub fn fake(&self) -> Option<&Cluster> {
        self.fake.as_deref()
    }
}
