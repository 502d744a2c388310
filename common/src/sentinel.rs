//! Which node Sentinel calls the master, followed for as long as a process runs.
//!
//! A failover does not end the former master. If it is alive (its disk was full, or the network between it and
//! Sentinel was cut), it accepts writes for about ten more seconds, until a Sentinel makes it a replica; then
//! these writes are gone. So it is not enough to ask when connecting: every second each process asks all
//! Sentinels, and leaves a node that is no longer the master.
//!
//! Sentinels learn of a failover one after the other, and one that is cut off from the others does not learn of
//! it. The epoch of the configuration tells whose answer is the newest.

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use redis::aio::MultiplexedConnection;
use redis::{ConnectionAddr, ConnectionInfo, ErrorKind, IntoConnectionInfo, RedisError, RedisResult};
use tokio::sync::{Mutex, watch};
use tokio::time::Instant;

use crate::redis_url::RedisUrl;
use crate::server::{CONNECT_TIMEOUT, beside, connect, first_node, timed_out};

/// How often all Sentinels are asked.
const EVERY: Duration = Duration::from_secs(1);
/// How long a master is remembered that every Sentinel contradicts with older words. An operator who sets up
/// Sentinel anew begins again with the first epoch.
const REMEMBERED: Duration = Duration::from_secs(30);

/// The Sentinels of one URL, and what they say.
pub(crate) struct Sentinels {
    nodes: Vec<Node>,
    service: String,
    /// With what to connect to the master, apart from its address.
    data: ConnectionInfo,
    known: watch::Sender<Option<Master>>,
}

/// One Sentinel. The password is for the data nodes; Sentinels are asked without one.
struct Node {
    info: ConnectionInfo,
    connection: Mutex<Option<MultiplexedConnection>>,
}

#[derive(Clone)]
struct Master {
    epoch: u64,
    address: ConnectionAddr,
    /// How many masters were known before it.
    serial: u64,
    /// When a Sentinel last said so.
    said: Instant,
}

impl Sentinels {
    pub(crate) fn new(url: &RedisUrl) -> RedisResult<Arc<Self>> {
        let node = |node: &String| {
            let info = node.as_str().into_connection_info()?;
            let info = info.set_redis_settings(redis::RedisConnectionInfo::default());
            Ok(Node { info, connection: Mutex::default() })
        };
        Ok(Arc::new(Self {
            nodes: url.nodes.iter().map(node).collect::<RedisResult<_>>()?,
            service: url.service.clone(),
            data: first_node(url)?,
            known: watch::Sender::new(None),
        }))
    }

    /// Keeps asking, until nobody uses these Sentinels any more.
    pub(crate) fn follow(self: &Arc<Self>) {
        let sentinels = Arc::downgrade(self);
        tokio::spawn(async move {
            while let Some(sentinels) = Weak::upgrade(&sentinels) {
                sentinels.ask_all().await;
                drop(sentinels);
                tokio::time::sleep(EVERY).await;
            }
        });
    }

    /// With what to connect to the master: the first answer that is no older than what is known. If all are
    /// older, those that know better cannot be reached.
    pub(crate) async fn master(&self) -> RedisResult<ConnectionInfo> {
        let mut answers = self.answers();
        let mut last = timed_out("no Sentinel answered");
        let newest = async {
            while let Some(answer) = answers.next().await {
                match answer {
                    Ok((epoch, address)) => {
                        if self.learn(epoch, address) {
                            return;
                        }
                    }
                    Err(error) => last = error,
                }
            }
        };
        // What is known is no worse than nothing.
        drop(tokio::time::timeout(CONNECT_TIMEOUT, newest).await);
        drop(answers);
        let known =
            self.known.borrow().as_ref().map(|master| self.data.clone().set_addr(master.address.clone()));
        known.ok_or(last)
    }

    /// Changes when there is another master.
    pub(crate) fn serial(&self) -> u64 {
        self.known.borrow().as_ref().map_or(0, |master| master.serial)
    }

    /// Returns once there is another master than the one with this serial.
    pub(crate) async fn moved(&self, serial: u64) {
        // Never an error: the sender lives as long as `self`.
        let _ = self
            .known
            .subscribe()
            .wait_for(|now| now.as_ref().map_or(0, |master| master.serial) != serial)
            .await;
    }

    /// Asks all Sentinels, so that the newest word counts.
    async fn ask_all(&self) {
        let answers = self.answers().filter_map(|answer| async { answer.ok() }).collect::<Vec<_>>();
        let newest = answers.await.into_iter().max_by_key(|(epoch, _)| *epoch);
        if let Some((epoch, address)) = newest {
            self.learn(epoch, address);
        }
    }

    fn answers(&self) -> FuturesUnordered<impl Future<Output = RedisResult<(u64, ConnectionAddr)>>> {
        self.nodes.iter().map(|node| node.ask(&self.service)).collect()
    }

    /// Takes an answer as what is known, unless that is newer: whether it was taken.
    fn learn(&self, epoch: u64, address: ConnectionAddr) -> bool {
        let said = Instant::now();
        let mut taken = true;
        self.known.send_if_modified(|known| {
            let Some(now) = known else {
                *known = Some(Master { epoch, address, serial: 0, said });
                return true;
            };
            taken = epoch >= now.epoch || now.said.elapsed() > REMEMBERED;
            if !taken {
                return false;
            }
            let moved = now.address != address;
            if moved {
                tracing::warn!(from = %now.address, to = %address, "Sentinel names another master");
            }
            *now = Master { epoch, address, serial: now.serial + u64::from(moved), said };
            moved
        });
        taken
    }
}

impl Node {
    /// The epoch of the configuration, and the master's address.
    async fn ask(&self, service: &str) -> RedisResult<(u64, ConnectionAddr)> {
        let ask = async {
            // Moved out, so that a connection on which an answer failed or was not awaited is not used again.
            let mut slot = self.connection.lock().await;
            let mut connection = match slot.take() {
                Some(connection) => connection,
                None => connect(&redis::Client::open(self.info.clone())?, Some(CONNECT_TIMEOUT)).await?,
            };
            let mut questions = redis::pipe();
            questions.cmd("SENTINEL").arg("MASTER").arg(service);
            // While a failover goes on, only this names the new master.
            questions.cmd("SENTINEL").arg("GET-MASTER-ADDR-BY-NAME").arg(service);
            let answer = questions.query_async(&mut connection).await;
            let (master, (host, port)): (HashMap<String, String>, (String, u16)) = match answer {
                Ok(answer) => answer,
                Err(error) if error.to_string().contains("No such master") => {
                    let text = "Sentinel knows no such service";
                    return Err(RedisError::from((
                        ErrorKind::MasterNameNotFoundBySentinel,
                        text,
                        service.to_owned(),
                    )));
                }
                Err(error) => return Err(error),
            };
            *slot = Some(connection);
            let epoch = master.get("config-epoch").and_then(|epoch| epoch.parse().ok()).unwrap_or(0);
            Ok((epoch, beside(self.info.addr(), host, port)))
        };
        tokio::time::timeout(CONNECT_TIMEOUT, ask)
            .await
            .map_err(|_| timed_out("a Sentinel did not answer"))?
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_newest_word_counts_until_every_sentinel_forgot_it() {
        let sentinels = Sentinels::new(&"redis+sentinel://a:1,b:2/main".parse().unwrap()).unwrap();
        let at = |port| ConnectionAddr::Tcp("redis".to_owned(), port);
        assert!(sentinels.learn(4, at(1)));
        let first = sentinels.serial();
        assert!(sentinels.learn(5, at(2)), "a failover");
        assert_ne!(sentinels.serial(), first);
        sentinels.moved(first).await;
        let second = sentinels.serial();
        assert!(!sentinels.learn(4, at(1)), "a Sentinel that was cut off");
        tokio::time::advance(REMEMBERED).await;
        assert!(sentinels.learn(5, at(2)), "the same again");
        tokio::time::advance(REMEMBERED).await;
        assert!(!sentinels.learn(0, at(3)));
        assert_eq!(sentinels.serial(), second, "connections stay");
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(sentinels.learn(0, at(3)), "Sentinel was set up anew");
        assert_ne!(sentinels.serial(), second);
    }
}
