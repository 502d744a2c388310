//! When credentials expire, as far as they say so themselves. Only read after the credentials were refused.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use k8s_openapi::jiff::Timestamp;
use k8s_openapi::jiff::civil::DateTime;
use k8s_openapi::jiff::tz::TimeZone;
use kube::config::AuthInfo;
use secrecy::ExposeSecret;

/// When something expires.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Expiry {
    what: &'static str,
    until: Timestamp,
}

impl Expiry {
    pub(super) fn is_past(&self) -> bool {
        self.until < Timestamp::now()
    }
}

impl fmt::Display for Expiry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ended at {}", self.what, self.until)
    }
}

/// The earliest expiry among the credentials, if one can be read.
pub(super) fn expiry(auth: &AuthInfo) -> Option<Expiry> {
    let token = auth
        .token
        .as_ref()
        .map(|token| token.expose_secret().to_owned())
        .or_else(|| auth.token_file.as_ref().and_then(|file| std::fs::read_to_string(file).ok()));
    let token = token.and_then(|token| token_end(token.trim()));
    let certificate = auth
        .client_certificate_data
        .as_ref()
        .and_then(|data| String::from_utf8(STANDARD.decode(data).ok()?).ok())
        .or_else(|| auth.client_certificate.as_ref().and_then(|file| std::fs::read_to_string(file).ok()));
    let certificate = certificate.and_then(|pem| certificate_end(&pem));
    let token = token.map(|until| Expiry { what: "token", until });
    let certificate = certificate.map(|until| Expiry { what: "client certificate", until });
    [token, certificate].into_iter().flatten().min_by_key(|expiry| expiry.until)
}

/// The `exp` of a JSON Web Token. The API checks its signature.
fn token_end(token: &str) -> Option<Timestamp> {
    let claims = URL_SAFE_NO_PAD.decode(token.split('.').nth(1)?).ok()?;
    let claims: serde_json::Value = serde_json::from_slice(&claims).ok()?;
    Timestamp::from_second(claims.get("exp")?.as_i64()?).ok()
}

/// The `notAfter` of the first certificate in a PEM text.
fn certificate_end(pem: &str) -> Option<Timestamp> {
    let body = pem.split("-----BEGIN CERTIFICATE-----").nth(1)?.split("-----END").next()?;
    let der = STANDARD.decode(body.split_whitespace().collect::<String>()).ok()?;
    let (_, certificate, _) = element(&der)?;
    let (_, mut fields, _) = element(certificate)?;
    // An optional version, the serial number, the algorithm and the issuer come before.
    if fields.first() == Some(&0xa0) {
        (_, _, fields) = element(fields)?;
    }
    for _ in 0..3 {
        (_, _, fields) = element(fields)?;
    }
    let (_, validity, _) = element(fields)?;
    let (_, _, rest) = element(validity)?;
    let (kind, end, _) = element(rest)?;
    let text = std::str::from_utf8(end).ok()?;
    let text = match kind {
        // A year with two digits: 1950 to 2049.
        0x17 if text.get(..2)? >= "50" => format!("19{text}"),
        0x17 => format!("20{text}"),
        _ => text.to_owned(),
    };
    let end = DateTime::strptime("%Y%m%d%H%M%SZ", &text).ok()?;
    Some(end.to_zoned(TimeZone::UTC).ok()?.timestamp())
}

/// The first element of DER data: its tag, its content, and the rest.
fn element(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&kind, rest) = der.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (length, rest) = if first < 0x80 {
        (usize::from(first), rest)
    } else {
        let (bytes, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
        let length = bytes
            .iter()
            .try_fold(0_usize, |sum, byte| sum.checked_mul(256)?.checked_add(usize::from(*byte)))?;
        (length, rest)
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some((kind, content, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A certificate that was valid for one day, signed with a key that was thrown away.
    const OLD: &str = "-----BEGIN CERTIFICATE-----\n\
        MIHDMHegAwIBAgIBBzAFBgMrZXAwDDEKMAgGA1UEAwwBYTAeFw0wMTA5MDgwMTQ2\n\
        NDBaFw0wMTA5MDkwMTQ2NDBaMAwxCjAIBgNVBAMMAWEwKjAFBgMrZXADIQDbRW6w\n\
        RiH5tR4NeHAWBXxxJ9roXa5Wk2H3Ot5+7PPxLDAFBgMrZXADQQAjsQqMwTlvxDsp\n\
        ZhotEGChhkKeyYPayfnQPbgnx/44X2a0tgbMzOt7VPuFw/x+18tyYsVaoYCVHDeO\n\
        tQJgMp8N\n\
        -----END CERTIFICATE-----\n";

    #[test]
    fn ends_are_read_where_they_stand() {
        let until: Timestamp = "2001-09-09T01:46:40Z".parse().unwrap();
        assert_eq!(token_end("e30.eyJleHAiOjEwMDAwMDAwMDB9.c2ln"), Some(until));
        assert_eq!(certificate_end(OLD), Some(until));
        let auth = AuthInfo { client_certificate_data: Some(STANDARD.encode(OLD)), ..AuthInfo::default() };
        let expiry = expiry(&auth).unwrap();
        assert!(expiry.is_past());
        assert_eq!(expiry.to_string(), "client certificate ended at 2001-09-09T01:46:40Z");
    }

    #[test]
    fn what_cannot_be_read_says_nothing() {
        for text in ["", "opaque", "a.b.c", "..", "e30.e30.c2ln"] {
            assert_eq!(token_end(text), None, "{text}");
        }
        for end in 0..OLD.len() {
            let _ = certificate_end(&OLD[..end]);
        }
        assert_eq!(certificate_end("-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----"), None);
        assert_eq!(expiry(&AuthInfo::default()), None);
    }
}
