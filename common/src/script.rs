//! The one place that runs Lua: one file per operation, each behind the shared parts that it needs.
//!
//! Every reply is an array whose first element is a tag from a closed list. An unknown tag is an
//! error. Every script may be repeated: it gives the same answer, or one that says it was done.

use redis::Value;

use crate::assemble::with_shared;
use crate::error::{Error, Result};
use crate::queue::Queue;

/// One script: its name, and its text.
#[derive(Debug)]
pub struct Script {
    /// The file's name without its ending.
    pub name: &'static str,
    body: &'static str,
    shares: bool,
    whole: std::sync::OnceLock<Whole>,
}

/// A script as Redis gets it: its whole text, and the SHA-1 under which Redis caches it.
#[derive(Debug)]
struct Whole {
    code: String,
    hashed: redis::Script,
}

impl Script {
    /// A script behind the shared parts that it needs.
    const fn new(name: &'static str, body: &'static str) -> Self {
        Self { name, body, shares: true, whole: std::sync::OnceLock::new() }
    }

    /// A script that stands by itself.
    const fn alone(name: &'static str, body: &'static str) -> Self {
        Self { name, body, shares: false, whole: std::sync::OnceLock::new() }
    }

    fn whole(&self) -> &Whole {
        self.whole.get_or_init(|| {
            let code = if self.shares { with_shared(self.body) } else { self.body.to_owned() };
            Whole { hashed: redis::Script::new(&code), code }
        })
    }

    /// The whole text.
    pub fn code(&self) -> &str {
        &self.whole().code
    }

    fn sha(&self) -> &str {
        self.whole().hashed.get_hash()
    }
}

macro_rules! scripts {
    ($($constant:ident = $name:literal,)+) => {
        $(
            pub(crate) static $constant: Script =
                Script::new($name, include_str!(concat!("../lua/", $name, ".lua")));
        )+
        /// Every script that works on the queue's keys.
        pub static ALL: &[&Script] = &[$(&$constant,)+];
    };
}

scripts! {
    OPEN = "open",
    SUBMIT = "submit",
    CLAIM = "claim",
    REPORT = "report",
    RENEW = "renew",
    FINISH = "finish",
    RELEASE = "release",
    LEAVE = "leave",
    CANCEL = "cancel",
    PEOPLE = "people",
    REAP = "reap",
    SET_RULE = "set_rule",
    DRAIN = "drain",
    CONFIGURE = "configure",
    SNAPSHOT = "snapshot",
    SPEND = "spend",
    LANE = "lane",
    CHECK = "check",
    REGISTER = "register",
    NODES_VIEW = "nodes_view",
    CLEAR_NODE = "clear_node",
    SCALE = "scale",
}

/// Appends to a log; works on the log's keys alone.
pub(crate) static APPEND: Script = Script::alone("append", include_str!("../lua/append.lua"));

/// The arguments of a call, in the order of the script's header.
#[derive(Debug, Default)]
pub(crate) struct Args(Vec<Vec<u8>>);

impl Args {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    pub(crate) fn text(mut self, text: impl AsRef<[u8]>) -> Self {
        self.0.push(text.as_ref().to_vec());
        self
    }

    pub(crate) fn show(self, value: impl std::fmt::Display) -> Self {
        self.text(value.to_string())
    }

    pub(crate) fn flag(self, flag: bool) -> Self {
        self.text(if flag { "1" } else { "0" })
    }

    /// An absent value is the empty text.
    pub(crate) fn maybe(self, value: Option<impl std::fmt::Display>) -> Self {
        self.text(value.map(|value| value.to_string()).unwrap_or_default())
    }
}

/// A script's answer: its tag, and what follows it.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) tag: String,
    rest: std::vec::IntoIter<Value>,
    script: &'static str,
}

impl Reply {
    fn new(script: &'static str, value: Value) -> Result<Self> {
        let corrupt = || Error::Corrupt(format!("script {script} answered without a tag"));
        let Value::Array(values) = value else {
            return Err(corrupt());
        };
        let mut rest = values.into_iter();
        let tag = rest.next().and_then(|tag| redis::from_redis_value(tag).ok()).ok_or_else(corrupt)?;
        Ok(Self { tag, rest, script })
    }

    /// The next value.
    pub(crate) fn next<T: redis::FromRedisValue>(&mut self) -> Result<T> {
        let value = self.rest.next().unwrap_or(Value::Nil);
        redis::from_redis_value(value)
            .map_err(|e| Error::Corrupt(format!("script {}: reply {}: {e}", self.script, self.tag)))
    }

    /// The next value, parsed from its text. Numbers and ids come as text: Lua cuts numbers short.
    pub(crate) fn parse<T: std::str::FromStr<Err: std::fmt::Display>>(&mut self) -> Result<T> {
        let text: String = self.next()?;
        text.parse()
            .map_err(|e| Error::Corrupt(format!("script {}: reply {}: '{text}': {e}", self.script, self.tag)))
    }

    /// Like [`Self::parse`], with the empty text for an absent value.
    pub(crate) fn maybe<T: std::str::FromStr<Err: std::fmt::Display>>(&mut self) -> Result<Option<T>> {
        let text: Option<String> = self.next()?;
        match text {
            None => Ok(None),
            Some(text) if text.is_empty() => Ok(None),
            Some(text) => text.parse().map(Some).map_err(|e| {
                Error::Corrupt(format!("script {}: reply {}: '{text}': {e}", self.script, self.tag))
            }),
        }
    }

    /// All that is left.
    pub(crate) fn rest(&mut self) -> Result<Vec<String>> {
        let mut rest = Vec::new();
        while let Some(value) = self.next::<Option<String>>()? {
            rest.push(value);
        }
        Ok(rest)
    }

    /// A tag that the script's header does not list.
    pub(crate) fn unknown(&self) -> Error {
        Error::Corrupt(format!("script {} answered with the unknown tag '{}'", self.script, self.tag))
    }
}

impl Queue {
    /// Runs a script on the queue's keys. A queue that was emptied is opened again first.
    pub(crate) async fn call(&self, script: &'static Script, args: Args) -> Result<Reply> {
        let reply = self.call_once(script, &args).await?;
        if reply.tag != "emptied" {
            return Self::accept(reply);
        }
        self.reopen().await?;
        let reply = self.call_once(script, &args).await?;
        Self::accept(reply)
    }

    fn accept(mut reply: Reply) -> Result<Reply> {
        match reply.tag.as_str() {
            "schema" => Err(Error::Schema { found: reply.next()?, known: crate::queue::SCHEMA }),
            _ => Ok(reply),
        }
    }

    pub(crate) async fn call_once(&self, script: &'static Script, args: &Args) -> Result<Reply> {
        let keys = [self.keys().schema()];
        let now = self.clock().argument();
        let words = std::iter::once(now.as_bytes()).chain(args.0.iter().map(Vec::as_slice));
        let value = self.evaluate(script, &keys, words).await?;
        Reply::new(script.name, value)
    }

    /// Runs the log script on a log's own keys.
    pub(crate) async fn call_log(&self, keys: &[String], args: &Args) -> Result<Reply> {
        let value = self.evaluate(&APPEND, keys, args.0.iter().map(Vec::as_slice)).await?;
        Reply::new(APPEND.name, value)
    }

    async fn evaluate<'a>(
        &self,
        script: &'static Script,
        keys: &[String],
        words: impl Iterator<Item = &'a [u8]> + Clone,
    ) -> Result<Value> {
        let build = |command: &str, text: &str| {
            let mut cmd = redis::cmd(command);
            cmd.arg(text).arg(keys.len()).arg(keys);
            for word in words.clone() {
                cmd.arg(word);
            }
            cmd
        };
        match self.link().run(&build("EVALSHA", script.sha())).await {
            // EVAL caches the script on the very node that runs it, which SCRIPT LOAD may not reach.
            Err(error) if error.code() == Some("NOSCRIPT") => {
                Ok(self.link().run(&build("EVAL", script.code())).await?)
            }
            answer => Ok(answer?),
        }
    }
}
