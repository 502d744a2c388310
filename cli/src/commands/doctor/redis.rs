//! Checks what Redis reports about itself.

use fairlane_common::redis_info::{PACKED_BYTES, Persistence, VERSION_MIN};
use fairlane_common::{RedisInfo, RedisUrl, limits};

use super::findings::Findings;

pub(super) fn judge(url: &RedisUrl, info: &RedisInfo, findings: &mut Findings) {
    // Valkey also reports the Redis version it is compatible with.
    let (name, version) = match info.get("valkey_version") {
        Some(version) => ("Valkey", version),
        None => ("Redis", info.get("redis_version").unwrap_or("(unknown version)")),
    };
    match info.version() {
        Some(found) if found < VERSION_MIN => findings.error(
            "redis",
            format!("{url} is {name} {version}"),
            format!("Fairlane needs Redis {}.{} or later: upgrade it.", VERSION_MIN.0, VERSION_MIN.1),
        ),
        _ => findings.ok("redis", format!("{url} answers, {name} {version}")),
    }
    if info.get("role") == Some("slave") {
        findings.error(
            "redis",
            "this is a replica, which rejects writes",
            "Name the primary, or use a redis+sentinel:// address.",
        );
    }
    match info.get("maxmemory_policy") {
        Some("noeviction") => findings.ok("eviction", "maxmemory-policy is noeviction"),
        policy => findings.warning(
            "eviction",
            format!(
                "maxmemory-policy is {}: builds may vanish when memory runs out",
                policy.unwrap_or("unknown")
            ),
            "Set it: `redis-cli CONFIG SET maxmemory-policy noeviction`, and the same in redis.conf.",
        ),
    }
    persistence(info, findings);
    packed(info, findings);
    if let (Some(used), Some(max)) = (info.number("used_memory"), info.number("maxmemory"))
        && max > 0
    {
        let percent = used.saturating_mul(100) / max;
        if percent >= limits::MEMORY_FULL_PERCENT {
            let what = if percent >= limits::MEMORY_PAUSE_PERCENT {
                "no build starts"
            } else {
                "new builds are refused"
            };
            findings.error(
                "memory",
                format!("{percent} % of maxmemory is in use: {what}"),
                "Raise maxmemory, or remove logs: `fairlane logs prune --to 100MB`.",
            );
        } else {
            findings.ok("memory", format!("{percent} % of maxmemory is in use"));
        }
    }
}

fn packed(info: &RedisInfo, findings: &mut Findings) {
    let name = match info.version() {
        Some(version) if version < (7, 0) => "hash-max-ziplist-value",
        _ => "hash-max-listpack-value",
    };
    match info.packed() {
        None => {}
        Some(packed) if packed >= PACKED_BYTES => findings.ok("hashes", format!("{name} is {packed}")),
        // It works, so it is no warning.
        Some(packed) => findings.ok(
            "hashes",
            format!(
                "{name} is {packed}; with {PACKED_BYTES}, a build would take about half the memory: `redis-cli CONFIG SET \
                 {name} {PACKED_BYTES}`, and the same in redis.conf (redis.compact=true in the chart)"
            ),
        ),
    }
}

fn persistence(info: &RedisInfo, findings: &mut Findings) {
    let advice = "Set it: `redis-cli CONFIG SET appendonly yes`, and the same in redis.conf.";
    match info.persistence() {
        Persistence::AppendOnly => findings.ok("persistence", "the append-only file is on"),
        Persistence::Snapshots => {
            findings.warning(
                "persistence",
                "only snapshots are kept: a restart loses the last minutes",
                advice,
            );
        }
        Persistence::Nothing => {
            findings.warning("persistence", "nothing is kept: a restart loses the queue", advice);
        }
        Persistence::Unknown => {
            findings.warning(
                "persistence",
                "the append-only file is off, and this Redis does not say whether it writes snapshots",
                advice,
            );
        }
    }
    if info.get("aof_last_write_status").is_some_and(|status| status != "ok") {
        findings.error(
            "persistence",
            "the last write to the append-only file failed",
            "Check Redis's log and its free disk space.",
        );
    }
}

#[cfg(test)]
mod tests {
    use super::super::findings::Level;
    use super::*;

    fn found(info: &str, save: Option<&str>) -> Vec<(Level, &'static str)> {
        let mut findings = Findings::default();
        let url: RedisUrl = "redis://a".parse().unwrap();
        judge(&url, &RedisInfo::of(info, save), &mut findings);
        findings.0.iter().map(|finding| (finding.level, finding.about)).collect()
    }

    #[test]
    fn a_redis_whose_builds_are_not_compact_is_told() {
        let said = |version: &str, packed| {
            let mut findings = Findings::default();
            let info = RedisInfo::of(&format!("redis_version:{version}"), None).with_packed(packed);
            super::packed(&info, &mut findings);
            findings.0.pop().map(|finding| finding.text)
        };
        assert!(said("7.0.15", Some(64)).unwrap().starts_with("hash-max-listpack-value is 64; with 512, "));
        assert!(said("6.2.16", Some(64)).unwrap().starts_with("hash-max-ziplist-value is 64; with 512, "));
        assert_eq!(said("7.0.15", Some(512)).unwrap(), "hash-max-listpack-value is 512");
        assert!(said("7.0.15", None).is_none());
    }

    #[test]
    fn what_redis_says_of_itself_is_judged() {
        let good = "redis_version:7.0.15\r\nmaxmemory_policy:noeviction\r\naof_enabled:1\r\nmaxmemory:0\r\n";
        assert!(found(good, None).iter().all(|(level, _)| *level == Level::Ok));
        for (info, save, expected) in [
            ("redis_version:6.0.16", None, (Level::Error, "redis")),
            ("redis_version:7.0.0\r\nrole:slave", None, (Level::Error, "redis")),
            ("redis_version:7.0.0\r\nmaxmemory_policy:allkeys-lru", None, (Level::Warning, "eviction")),
            ("redis_version:7.0.0\r\naof_enabled:0", Some(""), (Level::Warning, "persistence")),
            ("redis_version:7.0.0\r\naof_enabled:0", Some("3600 1"), (Level::Warning, "persistence")),
            ("redis_version:7.0.0\r\nused_memory:90\r\nmaxmemory:100", None, (Level::Error, "memory")),
            ("redis_version:7.0.0\r\naof_last_write_status:err", None, (Level::Error, "persistence")),
        ] {
            assert!(found(info, save).contains(&expected), "{info}: {:?}", found(info, save));
        }
    }
}
