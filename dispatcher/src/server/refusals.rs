//! Answers that are given below HTTP's own layer: to connections beyond a limit, to requests whose
//! head cannot be read. They are problems like all others.

use std::sync::LazyLock;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;

use super::HEAD_BYTES_MAX;
use crate::problem::{
    HEAD_TOO_LARGE, Kind, MALFORMED_REQUEST, Refusal, TOO_MANY_CONNECTIONS, TOO_MANY_FROM_HERE, TOO_SLOW,
};

/// When a client beyond a limit may come back, in seconds.
const RETRY_AFTER: u64 = 5;
/// How long a refused client is listened to, so that it gets to read why.
const LINGER: Duration = Duration::from_secs(1);
/// How long its handshake may take, where one comes first.
const HANDSHAKE: Duration = Duration::from_secs(2);

fn text(refusal: &Refusal) -> Vec<u8> {
    let body = refusal.body();
    let retry = refusal.seconds().map(|seconds| format!("retry-after: {seconds}\r\n")).unwrap_or_default();
    let head = format!(
        "HTTP/1.1 {}\r\ncontent-type: application/problem+json\r\ncontent-length: {}\r\n{retry}connection: close\r\n\r\n",
        refusal.status(),
        body.len()
    );
    [head.into_bytes(), body].concat()
}

static HEAD_TOO_SLOW: LazyLock<Vec<u8>> =
    LazyLock::new(|| text(&Refusal::new(TOO_SLOW, "the request's head did not come in time")));

/// To a client that began a request and did not go on.
pub(super) fn head_too_slow() -> &'static [u8] {
    &HEAD_TOO_SLOW
}

static INSTEAD: LazyLock<[(&str, Vec<u8>); 2]> = LazyLock::new(|| {
    let answer = |kind: Kind, why: String| text(&Refusal::new(kind, why));
    [
        (
            "HTTP/1.1 431 ",
            answer(
                HEAD_TOO_LARGE,
                format!("a request's head may have {HEAD_BYTES_MAX} bytes and 100 fields"),
            ),
        ),
        (
            "HTTP/1.1 400 ",
            answer(MALFORMED_REQUEST, "this is no request of HTTP/1.1 or HTTP/2 that can be read".to_owned()),
        ),
    ]
});

/// The answer that says more than one that has no body.
pub(super) fn instead_of(bytes: &[u8]) -> Option<&'static [u8]> {
    let fuller = INSTEAD.iter().find(|(start, _)| bytes.starts_with(start.as_bytes()))?;
    // Ours have a body, and a type.
    let head = String::from_utf8_lossy(bytes);
    (head.ends_with("\r\n\r\n") && head.contains("content-length: 0\r\n")).then_some(fuller.1.as_slice())
}

static TOO_MANY: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let why = "this dispatcher has as many connections as it may; try again in a moment or at another one";
    text(&Refusal::new(TOO_MANY_CONNECTIONS, why).retry_after(RETRY_AFTER))
});

static TOO_MANY_FROM_ONE: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let why = "this dispatcher has as many connections from your address as it may; close some, or use them for \
               several requests";
    text(&Refusal::new(TOO_MANY_FROM_HERE, why).retry_after(RETRY_AFTER))
});

/// Why a connection is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Excess {
    /// There are too many in all.
    All,
    /// There are too many from its address.
    Address,
}

/// Says why a connection is not taken, and closes it.
pub(super) async fn turn_away(stream: TcpStream, tls: Option<TlsAcceptor>, excess: Excess) {
    let answer: &[u8] = match excess {
        Excess::All => &TOO_MANY,
        Excess::Address => &TOO_MANY_FROM_ONE,
    };
    let Some(tls) = tls else { return say_goodbye(stream, answer).await };
    // Boxed: it is large.
    if let Ok(Ok(stream)) = tokio::time::timeout(HANDSHAKE, Box::pin(tls.accept(stream))).await {
        say_goodbye(stream, answer).await;
    }
}

async fn say_goodbye(mut stream: impl AsyncRead + AsyncWrite + Unpin, answer: &[u8]) {
    let goodbye = async {
        stream.write_all(answer).await?;
        stream.shutdown().await?;
        // Closing with something unread would take the answer back from the client.
        let mut rest = [0; 1024];
        while stream.read(&mut rest).await? > 0 {}
        std::io::Result::Ok(())
    };
    let _ = tokio::time::timeout(LINGER, goodbye).await;
}
