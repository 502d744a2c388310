//! Where the configuration of a cluster comes from. It is reread when it changes, because credentials are renewed.

use std::ffi::OsString;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};
use kube::Config;
use kube::config::{KubeConfigOptions, Kubeconfig, KubeconfigError};

use super::in_full;
use super::proxy::proxy_for;

/// Where a cluster's configuration is.
#[derive(Debug, Clone)]
pub(super) enum Origin {
    /// In the files that `KUBECONFIG` names.
    Variable(OsString),
    File(PathBuf),
    /// In the files that every pod has.
    Pod,
}

impl Origin {
    /// Finds it as `kubectl` does.
    pub(super) fn find() -> Result<Self> {
        if let Some(files) = std::env::var_os("KUBECONFIG").filter(|value| !value.is_empty()) {
            Ok(Self::Variable(files))
        } else if let Some(file) = home_kubeconfig() {
            Ok(Self::File(file))
        } else if std::env::var_os("KUBERNETES_SERVICE_HOST").is_some() {
            Ok(Self::Pod)
        } else {
            bail!(
                "no Kubernetes cluster is configured: KUBECONFIG is not set, there is no \
                 ~/.kube/config, and this process is not a pod; set KUBECONFIG to the path of a kubeconfig"
            )
        }
    }

    /// Its name, for people.
    pub(super) fn source(&self) -> String {
        match self {
            Self::Variable(files) => format!("the kubeconfig {}", Path::new(files).display()),
            Self::File(file) => format!("the kubeconfig {}", file.display()),
            Self::Pod => "this pod's service account".to_owned(),
        }
    }

    /// Its files; none for a pod, whose files the client itself rereads.
    pub(super) fn files(&self) -> Vec<PathBuf> {
        match self {
            Self::Variable(files) => std::env::split_paths(files).collect(),
            Self::File(file) => vec![file.clone()],
            Self::Pod => Vec::new(),
        }
    }

    pub(super) async fn config(&self) -> Result<Config> {
        let source = &self.source();
        let kubeconfig = match self {
            Self::Variable(_) => Kubeconfig::read(),
            Self::File(file) => Kubeconfig::read_from(file),
            Self::Pod => {
                return Config::incluster().context(
                    "this process runs in a cluster, but without a service account's token; set \
                     automountServiceAccountToken in its pod, or KUBECONFIG",
                );
            }
        };
        of_kubeconfig(kubeconfig.map_err(|error| unreadable(error, source))?, source).await
    }
}

/// The credentials files that a configuration names.
pub(super) fn files_of(config: &Config, origin: &Origin) -> Vec<PathBuf> {
    if matches!(origin, Origin::Pod) {
        return Vec::new();
    }
    let auth = &config.auth_info;
    let files = [&auth.token_file, &auth.client_certificate, &auth.client_key];
    files.into_iter().flatten().map(PathBuf::from).collect()
}

/// A hash of the files' contents; a file that cannot be read counts as empty.
pub(super) fn fingerprint(files: &[PathBuf]) -> u64 {
    let mut hasher = DefaultHasher::new();
    for file in files {
        std::fs::read(file).unwrap_or_default().hash(&mut hasher);
    }
    hasher.finish()
}

fn home_kubeconfig() -> Option<PathBuf> {
    let file = PathBuf::from(std::env::var_os("HOME")?).join(".kube/config");
    file.exists().then_some(file)
}

async fn of_kubeconfig(kubeconfig: Kubeconfig, source: &str) -> Result<Config> {
    let has_proxy = kubeconfig
        .clusters
        .iter()
        .filter_map(|named| named.cluster.as_ref())
        .any(|cluster| cluster.proxy_url.as_ref().is_some_and(|proxy| !proxy.is_empty()));
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await;
    let mut config = config.map_err(|error| unreadable(error, source))?;
    if !has_proxy {
        // The client would use any HTTPS_PROXY, and would compare NO_PROXY with the proxy instead of the host.
        let variable = |names: [&str; 2]| names.into_iter().find_map(|name| std::env::var(name).ok());
        let (https, no) = (variable(["HTTPS_PROXY", "https_proxy"]), variable(["NO_PROXY", "no_proxy"]));
        let host = config.cluster_url.host().unwrap_or_default();
        let proxy = proxy_for(host, https.as_deref(), no.as_deref());
        config.proxy_url = proxy.map(|proxy| proxy.parse()).transpose().context("HTTPS_PROXY")?;
    }
    Ok(config)
}

/// What is wrong with a kubeconfig.
#[expect(clippy::needless_pass_by_value, reason = "handed to map_err")]
fn unreadable(error: KubeconfigError, source: &str) -> anyhow::Error {
    match &error {
        KubeconfigError::ReadConfig(why, _) if why.kind() == std::io::ErrorKind::NotFound => {
            anyhow!("{source} does not exist; set KUBECONFIG to one that does")
        }
        KubeconfigError::CurrentContextNotSet => {
            anyhow!("{source} has no current context: choose one with `kubectl config use-context NAME`")
        }
        KubeconfigError::LoadContext(name) => {
            anyhow!("{source} has no context '{name}', which it names as the current one")
        }
        KubeconfigError::LoadClusterOfContext(name) => anyhow!("{source} has no cluster '{name}'"),
        _ => anyhow!("{source} is not a valid kubeconfig: {}", in_full(&error)),
    }
}
