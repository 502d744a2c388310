//! A dispatcher and a worker are killed while a build runs.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use super::engine::{ask, wait};
use super::project::Project;
use super::watch::Watch;

const DISPATCHERS: [&str; 2] = ["dispatcher-1", "dispatcher-2"];
/// For what takes a few seconds on a busy machine.
const SOON: Duration = Duration::from_mins(1);
/// Prints the metrics of the process in the same container, with nothing but a shell.
const METRICS: &str =
    "exec 3<>/dev/tcp/127.0.0.1/8600 && printf 'GET /metrics HTTP/1.0\\r\\n\\r\\n' >&3 && cat <&3";

/// Kills the dispatcher that serves the build's stream; returns what happened.
pub(super) fn dispatcher(project: &Project, watch: &Watch) -> Result<String> {
    let service = wait("the dispatcher with the stream", SOON, || {
        for service in DISPATCHERS {
            if streams(project, service)? > 0 {
                return Ok(Some(service));
            }
        }
        Ok(None)
    })?;
    let lines = watch.seen().lines.len();
    let resumed = watch.seen().resumed;
    let container = project.container(service)?;
    let start = Instant::now();
    ask(["kill", &container])?;
    watch.wait("a line from the other dispatcher", |seen| {
        seen.resumed > resumed && seen.lines.len() > lines
    })?;
    let gap = start.elapsed().as_secs_f64();
    let stays_down = project.inspect(service, "{{.State.Status}}")? == "exited";
    ensure!(
        stays_down,
        "Docker starts containers again that `docker kill` has ended; then docs/evidence.md is wrong"
    );
    ask(["start", &container])?;
    project.wait_healthy(&[service])?;
    Ok(format!("{service} was killed; the stream went on at the other one, {gap:.1} s until its next line"))
}

/// Kills the worker that runs the build, as the kernel would; returns what happened.
pub(super) fn worker(project: &Project, watch: &Watch, helper: &str) -> Result<String> {
    let runs_on = || -> Result<String> {
        let build = project.json("GET", &format!("/v1/builds/{}", watch.id), None)?;
        Ok(build["worker"].as_str().context("no worker has the build")?.to_owned())
    };
    let before = runs_on()?;
    let service = project
        .workers()?
        .into_iter()
        .find(|worker| worker.id == before)
        .map(|worker| worker.host)
        .with_context(|| format!("which worker is {before}?"))?;
    let process = project.inspect(&service, "{{.State.Pid}}")?;
    let start = Instant::now();
    // `docker kill` would count as the operator's wish, and the restart policy would not apply.
    ask([
        "run",
        "--rm",
        "--pid",
        "host",
        "--network",
        "none",
        helper,
        "sh",
        "-c",
        &format!("kill -KILL {process}"),
    ])?;
    watch.wait("a line of the next run", |seen| seen.lines.last().is_some_and(|(run, _)| *run > 1))?;
    let gap = start.elapsed().as_secs_f64();
    let after = runs_on()?;
    wait(&format!("the restart of {service}"), SOON, || {
        let state = project.inspect(&service, "{{.RestartCount}} {{.State.Status}}")?;
        Ok((state != "0 running" && state.ends_with(" running")).then_some(()))
    })?;
    Ok(format!("{before} was killed; {gap:.1} s later, {after} printed the first line of the next run"))
}

/// How many event streams a dispatcher serves.
fn streams(project: &Project, service: &str) -> Result<u32> {
    let metrics = project.exec(service, &["bash", "-c", METRICS])?;
    let value = metrics.lines().find_map(|line| line.strip_prefix("fairlane_streams "));
    value
        .and_then(|value| value.trim().parse().ok())
        .with_context(|| format!("no fairlane_streams in {metrics}"))
}
