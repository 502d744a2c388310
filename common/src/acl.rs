//! What each process may do in Redis: an ACL user for dispatchers, one for workers, and one that only reads.
//!
//! Dispatchers and workers have nearly the same commands, because any of them can run most operations. The users
//! keep them to the keys and channels of the queue, and away from everything that changes the server.

use std::sync::LazyLock;

use redis::Value;

use crate::connection::Link;
use crate::error::{Error, Result};
use crate::keys::Keys;

/// The users and their rights, as in an ACL file, for the prefix `PREFIX`.
const USERS: &str = include_str!("redis.acl");

/// A user's rights, of which `PREFIX` is a part.
#[derive(Debug)]
pub struct User {
    role: &'static str,
    rights: Vec<&'static str>,
}

/// All users.
pub static ALL: LazyLock<Vec<User>> = LazyLock::new(|| {
    let lines = USERS.lines().filter(|line| !line.starts_with('#'));
    let user = |line: &'static str| {
        let mut words = line.split(' ');
        User { role: words.next().unwrap_or_default(), rights: words.collect() }
    };
    lines.map(user).collect()
});

/// Whether a right only makes sense in a Redis that has functions.
fn is_of_functions(right: &str) -> bool {
    right.starts_with("+fcall") || right.starts_with("+function")
}

impl User {
    /// `dispatcher`, `worker` or `reader`.
    pub fn role(&self) -> &'static str {
        self.role
    }

    /// The user's name in Redis.
    pub fn name(&self) -> String {
        format!("fairlane-{}", self.role)
    }

    /// Its rights for these keys, as words of `ACL SETUSER`; with or without those that came with functions in
    /// Redis 7.0.
    pub fn rights(&self, keys: &Keys, functions: bool) -> Vec<String> {
        let rights = self.rights.iter().filter(|right| functions || !is_of_functions(right));
        rights.map(|right| right.replace("PREFIX", keys.prefix())).collect()
    }

    /// Its commands, such as `hget` and `function|load`.
    fn commands(&self) -> impl Iterator<Item = &'static str> {
        self.rights.iter().filter_map(|right| right.strip_prefix('+')).filter(|right| !right.starts_with('@'))
    }
}

/// Lists which of these commands the script's user may not run. Each is a command with arguments, separated by
/// spaces.
const CHECK: &str = "\
local missing = {}
if not redis.acl_check_cmd then return false end
for _, line in ipairs(ARGV) do
  local words = {}
  for word in string.gmatch(line, '%S+') do words[#words + 1] = word end
  local known, allowed = pcall(redis.acl_check_cmd, unpack(words))
  if known and not allowed then missing[#missing + 1] = line end
end
return missing";

impl Link {
    /// The rights of `user` that this connection's own user lacks; `None` if Redis is too old to tell (before 7.0).
    /// Those for functions are optional together.
    ///
    /// # Errors
    /// Redis does not answer, or does not even allow `EVAL`.
    pub async fn missing_rights(&self, user: &User, keys: &Keys) -> Result<Option<Vec<String>>> {
        let id = uuid::Uuid::nil();
        let (key, log) = (keys.schema(), format!("{}:log:{{{id}}}", keys.prefix()));
        let mut eval = redis::cmd("EVAL");
        eval.arg(CHECK).arg(1).arg(&key);
        let tried: Vec<(String, String)> = user
            .commands()
            .map(|command| (format!("+{command}"), sample(command, &key)))
            .chain([(format!("~{}:log:*", keys.prefix()), format!("GET {log}"))])
            .chain(
                ["publish", "subscribe"]
                    .into_iter()
                    .filter(|name| user.commands().any(|c| c == *name))
                    .map(|command| (format!("&{}:log:*", keys.prefix()), format!("{command} {log}"))),
            )
            .collect();
        for (_, line) in &tried {
            eval.arg(line);
        }
        let missing: Value = self.run(&eval).await?;
        let missing: Option<Vec<String>> = redis::from_redis_value(missing).map_err(Error::reply)?;
        let Some(missing) = missing else { return Ok(None) };
        let mut rights: Vec<String> =
            tried.into_iter().filter(|(_, line)| missing.contains(line)).map(|(right, _)| right).collect();
        rights.dedup();
        // A user who may not call functions does not need the other rights to them either.
        if rights.iter().any(|right| right == "+fcall") {
            rights.retain(|right| !is_of_functions(right));
        }
        Ok(Some(rights))
    }
}

/// An example of a command. Redis only looks at its name, and at the keys and channels among its arguments.
fn sample(command: &str, key: &str) -> String {
    match command {
        "fcall" | "eval" | "evalsha" => format!("{command} x 1 {key}"),
        "xread" => format!("xread streams {key} 0"),
        "config|get" => "config get save".to_owned(),
        "blpop" => format!("blpop {key} 0"),
        _ => format!("{} {key}", command.replace('|', " ")),
    }
}
