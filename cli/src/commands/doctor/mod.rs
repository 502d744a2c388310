//! `fairlane doctor`: finds what is wrong, and says what to do about it.

mod acl;
mod findings;
pub(super) mod kubernetes;
mod redis;

use anyhow::Result;
use fairlane_clikit::exit::{self, Exit, Stop};
use fairlane_clikit::output::{Colors, Output, clean};
use fairlane_clikit::redis_server;
use fairlane_common::id::HOSTS;
use fairlane_common::keys::Keys;
use fairlane_common::queue::inspect::WorkerView;
use fairlane_common::{Link, Queue, RedisUrl};
use fairlane_dispatcher::ArchiveArgs;
use fairlane_dispatcher::api::{Health, ProblemKind, QueueView, Severity};
use fairlane_worker::ExecutorKind;
use fairlane_worker::command::{CommandTemplate, TEMPLATE_DEFAULT};

use crate::args::{Doctor, Reach};
use crate::client::Client;
use crate::repo2docker;
use findings::Findings;

/// Most entries of each set that are checked. This blocks Redis for a few milliseconds.
const CHECK_MAX: usize = 1000;

pub(crate) async fn run(args: Doctor, output: Output) -> Result<Exit> {
    if let Some(kind) = args.print_acl {
        acl::print(&Keys::new(&args.prefix)?, kind, output);
        return Ok(Exit::Good);
    }
    let mut findings = Findings::default();
    if args.nodes {
        Box::pin(kubernetes::look_at_nodes(&args, &mut findings)).await;
        return Ok(findings.finish(output));
    }
    let redis = redis_url(&args)?;
    let workers = match &redis {
        Some(url) => redis_and_queue(url, &args.prefix, &mut findings).await?,
        None => Vec::new(),
    };
    dispatchers(&args, redis.is_some(), &mut findings).await?;
    archive(&args.archive, &mut findings).await;
    match args.executor {
        ExecutorKind::Process => command(args.command.as_deref(), &mut findings).await,
        ExecutorKind::Kubernetes => Box::pin(kubernetes::look(&args, &workers, &mut findings)).await,
    }
    Ok(findings.finish(output))
}

/// The Redis that was given, or else that of `fairlane up` on this machine.
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
                "no `fairlane up` is using {}: there is no {}",
                folder.display(),
                socket.display()
            ))
            .into());
        }
        return Ok(None);
    }
    Ok(Some(format!("unix://{}", socket.display()).parse()?))
}

/// Checks Redis and the queue in it; returns the live workers.
async fn redis_and_queue(url: &RedisUrl, prefix: &str, findings: &mut Findings) -> Result<Vec<WorkerView>> {
    let keys = Keys::new(prefix)?;
    let looked = async {
        let link = Link::open(url).await?;
        let info = link.redis_info(&keys.schema()).await?;
        let schema = link.schema(&keys).await?;
        anyhow::Ok((link, info, schema))
    };
    let (link, info, schema) = match looked.await {
        Ok(looked) => looked,
        Err(error) => {
            let why = clean(&exit::in_full(&error), Colors::Drop);
            let advice = "Is it running, and are its address and password correct?";
            findings.error("redis", format!("{url}: {why}"), advice);
            return Ok(Vec::new());
        }
    };
    redis::judge(url, &info, findings);
    if let Err(error) = acl::judge(&link, url, &keys, findings).await {
        let advice = "`fairlane doctor --print-acl` prints the rights that it needs.";
        findings.error("rights", format!("its rights cannot be checked: {error}"), advice);
    }
    let Some(schema) = schema else {
        findings.warning(
            "queue",
            format!("there is no queue under the prefix '{prefix}'"),
            "Start a dispatcher or a worker on this Redis, or name the right one with --redis-url and --prefix.",
        );
        return Ok(Vec::new());
    };
    match Queue::open(url, prefix).await {
        Ok(queue) => {
            findings.ok("schema", format!("the queue has schema {schema}"));
            findings.ok(
                "functions",
                match queue.rejects_functions() {
                    None => "operations are sent as functions".to_owned(),
                    Some(why) => {
                        format!("operations are sent as scripts, because Redis rejects functions: {why}")
                    }
                },
            );
            match queue_itself(&queue, findings).await {
                Ok(workers) => return Ok(workers),
                Err(error) => findings.error(
                    "queue",
                    format!("the queue cannot be read: {error}"),
                    "See Redis's log, and this release's notes.",
                ),
            }
        }
        Err(error) => findings.error(
            "schema",
            error.to_string(),
            "All processes of one queue must run the same release or neighboring ones.",
        ),
    }
    Ok(Vec::new())
}

/// Warns about nodes and hosts that are avoided.
async fn avoided_nodes(queue: &Queue, findings: &mut Findings) -> fairlane_common::Result<()> {
    for node in queue.nodes().await? {
        let what = if node.cluster == HOSTS { "host" } else { "node" };
        findings.warning(
            "nodes",
            format!(
                "builds of {} lanes failed on {what} {}, which is avoided: {}",
                node.lanes, node.name, node.reason
            ),
            format!("Once that is repaired, `fairlane nodes clear {}` sends builds there again.", node.name),
        );
    }
    Ok(())
}

async fn queue_itself(queue: &Queue, findings: &mut Findings) -> fairlane_common::Result<Vec<WorkerView>> {
    let report = queue.check(CHECK_MAX).await?;
    if report.problems.is_empty() {
        findings.ok("queue", format!("{} entries compared, all consistent", report.checked));
    }
    for problem in report.problems {
        findings.error(
            "queue",
            problem,
            "This should never happen: please report it, with the output of `fairlane doctor --json`.",
        );
    }
    set_aside(queue, findings).await?;
    let (snapshot, workers) = (queue.snapshot().await?, queue.workers().await?);
    if workers.is_empty() {
        findings.warning(
            "workers",
            "no worker is alive: nothing will start",
            "Start one with `fairlane worker`.",
        );
    } else if let Some(why) = snapshot.nobody_takes() {
        let advice = if workers.iter().any(|worker| worker.drained.is_some()) {
            "`fairlane drain WORKER --undo` lets a drained worker claim builds again."
        } else {
            "`fairlane workers` shows what each of them waits for."
        };
        findings.warning("workers", format!("no worker claims builds: {why}"), advice);
    } else {
        findings.ok(
            "workers",
            format!("{} alive, {} slots, {} builds running", workers.len(), snapshot.slots, snapshot.leased),
        );
    }
    avoided_nodes(queue, findings).await?;
    for worker in &workers {
        if let Some(why) = &worker.paused {
            findings.warning(
                "workers",
                format!("{} claims no builds at present: {why}", worker.id),
                "Its running builds continue, and it resumes by itself.",
            );
        }
    }
    let mut releases: Vec<&str> = workers.iter().map(|worker| worker.version.as_str()).collect();
    releases.sort_unstable();
    releases.dedup();
    if releases.len() > 1 {
        findings.warning(
            "workers",
            format!("they run different releases: {}", releases.join(", ")),
            "Finish the upgrade.",
        );
    }
    if snapshot.orphaned > 0 && !workers.is_empty() {
        findings.warning(
            "orphans",
            format!("{} builds have lost their worker and wait for another", snapshot.orphaned),
            "This resolves itself within seconds; if not, no worker with the same PLACE is alive (see `fairlane workers`).",
        );
    }
    if snapshot.dispatchers == 0 {
        findings.warning("dispatchers", "no dispatcher is alive", "Start one with `fairlane dispatcher`.");
    } else {
        findings.ok("dispatchers", format!("{} alive", snapshot.dispatchers));
    }
    Ok(workers)
}

/// Builds, timers and rules that could not be processed.
async fn set_aside(queue: &Queue, findings: &mut Findings) -> fairlane_common::Result<()> {
    for one in queue.aside().await? {
        findings.warning(
            "set aside",
            format!("{}: {}", clean(&one.what, Colors::Drop), clean(&one.why, Colors::Drop)),
            "It blocks nothing else. A process of a newer release handles what that release wrote; what was \
             changed by hand must be repaired or removed by hand.",
        );
    }
    Ok(())
}

async fn dispatchers(args: &Doctor, redis_is_known: bool, findings: &mut Findings) -> Result<()> {
    let mut asked = false;
    for url in &args.reach.dispatcher_url {
        let client = Client::new(Reach { dispatcher_url: vec![url.clone()], ..args.reach.clone() })?;
        match client.get::<Health>("readyz", &[]).await {
            Ok(health) => {
                findings.ok(
                    "dispatcher",
                    format!("{} answers, release {}", client.shown(), clean(&health.version, Colors::Drop)),
                );
                if !std::mem::replace(&mut asked, true) {
                    problems(&client, redis_is_known, findings).await;
                }
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
            "not checked: none is configured, and no `fairlane up` runs here",
            "Name it with --redis-url or FAIRLANE_REDIS_URL.",
        );
    }
    Ok(())
}

/// What the queue says is wrong with it, besides what was found in Redis.
async fn problems(client: &Client, redis_is_known: bool, findings: &mut Findings) {
    let found = [
        ProblemKind::NoWorker,
        ProblemKind::NodeAvoided,
        ProblemKind::SetAside,
        ProblemKind::RedisMemory,
        ProblemKind::RedisAppendOnly,
    ];
    let queue = match client.get::<QueueView>("v1/queue", &[]).await {
        Ok(queue) => queue,
        // A token that may not read the queue is no problem of the queue.
        Err(error) if exit::of(&error) == Exit::Refused => return,
        Err(error) => return findings.warning("queue", error.to_string(), ""),
    };
    for problem in queue.problems.iter().filter(|problem| problem.severity != Severity::Note) {
        if !(redis_is_known && found.contains(&problem.kind)) {
            // This command itself is no advice.
            let command = problem.command.as_deref().filter(|command| *command != "fairlane doctor");
            let advice =
                command.map(|command| format!("`{}` shows more, or helps.", clean(command, Colors::Drop)));
            findings.warning("queue", problem.sentence.trim_end_matches('.'), advice.unwrap_or_default());
        }
    }
}

/// Checks the log archive, if one is set.
async fn archive(args: &ArchiveArgs, findings: &mut Findings) {
    let archive = match args.archive() {
        Ok(Some(archive)) => archive,
        Ok(None) => return,
        Err(error) => {
            return findings.error(
                "archive",
                error.to_string(),
                "A dispatcher with this setting does not start.",
            );
        }
    };
    match archive.check().await {
        Ok(()) => findings.ok("archive", format!("{archive} answers; whether logs can be written shows with the first one")),
        Err(why) => findings.error(
            "archive",
            clean(&why, Colors::Drop),
            "No build waits for it. Logs are archived once it answers; those that Redis removes before are lost.",
        ),
    }
}

/// Checks the build command, which may only exist on the workers' machines.
async fn command(template: Option<&str>, findings: &mut Findings) {
    let is_default = template.is_none();
    let path = std::env::var_os("PATH");
    let parsed = CommandTemplate::parse(template.unwrap_or(TEMPLATE_DEFAULT));
    let repo2docker = parsed.as_ref().ok().and_then(repo2docker::in_command);
    let found = parsed.and_then(|template| template.find_program(path.as_deref()));
    match found {
        Err(_) if is_default => findings.warning(
            "command",
            "jupyter-repo2docker is not on this machine",
            format!("Only machines with workers need it. Install it:\n  {}", repo2docker::how_to_install()),
        ),
        Err(error) => {
            findings.error("command", format!("{error:#}"), "Correct --command or FAIRLANE_COMMAND.");
        }
        Ok(program) => {
            let shown = program.display();
            let Some(program) = repo2docker else {
                return findings.ok("command", format!("found {shown}"));
            };
            match repo2docker::check(&program).await {
                Ok(version) => {
                    findings.ok(
                        "command",
                        format!("{shown} works, release {version}; git, hg and Docker answer"),
                    );
                }
                Err(troubles) => {
                    for trouble in troubles {
                        findings.error("command", trouble.what, trouble.advice);
                    }
                }
            }
        }
    }
}
