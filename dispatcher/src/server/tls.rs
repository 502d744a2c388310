//! TLS: a certificate and its key from two files, read again when they change.

use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use aws_lc_rs::digest::{SHA256, digest};
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tokio_rustls::TlsAcceptor;

use crate::reload::Reload;

/// Where the certificate is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// The certificate and those that lead to its authority, PEM.
    pub certificate: PathBuf,
    /// Its key, PEM.
    pub key: PathBuf,
}

/// Why there is no TLS with these files.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// A file cannot be read.
    #[error("the file {path} cannot be read: {why}")]
    File {
        /// The file.
        path: PathBuf,
        /// Why; never a part of the file.
        why: String,
    },
    /// The two do not make a certificate that can be served.
    #[error("the certificate {certificate} cannot be served: {source}")]
    Pair {
        /// The certificate's file.
        certificate: PathBuf,
        /// Why.
        #[source]
        source: rustls::Error,
    },
}

/// The certificate in use.
#[derive(Debug)]
struct Current {
    key: RwLock<Arc<CertifiedKey>>,
}

impl ResolvesServerCert for Current {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.key.read().unwrap_or_else(PoisonError::into_inner)))
    }
}

/// TLS for all connections of a dispatcher.
#[derive(Clone)]
pub(crate) struct Tls {
    pub(super) acceptor: TlsAcceptor,
    /// For those who are told no more than why they are refused: by HTTP/1.1.
    pub(super) refusing: TlsAcceptor,
    files: TlsFiles,
    current: Arc<Current>,
    /// Of what the files held last.
    digest: Vec<u8>,
}

impl Tls {
    /// # Errors
    /// Names the file, and never shows what is in it.
    pub(crate) fn load(files: &TlsFiles) -> Result<Self, TlsError> {
        let (key, digest) = read(files)?;
        let current = Arc::new(Current { key: RwLock::new(Arc::new(key)) });
        let bad = |source| TlsError::Pair { certificate: files.certificate.clone(), source };
        let mut config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(bad)?
            .with_no_client_auth()
            .with_cert_resolver(Arc::clone(&current) as Arc<dyn ResolvesServerCert>);
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        let refusing = TlsAcceptor::from(Arc::new(config.clone()));
        config.alpn_protocols.insert(0, b"h2".to_vec());
        let acceptor = TlsAcceptor::from(Arc::new(config));
        Ok(Self { acceptor, refusing, files: files.clone(), current, digest })
    }
}

impl Reload for Tls {
    const WHAT: &str = "the certificate and its key";
    type Error = TlsError;

    fn reload(&mut self) -> Result<Option<String>, TlsError> {
        let (key, digest) = read(&self.files)?;
        if digest == self.digest {
            return Ok(None);
        }
        self.digest = digest;
        *self.current.key.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(key);
        Ok(Some("another certificate is served from now on".to_owned()))
    }
}

fn read(files: &TlsFiles) -> Result<(CertifiedKey, Vec<u8>), TlsError> {
    let bad = |path: &Path, why: &dyn std::fmt::Display| TlsError::File {
        path: path.to_owned(),
        why: why.to_string(),
    };
    let text = |path: &Path| std::fs::read(path).map_err(|error| bad(path, &error));
    let (certificate, key) = (text(&files.certificate)?, text(&files.key)?);
    let digest = digest(&SHA256, &[certificate.as_slice(), &key].concat()).as_ref().to_vec();
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(&certificate)
        .collect::<Result<_, _>>()
        .map_err(|_| bad(&files.certificate, &"it is no PEM"))?;
    if chain.is_empty() {
        return Err(bad(&files.certificate, &"there is no certificate in it"));
    }
    let key = PrivateKeyDer::from_pem_slice(&key)
        .map_err(|_| bad(&files.key, &"there is no private key in it (PEM, without a password)"))?;
    // It also compares the two.
    let pair = CertifiedKey::from_der(chain, key, &default_provider())
        .map_err(|source| TlsError::Pair { certificate: files.certificate.clone(), source })?;
    Ok((pair, digest))
}
