//! Whether an image is already in its registry, checked just before it would be built: an image that was pushed in
//! the meantime is not built again.
//!
//! Only registries that the operator names are contacted, because whoever requests a build chooses the image's
//! name. If the answer is unclear (the registry is away, refuses, or answers something else), the image is built.
//! Credentials are only sent to the registry that they are for, and to the token service that it names.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use fairlane_common::Build;
use fairlane_common::id::Image;
use fairlane_common::registry::{HUB, Place, canonical};
use reqwest::header::{ACCEPT, AUTHORIZATION, WWW_AUTHENTICATE};
use reqwest::{Client, Method, StatusCode, redirect};
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;

/// The accepted kinds of manifests: images for one or several architectures, in OCI's and in Docker's format.
const MANIFESTS: &str = "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json, \
                         application/vnd.docker.distribution.manifest.list.v2+json, \
                         application/vnd.docker.distribution.manifest.v2+json";
/// Longest response with a token, in bytes; those of large registries have about 5 KB.
const TOKEN_BYTES_MAX: usize = 64 * 1024;
/// Largest credentials file, in bytes.
const CONFIG_BYTES_MAX: u64 = 1024 * 1024;

/// The variable that the build's own credentials are in.
const REGISTRY_CREDENTIALS: &str = "CONTAINER_ENGINE_REGISTRY_CREDENTIALS";

const HUB_API: &str = "https://registry-1.docker.io";
/// Its name in Docker's own files.
const HUB_IN_FILES: &str = "https://index.docker.io/v1/";

/// Options of the check.
#[derive(Debug, Clone, clap::Args)]
pub struct RegistryCheckArgs {
    /// Registry to check for the image before a build: as image names spell it, such as docker.io, or
    /// NAME=URL if its API has another address
    #[arg(
        long = "registry-check",
        value_name = "REGISTRY",
        env = "FAIRLANE_REGISTRY_CHECK",
        value_delimiter = ','
    )]
    registries: Vec<String>,
    /// Docker credentials file (config.json), for registries that a build has no credentials for
    #[arg(long, value_name = "FILE", env = "FAIRLANE_REGISTRY_CONFIG")]
    registry_config: Option<PathBuf>,
    /// Time limit for the registry check; after that the image is built
    #[arg(long, value_name = "TIME", env = "FAIRLANE_REGISTRY_CHECK_TIMEOUT", default_value = "5s")]
    registry_check_timeout: humantime::Duration,
}

/// The check, if any registry is to be checked.
#[derive(Debug, Clone, Default)]
pub struct RegistryCheck(Option<Arc<Check>>);

#[derive(Debug)]
struct Check {
    client: Client,
    /// From a registry's name in image names to the URL of its API.
    registries: BTreeMap<String, String>,
    config: Option<PathBuf>,
    timeout: Duration,
}

impl RegistryCheckArgs {
    /// The check that these options configure.
    ///
    /// # Errors
    /// An invalid registry or timeout.
    pub fn check(&self) -> anyhow::Result<RegistryCheck> {
        let Self { registries, registry_config, registry_check_timeout } = self;
        let mut named = BTreeMap::new();
        for text in registries.iter().map(|text| text.trim()).filter(|text| !text.is_empty()) {
            let (name, url) = text.split_once('=').map_or_else(
                || (text, usual_url(text)),
                |(name, url)| (name, url.trim_end_matches('/').to_owned()),
            );
            let is_url = reqwest::Url::parse(&url).is_ok_and(|url| matches!(url.scheme(), "http" | "https"));
            anyhow::ensure!(
                is_url && !name.is_empty() && !name.contains('/'),
                "--registry-check must name registries as images do, such as registry.example.org:5000, or \
                 NAME=https://…"
            );
            named.insert(canonical(name).to_owned(), url);
        }
        if named.is_empty() {
            return Ok(RegistryCheck(None));
        }
        let timeout: Duration = **registry_check_timeout;
        anyhow::ensure!(!timeout.is_zero(), "--registry-check-timeout must be longer than zero");
        // Redirects are not followed: a registry could choose what this machine requests.
        let client = Client::builder().redirect(redirect::Policy::none()).timeout(timeout).build()?;
        let check = Check { client, registries: named, config: registry_config.clone(), timeout };
        Ok(RegistryCheck(Some(Arc::new(check))))
    }
}

impl RegistryCheck {
    /// Whether any registry is checked.
    pub fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// Whether `build`, whose secrets are in `env`, needs no run: its image exists, and the build is not forced.
    pub(crate) async fn skips(&self, build: &Build, env: &BTreeMap<String, String>) -> bool {
        let credentials = env.get(REGISTRY_CREDENTIALS).map(String::as_str);
        !build.forced && build.spec.push && self.is_there(&build.spec.image, credentials).await
    }

    /// Whether `image` is certainly in its registry. `credentials` are the build's own.
    pub async fn is_there(&self, image: &Image, credentials: Option<&str>) -> bool {
        let Some(check) = &self.0 else { return false };
        let place = Place::of(image.as_str());
        let Some(url) = check.registries.get(place.registry) else { return false };
        let answer = match tokio::time::timeout(check.timeout, check.ask(url, &place, credentials)).await {
            Ok(answer) => answer,
            Err(_) => Err(format!("no answer within {:.1} s", check.timeout.as_secs_f64())),
        };
        match answer {
            Ok(is_there) => {
                tracing::debug!(is_there, "asked {} for the image", place.registry);
                is_there
            }
            Err(why) => {
                tracing::warn!(
                    registry = place.registry,
                    why,
                    "cannot tell whether the registry has the image, so it is built"
                );
                false
            }
        }
    }
}

impl Check {
    async fn ask(&self, url: &str, place: &Place<'_>, brought: Option<&str>) -> Result<bool, String> {
        let manifest = format!("{url}/v2/{}/manifests/{}", place.name(), place.reference);
        let first = self.head(&manifest, None).await?;
        if first.status() != StatusCode::UNAUTHORIZED {
            return told(place, first.status());
        }
        let challenges: Vec<&str> = first
            .headers()
            .get_all(WWW_AUTHENTICATE)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .collect();
        let login = self.login(place.registry, brought);
        let authorization = match (find(&challenges, "bearer"), login) {
            (Some(bearer), login) => self.token(&bearer, place, login.as_ref()).await?,
            (None, Some(login)) if find(&challenges, "basic").is_some() => login.header(),
            _ => return Err("it requires credentials, and there are none for it".to_owned()),
        };
        told(place, self.head(&manifest, Some(&authorization)).await?.status())
    }

    async fn head(
        &self,
        url: &str,
        authorization: Option<&SecretString>,
    ) -> Result<reqwest::Response, String> {
        let mut request = self.client.request(Method::HEAD, url).header(ACCEPT, MANIFESTS);
        if let Some(authorization) = authorization {
            request = request.header(AUTHORIZATION, authorization.expose_secret());
        }
        request.send().await.map_err(reason)
    }

    /// Gets a token from the service that the registry names.
    async fn token(
        &self,
        challenge: &BTreeMap<String, String>,
        place: &Place<'_>,
        login: Option<&Login>,
    ) -> Result<SecretString, String> {
        let realm = challenge.get("realm").ok_or("it does not name its token service")?;
        let mut url =
            reqwest::Url::parse(realm).map_err(|_| "the URL of its token service is invalid".to_owned())?;
        let own = self.registries.get(place.registry).is_some_and(|own| own.starts_with("http:"));
        if url.scheme() != "https" && !(own && url.scheme() == "http") {
            return Err("its token service does not use TLS".to_owned());
        }
        let scope = challenge.get("scope").cloned();
        let scope = scope.unwrap_or_else(|| format!("repository:{}:pull", place.name()));
        url.query_pairs_mut().append_pair("scope", &scope);
        if let Some(service) = challenge.get("service") {
            url.query_pairs_mut().append_pair("service", service);
        }
        let mut request = self.client.get(url);
        if let Some(login) = login {
            request = request.header(AUTHORIZATION, login.header().expose_secret());
        }
        let mut response = request.send().await.map_err(reason)?;
        if !response.status().is_success() {
            return Err(format!("its token service answers {}", response.status()));
        }
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(reason)? {
            body.extend_from_slice(&chunk);
            if body.len() > TOKEN_BYTES_MAX {
                return Err("its token service's answer is too long".to_owned());
            }
        }
        let body: Value =
            serde_json::from_slice(&body).map_err(|_| "its token service's answer is not JSON".to_owned())?;
        let token = ["token", "access_token"].iter().find_map(|name| body[name].as_str());
        token
            .map(|token| SecretString::from(format!("Bearer {token}")))
            .ok_or("its token service's answer has no token".into())
    }

    /// The credentials for a registry: the build's own, otherwise those from the file.
    fn login(&self, registry: &str, brought: Option<&str>) -> Option<Login> {
        let brought = brought.and_then(|text| serde_json::from_str(text).ok());
        brought.and_then(|value: Value| Login::find(&value, registry)).or_else(|| {
            let config = self.config.as_deref()?;
            match read_config(config) {
                Ok(value) => Login::find(&value, registry),
                Err(why) => {
                    tracing::warn!(file = %config.display(), why, "the credentials file cannot be used");
                    None
                }
            }
        })
    }
}

fn read_config(path: &Path) -> Result<Value, String> {
    let file = std::fs::metadata(path).map_err(|error| error.to_string())?;
    if file.len() > CONFIG_BYTES_MAX {
        return Err(format!("it has more than {CONFIG_BYTES_MAX} bytes"));
    }
    let text = std::fs::read(path).map_err(|error| error.to_string())?;
    serde_json::from_slice(&text).map_err(|_| "it is not JSON".to_owned())
}

fn told(place: &Place<'_>, status: StatusCode) -> Result<bool, String> {
    match status {
        StatusCode::OK => Ok(true),
        StatusCode::NOT_FOUND => Ok(false),
        // Docker Hub does not say whether an image is missing or private.
        StatusCode::UNAUTHORIZED if place.registry == HUB => Ok(false),
        other => Err(format!("it answers {other}")),
    }
}

/// Why a request failed; without its URL, which may contain secrets.
fn reason(error: reqwest::Error) -> String {
    use std::error::Error as _;
    let error = error.without_url();
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

/// The default URL of a registry's API.
fn usual_url(registry: &str) -> String {
    if canonical(registry) == HUB {
        return HUB_API.to_owned();
    }
    let host = registry.rsplit_once(':').map_or(registry, |(host, _)| host);
    // As in Docker: requests that never leave this machine need no TLS.
    let local = host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback());
    format!("{}://{registry}", if local { "http" } else { "https" })
}

/// A name and a password.
struct Login {
    name: String,
    password: SecretString,
}

impl Login {
    fn header(&self) -> SecretString {
        let pair = format!("{}:{}", self.name, self.password.expose_secret());
        SecretString::from(format!("Basic {}", BASE64_STANDARD.encode(pair)))
    }

    /// Finds the credentials for `registry` in those that a build brings (`{"registry", "username", "password"}`),
    /// or in a Docker configuration (`{"auths": {…}}`).
    fn find(value: &Value, registry: &str) -> Option<Self> {
        let is_for = |key: &str| key == HUB_IN_FILES && registry == HUB || host_of(key) == registry;
        if let Some(auths) = value.get("auths").and_then(Value::as_object) {
            return auths.iter().find(|(key, _)| is_for(key)).and_then(|(_, entry)| Self::of_entry(entry));
        }
        // Without a registry, they are for Docker Hub, as with `docker login`.
        let named = value.get("registry").and_then(Value::as_str).filter(|name| !name.is_empty());
        if is_for(named.unwrap_or(HUB)) { Self::of_entry(value) } else { None }
    }

    fn of_entry(entry: &Value) -> Option<Self> {
        let text = |name: &str| entry.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
        if let (Some(name), Some(password)) = (text("username"), text("password")) {
            return Some(Self { name: name.to_owned(), password: password.into() });
        }
        let pair = String::from_utf8(BASE64_STANDARD.decode(text("auth")?).ok()?).ok()?;
        let (name, password) = pair.split_once(':')?;
        Some(Self { name: name.to_owned(), password: password.into() })
    }
}

/// The registry that an entry in a file is for: entries may be URLs with a path.
fn host_of(key: &str) -> &str {
    let bare = key.split_once("://").map_or(key, |(_, rest)| rest);
    canonical(bare.split('/').next().unwrap_or(bare))
}

/// The parameters of the first challenge with this scheme.
fn find(challenges: &[&str], scheme: &str) -> Option<BTreeMap<String, String>> {
    challenges.iter().find_map(|challenge| {
        let (found, rest) = challenge.trim().split_once(' ').unwrap_or((challenge.trim(), ""));
        found.eq_ignore_ascii_case(scheme).then(|| parameters(rest))
    })
}

/// `name="value",name=value`, commas allowed between quotes.
fn parameters(mut text: &str) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    while let Some((name, rest)) = text.split_once('=') {
        let (value, after) = match rest.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"').unwrap_or((quoted, "")),
            None => rest.split_once(',').unwrap_or((rest, "")),
        };
        let name = name.trim_matches([',', ' ']).to_ascii_lowercase();
        found.insert(name, value.trim().to_owned());
        text = after;
    }
    found
}

#[cfg(test)]
mod tests;
