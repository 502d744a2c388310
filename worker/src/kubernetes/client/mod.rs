//! The connection to a Kubernetes cluster, and the error messages when it fails.

mod expiry;
mod origin;
mod proxy;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Result, anyhow, bail, ensure};
use aws_lc_rs::digest::{SHA256, digest};
use kube::{Client, Config};

use self::expiry::{Expiry, expiry};
use self::origin::{Origin, files_of, fingerprint};
use crate::kubernetes::pod::hex;

/// Time limit for connecting.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Time limit for the first response.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// Hex digits of a cluster's id.
const ID_DIGITS: usize = 12;

/// A cluster, a namespace in it, and our account there.
#[derive(Clone)]
pub struct Cluster {
    /// The client of its API.
    pub client: Client,
    /// The namespace of the build pods.
    pub namespace: String,
    id: String,
    url: String,
    source: String,
    expiry: Option<Expiry>,
    origin: Origin,
    /// The namespace and the id that replace those of the configuration.
    given: (Option<String>, Option<String>),
    /// The files of the configuration, and a hash of their contents when they were read.
    files: Vec<PathBuf>,
    read: u64,
}

impl Cluster {
    /// The cluster of the kubeconfig (`KUBECONFIG`, otherwise `~/.kube/config`), otherwise the cluster that this
    /// process is a pod of. Sends no request yet. `namespace` and `id` replace those of the configuration.
    ///
    /// # Errors
    /// No cluster is configured, or its configuration is invalid; the message says what to do.
    pub async fn find(namespace: Option<&str>, id: Option<&str>) -> Result<Self> {
        Self::of_origin(Origin::find()?, namespace, id).await
    }

    /// The cluster of one kubeconfig.
    ///
    /// # Errors
    /// As for [`Self::find`].
    pub async fn of_file(file: &Path, namespace: Option<&str>, id: Option<&str>) -> Result<Self> {
        Self::of_origin(Origin::File(file.to_owned()), namespace, id).await
    }

    /// The same cluster, with its configuration reread: its credentials may have been renewed.
    ///
    /// # Errors
    /// As for [`Self::find`], or the configuration now names another cluster or namespace.
    pub async fn again(&self) -> Result<Self> {
        let (namespace, id) = (self.given.0.as_deref(), self.given.1.as_deref());
        let again = Self::of_origin(self.origin.clone(), namespace, id).await?;
        ensure!(
            again.place() == self.place(),
            "{} names another cluster or namespace now ({}, not {}): restart the worker to build there",
            self.source,
            again.place(),
            self.place(),
        );
        Ok(again)
    }

    /// Whether the files of its configuration have changed.
    pub fn has_changed(&self) -> bool {
        fingerprint(&self.files) != self.read
    }

    async fn of_origin(origin: Origin, namespace: Option<&str>, id: Option<&str>) -> Result<Self> {
        let source = origin.source();
        let files = origin.files();
        // Hashed before they are read, so that a change in between is noticed.
        let read = fingerprint(&files);
        let mut config = origin.config().await?;
        let given = (namespace.map(str::to_owned), id.map(str::to_owned));
        config.connect_timeout = Some(CONNECT_TIMEOUT);
        // The caller retries: only the caller knows whether a change is still wanted.
        config.default_retry = false;
        let namespace = namespace.map_or_else(|| config.default_namespace.clone(), str::to_owned);
        let id = id.map_or_else(|| id_of(&config), str::to_owned);
        let url = config.cluster_url.to_string().trim_end_matches('/').to_owned();
        let expiry = expiry(&config.auth_info);
        let also = files_of(&config, &origin);
        let read = if also.is_empty() { read } else { fingerprint(&[&files[..], &also[..]].concat()) };
        let files = [files, also].concat();
        let client = Client::try_from(config)
            .map_err(|error| anyhow!("{source} cannot be used: {}", in_full(&error)))?;
        Ok(Self { client, namespace, id, url, source, expiry, origin, given, files, read })
    }

    /// The place of runs in it: only workers of the same place can adopt them.
    pub fn place(&self) -> String {
        format!("k8s:{}/{}", self.id, self.namespace)
    }

    /// The URL of its API.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Where its configuration came from, for people.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Gets its version, which shows whether it answers and accepts our credentials.
    ///
    /// # Errors
    /// It does not; the message says why, and what to do.
    pub async fn version(&self) -> Result<String> {
        match tokio::time::timeout(ANSWER_TIMEOUT, self.client.apiserver_version()).await {
            Ok(Ok(version)) => Ok(version.git_version),
            Ok(Err(error)) => Err(anyhow!(self.explain(&error))),
            Err(_) => bail!(
                "the Kubernetes API at {} ({}) did not answer within {} s",
                self.url,
                self.source,
                ANSWER_TIMEOUT.as_secs()
            ),
        }
    }

    /// Why a run at `place` does not belong to this cluster and namespace; `None` if it does.
    pub fn stranger(&self, place: &str) -> Option<String> {
        let (cluster, namespace) = place.strip_prefix("k8s:")?.split_once('/')?;
        if place == self.place() {
            return None;
        }
        let Self { id, source, .. } = self;
        Some(if cluster == id {
            format!("it runs in the namespace {namespace}, not in {}: see FAIRLANE_NAMESPACE", self.namespace)
        } else {
            format!(
                "it runs in another cluster ({cluster}) than that of {source} ({id}): is this the right \
                 kubeconfig? (If the certificate authority of this cluster was renewed, set FAIRLANE_CLUSTER to \
                 the same name on all workers)"
            )
        })
    }

    /// An error of the API as a message that says what to do about it.
    pub fn explain(&self, error: &kube::Error) -> String {
        let Self { url, source, .. } = self;
        match error {
            kube::Error::Api(status) if status.code == 401 => match &self.expiry {
                Some(expiry) if expiry.is_past() => {
                    format!("{source} has expired: its {expiry}; get a new one for {url}")
                }
                _ => format!(
                    "the Kubernetes API at {url} does not know the credentials of {source}: they were \
                     revoked, have expired, or belong to another cluster; get new ones"
                ),
            },
            kube::Error::Api(status) if status.code == 403 => {
                format!("the credentials of {source} do not allow it: {}", status.message)
            }
            kube::Error::Api(status) => {
                format!("the Kubernetes API at {url} answers {}: {}", status.code, status.message)
            }
            kube::Error::Auth(error) => {
                format!("the credentials of {source} cannot be obtained: {}", in_full(error))
            }
            error => self.explain_connection(&in_full(error)),
        }
    }

    fn explain_connection(&self, text: &str) -> String {
        let Self { url, source, .. } = self;
        let lower = text.to_lowercase();
        let has = |words: &[&str]| words.iter().any(|word| lower.contains(word));
        if has(&["certificate: expired", "certificate expired", "notvalidyet"]) {
            format!(
                "the certificate of the Kubernetes API at {url} ({source}) is not valid now: renew it, or set \
                 this host's clock ({text})"
            )
        } else if has(&["notvalidforname"]) {
            format!(
                "the certificate of the Kubernetes API at {url} is not for that host: use a name or address that \
                 it was made for, or tls-server-name, in {source} ({text})"
            )
        } else if has(&["unknownissuer", "unknown issuer", "badsignature", "invalid peer certificate"]) {
            format!(
                "the Kubernetes API at {url} presents a certificate that {source} does not trust: it \
                 belongs to another cluster, or the cluster was recreated; get a new kubeconfig ({text})"
            )
        } else if has(&["dns error", "failed to lookup"]) {
            format!("the host of the Kubernetes API at {url} ({source}) cannot be resolved: {text}")
        } else if has(&["connection refused", "timed out", "deadline", "elapsed", "unreachable", "reset"]) {
            format!("the Kubernetes API at {url} ({source}) cannot be reached: is the cluster up? ({text})")
        } else {
            format!("the Kubernetes API at {url} ({source}) cannot be used: {text}")
        }
    }
}

/// Identifies the cluster by the certificate of its authority, because one cluster may have many addresses, inside
/// and outside. Without a certificate, identifies it by its address.
fn id_of(config: &Config) -> String {
    let hash = match config.root_cert.as_deref() {
        Some(certificates) if !certificates.is_empty() => {
            let mut certificates = certificates.to_vec();
            certificates.sort();
            digest(&SHA256, &certificates.concat())
        }
        _ => digest(&SHA256, config.cluster_url.to_string().as_bytes()),
    };
    hex(hash.as_ref())[..ID_DIGITS].to_owned()
}

/// An error and its causes, each part once.
fn in_full(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        next = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kubeconfig(user: &str, server: &str) -> String {
        format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: c\n\
             contexts: [{{ name: c, context: {{ cluster: k, user: u, namespace: builds }} }}]\n\
             clusters: [{{ name: k, cluster: {{ server: '{server}' }} }}]\n\
             users: [{{ name: u, user: {user} }}]\n"
        )
    }

    async fn cluster_of(text: &str) -> Result<Cluster> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("config");
        std::fs::write(&file, text).unwrap();
        Cluster::of_file(&file, None, None).await
    }

    fn refused(code: u16, message: &str) -> kube::Error {
        let status = kube::core::Status::failure(message, "Unauthorized").with_code(code);
        kube::Error::Api(status.boxed())
    }

    #[tokio::test]
    async fn bad_kubeconfigs_say_what_is_wrong() {
        let missing = Cluster::of_file(Path::new("/no/such/file"), None, None).await;
        let error = missing.err().unwrap().to_string();
        assert!(error.contains("/no/such/file does not exist"), "{error}");
        let good = kubeconfig("{ token: t }", "http://127.0.0.1:1");
        for (text, says) in [
            (good.replace("current-context: c\n", ""), "no current context"),
            (good.replace("current-context: c", "current-context: x"), "no context 'x'"),
            (good.replace("cluster: k,", "cluster: x,"), "no cluster 'x'"),
            ("{".to_owned(), "is not a valid kubeconfig"),
        ] {
            let error = cluster_of(&text).await.err().unwrap().to_string();
            assert!(error.contains(says), "{says}: {error}");
        }
    }

    #[tokio::test]
    async fn refused_credentials_are_told_by_what_is_known_of_them() {
        // {"exp":1000000000} is in September 2001.
        let old = "e30.eyJleHAiOjEwMDAwMDAwMDB9.c2ln";
        for (user, says) in [
            (format!("{{ token: {old} }}"), "has expired: its token ended at 2001-09-09"),
            ("{ token: opaque }".to_owned(), "or belong to another cluster"),
            ("{}".to_owned(), "does not know the credentials"),
        ] {
            let cluster = cluster_of(&kubeconfig(&user, "http://127.0.0.1:1")).await.unwrap();
            let text = cluster.explain(&refused(401, "Unauthorized"));
            assert!(text.contains(says) && text.contains("http://127.0.0.1:1"), "{text}");
            assert!(!text.contains(old) && !text.contains("opaque"), "a secret: {text}");
        }
        let cluster = cluster_of(&kubeconfig("{}", "http://127.0.0.1:1")).await.unwrap();
        let text = cluster.explain(&refused(403, "pods is forbidden"));
        assert!(text.contains("do not allow it: pods is forbidden"), "{text}");
    }

    #[tokio::test]
    async fn an_api_that_is_not_there_is_named() {
        let cluster = cluster_of(&kubeconfig("{}", "http://127.0.0.1:1")).await.unwrap();
        let error = cluster.version().await.unwrap_err().to_string();
        assert!(error.contains("http://127.0.0.1:1") && error.contains("cannot be reached"), "{error}");
        let text =
            cluster.explain_connection("client error (Connect): invalid peer certificate: UnknownIssuer");
        assert!(text.contains("another cluster"), "{text}");
    }

    #[tokio::test]
    async fn places_tell_clusters_and_namespaces_apart() {
        let one = cluster_of(&kubeconfig("{}", "http://127.0.0.1:1")).await.unwrap();
        let other = cluster_of(&kubeconfig("{}", "http://127.0.0.1:2")).await.unwrap();
        assert!(one.place().starts_with("k8s:") && one.place().ends_with("/builds"));
        assert_ne!(one.place(), other.place());
        assert_eq!(one.stranger(&one.place()), None);
        assert!(one.stranger(&other.place()).unwrap().contains("another cluster"));
        let elsewhere = one.place().replace("/builds", "/other");
        assert!(one.stranger(&elsewhere).unwrap().contains("namespace other"));
        assert_eq!(one.stranger("process:w"), None);
    }
}
