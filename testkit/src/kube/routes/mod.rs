//! Routes requests.

mod change;
mod create;
mod discovery;
mod logs;
mod read;
mod remove;
mod reviews;

use std::sync::Arc;

use axum::body::{Body, to_bytes};
use axum::extract::{ConnectInfo, Request, State};
use axum::http::{HeaderMap, Response, header};
use futures::{StreamExt, stream};

use super::call::Call;
use super::faults::Fault;
use super::gate::Connection;
use super::rights::User;
use super::shared::Shared;
use super::status::{Answer, Status, response};
use super::watch;

/// A real server refuses larger bodies.
const BODY_BYTES_MAX: usize = 3 * 1024 * 1024;

/// Answers any request.
pub(super) async fn handle(
    State(shared): State<Arc<Shared>>,
    ConnectInfo(connection): ConnectInfo<Connection>,
    request: Request,
) -> Response<Body> {
    answer(&shared, &connection, request).await.unwrap_or_else(Status::into_response)
}

async fn answer(shared: &Arc<Shared>, connection: &Connection, request: Request) -> Answer {
    let (parts, body) = request.into_parts();
    let user = authenticate(shared, &parts.headers)?;
    let Some(call) = Call::parse(&parts.method, &parts.uri, &parts.headers, user) else {
        shared.counters.count(&format!("get {}", parts.uri.path()));
        return discovery::answer(parts.uri.path());
    };
    let what = call.what();
    shared.counters.count(&what);
    let fault = shared.faults.meet(&what);
    match &fault {
        Some(Fault::Delay(time)) => tokio::time::sleep(*time).await,
        Some(Fault::Cut) => cut(connection).await,
        Some(Fault::Throttled(seconds)) => return Ok(throttled(*seconds)),
        Some(Fault::Fails(code)) => {
            return Err(Status::new(
                *code,
                None,
                "an error on the server has prevented the request from succeeding",
            ));
        }
        _ => {}
    }
    let body = to_bytes(body, BODY_BYTES_MAX).await.map_err(|_| {
        let message = format!("Request entity too large: limit is {BODY_BYTES_MAX}");
        Status::new(413, Some("RequestEntityTooLarge"), message)
    })?;
    authorize(shared, &call, fault.as_ref())?;
    if let Some(Fault::HeldBack(time)) = fault {
        let shared = Arc::clone(shared);
        let carried_out = tokio::spawn(async move {
            tokio::time::sleep(time).await;
            dispatch(&shared, &call, &parts.headers, &body, None).await
        });
        let lost = |_| Err(Status::new(500, None, "the fake's handler has failed"));
        return carried_out.await.unwrap_or_else(lost);
    }
    let answer = dispatch(shared, &call, &parts.headers, &body, fault.as_ref()).await?;
    match fault {
        Some(Fault::LosesAnswer) => {
            cut(connection).await;
            Ok(answer)
        }
        Some(Fault::CutsStreamAfter(bytes)) => Ok(shortened(answer, bytes, true)),
        Some(Fault::EndsStreamAfter(bytes)) => Ok(shortened(answer, bytes, false)),
        _ => Ok(answer),
    }
}

fn authenticate(shared: &Shared, headers: &HeaderMap) -> Result<User, Status> {
    let token = headers
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.strip_prefix("Bearer "));
    shared.rights.user(token).ok_or_else(|| Status::new(401, Some("Unauthorized"), "Unauthorized"))
}

fn authorize(shared: &Shared, call: &Call, fault: Option<&Fault>) -> Result<(), Status> {
    let namespace = call.namespace.as_deref();
    let own_namespace = call.name.as_deref().filter(|_| call.resource == "namespaces");
    let reviews = call.group == "authorization.k8s.io";
    let right = format!("{} {}", call.verb, call.full_resource());
    let allowed =
        reviews || call.verb == "none" || shared.rights.allow(call.user, &right, namespace.or(own_namespace));
    if allowed && fault != Some(&Fault::Forbidden) {
        return Ok(());
    }
    let whereabouts = namespace.map_or_else(
        || "at the cluster scope".to_owned(),
        |namespace| format!("in the namespace \"{namespace}\""),
    );
    let why = format!(
        "User \"{}\" cannot {} resource \"{}\" in API group \"{}\" {whereabouts}",
        shared.rights.name(call.user),
        call.verb,
        call.full_resource(),
        call.group
    );
    Err(Status::forbidden(&call.resource, call.name.as_deref(), &why))
}

async fn dispatch(
    shared: &Arc<Shared>,
    call: &Call,
    headers: &HeaderMap,
    body: &[u8],
    fault: Option<&Fault>,
) -> Answer {
    if call.group == "authorization.k8s.io" {
        return reviews::answer(shared, call, body);
    }
    let accepts = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or("*/*");
    let json = ["json", "*/*", "application/*"].iter().any(|one| accepts.contains(one));
    if !json {
        let message = "406: Not Acceptable\n\nAvailable representations: application/json, application/yaml, \
                       application/vnd.kubernetes.protobuf";
        return Err(Status::new(406, Some("NotAcceptable"), message).details(serde_json::json!({})));
    }
    let kind = call.kind.ok_or_else(Status::no_such_resource)?;
    match (call.verb, call.subresource.as_str()) {
        ("create", "") => create::answer(shared, call, kind, body, fault == Some(&Fault::QuotaExceeded)),
        ("create", "eviction") => remove::evict(shared, call, body),
        ("get", "") => read::get(shared, call, kind),
        ("get", "log") if kind.name == "Pod" => logs::answer(shared, call),
        ("list", "") => read::list(shared, call, kind).await,
        ("watch", "") => watch::answer(shared, call, kind),
        ("delete", "") => remove::one(shared, call, kind, body),
        ("deletecollection", "") => remove::many(shared, call, kind),
        ("patch", "" | "status") => change::patch(shared, call, kind, body),
        ("update", "") => change::replace(shared, call, kind, body),
        ("none", _) => {
            let message = "the server does not allow this method on the requested resource";
            Err(Status::new(405, Some("MethodNotAllowed"), message).details(serde_json::json!({})))
        }
        _ => Err(Status::no_such_resource()),
    }
}

/// Cuts the connection: this future is dropped with it.
async fn cut(connection: &Connection) {
    connection.cut();
    std::future::pending::<()>().await;
}

fn throttled(seconds: u32) -> Response<Body> {
    let mut answer =
        response(429, "text/plain; charset=utf-8", "Too many requests, please try again later.\n");
    answer.headers_mut().insert(header::RETRY_AFTER, header::HeaderValue::from(seconds));
    answer
}

/// Lets this many bytes of a stream through, then cuts it or ends it.
fn shortened(answer: Response<Body>, bytes: usize, breaks: bool) -> Response<Body> {
    let (parts, body) = answer.into_parts();
    let chunks = Box::pin(body.into_data_stream());
    let whole = stream::unfold((chunks, bytes), move |(mut chunks, left)| async move {
        if left == 0 {
            // Earlier bytes are sent first: a body that waits is flushed.
            tokio::task::yield_now().await;
            let reset = std::io::Error::from(std::io::ErrorKind::ConnectionReset);
            return breaks.then_some((Err(reset), (chunks, left)));
        }
        let mut chunk = match chunks.next().await? {
            Ok(chunk) => chunk,
            Err(error) => return Some((Err(std::io::Error::other(error)), (chunks, left))),
        };
        chunk.truncate(left);
        let left = left - chunk.len();
        Some((Ok(chunk), (chunks, left)))
    });
    Response::from_parts(parts, Body::from_stream(whole))
}
