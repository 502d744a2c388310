//! `compose`: brings `compose.yaml` up on this machine's container engine, builds repositories with repo2docker, kills a
//! dispatcher and a worker meanwhile, and takes everything down.

mod engine;
mod images;
mod kills;
mod page;
mod project;
mod repositories;
mod watch;

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};

use crate::http;
use crate::packages::{self, GIT};
use engine::{ask, wait};
use images::Images;
pub(crate) use images::bases;
use project::Project;
use repositories::Repository;
use watch::Watch;

const SERVICES: &[&str] = &["redis", "dispatcher-1", "dispatcher-2", "fairlane", "worker-1", "worker-2"];
/// Prometheus scrapes every 15 s.
const SCRAPE_LIMIT: Duration = Duration::from_mins(1);

/// Runs it, and prints how long each step took.
pub(crate) fn run(root: &Path, words: &[String]) -> Result<()> {
    let release = match words {
        [] => false,
        [word] if word == "--release" => true,
        _ => bail!("the only option is --release"),
    };
    if let Some(why) = engine::missing() {
        println!("SKIPPED: compose.yaml was not started, because no container engine runs here: {why}");
        return Ok(());
    }
    packages::ensure(&[GIT])?;
    let folder = root.join("target/compose");
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder)?;
    let start = Instant::now();
    println!("Images:");
    let images = Images::get(root, &folder, release)?;
    println!("{:6.1} s  images are there", start.elapsed().as_secs_f64());
    let base = images.debian();
    let small = Repository::create(&folder.join("repositories"), "small", base, 5, "0.1")?;
    let slow = Repository::create(&folder.join("repositories"), "slow", base, 60, "1")?;
    let project = Project::prepare(root, &folder, &images)?;
    println!(
        "The project is {}; what Compose prints is in {}",
        project.name,
        folder.join("compose.log").display()
    );
    println!(
        "If this is interrupted, it leaves containers: docker ps --all --filter label=com.docker.compose.project={}",
        project.name
    );
    let done = scene(&project, &images, &folder, &small, &slow);
    if done.is_err() {
        match project.keep_logs() {
            Ok(path) => println!("The logs of all services are in {}", path.display()),
            Err(error) => println!("Their logs are lost: {error:#}"),
        }
    }
    let down = step("down: no container, network, volume or image of the project is left", || {
        project.down().map(|()| String::new())
    });
    done.and(down)?;
    println!("All as expected, in {:.0} s.", start.elapsed().as_secs_f64());
    println!(
        "Stand-ins are kept for the next time; this removes them: docker image rm $(docker image ls -q 'fairlane-stand-in/*')"
    );
    Ok(())
}

fn scene(
    project: &Project,
    images: &Images,
    folder: &Path,
    small: &Repository,
    slow: &Repository,
) -> Result<()> {
    step("up --build", || project.run(["up", "--build", "--detach"]).map(|()| String::new()))?;
    step("all services are healthy", || project.wait_healthy(SERVICES).map(|()| String::new()))?;
    let names = project.workers()?;
    step("a browser", || page::visit(project, folder))?;
    step("a build", || {
        let build = Watch::submit(project, "small", small)?;
        let runs = build.succeeds()?;
        ensure!(runs == 1, "it took {runs} runs");
        ask([
            "image",
            "inspect",
            "--format",
            "{{.Id}}",
            &format!("{}:{}", project.image("small"), &small.commit[..12]),
        ])?;
        Ok(format!("its {} lines came, and the engine has its image", small.lines))
    })?;
    let build = Watch::submit(project, "slow", slow)?;
    build.wait("the fifth line of a slow build", |seen| seen.lines.len() >= 5)?;
    step("a dispatcher is killed", || kills::dispatcher(project, &build))?;
    step("a worker is killed", || kills::worker(project, &build, images.debian()))?;
    step("the slow build ends", || {
        let runs = build.succeeds()?;
        let seen = build.seen();
        let lines = seen.lines.len();
        Ok(format!(
            "run {runs} succeeded; {lines} lines in {} streams, none lost or repeated",
            seen.resumed + 1
        ))
    })?;
    step("the workers are back under their names", || {
        project.wait_healthy(SERVICES)?;
        let (before, after) = (hosts(&names), hosts(&project.workers()?));
        ensure!(before == after, "{before} became {after}");
        Ok(after)
    })?;
    step("a person at Redis", || reader(project))?;
    monitoring(project, images)
}

/// Prints a step with the time that it took.
fn step(what: &str, act: impl FnOnce() -> Result<String>) -> Result<()> {
    let start = Instant::now();
    let done = act();
    let seconds = start.elapsed().as_secs_f64();
    match &done {
        Ok(more) if more.is_empty() => println!("{seconds:6.1} s  {what}"),
        Ok(more) => println!("{seconds:6.1} s  {what}: {more}"),
        Err(error) => println!("{seconds:6.1} s  {what}: FAILED: {error:#}"),
    }
    done.map(|_| ())
}

fn hosts(workers: &[project::Worker]) -> String {
    let mut hosts: Vec<_> = workers.iter().map(|worker| worker.host.as_str()).collect();
    hosts.sort_unstable();
    hosts.join(", ")
}

/// The user for people, as docs/redis.md describes it, may read and not write.
fn reader(project: &Project) -> Result<String> {
    const SET_USER: &str = "rights=$(sed -n 's/^reader //p' /etc/fairlane/redis.acl | sed 's/PREFIX/fairlane/g')\n\
        redis-cli ACL SETUSER fairlane-reader on '>secret' $rights";
    let made = project.exec("redis", &["sh", "-ec", SET_USER])?;
    ensure!(made == "OK", "{made}");
    let ask = |words: &[&str]| {
        let user = ["redis-cli", "--no-auth-warning", "--user", "fairlane-reader", "--pass", "secret"];
        project.exec("redis", &[&user, words].concat())
    };
    let key = project.exec("redis", &["redis-cli", "--scan", "--pattern", "*:schema"])?;
    let schema = ask(&["GET", &key])?;
    ensure!(schema.contains('.'), "{key} is {schema}");
    let refused = ask(&["SET", &key, "0"])?;
    ensure!(refused.contains("NOPERM"), "{refused}");
    Ok(format!("fairlane-reader reads schema {schema} and may not write"))
}

/// The profile, as far as there are images.
fn monitoring(project: &Project, images: &Images) -> Result<()> {
    let services = images::of_services(&project.root)?;
    for (service, image) in &services {
        let is_optional = !SERVICES.contains(&service.as_str());
        if is_optional && images.of(image).is_none() {
            println!("          {service}: SKIPPED, because its image is not there");
        } else if is_optional {
            step(&format!("--profile monitoring up {service}"), || {
                project.run(["--profile", "monitoring", "up", "--detach", "--no-deps", service])?;
                project.wait_healthy(&[service])?;
                if service == "prometheus" { scraped(project) } else { Ok(String::new()) }
            })?;
        }
    }
    Ok(())
}

/// Prometheus reaches all dispatchers and workers, and has read the alerts.
fn scraped(project: &Project) -> Result<String> {
    wait("a scrape of two dispatchers and two workers", SCRAPE_LIMIT, || {
        let answer = http::json(project.prometheus, "GET", "/api/v1/targets", None)?;
        let targets = answer["data"]["activeTargets"].as_array().cloned().unwrap_or_default();
        let up = targets.iter().filter(|target| target["health"] == "up").count();
        ensure!(up == 4 && targets.len() == 4, "its targets: {answer}");
        Ok(Some(()))
    })?;
    let answer = http::json(project.prometheus, "GET", "/api/v1/rules", None)?;
    let groups = answer["data"]["groups"].as_array().into_iter().flatten();
    let rules: usize = groups.map(|group| group["rules"].as_array().map_or(0, Vec::len)).sum();
    ensure!(rules > 0, "no rules: {answer}");
    Ok(format!("2 dispatchers and 2 workers are up, {rules} rules are loaded"))
}
