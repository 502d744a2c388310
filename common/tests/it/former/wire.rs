//! As much of Redis's protocol as a proxy needs: requests are lists of words.

use std::io;

use redis::{RedisError, Value};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// The next command; `None` if the client has disconnected.
pub(super) async fn read_command(client: &mut TcpStream) -> Option<Vec<Vec<u8>>> {
    let count = read_number(client, b'*').await?;
    let mut words = Vec::with_capacity(count);
    for _ in 0..count {
        let mut word = vec![0; read_number(client, b'$').await? + 2];
        client.read_exact(&mut word).await.ok()?;
        word.truncate(word.len() - 2);
        words.push(word);
    }
    Some(words)
}

async fn read_number(client: &mut TcpStream, lead: u8) -> Option<usize> {
    let mut line = vec![];
    while !line.ends_with(b"\r\n") {
        line.push(client.read_u8().await.ok()?);
    }
    assert_eq!(line[0], lead, "{line:?}");
    std::str::from_utf8(&line[1..line.len() - 2]).ok()?.parse().ok()
}

pub(super) async fn write_reply(client: &mut TcpStream, answer: Result<Value, RedisError>) -> io::Result<()> {
    let mut bytes = vec![];
    match answer {
        Ok(value) => write_value(&mut bytes, &value),
        Err(error) => {
            let (code, detail) = (error.code().unwrap_or("ERR"), error.detail().unwrap_or("failed"));
            bytes.extend(format!("-{code} {detail}\r\n").into_bytes());
        }
    }
    client.write_all(&bytes).await
}

fn write_value(bytes: &mut Vec<u8>, value: &Value) {
    match value {
        Value::Nil => bytes.extend(b"$-1\r\n"),
        Value::Okay => bytes.extend(b"+OK\r\n"),
        Value::Int(number) => bytes.extend(format!(":{number}\r\n").into_bytes()),
        Value::SimpleString(text) => bytes.extend(format!("+{text}\r\n").into_bytes()),
        Value::BulkString(text) => {
            bytes.extend(format!("${}\r\n", text.len()).into_bytes());
            bytes.extend(text);
            bytes.extend(b"\r\n");
        }
        Value::Array(values) => {
            bytes.extend(format!("*{}\r\n", values.len()).into_bytes());
            for value in values {
                write_value(bytes, value);
            }
        }
        Value::ServerError(error) => {
            bytes.extend(
                format!("-{} {}\r\n", error.code(), error.details().unwrap_or_default()).into_bytes(),
            );
        }
        other => panic!("a reply of another protocol: {other:?}"),
    }
}
