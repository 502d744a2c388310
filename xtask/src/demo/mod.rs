//! `demo`: builds real Git repositories through a private queue, with repo2docker.
//!
//! One repository is slow and popular, a dozen are small, and one cannot be built. Without a running container
//! engine, images are planned but not built, and the slow repository is slow because its clone is throttled.

pub(crate) mod fairlane;
mod git_server;
mod repo2docker;
mod report;
mod repositories;
mod watch;

use std::path::Path;
use std::time::Instant;

use anyhow::{Result, bail};

use crate::packages;
use crate::shell::cargo;
use fairlane::Fairlane;
use git_server::GitServer;
use repositories::{Kind, Repository};

/// The demo's `--slots`: few enough that the slow lane's limit of one permit takes effect.
const SLOTS: u32 = 3;
/// How many people watch the slow build.
const WATCHERS: usize = 30;

/// Runs the demo; the last line says whether everything went as expected.
pub(crate) fn run(root: &Path) -> Result<()> {
    packages::ensure(&[
        packages::REDIS,
        packages::GIT,
        packages::CERTIFICATES,
        packages::PYTHON,
        packages::PYTHON_VENV,
    ])?;
    let folder = root.join("target/demo");
    std::fs::create_dir_all(&folder)?;
    let command = repo2docker::prepare(&folder)?;
    crate::shell::run(&mut cargo(root, &["build", "--package", "fairlane"]))?;

    let start = Instant::now();
    println!("\nMaking repositories in {}", folder.join("repositories").display());
    let repositories = repositories::make(&folder, command.builds_images)?;
    let server = GitServer::start(&folder.join("repositories"), command.builds_images)?;
    println!("Serving them at {}, the slow one at {}", server.url(""), server.slow_url(""));
    let fairlane = Fairlane::start(root, &folder, SLOTS, &command.template)?;
    println!(
        "The queue is at {} with {SLOTS} slots; its log is in {}\n",
        fairlane.url(),
        fairlane.log().display()
    );

    let mut builds = ask(&fairlane, &server, &repositories)?;
    let slow = &builds[0];
    println!("{WATCHERS} people watch {}\n", slow.title());
    let watchers = watch::Watchers::start(&fairlane, &slow.id, WATCHERS)?;
    report::follow(&fairlane, &watchers, &mut builds, start)?;
    report::table(&builds);
    let complaints = report::judge(&builds, &watchers.finish());
    drop(fairlane);
    if command.builds_images {
        println!("The images are kept; list them with docker image ls 'fairlane-demo/*'");
    }
    for complaint in &complaints {
        println!("NOT AS EXPECTED: {complaint}");
    }
    if !complaints.is_empty() {
        bail!("the demo did not go as expected; its log is in {}", folder.join("fairlane.log").display());
    }
    println!("All as expected, in {:.0} s.", start.elapsed().as_secs_f64());
    Ok(())
}

/// Requests every build: the popular one first, then its second commit once the other slots are busy (an idle
/// queue would lend it a permit at once), then all the others.
fn ask(
    fairlane: &Fairlane,
    server: &GitServer,
    repositories: &[Repository],
) -> Result<Vec<report::Demanded>> {
    let mut wanted: Vec<_> = repositories
        .iter()
        .flat_map(|repository| (0..repository.commits.len()).map(move |number| (repository, number)))
        .collect();
    wanted[1..=SLOTS as usize].rotate_left(1);
    let mut builds = Vec::new();
    for (repository, number) in wanted {
        let (name, commit) = (repository.name, &repository.commits[number]);
        let url = if repository.kind == Kind::Slow { server.slow_url(name) } else { server.url(name) };
        let id = fairlane.submit(&url, commit, &format!("fairlane-demo/{name}:{}", &commit[..12]))?;
        builds.push(report::Demanded::new(repository, number + 1, id));
    }
    Ok(builds)
}
