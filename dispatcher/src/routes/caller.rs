//! Who may do what: callers, by the scopes of their tokens.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use axum::extract::{ConnectInfo, FromRequestParts};
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};

use crate::access::address;
use crate::access::scope::{self, Scope};
use crate::access::tokens::Token;
use crate::problem::{Answer, FORBIDDEN, NOT_SIGNED_IN, Refusal};
use crate::state::App;

/// Who makes a request.
#[derive(Debug, Clone)]
pub(crate) struct Caller {
    /// The token's name, for the audit log.
    pub(crate) name: String,
    scopes: u8,
    /// Whether the caller sent a token, instead of only using a loopback address.
    pub(crate) signed_in: bool,
}

impl Caller {
    pub(crate) fn may(&self, scope: Scope) -> bool {
        self.scopes & scope.bit() != 0
    }

    /// # Errors
    /// 403; names the scope.
    pub(crate) fn require(&self, scope: Scope) -> Answer<()> {
        if self.may(scope) {
            return Ok(());
        }
        let detail =
            format!("the token '{}' lacks the scope '{}'; use one that has it", self.name, scope.word());
        Err(Refusal::new(FORBIDDEN, detail))
    }

    /// The caller, if the request is within its rate limits.
    async fn admitted(parts: &Parts, app: &App) -> Answer<Self> {
        let caller = Self::of(app, &parts.headers);
        let peer = parts.extensions.get::<ConnectInfo<SocketAddr>>();
        let peer = peer.map_or(IpAddr::V6(Ipv6Addr::UNSPECIFIED), |peer| peer.0.ip());
        let address = address::address(peer, &parts.headers, &app.settings.connections.trusted);
        // A request without a valid token only counts for its address.
        let token = caller.as_ref().ok().filter(|caller| caller.signed_in).map(|caller| caller.name.as_str());
        app.rates.spend(&app.queue, app.settings.bounds.redis_wait, token, address).await?;
        caller
    }

    fn of(app: &App, headers: &HeaderMap) -> Answer<Self> {
        let tokens = app.tokens.now();
        if tokens.is_empty() {
            not_from_a_page(headers)?;
            return Ok(Self { name: "local".to_owned(), scopes: scope::ALL, signed_in: false });
        }
        let detail = "send a token in the header: Authorization: Bearer <token>";
        let header = headers.get(header::AUTHORIZATION).ok_or_else(|| Refusal::new(NOT_SIGNED_IN, detail))?;
        let shown = header.to_str().ok().and_then(|text| text.split_once(' '));
        let token = match shown {
            Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => tokens.find(token.trim()),
            _ => return Err(Refusal::new(NOT_SIGNED_IN, detail)),
        };
        let Some(Token { name, scopes, .. }) = token else {
            return Err(Refusal::new(NOT_SIGNED_IN, "unknown token; ask the operator for a valid one"));
        };
        Ok(Self { name: name.clone(), scopes: *scopes, signed_in: true })
    }
}

/// Without tokens, only the loopback address protects us, and a browser on this machine can reach it. Other
/// sites' pages must not act through it, even if their host names resolve to this machine.
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
    let detail = "this dispatcher has no token, so it only serves clients on its own machine that address it as \
                  localhost; set FAIRLANE_TOKEN to serve others";
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
