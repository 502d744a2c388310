//! TLS: a certificate and its key from two files, reread when they change.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::TlsAcceptor;

/// The files of a certificate and its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// The certificate, followed by its chain; PEM.
    pub certificate: PathBuf,
    /// Its private key, PEM.
    pub key: PathBuf,
}

/// Why files cannot be used for TLS.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// A file cannot be read.
    #[error("the file {path} cannot be read: {why}")]
    File {
        /// The file.
        path: PathBuf,
        /// The reason, without anything from the file.
        why: String,
    },
    /// The certificate and the key cannot be used together.
    #[error("the certificate {certificate} cannot be used: {source}")]
    Pair {
        /// The certificate's file.
        certificate: PathBuf,
        /// Why.
        #[source]
        source: rustls::Error,
    },
}

/// TLS with the certificate from two files, as they were when last read.
#[derive(Clone)]
pub struct Tls {
    files: TlsFiles,
    current: Arc<RwLock<Current>>,
}

struct Current {
    acceptor: TlsAcceptor,
    /// Hash of the files' contents.
    hash: u64,
}

impl Tls {
    /// # Errors
    /// Names the file; never shows its contents.
    pub fn load(files: &TlsFiles) -> Result<Self, TlsError> {
        let current = Arc::new(RwLock::new(read(files)?));
        Ok(Self { files: files.clone(), current })
    }

    /// Rereads the files. Returns whether the certificate or key has changed; if so, new connections use them.
    ///
    /// # Errors
    /// As for [`Tls::load`]; the certificate in use stays.
    pub fn reload(&self) -> Result<bool, TlsError> {
        let new = read(&self.files)?;
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        let is_other = new.hash != current.hash;
        if is_other {
            *current = new;
        }
        Ok(is_other)
    }

    /// An acceptor for the next connection.
    pub(crate) fn acceptor(&self) -> TlsAcceptor {
        self.current.read().unwrap_or_else(PoisonError::into_inner).acceptor.clone()
    }
}

fn read(files: &TlsFiles) -> Result<Current, TlsError> {
    let bad = |path: &Path, why: &dyn std::fmt::Display| TlsError::File {
        path: path.to_owned(),
        why: why.to_string(),
    };
    let text = |path: &Path| std::fs::read(path).map_err(|error| bad(path, &error));
    let (certificate, key) = (text(&files.certificate)?, text(&files.key)?);
    let mut hasher = DefaultHasher::new();
    (&certificate, &key).hash(&mut hasher);
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(&certificate)
        .collect::<Result<_, _>>()
        .map_err(|_| bad(&files.certificate, &"it is not PEM"))?;
    if chain.is_empty() {
        return Err(bad(&files.certificate, &"it contains no certificate"));
    }
    let key = PrivateKeyDer::from_pem_slice(&key)
        .map_err(|_| bad(&files.key, &"it contains no private key (PEM, without a password)"))?;
    let pair = |source| TlsError::Pair { certificate: files.certificate.clone(), source };
    let mut config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(pair)?
        .with_no_client_auth()
        // This also checks that the key belongs to the certificate.
        .with_single_cert(chain, key)
        .map_err(pair)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Current { acceptor: TlsAcceptor::from(Arc::new(config)), hash: hasher.finish() })
}
