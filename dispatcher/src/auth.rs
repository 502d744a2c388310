//! Who may do what: bearer tokens with scopes.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{SHA256, digest};
use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};
use secrecy::{ExposeSecret, SecretString};

use crate::app::App;
use crate::args::SettingError;
use crate::client::{self, Peer};
use crate::problem::{Answer, FORBIDDEN, NOT_SIGNED_IN, Refusal};

/// What a token allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// Ask for builds, and see how they stand.
    Submit,
    /// See everything, logs and labels too.
    Read,
    /// End builds, set rules, drain workers, pass bans.
    Operate,
}

impl Scope {
    fn word(self) -> &'static str {
        match self {
            Self::Submit => "submit",
            Self::Read => "read",
            Self::Operate => "operate",
        }
    }

    fn bit(self) -> u8 {
        1 << self as u8
    }
}

const ALL_SCOPES: u8 = 0b111;
/// Shorter tokens can be guessed.
const TOKEN_BYTES_MIN: usize = 8;

/// The tokens that are known, as digests: comparing digests takes the same time whatever was sent.
#[derive(Clone, Default)]
pub struct Tokens(Vec<Token>);

#[derive(Clone)]
struct Token {
    name: String,
    scopes: u8,
    digest: Vec<u8>,
}

impl std::fmt::Debug for Tokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.0.iter().map(|token| &token.name)).finish()
    }
}

impl Tokens {
    /// Whether there is none: then everybody may do everything, on a loopback address only.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds a token of all scopes.
    ///
    /// # Errors
    /// When it is too short to be a secret.
    pub fn add_all_scopes(&mut self, token: &SecretString) -> Result<(), SettingError> {
        self.add("token", ALL_SCOPES, token.expose_secret())
    }

    /// Adds tokens from lines `name scope[,scope] token`; empty lines and those that begin with `#`
    /// are passed over.
    ///
    /// # Errors
    /// Names the line and what it must look like, without repeating it.
    pub fn add_lines(&mut self, text: &SecretString) -> Result<(), SettingError> {
        for (number, line) in text.expose_secret().lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let bad = |why: &str| {
                SettingError::Token(format!(
                    "line {} of the tokens file {why}; a line reads: name scope[,scope] token, scopes are submit, read \
                     and operate",
                    number + 1
                ))
            };
            let words: Vec<&str> = line.split_whitespace().collect();
            let [name, scopes, token] = words[..] else {
                return Err(bad("has not three words"));
            };
            let mut bits = 0;
            for scope in scopes.split(',') {
                let known = [Scope::Submit, Scope::Read, Scope::Operate]
                    .into_iter()
                    .find(|known| known.word() == scope);
                bits |= known.ok_or_else(|| bad("names an unknown scope"))?.bit();
            }
            self.add(name, bits, token)?;
        }
        Ok(())
    }

    fn add(&mut self, name: &str, scopes: u8, token: &str) -> Result<(), SettingError> {
        if token.len() < TOKEN_BYTES_MIN || !token.chars().all(|c| c.is_ascii_graphic()) {
            return Err(SettingError::Token(format!(
                "the token '{name}' must have at least {TOKEN_BYTES_MIN} printable ASCII characters; \
                 `openssl rand -hex 32` makes a good one"
            )));
        }
        self.0.push(Token { name: name.to_owned(), scopes, digest: hash(token) });
        Ok(())
    }

    fn find(&self, token: &str) -> Option<&Token> {
        let shown = hash(token);
        // Every token is compared, also after a match: the time says nothing about which one it was.
        let mut found = None;
        for token in &self.0 {
            if verify_slices_are_equal(&token.digest, &shown).is_ok() {
                found = Some(token);
            }
        }
        found
    }
}

fn hash(token: &str) -> Vec<u8> {
    digest(&SHA256, token.as_bytes()).as_ref().to_vec()
}

/// Who makes a request.
#[derive(Debug, Clone)]
pub(crate) struct Caller {
    /// The token's name, for the audit stream.
    pub(crate) name: String,
    scopes: u8,
    /// Whether a token was shown, not only a loopback address.
    pub(crate) signed_in: bool,
}

impl Caller {
    pub(crate) fn may(&self, scope: Scope) -> bool {
        self.scopes & scope.bit() != 0
    }

    /// # Errors
    /// 403 that names the scope.
    pub(crate) fn require(&self, scope: Scope) -> Answer<()> {
        if self.may(scope) {
            return Ok(());
        }
        let detail =
            format!("the token '{}' lacks the scope '{}'; use one that has it", self.name, scope.word());
        Err(Refusal::new(FORBIDDEN, detail))
    }

    /// Who makes a request, if it is within its client's limits.
    async fn admitted(parts: &Parts, app: &App) -> Answer<Self> {
        let caller = Self::of(app, &parts.headers);
        let peer = parts.extensions.get::<Peer>().map_or(IpAddr::V6(Ipv6Addr::UNSPECIFIED), |peer| peer.0);
        let address = client::address(peer, &parts.headers, &app.settings.connections.trusted);
        // Who shows no token, or a wrong one, counts by address alone.
        let token = caller.as_ref().ok().filter(|caller| caller.signed_in).map(|caller| caller.name.as_str());
        app.allowance.spend(&app.queue, app.settings.bounds.redis_wait, token, address).await?;
        caller
    }

    fn of(app: &App, headers: &HeaderMap) -> Answer<Self> {
        if app.settings.tokens.is_empty() {
            not_from_a_page(headers)?;
            return Ok(Self { name: "local".to_owned(), scopes: ALL_SCOPES, signed_in: false });
        }
        let detail = "send a token in the header: Authorization: Bearer <token>";
        let header = headers.get(header::AUTHORIZATION).ok_or_else(|| Refusal::new(NOT_SIGNED_IN, detail))?;
        let shown = header.to_str().ok().and_then(|text| text.split_once(' '));
        let token = match shown {
            Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => {
                app.settings.tokens.find(token.trim())
            }
            _ => return Err(Refusal::new(NOT_SIGNED_IN, detail)),
        };
        let Some(Token { name, scopes, .. }) = token else {
            return Err(Refusal::new(
                NOT_SIGNED_IN,
                "this token is not known here; ask the operator for one",
            ));
        };
        Ok(Self { name: name.clone(), scopes: *scopes, signed_in: true })
    }
}

/// Without tokens the loopback address is the only fence, and a browser on this machine is inside
/// it: pages of other sites must not act through it, nor by a name of theirs that points here.
fn not_from_a_page(headers: &HeaderMap) -> Answer<()> {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let host = text(header::HOST).unwrap_or("localhost");
    let name =
        host.rsplit_once(':').map_or(host, |(name, port)| if port.ends_with(']') { host } else { name });
    let bare = name.trim_start_matches('[').trim_end_matches(']');
    let local = bare.eq_ignore_ascii_case("localhost")
        || bare.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback());
    let foreign = text(header::ORIGIN)
        .is_some_and(|origin| origin.split_once("://").map(|(_, host)| host) != Some(host));
    if local && !foreign {
        return Ok(());
    }
    let detail = "without a token this dispatcher serves only clients of its own machine, by the name localhost; \
                  set FAIRLANE_TOKEN to serve others";
    Err(Refusal::new(FORBIDDEN, detail))
}

impl FromRequestParts<Arc<App>> for Caller {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Answer<Self> {
        Self::admitted(parts, app).await
    }
}

macro_rules! guards {
    ($($(#[$doc:meta])* $name:ident = $scope:ident;)+) => {
        $(
            $(#[$doc])*
            #[derive(Debug, Clone)]
            pub(crate) struct $name(pub(crate) Caller);

            impl FromRequestParts<Arc<App>> for $name {
                type Rejection = Refusal;

                async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Answer<Self> {
                    let caller = Caller::admitted(parts, app).await?;
                    caller.require(Scope::$scope)?;
                    Ok(Self(caller))
                }
            }
        )+
    };
}

guards! {
    /// A caller with scope `submit`.
    Submitter = Submit;
    /// A caller with scope `read`.
    Reader = Read;
    /// A caller with scope `operate`.
    Operator = Operate;
}

/// A caller with scope `submit` or `read`.
#[derive(Debug, Clone)]
pub(crate) struct Watcher(pub(crate) Caller);

impl FromRequestParts<Arc<App>> for Watcher {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Answer<Self> {
        let caller = Caller::admitted(parts, app).await?;
        if !caller.may(Scope::Submit) {
            caller.require(Scope::Read)?;
        }
        Ok(Self(caller))
    }
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
    fn pages_of_other_sites_are_kept_out() {
        let headers = |host: &str, origin: Option<&str>| {
            let mut headers = HeaderMap::new();
            headers.insert(header::HOST, host.parse().unwrap());
            if let Some(origin) = origin {
                headers.insert(header::ORIGIN, origin.parse().unwrap());
            }
            headers
        };
        for host in ["localhost:8600", "127.0.0.1:8600", "[::1]:8600", "localhost"] {
            assert!(not_from_a_page(&headers(host, None)).is_ok(), "{host}");
        }
        assert!(not_from_a_page(&headers("localhost:8600", Some("http://localhost:8600"))).is_ok());
        assert!(not_from_a_page(&headers("localhost:8600", Some("https://evil.example.org"))).is_err());
        assert!(not_from_a_page(&headers("evil.example.org:8600", None)).is_err());
    }
}
