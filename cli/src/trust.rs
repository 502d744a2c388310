//! Which certificates of dispatchers are trusted, and what to do about one that is not.

use std::path::Path;

use anyhow::Result;
use fairlane_clikit::exit::Stop;
use reqwest::Certificate;

/// The certificates in a file.
pub(crate) fn certificates(file: &Path) -> Result<Vec<Certificate>> {
    let bad = |why: &str| Stop::usage(format!("--ca: {} {why}", file.display()));
    let text = std::fs::read(file).map_err(|error| bad(&format!("cannot be read: {error}")))?;
    match Certificate::from_pem_bundle(&text) {
        Ok(found) if !found.is_empty() => Ok(found),
        _ => Err(bad("holds no certificate in PEM form (-----BEGIN CERTIFICATE-----)").into()),
    }
}

/// What to do about a rejected certificate, or an address with the wrong scheme.
pub(crate) fn about(cause: &str) -> Option<&'static str> {
    [
        (
            "CaUsedAsEndEntity",
            "its certificate is marked as that of an authority (`openssl req -x509` does this), so it is refused.\n\
             Make it again with `-addext basicConstraints=critical,CA:FALSE`, and name it with --ca (docs/http.md).",
        ),
        (
            "UnknownIssuer",
            "its certificate was issued by an unknown authority.\nName the authority's certificate with --ca or FAIRLANE_CA.",
        ),
        ("certificate expired", "its certificate has expired."),
        ("certificate not valid yet", "its certificate is not valid yet; is this machine's clock right?"),
        (
            "not valid for name",
            "its certificate is for another name.\nUse an address with a name that the certificate has.",
        ),
        (
            "corrupt message",
            "what answers there does not speak TLS.\nIs it http:// instead of https://?",
        ),
        (
            "invalid HTTP version",
            "what answers there does not speak HTTP in the clear.\nIs it https:// instead of http://?",
        ),
    ]
    .into_iter()
    .find_map(|(part, said)| cause.contains(part).then_some(said))
}
