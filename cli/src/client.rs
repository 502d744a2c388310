//! HTTP requests to dispatchers. Each one goes to the dispatcher that answered last, and then to the next one
//! if that fails.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use fairlane_clikit::exit::{Exit, Stop};
use fairlane_clikit::output::{Colors, clean};
use futures::StreamExt;
use reqwest::header::{ETAG, HeaderValue, IF_NONE_MATCH};
use reqwest::{Method, RequestBuilder, Response, StatusCode, Url};
use secrecy::{ExposeSecret, SecretString};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::args::Reach;
use crate::trust;

/// How long a connection may take to open.
const CONNECT_LIMIT: Duration = Duration::from_secs(3);
/// How long a whole response may take.
const ANSWER_LIMIT: Duration = Duration::from_secs(20);
/// A stream sends a comment every 15 s; after three missed ones the dispatcher is considered dead.
const SILENCE_LIMIT: Duration = Duration::from_secs(45);
/// How many times all dispatchers are tried while they answer with temporary errors.
const ROUNDS_MAX: u32 = 4;
/// Most bytes of a response that are read; the largest list is a page of 200.
const ANSWER_BYTES_MAX: usize = 16 * 1024 * 1024;

/// A response that is requested again and again, with its entity tag.
#[derive(Debug)]
pub(crate) struct Kept<T> {
    tag: Option<HeaderValue>,
    value: Option<Arc<T>>,
}

impl<T> Default for Kept<T> {
    fn default() -> Self {
        Self { tag: None, value: None }
    }
}

/// The dispatchers, and which of them answered last.
#[derive(Debug)]
pub(crate) struct Client {
    urls: Vec<Url>,
    token: Option<SecretString>,
    direct: reqwest::Client,
    proxied: reqwest::Client,
    latest: AtomicUsize,
}

impl Client {
    /// A client of the dispatchers that `reach` names.
    ///
    /// # Errors
    /// An address that is not an HTTP URL, or no address at all; unreadable certificates.
    pub(crate) fn new(reach: Reach) -> Result<Self> {
        let urls = reach
            .dispatcher_url
            .iter()
            .map(|url| url.trim())
            .filter(|url| !url.is_empty())
            .map(parse_url)
            .collect::<Result<Vec<_>>>()?;
        if urls.is_empty() {
            return Err(Stop::usage(
                "no dispatcher is named; set --dispatcher-url or FAIRLANE_DISPATCHER_URL",
            )
            .into());
        }
        let trusted = reach.ca.as_deref().map_or_else(|| Ok(Vec::new()), trust::certificates)?;
        let builder = || {
            reqwest::Client::builder()
                .tls_certs_merge(trusted.clone())
                .user_agent(concat!("fairlane/", env!("CARGO_PKG_VERSION")))
                .connect_timeout(CONNECT_LIMIT)
                .read_timeout(SILENCE_LIMIT)
        };
        Ok(Self {
            urls,
            token: reach.token.filter(|token| !token.expose_secret().is_empty()),
            direct: builder().no_proxy().build()?,
            proxied: builder().build()?,
            latest: AtomicUsize::new(0),
        })
    }

    /// The dispatchers' addresses, for people.
    pub(crate) fn shown(&self) -> String {
        self.urls.iter().map(|url| url.as_str().trim_end_matches('/')).collect::<Vec<_>>().join(", ")
    }

    /// Sends a GET request.
    pub(crate) async fn get<T: DeserializeOwned>(&self, path: &str, query: &[(&str, String)]) -> Result<T> {
        self.send(Method::GET, path, query, None).await
    }

    /// Sends a GET request that is repeated often: a response that has not changed is not sent again.
    pub(crate) async fn get_again<T: DeserializeOwned>(
        &self,
        path: &str,
        query: &[(&str, String)],
        kept: &mut Kept<T>,
    ) -> Result<Arc<T>> {
        let known = kept.tag.as_ref().filter(|_| kept.value.is_some());
        let answer = self.ask(&Method::GET, path, query, known, None).await?;
        if let (StatusCode::NOT_MODIFIED, Some(value)) = (answer.status(), &kept.value) {
            return Ok(Arc::clone(value));
        }
        let tag = answer.headers().get(ETAG).cloned();
        let value = Arc::new(decode(&Method::GET, path, &read(answer).await?)?);
        *kept = Kept { tag, value: Some(Arc::clone(&value)) };
        Ok(value)
    }

    /// Sends any request. All of them can be repeated safely, because dispatchers recognize a repetition.
    pub(crate) async fn send<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        query: &[(&str, String)],
        body: Option<&Value>,
    ) -> Result<T> {
        let answer = self.ask(&method, path, query, None, body).await?;
        decode(&method, path, &read(answer).await?)
    }

    /// Reads a text response, and passes each line on as it arrives.
    pub(crate) async fn lines(&self, path: &str, mut on: impl FnMut(&str)) -> Result<()> {
        let answer = match self.open_stream(0, path, &[], None).await {
            Ok(answer) => answer,
            Err(StreamRefused::Never(stop)) => return Err(stop.into()),
            // The dispatcher that answered last is away, so try any of them.
            Err(StreamRefused::Later(_)) => self.ask(&Method::GET, path, &[], None, None).await?,
        };
        let mut chunks = answer.bytes_stream();
        let mut rest: Vec<u8> = Vec::new();
        while let Some(chunk) = chunks.next().await {
            rest.extend_from_slice(
                &chunk.context("the dispatcher broke off in the middle of the log; try again")?,
            );
            while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = rest.drain(..=end).collect();
                on(String::from_utf8_lossy(&line).trim_end_matches('\n'));
            }
            anyhow::ensure!(rest.len() <= ANSWER_BYTES_MAX, "a line has more than {ANSWER_BYTES_MAX} bytes");
        }
        if !rest.is_empty() {
            on(&String::from_utf8_lossy(&rest));
        }
        Ok(())
    }

    /// Whether any request would be sent unencrypted to another machine.
    pub(crate) fn sends_in_the_clear(&self) -> bool {
        self.urls.iter().any(|url| url.scheme() == "http" && !is_loopback(url))
    }

    /// Sends a request, and returns the response with its body unread. With `known`, the tag of an earlier
    /// response, the response may be 304.
    async fn ask(
        &self,
        method: &Method,
        path: &str,
        query: &[(&str, String)],
        known: Option<&HeaderValue>,
        body: Option<&Value>,
    ) -> Result<Response> {
        let mut failure = None;
        for round in 0..ROUNDS_MAX {
            let mut again = false;
            for turn in 0..self.urls.len() {
                let at = (self.latest.load(Ordering::Relaxed) + turn) % self.urls.len();
                let mut request = self.request(at, method.clone(), path, query).timeout(ANSWER_LIMIT);
                if let Some(body) = body {
                    request = request.json(body);
                }
                if let Some(tag) = known {
                    request = request.header(IF_NONE_MATCH, tag);
                }
                match request.send().await {
                    Ok(answer) if is_passing(answer.status()) => {
                        again = true;
                        failure = Some(refusal(answer).await);
                    }
                    Ok(answer) => {
                        self.latest.store(at, Ordering::Relaxed);
                        return if answer.status().is_success() || answer.status() == StatusCode::NOT_MODIFIED
                        {
                            Ok(answer)
                        } else {
                            Err(refusal(answer).await.into())
                        };
                    }
                    Err(error) => failure = Some(self.unreachable(at, &error)),
                }
            }
            // A dispatcher that answers with a temporary error is worth waiting for; one that does not
            // respond is not.
            if !again || round + 1 == ROUNDS_MAX {
                break;
            }
            tokio::time::sleep(backoff(round)).await;
        }
        Err(failure.unwrap_or_else(|| Stop::new(Exit::Unreachable, "no dispatcher answers")).into())
    }

    /// Opens a stream at one dispatcher: the one `turn` places after the one that answered last.
    pub(crate) async fn open_stream(
        &self,
        turn: usize,
        path: &str,
        query: &[(&str, String)],
        cursor: Option<&str>,
    ) -> Result<Response, StreamRefused> {
        let at = (self.latest.load(Ordering::Relaxed) + turn) % self.urls.len();
        let mut request = self.request(at, Method::GET, path, query);
        if let Some(cursor) = cursor {
            request = request.header("last-event-id", cursor);
        }
        let open = tokio::time::timeout(ANSWER_LIMIT, request.send()).await;
        match open {
            Ok(Ok(answer)) if answer.status().is_success() => {
                self.latest.store(at, Ordering::Relaxed);
                Ok(answer)
            }
            Ok(Ok(answer)) if is_passing(answer.status()) => Err(StreamRefused::Later(refusal(answer).await)),
            Ok(Ok(answer)) => Err(StreamRefused::Never(refusal(answer).await)),
            Ok(Err(error)) => Err(StreamRefused::Later(self.unreachable(at, &error))),
            Err(_) => {
                Err(StreamRefused::Later(Stop::new(Exit::Unreachable, "the dispatcher does not answer")))
            }
        }
    }

    fn request(&self, at: usize, method: Method, path: &str, query: &[(&str, String)]) -> RequestBuilder {
        let mut url = self.urls[at].clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(path.split('/'));
        }
        // A proxy for internet access cannot reach this machine.
        let client = if is_loopback(&url) { &self.direct } else { &self.proxied };
        let mut request = client.request(method, url);
        if !query.is_empty() {
            request = request.query(query);
        }
        match &self.token {
            Some(token) => request.bearer_auth(token.expose_secret()),
            None => request,
        }
    }

    fn unreachable(&self, at: usize, error: &reqwest::Error) -> Stop {
        // The innermost cause is the clearest ("Connection refused"); the outer ones repeat the URL.
        let mut cause: &dyn std::error::Error = error;
        while let Some(inner) = cause.source() {
            cause = inner;
        }
        let url = self.urls[at].as_str().trim_end_matches('/');
        if let Some(why) = trust::about(&cause.to_string()) {
            return Stop::new(Exit::Unreachable, format!("{url}: {why}"));
        }
        let hint =
            "Start one with `fairlane up`, or name yours with --dispatcher-url or FAIRLANE_DISPATCHER_URL.";
        Stop::new(Exit::Unreachable, format!("no dispatcher answers at {}: {cause}\n{hint}", self.shown()))
    }
}

/// Why a stream did not open.
#[derive(Debug)]
pub(crate) enum StreamRefused {
    /// Another dispatcher may open it, or the same one later.
    Later(Stop),
    /// No dispatcher will open it.
    Never(Stop),
}

/// How long to wait before round `round` + 1: exponential backoff, capped, with jitter.
pub(crate) fn backoff(round: u32) -> Duration {
    let most = 250_u64.saturating_mul(1 << round.min(5)).min(5_000);
    Duration::from_millis(fastrand::u64(most / 2..=most))
}

fn parse_url(text: &str) -> Result<Url> {
    let bad = || {
        Stop::usage(format!(
            "'{}' is not a dispatcher's address; one looks like http://127.0.0.1:8600",
            clean(text, Colors::Drop)
        ))
    };
    let url: Url = text.parse().map_err(|_| bad())?;
    if !matches!(url.scheme(), "http" | "https") || url.cannot_be_a_base() {
        return Err(bad().into());
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(Stop::usage(
            "a dispatcher's address must not carry a password; send a token with FAIRLANE_TOKEN",
        )
        .into());
    }
    Ok(url)
}

/// The query parameter with the reason that an operator gives, if one was given.
pub(crate) fn reason_query(reason: Option<String>) -> Vec<(&'static str, String)> {
    reason.into_iter().map(|reason| ("reason", reason)).collect()
}

/// Whether a URL names this machine.
pub(crate) fn is_loopback(url: &Url) -> bool {
    url.host_str().is_some_and(|host| {
        host == "localhost"
            || host.trim_matches(['[', ']']).parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
    })
}

/// Replaces a dispatcher's names for a list and for a secret's field with those of the command line.
fn in_commands(message: &str) -> String {
    let mut said = String::with_capacity(message.len());
    let mut rest = message;
    while let Some((before, after)) = rest.split_once("GET /v1/") {
        let end = after.find(|c: char| !c.is_ascii_lowercase()).unwrap_or(after.len());
        let (list, behind) = after.split_at(end);
        let command = match list {
            "builds" => "queue --builds",
            "rules" => "rule list",
            "campaigns" => "campaign list",
            list => list,
        };
        said += &[before, "`fairlane ", command, "`"].concat();
        rest = behind;
    }
    said.push_str(rest);
    said.replace("secrets.git_credentials", "--git-credentials-file")
}

/// Whether the dispatcher, or a proxy in front of it, reports a temporary error.
fn is_passing(status: StatusCode) -> bool {
    matches!(status.as_u16(), 502..=504)
}

/// The error for an unsuccessful response, from its problem document.
async fn refusal(answer: Response) -> Stop {
    let status = answer.status();
    let exit = match status.as_u16() {
        401 | 403 | 429 => Exit::Refused,
        502..=504 => Exit::Unreachable,
        400..500 => Exit::Usage,
        _ => Exit::Failed,
    };
    let url = answer.url().clone();
    let text = read(answer).await.unwrap_or_default();
    let problem: Value = serde_json::from_str(&text).unwrap_or_default();
    let say = |name: &str| {
        problem[name].as_str().map(|text| clean(text, Colors::Drop)).filter(|text| !text.is_empty())
    };
    let mut message = say("detail").or_else(|| say("title")).unwrap_or_else(|| stranger(&url, status));
    message = in_commands(&message);
    if status == StatusCode::UNAUTHORIZED {
        message = format!("{message}\nSet FAIRLANE_TOKEN to a token of the dispatcher.");
    }
    Stop::new(exit, message)
}

/// The error if whatever answers is not a dispatcher.
fn stranger(url: &Url, status: StatusCode) -> String {
    let origin = url.origin().ascii_serialization();
    if is_passing(status) {
        return format!(
            "a proxy at {origin} answers {status}: it reaches no dispatcher\nAre dispatchers running behind it?"
        );
    }
    format!("{url} answers {status}; is it a dispatcher's address?")
}

fn decode<T: DeserializeOwned>(method: &Method, path: &str, text: &str) -> Result<T> {
    let text = if text.is_empty() { "null" } else { text };
    serde_json::from_str(text).with_context(|| {
        format!("the answer to {method} {path} cannot be read; the dispatcher may be of another release")
    })
}

async fn read(mut answer: Response) -> Result<String> {
    let mut bytes = Vec::new();
    while let Some(chunk) = answer.chunk().await? {
        anyhow::ensure!(
            bytes.len() + chunk.len() <= ANSWER_BYTES_MAX,
            "the answer is larger than {ANSWER_BYTES_MAX} bytes"
        );
        bytes.extend_from_slice(&chunk);
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests;
