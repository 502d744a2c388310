//! Function libraries of earlier releases: each stays in Redis until nobody has called it for a day.

use std::collections::HashMap;

use redis::Value;

use super::Queue;
use crate::error::{Error, Result};
use crate::library::{LIBRARIES, LIBRARY};
use crate::queue::script::{Args, takes_no_function};

/// The names of our libraries, of all releases.
const PATTERN: &str = "fairlane_*";

impl Queue {
    /// Removes libraries of other releases that nobody has called for a day; returns their names. A process
    /// that still needs one loads it again.
    pub async fn remove_unused_libraries(&self) -> Result<Vec<String>> {
        let list = self.link().run(redis::cmd("FUNCTION").arg("LIST").arg("LIBRARYNAME").arg(PATTERN)).await;
        if list.as_ref().is_err_and(takes_no_function) {
            return Ok(Vec::new());
        }
        let answer = list?;
        let mut listed: Vec<HashMap<String, Value>> =
            redis::from_redis_value(answer).map_err(Error::reply)?;
        let names = listed.iter_mut().filter_map(|library| library.remove("library_name"));
        let names = names.filter_map(|name| redis::from_redis_value::<String>(name).ok());
        let others: Vec<String> = names.filter(|name| *name != LIBRARY.name).collect();
        if others.is_empty() {
            return Ok(others);
        }
        let args = others.iter().fold(Args::new(), |args, name| args.text("name", name));
        let unused: Vec<String> = self.call(&LIBRARIES, args).await?.get("unused")?;
        for name in &unused {
            self.link().run(redis::cmd("FUNCTION").arg("DELETE").arg(name)).await?;
        }
        Ok(unused)
    }
}
