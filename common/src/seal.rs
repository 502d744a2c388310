//! Secrets on their way through Redis: sealed by a dispatcher, opened only in a worker.
//!
//! AES-256-GCM with a random nonce. The build's id and image are bound as associated data, so that a sealed
//! secret cannot be moved to another build. Sealed text has the form `k<id>:<hex>`.

use std::collections::BTreeMap;
use std::fmt;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use secrecy::{ExposeSecret, SecretString};

use crate::error::{Error, Result};
use crate::id::BuildId;
use crate::repo::Image;

/// Secrets by name: `git_credentials`, `registry_credentials`.
pub type Secrets = BTreeMap<String, SecretString>;

/// The keys that seal and open secrets; the first one seals.
#[derive(Clone)]
pub struct SealKeys(Vec<(String, std::sync::Arc<LessSafeKey>)>);

impl fmt::Debug for SealKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SealKeys(…)")
    }
}

impl SealKeys {
    /// Reads `<id>:<64 hex digits>[,<id>:<64 hex digits>…]`, as in `FAIRLANE_SEAL_KEY`.
    /// `openssl rand -hex 32` makes such a key.
    pub fn parse(text: &SecretString) -> Result<Self> {
        let bad = |why: &str| {
            Error::Setting(format!(
                "the seal key {why}; expected <id>:<64 hex digits>, several keys separated by commas"
            ))
        };
        let mut keys = Vec::new();
        for part in text.expose_secret().split(',').map(str::trim).filter(|part| !part.is_empty()) {
            let (id, hex) = part.split_once(':').ok_or_else(|| bad("has no id"))?;
            if id.is_empty() || id.len() > 16 || !id.chars().all(|c| c.is_ascii_alphanumeric()) {
                return Err(bad("has an id that is not 1 to 16 letters and digits"));
            }
            let bytes = from_hex(hex)
                .filter(|bytes| bytes.len() == 32)
                .ok_or_else(|| bad("is not 32 bytes in hex"))?;
            let key = UnboundKey::new(&AES_256_GCM, &bytes).map_err(|_| bad("cannot be used"))?;
            keys.push((id.to_owned(), std::sync::Arc::new(LessSafeKey::new(key))));
        }
        if keys.is_empty() { Err(bad("is empty")) } else { Ok(Self(keys)) }
    }

    /// Seals secrets for one build.
    pub fn seal(&self, secrets: &Secrets, id: BuildId, image: &Image) -> Result<String> {
        let failed = || Error::Setting("sealing secrets failed".to_owned());
        let (key_id, key) = self.0.first().ok_or_else(failed)?;
        let plain: BTreeMap<&str, &str> =
            secrets.iter().map(|(name, secret)| (name.as_str(), secret.expose_secret())).collect();
        let mut text = serde_json::to_vec(&plain).map_err(|_| failed())?;
        let mut nonce = [0; NONCE_LEN];
        aws_lc_rs::rand::fill(&mut nonce).map_err(|_| failed())?;
        let aad = associated(id, image);
        key.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(aad), &mut text)
            .map_err(|_| failed())?;
        Ok(format!("k{key_id}:{}{}", to_hex(&nonce), to_hex(&text)))
    }

    /// Opens what was sealed for that build.
    ///
    /// # Errors
    /// When no key of that id is known, or the text was sealed for another build or changed.
    pub fn open(&self, sealed: &str, id: BuildId, image: &Image) -> Result<Secrets> {
        let (key_id, hex) = sealed
            .strip_prefix('k')
            .and_then(|rest| rest.split_once(':'))
            .ok_or_else(|| Error::Corrupt("sealed secrets cannot be read".to_owned()))?;
        let (_, key) = self.0.iter().find(|(known, _)| known == key_id).ok_or_else(|| {
            Error::Setting(format!("secrets were sealed with key {key_id}, which this worker does not have"))
        })?;
        let wrong = || {
            Error::Corrupt(
                "sealed secrets cannot be opened: they belong to another build or were changed".to_owned(),
            )
        };
        let mut bytes = from_hex(hex).filter(|bytes| bytes.len() > NONCE_LEN).ok_or_else(wrong)?;
        let mut text = bytes.split_off(NONCE_LEN);
        let nonce = Nonce::try_assume_unique_for_key(&bytes).map_err(|_| wrong())?;
        let plain =
            key.open_in_place(nonce, Aad::from(associated(id, image)), &mut text).map_err(|_| wrong())?;
        let secrets: BTreeMap<String, String> = serde_json::from_slice(plain).map_err(|_| wrong())?;
        Ok(secrets.into_iter().map(|(name, secret)| (name, SecretString::from(secret))).collect())
    }
}

fn associated(id: BuildId, image: &Image) -> Vec<u8> {
    format!("{id} {image}").into_bytes()
}

fn to_hex(bytes: &[u8]) -> String {
    use fmt::Write;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    if !text.len().is_multiple_of(2) || !text.is_ascii() {
        return None;
    }
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(text: &str) -> Result<SealKeys> {
        SealKeys::parse(&SecretString::from(text.to_owned()))
    }

    #[test]
    fn sealed_secrets_open_for_their_build_only() {
        let one = format!("a:{}", "11".repeat(32));
        let two = format!("b:{},{one}", "22".repeat(32));
        let (id, image) = (BuildId::new(), "r/x:1".parse().unwrap());
        let secrets = Secrets::from([("git_credentials".to_owned(), SecretString::from("hunter2"))]);
        let sealed = keys(&one).unwrap().seal(&secrets, id, &image).unwrap();
        assert!(sealed.starts_with("ka:") && !sealed.contains("hunter2"));
        // After a rotation the old key still opens.
        let opened = keys(&two).unwrap().open(&sealed, id, &image).unwrap();
        assert_eq!(opened["git_credentials"].expose_secret(), "hunter2");
        assert!(keys(&two).unwrap().open(&sealed, BuildId::new(), &image).is_err());
        assert!(keys(&two).unwrap().open(&sealed, id, &"r/x:2".parse().unwrap()).is_err());
        let other = format!("b:{}", "22".repeat(32));
        assert!(keys(&other).unwrap().open(&sealed, id, &image).unwrap_err().to_string().contains("key a"));
    }

    #[test]
    fn bad_keys_are_refused_without_showing_them() {
        for bad in ["", "abc", "a:123", "a:zz", &format!("a b:{}", "11".repeat(32))] {
            let error = keys(bad).unwrap_err().to_string();
            assert!(error.contains("seal key"), "{error}");
        }
    }
}
