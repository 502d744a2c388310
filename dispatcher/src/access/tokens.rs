//! Tokens from the settings and from a file, which is reread when it changes.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{SHA256, digest};
use secrecy::{ExposeSecret, SecretString};

use super::scope::Scope;

/// Shorter tokens can be guessed.
const TOKEN_BYTES_MIN: usize = 8;

/// Longest tokens file, in bytes, because every request is compared with every token.
const FILE_BYTES_MAX: u64 = 1024 * 1024;
/// A changed file is only used if it stays the same for this long, because a program may still be writing it.
const SETTLE: Duration = Duration::from_millis(250);

/// Why tokens could not be loaded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TokensError {
    /// The tokens file cannot be read.
    #[error("the tokens file {path} cannot be read: {why}")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        why: std::io::Error,
    },
    /// A token, or a line of the tokens file, is invalid.
    #[error("{0}")]
    Token(String),
}

/// The known tokens, as digests: comparing digests takes the same time for any input.
#[derive(Clone, Default)]
pub struct Tokens {
    known: Vec<Token>,
    file: Option<TokensFile>,
}

/// A token, and what it allows.
#[derive(Clone)]
pub(crate) struct Token {
    pub(crate) name: String,
    pub(crate) scopes: u8,
    digest: Vec<u8>,
}

/// A tokens file, as last read.
#[derive(Clone)]
struct TokensFile {
    path: PathBuf,
    tokens: Vec<Token>,
    digest: Vec<u8>,
}

impl std::fmt::Debug for Tokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.all().map(|token| &token.name)).finish()
    }
}

impl Tokens {
    /// Whether there are no tokens. Then everybody may do everything, but only on a loopback address.
    pub fn is_empty(&self) -> bool {
        self.all().next().is_none()
    }

    /// Adds a token.
    ///
    /// # Errors
    /// The token is too short to be a secret, or was already added with other scopes.
    pub fn add(&mut self, name: &str, scopes: &[Scope], token: &SecretString) -> Result<(), TokensError> {
        let bits = scopes.iter().fold(0, |bits, scope| bits | scope.bit());
        let token = made(name, bits, token.expose_secret())?;
        if let Some(twin) = self.known.iter().find(|known| known.digest == token.digest) {
            let why = format!("the tokens '{}' and '{name}' are the same; give each its own", twin.name);
            return Err(TokensError::Token(why));
        }
        self.known.push(token);
        Ok(())
    }

    /// Adds tokens from lines `name scope[,scope] token`; skips empty lines and lines that begin with `#`.
    ///
    /// # Errors
    /// Names the line and says what is expected, without repeating the line.
    pub fn add_lines(&mut self, text: &SecretString) -> Result<(), TokensError> {
        self.known.extend(from_lines(text)?);
        Ok(())
    }

    /// Adds the tokens of a file, which is reread when it changes.
    ///
    /// # Errors
    /// The file cannot be read, has no token, or has an invalid line. The error names the line but never
    /// shows it.
    pub fn add_file(&mut self, path: &Path) -> Result<(), TokensError> {
        self.file = Some(TokensFile::read(path)?);
        Ok(())
    }

    fn all(&self) -> impl Iterator<Item = &Token> {
        self.known.iter().chain(self.file.iter().flat_map(|file| &file.tokens))
    }

    pub(crate) fn find(&self, token: &str) -> Option<&Token> {
        let shown = hash(token);
        // Every token is compared, even after a match, so that the time does not reveal which one matched.
        let mut found = None;
        for token in self.all() {
            if verify_slices_are_equal(&token.digest, &shown).is_ok() {
                found = Some(token);
            }
        }
        found
    }
}

fn from_lines(text: &SecretString) -> Result<Vec<Token>, TokensError> {
    let mut tokens = Vec::new();
    for (number, line) in text.expose_secret().lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let bad = |why: &str| {
            TokensError::Token(format!(
                "line {} of the tokens file {why}; expected: name scope[,scope] token, with the scopes submit, \
                 read and operate",
                number + 1
            ))
        };
        let words: Vec<&str> = line.split_whitespace().collect();
        let [name, scopes, token] = words[..] else {
            return Err(bad("does not have three words"));
        };
        let mut bits = 0;
        for scope in scopes.split(',') {
            let known = Scope::ALL.into_iter().find(|known| known.word() == scope);
            bits |= known.ok_or_else(|| bad("names an unknown scope"))?.bit();
        }
        tokens.push(made(name, bits, token)?);
    }
    Ok(tokens)
}

fn made(name: &str, scopes: u8, token: &str) -> Result<Token, TokensError> {
    if token.len() < TOKEN_BYTES_MIN || !token.chars().all(|c| c.is_ascii_graphic()) {
        return Err(TokensError::Token(format!(
            "the token named '{name}' must have at least {TOKEN_BYTES_MIN} printable ASCII characters; \
             `openssl rand -hex 32` makes a good one"
        )));
    }
    Ok(Token { name: name.to_owned(), scopes, digest: hash(token) })
}

impl TokensFile {
    fn read(path: &Path) -> Result<Self, TokensError> {
        let text = read_text(path)?;
        let tokens = from_lines(&text)?;
        if tokens.is_empty() {
            let why = format!("the tokens file {} holds no token", path.display());
            return Err(TokensError::Token(why));
        }
        Ok(Self { path: path.to_owned(), tokens, digest: hash(text.expose_secret()) })
    }

    /// The file's new contents, if it has changed and nobody is still writing it.
    fn read_anew(&self) -> Result<Option<Self>, TokensError> {
        let text = read_text(&self.path)?;
        if hash(text.expose_secret()) == self.digest {
            return Ok(None);
        }
        std::thread::sleep(SETTLE);
        if read_text(&self.path)?.expose_secret() != text.expose_secret() {
            // Somebody is writing it.
            return Ok(None);
        }
        Self::read(&self.path).map(Some)
    }

    /// The names of tokens that are not in `other`.
    fn names_beside(&self, other: &Self) -> String {
        let names = self.tokens.iter().map(|token| token.name.as_str());
        let beside: Vec<&str> =
            names.filter(|name| !other.tokens.iter().any(|token| token.name == *name)).collect();
        if beside.is_empty() { "none".to_owned() } else { beside.join(", ") }
    }
}

fn read_text(path: &Path) -> Result<SecretString, TokensError> {
    let failed = |why| TokensError::File { path: path.to_owned(), why };
    let mut text = String::new();
    let file = File::open(path).map_err(failed)?;
    let read = file.take(FILE_BYTES_MAX + 1).read_to_string(&mut text).map_err(failed)?;
    let text = SecretString::from(text);
    if read as u64 > FILE_BYTES_MAX {
        let why = format!("the tokens file {} has more than {FILE_BYTES_MAX} bytes", path.display());
        return Err(TokensError::Token(why));
    }
    Ok(text)
}

/// The tokens in use.
pub(crate) struct Current(RwLock<Arc<Tokens>>);

impl Current {
    pub(crate) fn new(tokens: Tokens) -> Arc<Self> {
        Arc::new(Self(RwLock::new(Arc::new(tokens))))
    }

    pub(crate) fn now(&self) -> Arc<Tokens> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Rereads the tokens file.
pub(crate) struct TokensReload(Arc<Current>);

impl TokensReload {
    /// `None` if there is no tokens file.
    pub(crate) fn new(current: &Arc<Current>) -> Option<Self> {
        current.now().file.is_some().then(|| Self(Arc::clone(current)))
    }

    /// Rereads the file; returns what has changed, if anything.
    pub(crate) fn reload(&self) -> Result<Option<String>, TokensError> {
        let tokens = self.0.now();
        let Some(old) = &tokens.file else { return Ok(None) };
        let Some(new) = old.read_anew()? else { return Ok(None) };
        let (count, added, gone) = (new.tokens.len(), new.names_beside(old), old.names_beside(&new));
        let tokens = Tokens { known: tokens.known.clone(), file: Some(new) };
        *self.0.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(tokens);
        Ok(Some(format!("the tokens file was reloaded: {count} tokens, added: {added}, removed: {gone}")))
    }
}

fn hash(token: &str) -> Vec<u8> {
    digest(&SHA256, token.as_bytes()).as_ref().to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_from_lines() {
        let mut tokens = Tokens::default();
        let text = "# who what token\n\nhub submit,read 0123456789abcdef\nops operate fedcba9876543210\n";
        tokens.add_lines(&SecretString::from(text)).unwrap();
        let hub = tokens.find("0123456789abcdef").unwrap();
        assert_eq!((hub.name.as_str(), hub.scopes), ("hub", 0b011));
        assert!(tokens.find("0123456789abcde").is_none());
        assert!(!format!("{tokens:?}").contains("0123"));
    }

    #[test]
    fn bad_lines_are_named_and_not_repeated() {
        for bad in ["hub 0123456789abcdef", "hub all 0123456789abcdef", "hub read short", "a b c d"] {
            let error = Tokens::default().add_lines(&SecretString::from(bad)).unwrap_err().to_string();
            assert!(!error.contains("0123456789abcdef"), "{error}");
        }
    }

    #[test]
    fn two_tokens_of_different_scopes_must_differ() {
        let mut tokens = Tokens::default();
        let secret = SecretString::from("0123456789abcdef");
        tokens.add("token", &Scope::ALL, &secret).unwrap();
        let refused = tokens.add("hub", &[Scope::Submit, Scope::Read], &secret).unwrap_err().to_string();
        assert!(refused.contains("'token' and 'hub'") && !refused.contains("0123"), "{refused}");
        tokens.add("hub", &[Scope::Submit, Scope::Read], &"fedcba9876543210".into()).unwrap();
        let hub = tokens.find("fedcba9876543210").unwrap();
        assert_eq!((hub.name.as_str(), hub.scopes), ("hub", Scope::Submit.bit() | Scope::Read.bit()));
    }

    #[test]
    fn a_file_is_taken_anew_only_when_it_is_whole_and_good() {
        let path = std::env::temp_dir().join(format!("fairlane-tokens-{}", uuid::Uuid::new_v4()));
        std::fs::write(&path, "hub submit 0123456789abcdef\n").unwrap();
        let mut tokens = Tokens::default();
        tokens.add("token", &Scope::ALL, &SecretString::from("from-the-settings")).unwrap();
        tokens.add_file(&path).unwrap();
        let current = Current::new(tokens);
        let reload = TokensReload::new(&current).unwrap();
        let knows = |token: &str| current.now().find(token).is_some();
        assert_eq!(reload.reload().unwrap(), None, "it is as it was");

        std::fs::write(&path, "hub submit fedcba9876543210\nops operate 0f0f0f0f0f0f0f0f\n").unwrap();
        let said = reload.reload().unwrap().unwrap();
        assert!(said.ends_with("2 tokens, added: ops, removed: none"), "{said}");
        assert!(knows("fedcba9876543210") && knows("from-the-settings") && !knows("0123456789abcdef"));

        // An empty or invalid file neither locks anybody out nor lets anybody in.
        for (broken, why) in [("", "holds no token"), ("ops all 0f0f0f0f0f0f0f0f", "unknown scope")] {
            std::fs::write(&path, broken).unwrap();
            let said = reload.reload().unwrap_err().to_string();
            assert!(said.contains(why) && !said.contains("0f0f"), "{said}");
            assert!(knows("fedcba9876543210"));
        }
        std::fs::remove_file(&path).unwrap();
        assert!(reload.reload().unwrap_err().to_string().contains("cannot be read: No such file"));
        assert!(knows("fedcba9876543210"));
    }
}
