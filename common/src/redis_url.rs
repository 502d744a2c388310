//! Redis URLs in their various forms.

use std::fmt;

use redis::IntoConnectionInfo;

use crate::error::{Error, Result};

/// Where Redis is: the URL as given, its password never shown.
///
/// `redis://[user:password@]host[:port][/db]`, `rediss://…` (TLS), `unix:///path/to/socket`,
/// `redis+sentinel://[user:password@]host:port[,host:port…]/service[/db]`,
/// `redis+cluster://[user:password@]host:port[,host:port…]`, each also as `rediss+…`.
#[derive(Clone, PartialEq, Eq)]
pub struct RedisUrl {
    pub(crate) shape: Shape,
    pub(crate) nodes: Vec<String>,
    pub(crate) service: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    Standalone,
    Sentinel,
    Cluster,
}

impl std::str::FromStr for RedisUrl {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let bad = |why: &str| {
            Error::Setting(format!("the Redis URL {why}; one looks like redis://127.0.0.1:6379/0"))
        };
        let (scheme, rest) = text.split_once("://").ok_or_else(|| bad("has no scheme"))?;
        let (tls, shape) = match scheme {
            "redis" | "rediss" | "unix" | "redis+unix" => {
                let url =
                    Self { shape: Shape::Standalone, nodes: vec![text.to_owned()], service: String::new() };
                text.into_connection_info()
                    .map_err(|e| bad(&format!("cannot be read ({})", e.category())))?;
                return Ok(url);
            }
            "redis+sentinel" => ("redis", Shape::Sentinel),
            "rediss+sentinel" => ("rediss", Shape::Sentinel),
            "redis+cluster" => ("redis", Shape::Cluster),
            "rediss+cluster" => ("rediss", Shape::Cluster),
            _ => return Err(bad("has an unknown scheme")),
        };
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (user, hosts) = authority.rsplit_once('@').map_or(("", authority), |(user, hosts)| (user, hosts));
        let (service, db) = path.split_once('/').unwrap_or((path, "0"));
        if shape == Shape::Sentinel && service.is_empty() {
            return Err(bad("of a Sentinel names no service (redis+sentinel://host:26379/mymaster)"));
        }
        let at = if user.is_empty() { String::new() } else { format!("{user}@") };
        let db = if shape == Shape::Sentinel { format!("/{db}") } else { String::new() };
        let nodes: Vec<String> = hosts
            .split(',')
            .filter(|host| !host.is_empty())
            .map(|host| format!("{tls}://{at}{host}{db}"))
            .collect();
        if nodes.is_empty() {
            return Err(bad("names no host"));
        }
        for node in &nodes {
            node.as_str()
                .into_connection_info()
                .map_err(|e| bad(&format!("cannot be read ({})", e.category())))?;
        }
        Ok(Self { shape, nodes, service: service.to_owned() })
    }
}

impl RedisUrl {
    /// The user that it names.
    pub fn user(&self) -> Option<String> {
        let info = self.nodes.first()?.as_str().into_connection_info().ok()?;
        info.redis_settings().username().map(str::to_owned)
    }
}

impl fmt::Debug for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl fmt::Display for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bare: Vec<String> = self
            .nodes
            .iter()
            .map(|node| match (node.split_once("://"), node.rsplit_once('@')) {
                (Some((scheme, _)), Some((_, host))) => format!("{scheme}://…@{host}"),
                // A unix socket's password is in the URL's query.
                _ => node.split('?').next().unwrap_or_default().to_owned(),
            })
            .collect();
        match self.shape {
            Shape::Standalone => f.write_str(&bare.join(",")),
            Shape::Sentinel => write!(f, "Sentinel {} of {}", self.service, bare.join(",")),
            Shape::Cluster => write!(f, "Cluster {}", bare.join(",")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_of_every_shape_and_no_password_shown() {
        for (url, shown) in [
            ("redis://127.0.0.1:6379/0", "redis://127.0.0.1:6379/0"),
            ("rediss://user:pw@redis.example.org", "rediss://…@redis.example.org"),
            ("unix:///run/redis.sock", "unix:///run/redis.sock"),
            ("redis+unix:///run/redis.sock?pass=pw", "redis+unix:///run/redis.sock"),
            ("redis+sentinel://:pw@a:1,b:2/main/3", "Sentinel main of redis://…@a:1/3,redis://…@b:2/3"),
            ("redis+cluster://a:1,b:2", "Cluster redis://a:1,redis://b:2"),
        ] {
            let url: RedisUrl = url.parse().unwrap_or_else(|e| panic!("{url}: {e}"));
            assert_eq!(url.to_string(), shown);
            assert!(!format!("{url:?}").contains("pw"));
        }
    }

    #[test]
    fn bad_urls_say_what_is_wrong_without_repeating_them() {
        for (url, says) in [
            ("localhost:6379", "scheme"),
            ("http://a:pw@b", "unknown scheme"),
            ("redis+sentinel://a:1", "service"),
            ("redis+cluster://", "no host"),
        ] {
            let error = url.parse::<RedisUrl>().unwrap_err().to_string();
            assert!(error.contains(says), "{error}");
            assert!(!error.contains("pw"), "{error}");
        }
    }
}
