//! A minimal HTTP client. HTTP/1.0, so that a response simply ends when the connection closes.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

/// Time limit for a response.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);
/// A stream sends a comment every 15 s; after four missed ones, the server counts as dead.
const SILENCE_LIMIT: Duration = Duration::from_mins(1);

/// Sends a request and returns the JSON in the response.
pub(crate) fn json(server: SocketAddr, method: &str, path: &str, body: Option<&Value>) -> Result<Value> {
    let (status, mut answer) = send(server, method, path, body, ANSWER_LIMIT)?;
    let mut text = String::new();
    answer.read_to_string(&mut text)?;
    if !(200..300).contains(&status) {
        bail!("{method} {path}: {status}: {text}");
    }
    serde_json::from_str(&text).with_context(|| format!("{method} {path} answered {text:?}"))
}

/// The status of the response to a GET.
pub(crate) fn status(server: SocketAddr, path: &str) -> Result<u16> {
    Ok(send(server, "GET", path, None, ANSWER_LIMIT)?.0)
}

/// Follows a stream of server-sent events, until `take` (event, data) is false or the stream ends.
pub(crate) fn events(server: SocketAddr, path: &str, mut take: impl FnMut(&str, &str) -> bool) -> Result<()> {
    let (status, stream) = send(server, "GET", path, None, SILENCE_LIMIT)?;
    if status != 200 {
        bail!("GET {path}: {status}");
    }
    let mut event = String::new();
    for line in stream.lines() {
        let line = line?;
        if let Some(name) = line.strip_prefix("event:") {
            name.trim().clone_into(&mut event);
        } else if let Some(data) = line.strip_prefix("data:")
            && !take(&event, data.trim_start())
        {
            return Ok(());
        }
    }
    Ok(())
}

fn send(
    server: SocketAddr,
    method: &str,
    path: &str,
    body: Option<&Value>,
    limit: Duration,
) -> Result<(u16, BufReader<TcpStream>)> {
    let mut connection = TcpStream::connect_timeout(&server, ANSWER_LIMIT)?;
    connection.set_read_timeout(Some(limit))?;
    connection.set_write_timeout(Some(ANSWER_LIMIT))?;
    let body = body.map(Value::to_string).unwrap_or_default();
    let mut head =
        format!("{method} {path} HTTP/1.0\r\nHost: {server}\r\nContent-Length: {}\r\n", body.len());
    if !body.is_empty() {
        head += "Content-Type: application/json\r\n";
    }
    connection.write_all(format!("{head}\r\n{body}").as_bytes())?;
    let mut answer = BufReader::new(connection);
    let mut line = String::new();
    answer.read_line(&mut line)?;
    let status = line.split(' ').nth(1).and_then(|status| status.parse().ok());
    let status = status.with_context(|| format!("{method} {path}: not an HTTP response: {line:?}"))?;
    while line.trim() != "" {
        line.clear();
        answer.read_line(&mut line)?;
    }
    Ok((status, answer))
}
