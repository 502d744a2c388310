//! A separate redis-server for each test.

use std::collections::HashMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client};
use rustix::process::Signal;

use crate::process::{create, read_lossy, send, show};
use crate::redis_users::{USER_AT_HOST, USER_IN_URL, is_of_functions, redis_has_functions};
use crate::temp_dir::TempDir;
use crate::wait::wait_for;

/// Variable that names another server program to run the tests against, such as `valkey-server`.
const BINARY_VARIABLE: &str = "FAIRLANE_TEST_REDIS_SERVER";
/// Variable that names a file with a library of functions, which every server loads before its test does: the
/// queue's library with a fault (`cargo xtask mutants`).
const LIBRARY_VARIABLE: &str = "FAIRLANE_TEST_LIBRARY";
/// Variable that names a file to which every server's log is added.
const LOG_VARIABLE: &str = "FAIRLANE_TEST_REDIS_LOG";
/// A server usually starts much faster; this allows for a busy machine.
const START_DEADLINE: Duration = Duration::from_secs(20);

/// A running redis-server with its own folder and socket; killed when dropped.
///
/// Its log is printed if the test panics.
#[derive(Debug)]
pub struct RedisServer {
    port: Option<u16>,
    socket: PathBuf,
    password: Option<String>,
    sentinel: bool,
    child: Mutex<Option<Child>>,
    dir: TempDir,
}

impl RedisServer {
    /// A server whose folder holds its configuration, not started yet.
    pub(crate) fn prepared(
        dir: TempDir,
        socket: PathBuf,
        port: Option<u16>,
        password: Option<String>,
        sentinel: bool,
    ) -> Self {
        Self { port, socket, password, sentinel, child: Mutex::new(None), dir }
    }

    /// The URL of its unix socket, for a user with the rights of dispatchers and workers. If the server has a
    /// password, for the user with all rights.
    pub fn url(&self) -> String {
        match &self.password {
            Some(password) => format!("{}?pass={password}", self.bare_url()),
            None => format!("{}?{USER_IN_URL}", self.bare_url()),
        }
    }

    /// The URL of its TCP port, for the same user.
    ///
    /// # Panics
    /// If it was started without [`tcp`](crate::RedisServerBuilder::tcp).
    pub fn tcp_url(&self) -> String {
        let user = match &self.password {
            Some(password) => format!(":{password}"),
            None => USER_AT_HOST.to_owned(),
        };
        format!("redis://{user}@127.0.0.1:{}", self.port())
    }

    /// The URL of its unix socket without user and password.
    pub fn bare_url(&self) -> String {
        format!("redis+unix://{}", self.socket.display())
    }

    /// Its TCP port.
    ///
    /// # Panics
    /// If it was started without [`tcp`](crate::RedisServerBuilder::tcp).
    pub fn port(&self) -> u16 {
        match self.port {
            Some(port) => port,
            None => panic!("this server has no TCP port: start it with RedisServer::builder().tcp()"),
        }
    }

    /// The path of its unix socket.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Its folder: the append-only file and the configuration.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Everything that it has logged so far, across restarts.
    pub fn log(&self) -> String {
        read_lossy(&self.log_path())
    }

    /// Its process id.
    ///
    /// # Panics
    /// If it does not run.
    pub fn pid(&self) -> u32 {
        self.running_pid().unwrap_or_else(|| panic!("the server does not run"))
    }

    /// Its process id, if it runs.
    pub fn running_pid(&self) -> Option<u32> {
        self.child().as_ref().map(Child::id)
    }

    /// Whether it runs.
    pub fn runs(&self) -> bool {
        self.child().is_some()
    }

    /// Runs one command, whose answer does not matter.
    ///
    /// # Panics
    /// If it fails.
    pub async fn command(&self, words: &[&str]) {
        let mut command = redis::cmd(words[0]);
        command.arg(&words[1..]);
        let answer = command.query_async::<redis::Value>(&mut self.connect().await).await;
        assert!(answer.is_ok(), "{words:?}: {answer:?}");
    }

    /// The URL of its unix socket, for a user with all rights.
    pub fn admin_url(&self) -> String {
        if self.password.is_some() { self.url() } else { self.bare_url() }
    }

    /// A connection over the unix socket that waits as long as the server takes, for a user with all rights.
    ///
    /// # Panics
    /// If the server does not answer.
    pub async fn connect(&self) -> MultiplexedConnection {
        match self.try_connect().await {
            Ok(connection) => connection,
            Err(error) => panic!("cannot connect to {}: {error}", self.admin_url()),
        }
    }

    /// What its users were refused for lack of a right, by its own record: commands, keys and channels.
    ///
    /// # Panics
    /// If it does not answer.
    pub async fn denied(&self) -> Vec<String> {
        let mut log = redis::cmd("ACL");
        log.arg("LOG");
        let entries: redis::RedisResult<Vec<HashMap<String, redis::Value>>> =
            log.query_async(&mut self.connect().await).await;
        let entries = entries.unwrap_or_else(|error| panic!("ACL LOG: {error}"));
        let objects = entries
            .iter()
            .filter_map(|entry| redis::from_redis_value_ref::<String>(entry.get("object")?).ok());
        // Clients tell their name and version, which not every server lets them. Without functions, each process
        // tries them once.
        let is_expected = |object: &String| {
            object == "client|setinfo" || (!redis_has_functions() && is_of_functions(object))
        };
        objects.filter(|object| !is_expected(object)).collect()
    }

    pub(crate) async fn try_connect(&self) -> redis::RedisResult<MultiplexedConnection> {
        let limits = AsyncConnectionConfig::new()
            .set_response_timeout(None)
            .set_connection_timeout(Some(START_DEADLINE));
        let mut connection =
            Client::open(self.admin_url())?.get_multiplexed_async_connection_with_config(&limits).await?;
        // Returns a LOADING error as long as it reads its append-only file.
        redis::cmd("PING").query_async::<()>(&mut connection).await?;
        Ok(connection)
    }

    /// Shuts the server down cleanly (SIGTERM), and starts it again in the same place.
    ///
    /// # Panics
    /// If it does not run, does not end, or does not come up again.
    pub async fn restart(&self) {
        self.shut_down().await;
        self.start().await;
    }

    /// Shuts the server down cleanly (SIGTERM), and waits until it is gone.
    ///
    /// # Panics
    /// If it does not run or does not end.
    pub async fn shut_down(&self) {
        self.signal(Signal::TERM);
        wait_for("redis-server to end after SIGTERM", START_DEADLINE, async || {
            let mut child = self.child();
            match child.as_mut().map(Child::try_wait) {
                Some(Ok(None)) => false,
                _ => child.take().is_some(),
            }
        })
        .await;
    }

    /// Kills the server with SIGKILL, and waits until it is gone. [`RedisServer::start`] brings it back.
    pub fn kill(&self) {
        if let Some(mut child) = self.child().take() {
            // Both fail only if the process is gone, which is the goal.
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Restarts a server that was killed or shut down, in the same place, and waits until it answers.
    ///
    /// # Panics
    /// If it runs already or does not come up.
    pub async fn start(&self) {
        self.spawn();
        wait_for("redis-server to answer", START_DEADLINE, async || {
            if let Some(status) = self.ended() {
                panic!("redis-server ended while it started ({status}): {}", self.log());
            }
            self.try_connect().await.map(|_| ())
        })
        .await;
        self.load_library().await;
    }

    /// Loads the library that [`LIBRARY_VARIABLE`] names, if it does.
    pub(crate) async fn load_library(&self) {
        let Some(path) = std::env::var_os(LIBRARY_VARIABLE).filter(|_| !self.sentinel) else { return };
        let code = read_lossy(Path::new(&path));
        let mut load = redis::cmd("FUNCTION");
        load.arg("LOAD").arg("REPLACE").arg(code);
        match load.query_async::<()>(&mut self.connect().await).await {
            // A replica gets it from its master.
            Err(error) if error.code() == Some("READONLY") => {}
            Err(error) => panic!("Redis refused the library under test: {error}"),
            Ok(()) => {}
        }
    }

    /// Freezes the server: SIGSTOP.
    ///
    /// # Panics
    /// If it does not run.
    pub fn freeze(&self) {
        self.signal(Signal::STOP);
    }

    /// Resumes a frozen server: SIGCONT.
    ///
    /// # Panics
    /// If it does not run.
    pub fn thaw(&self) {
        self.signal(Signal::CONT);
    }

    fn signal(&self, signal: Signal) {
        if let Err(error) = send(self.pid(), signal) {
            panic!("cannot send {signal:?} to redis-server: {error}");
        }
    }

    pub(crate) fn spawn(&self) {
        let mut child = self.child();
        assert!(child.is_none(), "the server runs already");
        // A socket file left by a killed server would look like a server that does not answer.
        let _ = std::fs::remove_file(&self.socket);
        let binary = std::env::var(BINARY_VARIABLE).unwrap_or_else(|_| "redis-server".to_owned());
        let log = create(&self.log_path());
        let mut command = Command::new(&binary);
        command.arg(self.dir.join("redis.conf"));
        if self.sentinel {
            command.arg("--sentinel");
        }
        match command.stdin(Stdio::null()).stdout(log).stderr(Stdio::null()).spawn() {
            Ok(started) => *child = Some(started),
            Err(error) => panic!(
                "cannot start {binary}: {error}. These tests run a real server: install it (on Debian `apt-get \
                 install -y redis-server`), or name another one in {BINARY_VARIABLE}"
            ),
        }
    }

    /// Waits until the server answers (true) or has exited because another process took its port (false).
    pub(crate) async fn answers_or_port_taken(&self) -> bool {
        wait_for("redis-server to answer", START_DEADLINE, async || {
            if let Some(status) = self.ended() {
                let log = self.log();
                let taken =
                    log.contains("Address already in use") || log.contains("Failed listening on port");
                assert!(taken, "redis-server ended while it started ({status}): {log}");
                return Ok(false);
            }
            self.try_connect().await.map(|_| true)
        })
        .await
    }

    fn ended(&self) -> Option<std::process::ExitStatus> {
        self.child().as_mut().and_then(|child| child.try_wait().ok().flatten())
    }

    fn child(&self) -> MutexGuard<'_, Option<Child>> {
        self.child.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn log_path(&self) -> PathBuf {
        self.dir.join("redis.log")
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        self.kill();
        if let Some(path) = std::env::var_os(LOG_VARIABLE) {
            // Writing to a file that was just opened fails only on a full disk.
            let _ = create(Path::new(&path)).write_all(self.log().as_bytes());
        }
        if std::thread::panicking() {
            show("redis-server's log", &self.log());
        }
    }
}
