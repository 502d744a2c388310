//! The settings of the log archive.

#![expect(clippy::doc_markdown, reason = "the comments are the help, which people read as plain text")]

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use object_store::aws::AmazonS3Builder;
use object_store::path::Path;
use object_store::{BackoffConfig, ClientOptions, RetryConfig};
use secrecy::{ExposeSecret, SecretString};

use super::{LogArchive, Place};

/// Time limits of one request to a store; an attempt may need two.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const REQUEST_TIMEOUT: Duration = Duration::from_secs(25);
/// An error is reported after this many retries; the archiver tries again later.
const RETRIES: usize = 1;

/// Where finished logs are archived.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct ArchiveArgs {
    /// Archive the logs of ended builds in this folder, or in a bucket: s3://BUCKET or s3://BUCKET/PREFIX
    #[arg(long, env = "FAIRLANE_LOG_ARCHIVE", value_name = "FOLDER|URL")]
    pub log_archive: Option<String>,
    /// Server of the bucket, if it is not Amazon's: http://HOST:PORT or https://HOST
    #[arg(long, env = "FAIRLANE_LOG_ARCHIVE_ENDPOINT", value_name = "URL")]
    pub log_archive_endpoint: Option<String>,
    /// Region of the bucket; AWS_REGION, or us-east-1, by default
    #[arg(long, env = "FAIRLANE_LOG_ARCHIVE_REGION", value_name = "REGION")]
    pub log_archive_region: Option<String>,
    /// Access key of the bucket, ID:SECRET; prefer the environment or a file. Without it, the usual AWS variables are
    /// used, or the machine's role
    #[arg(long, env = "FAIRLANE_LOG_ARCHIVE_KEY", hide_env_values = true, value_name = "ID:SECRET")]
    pub log_archive_key: Option<SecretString>,
    /// File with the access key
    #[arg(long, env = "FAIRLANE_LOG_ARCHIVE_KEY_FILE", value_name = "FILE")]
    pub log_archive_key_file: Option<PathBuf>,
}

/// An invalid setting of the log archive.
#[derive(Debug, thiserror::Error)]
#[error("{setting}: {why}")]
pub struct ArchiveError {
    setting: &'static str,
    why: String,
}

const ARCHIVE: &str = "FAIRLANE_LOG_ARCHIVE";
const ENDPOINT: &str = "FAIRLANE_LOG_ARCHIVE_ENDPOINT";
const KEY: &str = "FAIRLANE_LOG_ARCHIVE_KEY";
const KEY_FILE: &str = "FAIRLANE_LOG_ARCHIVE_KEY_FILE";

fn wrong(setting: &'static str, why: impl Into<String>) -> ArchiveError {
    ArchiveError { setting, why: why.into() }
}

impl ArchiveArgs {
    /// The archive, if one is set. Nothing is asked of it yet.
    ///
    /// # Errors
    /// A setting is invalid; the message names it and never repeats a secret.
    pub fn archive(&self) -> Result<Option<LogArchive>, ArchiveError> {
        let Self {
            log_archive,
            log_archive_endpoint: endpoint,
            log_archive_region: region,
            log_archive_key: key,
            log_archive_key_file: key_file,
        } = self;
        let Some(place) = log_archive.as_deref().filter(|place| !place.is_empty()) else {
            return Ok(None);
        };
        let Some(bucket) = place.strip_prefix("s3://") else {
            return folder(place).map(Some);
        };
        let (bucket, prefix) = bucket.split_once('/').unwrap_or((bucket, ""));
        let is_name = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '.');
        if bucket.len() < 3 || !bucket.chars().all(is_name) {
            return Err(wrong(ARCHIVE, format!("'{place}' names no bucket; write s3://BUCKET/PREFIX")));
        }
        let prefix = Path::parse(prefix.trim_end_matches('/'))
            .map_err(|error| wrong(ARCHIVE, format!("'{place}' has an invalid prefix: {error}")))?;
        let mut builder = AmazonS3Builder::from_env()
            .with_bucket_name(bucket)
            .with_retry(RetryConfig {
                backoff: BackoffConfig::default(),
                max_retries: RETRIES,
                retry_timeout: REQUEST_TIMEOUT,
            })
            .with_client_options(
                ClientOptions::new()
                    .with_connect_timeout(CONNECT_TIMEOUT)
                    .with_timeout(REQUEST_TIMEOUT)
                    .with_allow_http(true),
            );
        if let Some(endpoint) = endpoint.as_deref().filter(|endpoint| !endpoint.is_empty()) {
            if !["http://", "https://"].iter().any(|scheme| endpoint.starts_with(scheme)) {
                return Err(wrong(
                    ENDPOINT,
                    format!("'{endpoint}' is not a URL such as https://s3.example.org"),
                ));
            }
            builder = builder.with_endpoint(endpoint);
        }
        if let Some(region) = region.as_deref().filter(|region| !region.is_empty()) {
            builder = builder.with_region(region);
        }
        if let Some((id, secret)) = access_key(key.as_ref(), key_file.as_ref())? {
            builder = builder.with_access_key_id(id).with_secret_access_key(secret.expose_secret());
        }
        let store = builder.build().map_err(|error| wrong(ARCHIVE, error.to_string()))?;
        Ok(Some(LogArchive::new(Place::Bucket(Arc::new(store)), prefix, place.to_owned())))
    }
}

fn folder(place: &str) -> Result<LogArchive, ArchiveError> {
    let path = place.strip_prefix("file://").unwrap_or(place);
    if !path.starts_with('/') {
        let why = format!("'{place}' is neither an absolute path nor a URL such as s3://BUCKET/PREFIX");
        return Err(wrong(ARCHIVE, why));
    }
    Ok(LogArchive::new(Place::Folder(PathBuf::from(path)), Path::default(), path.to_owned()))
}

/// The id and the secret of the access key, if one is given.
fn access_key(
    key: Option<&SecretString>,
    file: Option<&PathBuf>,
) -> Result<Option<(String, SecretString)>, ArchiveError> {
    let key = key.filter(|key| !key.expose_secret().is_empty());
    let file = file.filter(|file| !file.as_os_str().is_empty());
    let (setting, text) = match (key, file) {
        (Some(_), Some(_)) => return Err(wrong(KEY_FILE, format!("{KEY} is set as well; set one of them"))),
        (Some(key), None) => (KEY, key.clone()),
        (None, Some(file)) => {
            let read = std::fs::read_to_string(file);
            let text = read.map_err(|error| wrong(KEY_FILE, format!("{}: {error}", file.display())))?;
            (KEY_FILE, SecretString::from(text))
        }
        (None, None) => return Ok(None),
    };
    let parts = text.expose_secret().trim().split_once(':');
    match parts {
        Some((id, secret)) if !id.is_empty() && !secret.is_empty() => {
            Ok(Some((id.to_owned(), SecretString::from(secret))))
        }
        _ => Err(wrong(setting, "must be ID:SECRET")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(place: &str) -> ArchiveArgs {
        ArchiveArgs { log_archive: Some(place.to_owned()), ..ArchiveArgs::default() }
    }

    #[test]
    fn a_folder_or_a_bucket() {
        assert!(ArchiveArgs::default().archive().unwrap().is_none());
        assert!(args("").archive().unwrap().is_none());
        for (place, shown) in [
            ("/var/logs", "/var/logs"),
            ("file:///var/logs", "/var/logs"),
            ("s3://logs/a/b/", "s3://logs/a/b/"),
        ] {
            assert_eq!(args(place).archive().unwrap().unwrap().to_string(), shown);
        }
        let bucket = args("s3://logs/a/b/").archive().unwrap().unwrap();
        let id: fairlane_common::id::BuildId = "019adf6a-1400-7d3a-9b1e-3f6f0a1b2c3d".parse().unwrap();
        assert_eq!(bucket.path(id).to_string(), "a/b/2025-12-02/019adf6a-1400-7d3a-9b1e-3f6f0a1b2c3d.log");
    }

    #[test]
    fn bad_settings_are_named_and_no_secret_is_repeated() {
        let secret = |key: &str| Some(SecretString::from(key));
        for (args, says) in [
            (args("logs"), "FAIRLANE_LOG_ARCHIVE: 'logs' is neither an absolute path nor a URL"),
            (args("gs://bucket"), "FAIRLANE_LOG_ARCHIVE: 'gs://bucket' is neither"),
            (args("s3://"), "names no bucket"),
            (args("s3://Bucket/x"), "names no bucket"),
            (args("s3://bucket/a//b"), "invalid prefix"),
            (
                ArchiveArgs { log_archive_endpoint: Some("minio:9000".to_owned()), ..args("s3://bucket") },
                "FAIRLANE_LOG_ARCHIVE_ENDPOINT: 'minio:9000'",
            ),
            (
                ArchiveArgs { log_archive_key: secret("topsecret"), ..args("s3://bucket") },
                "FAIRLANE_LOG_ARCHIVE_KEY: must be ID:SECRET",
            ),
            (
                ArchiveArgs { log_archive_key_file: Some("/no/such".into()), ..args("s3://bucket") },
                "FAIRLANE_LOG_ARCHIVE_KEY_FILE: /no/such",
            ),
            (
                ArchiveArgs {
                    log_archive_key: secret("a:topsecret"),
                    log_archive_key_file: Some("/x".into()),
                    ..args("s3://bucket")
                },
                "set one of them",
            ),
        ] {
            let error = args.archive().unwrap_err().to_string();
            assert!(error.contains(says) && !error.contains("topsecret"), "{error}");
        }
        let good = ArchiveArgs { log_archive_key: secret("id:topsecret"), ..args("s3://bucket") };
        let shown = format!("{good:?} {:?}", good.archive().unwrap().unwrap());
        assert!(!shown.contains("topsecret"), "{shown}");
    }
}
