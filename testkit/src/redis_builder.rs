//! Configures a test's redis-server.

use std::fmt::Write as _;

use crate::process::free_port;
use crate::redis_server::RedisServer;
use crate::redis_users;
use crate::temp_dir::TempDir;

/// A free port may be taken by another process before the server binds it.
const PORT_TRIES_MAX: usize = 5;

/// Whether and how the server keeps an append-only file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AppendOnly {
    /// Nothing survives a restart.
    Off,
    /// Every change is on disk before it is acknowledged.
    Always,
    /// Flushed to disk once a second; survives a killed server, but not a lost host.
    EverySecond,
}

/// The configuration of a [`RedisServer`].
#[derive(Debug, Clone, Default)]
pub struct RedisServerBuilder {
    tcp: bool,
    /// Lines that come after the ones every server has.
    config: String,
    password: Option<String>,
    cluster: bool,
    sentinel: bool,
}

impl RedisServer {
    /// Starts a server on a unix socket that keeps nothing across restarts.
    ///
    /// # Panics
    /// If the program is missing or does not come up; the message says what to do.
    pub async fn start_default() -> Self {
        Self::builder().start().await
    }

    /// Configures a server.
    pub fn builder() -> RedisServerBuilder {
        RedisServerBuilder::default()
    }
}

impl RedisServerBuilder {
    /// Also listens on a loopback port.
    #[must_use]
    pub fn tcp(mut self) -> Self {
        self.tcp = true;
        self
    }

    /// Keeps an append-only file; the default is none.
    #[must_use]
    pub fn append_only(mut self, mode: AppendOnly) -> Self {
        self.config.push_str(match mode {
            AppendOnly::Off => "appendonly no\n",
            AppendOnly::Always => "appendonly yes\nappendfsync always\n",
            AppendOnly::EverySecond => "appendonly yes\nappendfsync everysec\n",
        });
        self
    }

    /// Limits the server's memory, in bytes.
    #[must_use]
    pub fn max_memory(self, bytes: u64) -> Self {
        self.config_line(&format!("maxmemory {bytes}"))
    }

    /// What happens at the memory limit; the default is `noeviction`.
    #[must_use]
    pub fn max_memory_policy(self, policy: &str) -> Self {
        self.config_line(&format!("maxmemory-policy {policy}"))
    }

    /// Requires a password from clients; letters and digits only.
    #[must_use]
    pub fn password(mut self, password: &str) -> Self {
        self.password = Some(password.to_owned());
        self.config_line(&format!("requirepass {password}"))
    }

    /// Any other line of the server's configuration file; a later line wins.
    #[must_use]
    pub fn config_line(mut self, line: &str) -> Self {
        self.config.push_str(line);
        self.config.push('\n');
        self
    }

    /// Runs as a node of a cluster, without slots and peers for now; listens on TCP.
    #[must_use]
    pub fn cluster(mut self) -> Self {
        self.cluster = true;
        self.tcp()
    }

    /// Runs as a sentinel; `config_line` says what it monitors.
    #[must_use]
    pub(crate) fn sentinel(mut self) -> Self {
        self.sentinel = true;
        self.tcp()
    }

    /// Starts the server and waits until it answers.
    ///
    /// # Panics
    /// If the program is missing or does not come up; the message says what to do.
    pub async fn start(self) -> RedisServer {
        for _ in 1..PORT_TRIES_MAX {
            let server = self.prepare();
            server.spawn();
            if server.answers_or_port_taken().await {
                server.load_library().await;
                return server;
            }
        }
        let server = self.prepare();
        server.start().await;
        server
    }

    fn prepare(&self) -> RedisServer {
        let dir = TempDir::new();
        let socket = dir.join("redis.sock");
        let port = self.tcp.then(free_port);
        let mut config = format!(
            "unixsocket {}\nport {}\nbind 127.0.0.1\nprotected-mode no\ndir {}\nlogfile \"\"\n",
            socket.display(),
            port.unwrap_or(0),
            dir.path().display(),
        );
        if !self.sentinel {
            config.push_str(&redis_users::lines());
            config.push_str(
                "save \"\"\nappendonly no\nmaxmemory-policy noeviction\nrepl-diskless-sync-delay 0\n\
                 hash-max-ziplist-value 512\n",
            );
        }
        if self.cluster {
            config.push_str("cluster-enabled yes\ncluster-node-timeout 2000\n");
            // Writing to a string cannot fail.
            let _ = writeln!(config, "cluster-port {}", free_port());
        }
        config.push_str(&self.config);
        if let Err(error) = std::fs::write(dir.join("redis.conf"), config) {
            panic!("cannot write the server's configuration: {error}");
        }
        RedisServer::prepared(dir, socket, port, self.password.clone(), self.sentinel)
    }
}
