//! Which node Sentinel calls the master, followed for as long as a process runs.
//!
//! A failover does not end the former master. If it is alive (its disk was full, or the network between it and
//! Sentinel was cut), it accepts writes for about ten more seconds, until a Sentinel makes it a replica; then
//! these writes are gone. So it is not enough to ask when connecting: every second each process asks all
//! Sentinels, and leaves a node that is no longer the master, or that is about to lose this role. A master that
//! works again after an error may be one of these, so it is asked for again then.
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
/// How long the other Sentinels may take once one has answered: one of them may know that a failover goes on.
const SECOND_OPINION: Duration = Duration::from_millis(300);
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

/// What a Sentinel says.
#[derive(Clone)]
struct Word {
    /// The epoch of its configuration.
    epoch: u64,
    address: ConnectionAddr,
    /// Whether the Sentinels look for another master.
    fails_over: bool,
}

#[derive(Clone)]
struct Master {
    word: Word,
    /// Changes when connections that were opened before must not be used any more.
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

    /// With what to connect to the master.
    pub(crate) async fn master(&self) -> RedisResult<ConnectionInfo> {
        let mut answers = self.answers();
        let (mut words, mut last) = (Vec::new(), timed_out("no Sentinel answered"));
        let mut until = Instant::now() + CONNECT_TIMEOUT;
        while let Ok(Some(answer)) = tokio::time::timeout_at(until, answers.next()).await {
            match answer {
                Ok(word) => {
                    words.push(word);
                    until = until.min(Instant::now() + SECOND_OPINION);
                }
                Err(error) => last = error,
            }
        }
        drop(answers);
        self.learn(words);
        // If all who answered know less than we do, what is known is no worse than nothing.
        let known = self.known.borrow();
        let word = &known.as_ref().ok_or(last)?.word;
        if word.fails_over {
            return Err(timed_out("Sentinel is looking for another master"));
        }
        Ok(self.data.clone().set_addr(word.address.clone()))
    }

    /// Changes when there is another master, or will be.
    pub(crate) fn serial(&self) -> u64 {
        self.known.borrow().as_ref().map_or(0, |master| master.serial)
    }

    /// Returns once the serial is another one.
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
        let words = self.answers().filter_map(|answer| async { answer.ok() }).collect::<Vec<_>>();
        self.learn(words.await);
    }

    fn answers(&self) -> FuturesUnordered<impl Future<Output = RedisResult<Word>>> {
        self.nodes.iter().map(|node| node.ask(&self.service)).collect()
    }

    /// Takes the newest of these words as what is known, unless that is newer.
    fn learn(&self, words: Vec<Word>) {
        let Some(word) = words.into_iter().max_by_key(|word| (word.epoch, word.fails_over)) else { return };
        self.known.send_if_modified(|known| {
            let said = Instant::now();
            let Some(now) = known else {
                *known = Some(Master { word, serial: 0, said });
                return true;
            };
            if word.epoch < now.word.epoch && now.said.elapsed() <= REMEMBERED {
                return false;
            }
            let moved = now.word.address != word.address;
            if moved {
                tracing::warn!(from = %now.word.address, to = %word.address, "Sentinel names another master");
            }
            let is_news = moved || (word.fails_over && !now.word.fails_over);
            *now = Master { word, serial: now.serial + u64::from(is_news), said };
            is_news
        });
    }
}

impl Node {
    async fn ask(&self, service: &str) -> RedisResult<Word> {
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
            let of = |name: &str| master.get(name).map(String::as_str).unwrap_or_default();
            // Only the Sentinel that leads a failover says so.
            let fails_over = of("flags").split(',').any(|flag| flag == "failover_in_progress");
            // Once the new master has taken over, the failover goes on for a while with the other replicas.
            let fails_over = fails_over && of("ip") == host && of("port") == port.to_string();
            let epoch = of("config-epoch").parse().unwrap_or(0);
            Ok(Word { epoch, address: beside(self.info.addr(), host, port), fails_over })
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
        let word = |epoch, port| {
            let address = ConnectionAddr::Tcp("redis".to_owned(), port);
            Word { epoch, address, fails_over: false }
        };
        // Whether connections have to be left.
        let left = |words: &[Word]| {
            let before = sentinels.serial();
            sentinels.learn(words.to_vec());
            sentinels.serial() != before
        };
        assert!(!left(&[word(4, 1)]), "there are none yet");
        let first = sentinels.serial();
        assert!(left(&[word(4, 1), word(5, 2)]), "a failover, of which one Sentinel does not know");
        sentinels.moved(first).await;
        assert!(!left(&[word(4, 1)]), "a Sentinel that was cut off");
        tokio::time::advance(REMEMBERED).await;
        assert!(!left(&[word(5, 2)]), "the same again");
        tokio::time::advance(REMEMBERED).await;
        assert!(!left(&[word(0, 3)]));
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(left(&[word(0, 3)]), "Sentinel was set up anew");
        let doomed = Word { fails_over: true, ..word(0, 3) };
        assert!(left(&[word(0, 3), doomed.clone()]), "one of them looks for another master");
        assert!(!left(&[doomed]) && !left(&[word(0, 3)]), "it has failed: the master stays");
    }
}
