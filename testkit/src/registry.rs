//! A registry of images that only answers whether an image exists.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// Who may look at images.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Access {
    /// Everybody.
    Open,
    /// Clients that send this name and password with each request.
    Basic(&'static str, &'static str),
    /// Clients that got a token for this name and password.
    Token(&'static str, &'static str),
    /// Everybody gets a token, and requests for missing images are refused, as on Docker Hub.
    Hub,
}

/// A request that it received.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// Method and path with its query.
    pub line: String,
    /// The header `Accept`.
    pub accept: String,
    /// The header `Authorization`.
    pub authorization: String,
}

/// The registry; it ends when it is dropped.
#[derive(Debug)]
pub struct FakeRegistry {
    address: SocketAddr,
    shared: Arc<Shared>,
    serving: JoinHandle<()>,
}

#[derive(Debug)]
struct Shared {
    address: SocketAddr,
    access: Access,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    images: BTreeSet<String>,
    asked: Vec<Asked>,
    broken: Option<StatusCode>,
    hangs: bool,
}

/// The token that gives access to images.
const TOKEN: &str = "a-token-of-the-fake-registry";

impl FakeRegistry {
    /// Starts one on a free port.
    ///
    /// # Panics
    /// If it cannot listen.
    pub async fn start(access: Access) -> Self {
        let listener = match TcpListener::bind("127.0.0.1:0").await {
            Ok(listener) => listener,
            Err(error) => panic!("the fake registry cannot listen: {error}"),
        };
        let address = match listener.local_addr() {
            Ok(address) => address,
            Err(error) => panic!("the fake registry has no address: {error}"),
        };
        let shared = Arc::new(Shared { address, access, inner: Mutex::default() });
        let router = Router::new().fallback(answer).with_state(Arc::clone(&shared));
        let serving = tokio::spawn(async move {
            if let Err(error) = axum::serve(listener, router).await {
                panic!("the fake registry ended: {error}");
            }
        });
        Self { address, shared, serving }
    }

    /// The prefix of its images' names.
    pub fn host(&self) -> String {
        self.address.to_string()
    }

    /// From now on `image` (name and tag, without the host) exists.
    pub fn push(&self, image: &str) {
        self.shared.inner().images.insert(image.to_owned());
    }

    /// From now on every request about an image gets this status.
    pub fn break_with(&self, status: u16) {
        self.shared.inner().broken = StatusCode::from_u16(status).ok();
    }

    /// From now on nothing is answered.
    pub fn hang(&self) {
        self.shared.inner().hangs = true;
    }

    /// The requests so far.
    pub fn asked(&self) -> Vec<Asked> {
        self.shared.inner().asked.clone()
    }
}

impl Drop for FakeRegistry {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Shared {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn basic(name: &str, password: &str) -> String {
        format!("Basic {}", BASE64_STANDARD.encode(format!("{name}:{password}")))
    }

    fn challenge(&self) -> Response {
        let challenge = match self.access {
            Access::Open | Access::Basic(..) => "Basic realm=\"fake\"".to_owned(),
            Access::Token(..) | Access::Hub => {
                format!("Bearer realm=\"http://{}/token\",service=\"fake, really\"", self.address)
            }
        };
        (StatusCode::UNAUTHORIZED, [(header::WWW_AUTHENTICATE, challenge)]).into_response()
    }

    fn token(&self, authorization: &str) -> Response {
        let is_good = match self.access {
            Access::Token(name, password) => authorization == Self::basic(name, password),
            _ => true,
        };
        if is_good {
            axum::Json(serde_json::json!({ "token": TOKEN, "expires_in": 300 })).into_response()
        } else {
            StatusCode::UNAUTHORIZED.into_response()
        }
    }

    fn manifest(&self, path: &str, authorization: &str) -> Response {
        let is_good = match self.access {
            Access::Open => true,
            Access::Basic(name, password) => authorization == Self::basic(name, password),
            Access::Token(..) | Access::Hub => authorization == format!("Bearer {TOKEN}"),
        };
        let image = path.strip_prefix("/v2/").and_then(|path| path.split_once("/manifests/"));
        let image = image.map(|(name, reference)| format!("{name}:{reference}"));
        let is_there = image.is_some_and(|image| self.inner().images.contains(&image));
        if !is_good || (!is_there && self.access == Access::Hub) {
            return self.challenge();
        }
        if is_there { StatusCode::OK.into_response() } else { StatusCode::NOT_FOUND.into_response() }
    }
}

async fn answer(State(shared): State<Arc<Shared>>, request: Request<Body>) -> Response {
    let text = |headers: &HeaderMap, name| {
        headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned()
    };
    let (path, headers) = (request.uri().path().to_owned(), request.headers());
    let authorization = text(headers, header::AUTHORIZATION);
    let asked = Asked {
        line: format!("{} {}", request.method(), request.uri()),
        accept: text(headers, header::ACCEPT),
        authorization: authorization.clone(),
    };
    let (broken, hangs) = {
        let mut inner = shared.inner();
        inner.asked.push(asked);
        (inner.broken, inner.hangs)
    };
    if hangs {
        std::future::pending::<()>().await;
    }
    if path == "/token" {
        return shared.token(&authorization);
    }
    match broken {
        Some(status) => status.into_response(),
        None => shared.manifest(&path, &authorization),
    }
}
