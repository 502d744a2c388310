//! The one place that calls the queue's operations: Redis functions of our [library](crate::library).
//!
//! Every reply is an array whose first element is a tag from a closed list; an unknown tag is an error. Every
//! operation can be repeated: it returns the same answer, or one that says it was already done.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use redis::Value;

use crate::error::{Error, Result};
use crate::library::{LIBRARY, Operation};
use crate::queue::Queue;

pub(crate) use super::args::Args;

/// An operation's answer: its tag, followed by values by name.
#[derive(Debug, Clone)]
pub(crate) struct Reply {
    pub(crate) tag: String,
    fields: Vec<(String, Value)>,
    operation: &'static str,
}

impl Reply {
    pub(crate) fn new(operation: &'static str, value: Value) -> Result<Self> {
        let corrupt = || Error::Corrupt(format!("{operation} answered without a tag"));
        let Value::Array(values) = unpacked(value) else {
            return Err(corrupt());
        };
        let mut values = values.into_iter();
        let tag = values.next().and_then(|tag| redis::from_redis_value(tag).ok()).ok_or_else(corrupt)?;
        Ok(Self { tag, fields: named(operation, values)?, operation })
    }

    /// A raw value. A value that another release does not send is absent.
    pub(crate) fn get<T: redis::FromRedisValue>(&mut self, name: &str) -> Result<T> {
        let place = self.fields.iter().position(|(known, _)| known == name);
        let value = place.map_or(Value::Nil, |at| self.fields.swap_remove(at).1);
        redis::from_redis_value(value).map_err(|e| self.wrong(name, e))
    }

    /// A value, parsed from its text. Numbers and ids come as text, because Lua truncates numbers.
    pub(crate) fn parse<T: std::str::FromStr<Err: std::fmt::Display>>(&mut self, name: &str) -> Result<T> {
        let text: String = self.get(name)?;
        text.parse().map_err(|e| self.wrong(name, format_args!("'{text}': {e}")))
    }

    /// Like [`Self::parse`], with the empty text for an absent value.
    pub(crate) fn maybe<T: std::str::FromStr<Err: std::fmt::Display>>(
        &mut self,
        name: &str,
    ) -> Result<Option<T>> {
        match self.get::<Option<String>>(name)? {
            Some(text) if !text.is_empty() => {
                text.parse().map(Some).map_err(|e| self.wrong(name, format_args!("'{text}': {e}")))
            }
            _ => Ok(None),
        }
    }

    pub(crate) fn flag(&mut self, name: &str) -> Result<bool> {
        Ok(self.get::<String>(name)? == "1")
    }

    /// The answers in a list, each with its own tag.
    pub(crate) fn answers(&mut self, name: &str) -> Result<Vec<Result<Self>>> {
        let operation = self.operation;
        let values: Vec<Value> = self.get(name)?;
        Ok(values.into_iter().map(|value| Self::new(operation, value)).collect())
    }

    /// The items of a list, each with fields by name.
    pub(crate) fn items(&mut self, name: &str) -> Result<Vec<Self>> {
        let operation = self.operation;
        let values: Vec<Value> = self.get(name)?;
        let item = |value: Value| {
            let Value::Array(values) = unpacked(value) else {
                return Err(self.wrong(name, "an item without fields"));
            };
            Ok(Self { tag: name.to_owned(), fields: named(operation, values.into_iter())?, operation })
        };
        values.into_iter().map(item).collect()
    }

    /// A tag that the file's header does not list.
    pub(crate) fn unknown(&self) -> Error {
        Error::Corrupt(format!("{} answered with the unknown tag '{}'", self.operation, self.tag))
    }

    /// An answer that makes no sense.
    pub(crate) fn corrupt(&self, why: impl std::fmt::Display) -> Error {
        Error::Corrupt(format!("{}: {why}", self.operation))
    }

    fn wrong(&self, name: &str, why: impl std::fmt::Display) -> Error {
        Error::Corrupt(format!("{}: reply {}: {name}: {why}", self.operation, self.tag))
    }
}

/// A list that came as one text of JSON, as a list; anything else unchanged.
fn unpacked(value: Value) -> Value {
    fn list(json: serde_json::Value) -> Value {
        match json {
            serde_json::Value::Array(values) => Value::Array(values.into_iter().map(list).collect()),
            serde_json::Value::String(text) => Value::BulkString(text.into_bytes()),
            _ => Value::Nil,
        }
    }
    match &value {
        Value::BulkString(text) => serde_json::from_slice(text).map_or(value, list),
        _ => value,
    }
}

/// Pairs up alternating names and values.
fn named(operation: &str, mut values: impl Iterator<Item = Value>) -> Result<Vec<(String, Value)>> {
    let mut fields = Vec::new();
    while let (Some(name), Some(value)) = (values.next(), values.next()) {
        let name = redis::from_redis_value(name)
            .map_err(|e| Error::Corrupt(format!("{operation}: the name of a value: {e}")))?;
        fields.push((name, value));
    }
    Ok(fields)
}

impl Queue {
    /// Calls an operation on the queue's keys. If Redis was emptied, reopens the queue first.
    pub(crate) async fn call(&self, operation: &'static Operation, args: Args) -> Result<Reply> {
        let reply = self.call_once(operation, &args).await?;
        if reply.tag != "emptied" {
            return Self::accept(reply);
        }
        self.reopen().await?;
        let reply = self.call_once(operation, &args).await?;
        Self::accept(reply)
    }

    fn accept(mut reply: Reply) -> Result<Reply> {
        match reply.tag.as_str() {
            "schema" => Err(Error::Schema { found: reply.get("found")?, known: crate::queue::SCHEMA }),
            _ => Ok(reply),
        }
    }

    pub(crate) async fn call_once(&self, operation: &'static Operation, args: &Args) -> Result<Reply> {
        let keys = [self.keys().schema()];
        let now = self.clock().argument();
        let words = args.sent();
        let words = std::iter::once(now.as_bytes()).chain(words.iter().map(AsRef::as_ref));
        self.timed(operation, &keys, words).await
    }

    /// Calls an operation on the keys of a log.
    pub(crate) async fn call_log(
        &self,
        operation: &'static Operation,
        keys: &[String],
        args: &Args,
    ) -> Result<Reply> {
        self.timed(operation, keys, args.sent().iter().map(AsRef::as_ref)).await
    }

    async fn timed<'a>(
        &self,
        operation: &'static Operation,
        keys: &[String],
        words: impl Iterator<Item = &'a [u8]>,
    ) -> Result<Reply> {
        let began = Instant::now();
        // Boxed: the client's futures nest deep, and so would all futures that await them.
        let value = Box::pin(self.run(operation, keys, words)).await;
        let answer = value.and_then(|value| Reply::new(operation.name, value));
        self.calls().count(operation.name, began.elapsed(), &answer);
        answer
    }

    async fn run<'a>(
        &self,
        operation: &'static Operation,
        keys: &[String],
        words: impl Iterator<Item = &'a [u8]>,
    ) -> Result<Value> {
        let words: Vec<&[u8]> = words.collect();
        if self.carrier().is_by_script() {
            return self.run_script(operation, keys, &words).await;
        }
        let mut cmd = redis::cmd("FCALL");
        cmd.arg(operation.function()).arg(keys.len()).arg(keys);
        for word in &words {
            cmd.arg(word);
        }
        let answer = self.link().run(&cmd).await;
        if !answer.as_ref().is_err_and(is_function_missing) {
            return self.judged(answer);
        }
        // This server does not know the library, or no functions at all. In a Cluster, another node may be down, or
        // have it already.
        let loaded = self.link().run(redis::cmd("FUNCTION").arg("LOAD").arg(&LIBRARY.code)).await;
        match (self.link().run(&cmd).await, loaded) {
            (Err(missing), Err(why)) if is_function_missing(&missing) => {
                if !takes_no_function(&why) {
                    return Err(why.into());
                }
                self.carrier().by_script(&why);
                self.run_script(operation, keys, &words).await
            }
            (answer, _) => self.judged(answer),
        }
    }

    /// The same as a script, which even a full Redis accepts.
    async fn run_script(
        &self,
        operation: &'static Operation,
        keys: &[String],
        words: &[&[u8]],
    ) -> Result<Value> {
        let script = &LIBRARY.script;
        let call = |command: &str, text: &str| {
            let mut cmd = redis::cmd(command);
            cmd.arg(text).arg(keys.len()).arg(keys).arg(operation.name);
            for word in words {
                cmd.arg(word);
            }
            cmd
        };
        let answer = self.link().run(&call("EVALSHA", &script.hash)).await;
        if answer.as_ref().is_err_and(|error| error.code() == Some("NOSCRIPT")) {
            return self.judged(self.link().run(&call("EVAL", &script.code)).await);
        }
        self.judged(answer)
    }

    fn judged(&self, answer: redis::RedisResult<Value>) -> Result<Value> {
        answer.map_err(|error| {
            let error = Error::from(error);
            if matches!(error, Error::OutOfMemory(_)) {
                self.gauge().refused();
            }
            error
        })
    }
}

/// How operations reach Redis: as functions, or as scripts while Redis cannot load functions. Chosen by the first
/// call, which opens the queue.
#[derive(Debug, Default)]
pub(crate) struct Carrier(Mutex<Option<ByScript>>);

/// Why operations are sent as scripts, and until when.
#[derive(Debug)]
struct ByScript {
    why: String,
    until: Instant,
}

impl ByScript {
    fn is_in_force(&self) -> bool {
        Instant::now() < self.until
    }
}

/// How long to wait before loading the library into a Redis that was full.
const LOAD_AGAIN: Duration = Duration::from_secs(10);
/// The same for a Redis that has no functions, or forbids them.
const ASK_AGAIN: Duration = Duration::from_mins(10);

impl Carrier {
    fn chosen(&self) -> MutexGuard<'_, Option<ByScript>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_by_script(&self) -> bool {
        self.chosen().as_ref().is_some_and(ByScript::is_in_force)
    }

    fn by_script(&self, why: &redis::RedisError) {
        let wait = if why.code() == Some("OOM") { LOAD_AGAIN } else { ASK_AGAIN };
        // Redis 6.2 repeats the library after its error.
        let text = why.to_string();
        let why = text.split_once(", with args").map_or(text.as_str(), |(error, _)| error);
        let by_script = ByScript { why: why.to_owned(), until: Instant::now() + wait };
        if self.chosen().replace(by_script).is_none() {
            tracing::warn!(
                error = why,
                "Redis rejects functions; operations are sent as scripts until it accepts them"
            );
        }
    }
}

impl Queue {
    /// Why operations are sent to Redis as scripts at present; `None` if they are functions.
    pub fn rejects_functions(&self) -> Option<String> {
        let chosen = self.carrier().chosen();
        chosen.as_ref().filter(|chosen| chosen.is_in_force()).map(|chosen| chosen.why.clone())
    }
}

/// Whether a Redis that refused a library accepts the same text as a script: it is full, or has no functions.
pub(crate) fn takes_no_function(error: &redis::RedisError) -> bool {
    matches!(error.code(), Some("OOM" | "NOPERM")) || says(error, "unknown command")
}

/// Whether a function cannot be called because the server does not know it, knows no functions (Redis 6.2 quotes
/// the command differently), or forbids calling them.
fn is_function_missing(error: &redis::RedisError) -> bool {
    says(error, "function not found") || has_no_functions(error)
}

/// Whether the server knows no functions, or forbids calling them.
pub(crate) fn has_no_functions(error: &redis::RedisError) -> bool {
    says(error, "fcall") && (says(error, "unknown command") || error.code() == Some("NOPERM"))
}

/// Whether an error has these lower-case words.
pub(crate) fn says(error: &redis::RedisError, words: &str) -> bool {
    error.detail().is_some_and(|detail| detail.to_ascii_lowercase().contains(words))
}
