//! The identity of this queue, for labeling things that are created outside Redis.
//!
//! It is stored as a separate Redis function: `FLUSHALL` does not remove functions, and restarts and
//! failovers preserve them like keys. So a queue that was emptied is still the same queue. Where Redis accepts
//! no function, it is a key, which workers restore.

use super::Queue;
use super::script::{has_no_functions, says, takes_no_function};
use crate::error::{Error, Result};

/// Longest identity: it has to fit into a label of Kubernetes.
const BYTES_MAX: usize = 40;

impl Queue {
    /// The queue's identity; `None` if it has none yet.
    ///
    /// # Errors
    /// Redis does not answer, or refuses.
    pub async fn identity(&self) -> Result<Option<String>> {
        let mut cmd = redis::cmd("FCALL");
        cmd.arg(self.identity_name()).arg(1).arg(self.keys().schema());
        match self.link().run(&cmd).await {
            Ok(value) => {
                let id: String = redis::from_redis_value(value)
                    .map_err(|error| Error::Corrupt(format!("the queue's identity: {error}")))?;
                Ok(Some(id))
            }
            Err(error) if says(&error, "function not found") || has_no_functions(&error) => {
                let mut get = redis::cmd("GET");
                get.arg(self.keys().identity());
                redis::from_redis_value(self.link().run(&get).await?).map_err(Error::reply)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Gives the queue an identity unless it has one; returns the identity it then has. Letters and digits
    /// only.
    ///
    /// # Errors
    /// Redis does not answer, or refuses: a full Redis accepts neither a function nor a key.
    pub async fn identify(&self, id: &str) -> Result<String> {
        let plain = id.chars().all(|c| c.is_ascii_alphanumeric()) && (1..=BYTES_MAX).contains(&id.len());
        if !plain {
            return Err(Error::Setting(format!("'{id}' cannot identify a queue")));
        }
        let name = self.identity_name();
        let code = format!(
            "#!lua name={name}\nredis.register_function{{ function_name = '{name}', flags = {{ 'no-writes' }}, \
             callback = function() return '{id}' end }}"
        );
        let mut load = redis::cmd("FUNCTION");
        load.arg("LOAD").arg(code);
        let mut loaded = self.link().run(&load).await;
        if loaded.as_ref().is_err_and(takes_no_function) {
            let mut set = redis::cmd("SETNX");
            set.arg(self.keys().identity()).arg(id);
            loaded = self.link().run(&set).await;
        }
        match (self.identity().await?, loaded) {
            (Some(id), _) => Ok(id),
            (None, Err(error)) => Err(error.into()),
            (None, Ok(_)) => Err(Error::Corrupt("the queue's identity was lost at once".to_owned())),
        }
    }

    /// The name of the library and of its function. It contains the prefix, because one Redis may hold
    /// several queues.
    fn identity_name(&self) -> String {
        let sign = |byte: u8| match byte {
            plain if plain.is_ascii_alphanumeric() => char::from(plain).to_string(),
            other => format!("_{other:02x}"),
        };
        std::iter::once("queue_id_of_".to_owned()).chain(self.keys().prefix().bytes().map(sign)).collect()
    }
}
