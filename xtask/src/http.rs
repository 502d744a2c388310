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

/// Additional headers of a request: names and values.
pub(crate) type Headers<'a> = &'a [(&'a str, &'a str)];

/// An event of a stream. Fields that the stream does not repeat are empty.
#[derive(Debug, Default)]
pub(crate) struct Event {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) data: String,
}

/// Sends a request and returns the JSON in the response.
pub(crate) fn json(server: SocketAddr, method: &str, path: &str, body: Option<&Value>) -> Result<Value> {
    json_with(server, &[], method, path, body)
}

/// The same, with headers.
pub(crate) fn json_with(
    server: SocketAddr,
    headers: Headers<'_>,
    method: &str,
    path: &str,
    body: Option<&Value>,
) -> Result<Value> {
    let (status, mut answer) = send(server, headers, method, path, body, ANSWER_LIMIT)?;
    let mut text = String::new();
    answer.read_to_string(&mut text)?;
    if !(200..300).contains(&status) {
        bail!("{method} {path}: {status}: {text}");
    }
    serde_json::from_str(&text).with_context(|| format!("{method} {path} answered {text:?}"))
}

/// The status of the response to a GET.
pub(crate) fn status(server: SocketAddr, path: &str) -> Result<u16> {
    Ok(send(server, &[], "GET", path, None, ANSWER_LIMIT)?.0)
}

/// Follows a stream of server-sent events, until `take` (event, data) is false or the stream ends.
pub(crate) fn events(server: SocketAddr, path: &str, mut take: impl FnMut(&str, &str) -> bool) -> Result<()> {
    events_with(server, &[], path, |event| take(&event.name, &event.data))
}

/// The same, with headers; `take` gets the whole event.
pub(crate) fn events_with(
    server: SocketAddr,
    headers: Headers<'_>,
    path: &str,
    mut take: impl FnMut(&Event) -> bool,
) -> Result<()> {
    let (status, stream) = send(server, headers, "GET", path, None, SILENCE_LIMIT)?;
    if status != 200 {
        bail!("GET {path}: {status}");
    }
    let mut event = Event::default();
    for line in stream.lines() {
        let line = line?;
        if line.is_empty() {
            // A comment also ends with an empty line.
            if !event.data.is_empty() && !take(&event) {
                return Ok(());
            }
            event = Event::default();
        } else if let Some((field, value)) = line.split_once(':') {
            let value = value.strip_prefix(' ').unwrap_or(value).to_owned();
            match field {
                "id" => event.id = value,
                "event" => event.name = value,
                "data" => event.data = value,
                _ => {}
            }
        }
    }
    Ok(())
}

fn send(
    server: SocketAddr,
    headers: Headers<'_>,
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
    for (name, value) in headers {
        head.extend([*name, ": ", *value, "\r\n"]);
    }
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
