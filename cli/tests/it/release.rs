//! This release, and a former one that `cargo xtask two-releases` and `cargo xtask rolling-upgrade` build.

use std::process::Command;

use fairlane_testkit::{Process, RedisServer, TempDir, command_in, redis_url_for};

use crate::setup::address_of;

/// The variable with the path of the former release's program.
pub(crate) const FORMER: &str = "FAIRLANE_FORMER";

/// A release of the program.
pub(crate) struct Release {
    /// Its name in messages.
    pub(crate) name: &'static str,
    program: String,
    is_former: bool,
}

impl Release {
    pub(crate) fn this() -> Self {
        Self { name: "this", program: env!("CARGO_BIN_EXE_fairlane").to_owned(), is_former: false }
    }

    /// The former release, if the environment names one.
    pub(crate) fn former() -> Option<Self> {
        let program = std::env::var(FORMER).ok()?;
        Some(Self { name: "former", program, is_former: true })
    }

    /// A command of this release, run in `home`.
    pub(crate) fn command(&self, home: &TempDir, words: &[&str]) -> Command {
        command_in(home, &self.program, words.iter().copied())
    }

    /// Starts a dispatcher of this release; its process and its address.
    pub(crate) async fn dispatcher(
        &self,
        name: &str,
        home: &TempDir,
        redis: &RedisServer,
    ) -> (Process, String) {
        let mut command = self.command(home, &["dispatcher", "--listen", "127.0.0.1:0"]);
        command.env("FAIRLANE_REDIS_URL", self.redis_url("dispatcher", redis));
        let process = Process::spawn(name, &mut command);
        let url = address_of(&process).await;
        (process, url)
    }

    /// With what it connects to Redis, as a `dispatcher` or a `worker`. A former release may need other rights than
    /// today's users have, so it is the user with all.
    pub(crate) fn redis_url(&self, role: &str, redis: &RedisServer) -> String {
        if self.is_former { redis.admin_url() } else { redis_url_for(role, &redis.url()) }
    }
}
