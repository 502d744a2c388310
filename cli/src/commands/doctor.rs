//! `fairlane doctor`: look for what is wrong, and say what to do about it.

use anyhow::Result;
use fairlane_common::keys::Keys;
use fairlane_common::{Link, Queue, RedisUrl};
use fairlane_dispatcher::api::Health;
use fairlane_worker::command::{CommandTemplate, TEMPLATE_DEFAULT};
use serde::Serialize;

use crate::args::Doctor;
use crate::client::Client;
use crate::exit::{self, Exit, Stop};
use crate::output::{Colors, Output, Tone, clean};
use crate::redis_facts::{Persistence, RedisFacts};
use crate::redis_server;

/// The oldest Redis whose commands the scripts can use.
const VERSION_MIN: (u32, u32) = (6, 2);
/// Entries of each set that the check reads: they hold Redis for a few milliseconds.
const CHECK_MAX: usize = 1000;
/// At this share of its memory the queue takes no more builds.
const MEMORY_PERCENT_MAX: u64 = 85;

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Level {
    Ok,
    Warning,
    Error,
}

/// What was looked at, and what was found.
#[derive(Debug, Serialize)]
struct Finding {
    level: Level,
    about: &'static str,
    text: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    advice: Option<String>,
}

/// All that was found.
#[derive(Debug, Default)]
struct Findings(Vec<Finding>);

impl Findings {
    fn ok(&mut self, about: &'static str, text: impl Into<String>) {
        self.0.push(Finding { level: Level::Ok, about, text: text.into(), advice: None });
    }

    fn warning(&mut self, about: &'static str, text: impl Into<String>, advice: impl Into<String>) {
        self.0.push(Finding { level: Level::Warning, about, text: text.into(), advice: Some(advice.into()) });
    }

    fn error(&mut self, about: &'static str, text: impl Into<String>, advice: impl Into<String>) {
        self.0.push(Finding { level: Level::Error, about, text: text.into(), advice: Some(advice.into()) });
    }

    fn has(&self, level: Level) -> bool {
        self.0.iter().any(|finding| finding.level == level)
    }
}

/// Runs the command.
pub(crate) async fn run(args: Doctor, output: Output) -> Result<Exit> {
    let mut findings = Findings::default();
    let redis = redis_url(&args)?;
    if let Some(url) = &redis {
        redis_and_queue(url, &args.prefix, &mut findings).await?;
    }
    dispatchers(&args, redis.is_some(), &mut findings).await?;
    command(args.command.as_deref(), &mut findings);
    write(&findings, output);
    Ok(if findings.has(Level::Error) { Exit::Failed } else { Exit::Good })
}

/// The Redis that was named, else that of an `up` on this machine.
fn redis_url(args: &Doctor) -> Result<Option<RedisUrl>> {
    if let Some(url) = args.redis_url.as_deref().filter(|url| !url.is_empty()) {
        return Ok(Some(url.parse()?));
    }
    let folder = match &args.data {
        Some(folder) => folder.clone(),
        None => match redis_server::default_folder() {
            Ok(folder) => folder,
            Err(_) => return Ok(None),
        },
    };
    let socket = redis_server::socket_in(&folder);
    if !socket.exists() {
        if args.data.is_some() {
            return Err(Stop::usage(format!(
                "no `fairlane up` runs on {}: there is no {}",
                folder.display(),
                socket.display()
            ))
            .into());
        }
        return Ok(None);
    }
    Ok(Some(format!("unix://{}", socket.display()).parse()?))
}

async fn redis_and_queue(url: &RedisUrl, prefix: &str, findings: &mut Findings) -> Result<()> {
    let keys = Keys::new(prefix)?;
    let facts = match Link::open(url).await {
        Ok(link) => RedisFacts::ask(&link, &keys.schema()).await,
        Err(error) => Err(error.into()),
    };
    let facts = match facts {
        Ok(facts) => facts,
        Err(error) => {
            let why = clean(&exit::in_full(&error), Colors::Drop);
            findings.error(
                "redis",
                format!("{url}: {why}"),
                "Is it running, and are address and password right?",
            );
            return Ok(());
        }
    };
    redis_itself(url, &facts, findings);
    let Some(schema) = &facts.schema else {
        findings.warning(
            "queue",
            format!("there is no queue under the prefix '{prefix}'"),
            "Start a dispatcher or a worker on this Redis, or name the right one with --redis-url and --prefix.",
        );
        return Ok(());
    };
    match Queue::open(url, prefix).await {
        Ok(queue) => {
            findings.ok("schema", format!("the queue has layout {schema}"));
            if let Err(error) = queue_itself(&queue, findings).await {
                findings.error(
                    "queue",
                    format!("the queue cannot be read: {error}"),
                    "See Redis's log, and this release's notes.",
                );
            }
        }
        Err(error) => findings.error(
            "schema",
            error.to_string(),
            "All processes on one queue must be of neighboring releases.",
        ),
    }
    Ok(())
}

fn redis_itself(url: &RedisUrl, facts: &RedisFacts, findings: &mut Findings) {
    let version = facts.get("redis_version").unwrap_or("of an unknown release");
    match facts.version() {
        Some(found) if found < VERSION_MIN => findings.error(
            "redis",
            format!("{url} is Redis {version}"),
            format!("Fairlane needs Redis {}.{} or later: upgrade it.", VERSION_MIN.0, VERSION_MIN.1),
        ),
        _ => findings.ok("redis", format!("{url} answers, Redis {version}")),
    }
    if facts.get("role") == Some("slave") {
        findings.error(
            "redis",
            "this is a replica, which takes no writes",
            "Name the primary, or use a redis+sentinel:// address.",
        );
    }
    match facts.get("maxmemory_policy") {
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
    let advice = "Set it: `redis-cli CONFIG SET appendonly yes`, and the same in redis.conf.";
    match facts.persistence() {
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
                "the append-only file is off, and this Redis does not say what else it keeps",
                advice,
            );
        }
    }
    if facts.get("aof_last_write_status").is_some_and(|status| status != "ok") {
        findings.error(
            "persistence",
            "the last write to the append-only file failed",
            "Look at Redis's log and at the space on its disk.",
        );
    }
    if let (Some(used), Some(max)) = (facts.number("used_memory"), facts.number("maxmemory"))
        && max > 0
    {
        let percent = used.saturating_mul(100) / max;
        if percent >= MEMORY_PERCENT_MAX {
            findings.error(
                "memory",
                format!("{percent} % of maxmemory are in use: new builds are refused"),
                "Raise maxmemory.",
            );
        } else {
            findings.ok("memory", format!("{percent} % of maxmemory are in use"));
        }
    }
}

async fn queue_itself(queue: &Queue, findings: &mut Findings) -> fairlane_common::Result<()> {
    let report = queue.check(CHECK_MAX).await?;
    if report.problems.is_empty() {
        findings.ok("queue", format!("{} entries compared, all fit together", report.checked));
    }
    for problem in report.problems {
        findings.error(
            "queue",
            problem,
            "This should never be: please report it, with the output of `fairlane doctor --json`.",
        );
    }
    let (snapshot, workers) = (queue.snapshot().await?, queue.workers().await?);
    if workers.is_empty() {
        findings.warning(
            "workers",
            "no worker is alive: nothing will start",
            "Start one with `fairlane worker`.",
        );
    } else if snapshot.slots == 0 {
        findings.warning(
            "workers",
            "all workers drain: nothing will start",
            "`fairlane drain WORKER --undo` lets one take builds again.",
        );
    } else {
        findings.ok(
            "workers",
            format!("{} alive, {} slots, {} builds running", workers.len(), snapshot.slots, snapshot.leased),
        );
    }
    let mut releases: Vec<&str> = workers.iter().map(|worker| worker.version.as_str()).collect();
    releases.sort_unstable();
    releases.dedup();
    if releases.len() > 1 {
        findings.warning(
            "workers",
            format!("they are of different releases: {}", releases.join(", ")),
            "Finish the upgrade.",
        );
    }
    if snapshot.orphaned > 0 && !workers.is_empty() {
        findings.warning(
            "orphans",
            format!("{} builds have lost their worker and wait for another", snapshot.orphaned),
            "This passes within seconds; if it stays, no worker of the same place is alive.",
        );
    }
    if snapshot.dispatchers == 0 {
        findings.warning("dispatchers", "no dispatcher is alive", "Start one with `fairlane dispatcher`.");
    } else {
        findings.ok("dispatchers", format!("{} alive", snapshot.dispatchers));
    }
    Ok(())
}

async fn dispatchers(args: &Doctor, redis_is_known: bool, findings: &mut Findings) -> Result<()> {
    for url in &args.reach.dispatcher_url {
        let client = Client::new(std::slice::from_ref(url), args.reach.token.clone())?;
        match client.get::<Health>("readyz", &[]).await {
            Ok(health) => {
                findings.ok(
                    "dispatcher",
                    format!("{} answers, release {}", client.shown(), clean(&health.version, Colors::Drop)),
                );
            }
            Err(error) => {
                let text = error.to_string();
                let mut lines = text.lines();
                let (text, advice) =
                    (lines.next().unwrap_or_default().to_owned(), lines.collect::<Vec<_>>().join(" "));
                if redis_is_known {
                    findings.warning("dispatcher", text, advice);
                } else {
                    findings.error("dispatcher", text, advice);
                }
            }
        }
    }
    if !redis_is_known {
        findings.warning(
            "redis",
            "not looked at: none is named, and no `fairlane up` runs here",
            "Name it with --redis-url or FAIRLANE_REDIS_URL.",
        );
    }
    Ok(())
}

/// The command that builds, on this machine. It may well be on the workers' machines only.
fn command(template: Option<&str>, findings: &mut Findings) {
    let is_default = template.is_none();
    let path = std::env::var_os("PATH");
    let found = CommandTemplate::parse(template.unwrap_or(TEMPLATE_DEFAULT))
        .and_then(|template| template.find_program(path.as_deref()));
    match found {
        Err(_) if is_default => findings.warning(
            "command",
            "jupyter-repo2docker is not on this machine",
            "Only machines with workers need it: `python3 -m pip install jupyter-repo2docker`.",
        ),
        Err(error) => {
            findings.error("command", format!("{error:#}"), "Correct --command or FAIRLANE_COMMAND.");
        }
        Ok(program) => {
            findings.ok("command", format!("{} is there", program.display()));
            let has_docker = std::env::var_os("DOCKER_HOST").is_some()
                || std::path::Path::new("/var/run/docker.sock").exists();
            if program.ends_with("jupyter-repo2docker") && !has_docker {
                findings.warning(
                    "command",
                    "there is no /var/run/docker.sock, which jupyter-repo2docker needs",
                    "Start Docker (or Podman's socket), or set DOCKER_HOST.",
                );
            }
        }
    }
}

fn write(findings: &Findings, output: Output) {
    let width = findings.0.iter().map(|finding| finding.about.len()).max().unwrap_or(0);
    for finding in &findings.0 {
        if output.is_json() {
            output.json(finding);
            continue;
        }
        let (word, tone) = match finding.level {
            Level::Ok => ("ok     ", Tone::Good),
            Level::Warning => ("warning", Tone::Warning),
            Level::Error => ("error  ", Tone::Bad),
        };
        let advice = finding.advice.as_deref().map(|advice| format!(". {advice}")).unwrap_or_default();
        let text = clean(&finding.text, Colors::Drop);
        output.data(&format!("{}  {:width$}  {text}{advice}", output.paint(tone, word), finding.about));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(info: &str, save: Option<&str>) -> Vec<(Level, &'static str)> {
        let mut findings = Findings::default();
        let url: RedisUrl = "redis://a".parse().unwrap();
        redis_itself(&url, &RedisFacts::of(info, save), &mut findings);
        findings.0.iter().map(|finding| (finding.level, finding.about)).collect()
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
