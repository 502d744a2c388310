//! `test`, `lint` and `advisories`.

use std::num::NonZero;
use std::path::Path;
use std::process::Command;

use anyhow::{Result, bail};

use crate::packages::{self, Missing};
use crate::shell::{cargo, run, succeeds, which};
use crate::tidy;
use crate::{binderhub, http_api, push_hook, venv};

/// Variable that names another server to run the tests against, such as `valkey-server`.
const SERVER_VARIABLE: &str = "FAIRLANE_TEST_REDIS_SERVER";

/// Contains axe-core, which finds barriers in a web page.
const AXE: &str = "axe-playwright-python==0.1.8";

/// Contains Helm's own engine, which renders the chart.
pub(crate) const HELM: &str = "helm-python-sdk==0.2.2";

/// Contains a server that speaks S3's API, for the tests of the log archive.
const S3: &str = "moto[s3,server]==5.2.5";

/// Everything that a change must pass.
pub(crate) fn test(root: &Path) -> Result<()> {
    install()?;
    lint(root)?;
    supply_chain(root)?;
    binderhub::test(root)?;
    push_hook::test(root)?;
    if let Err(error) = install_browser(root) {
        println!("\nSKIPPED: tests of the web page, because their browser cannot be installed: {error:#}");
    }
    if let Err(error) = venv::python(root, "helm", &[HELM]) {
        println!("\nSKIPPED: tests of the Helm chart, because its engine cannot be installed: {error:#}");
    }
    if let Err(error) = venv::python(root, "s3", &[S3]) {
        println!(
            "\nSKIPPED: tests of the log archive in a bucket, because no server can be installed: {error:#}"
        );
    }
    tests(root)
}

/// Only the tests of the Python package for `BinderHub`.
pub(crate) fn binderhub(root: &Path) -> Result<()> {
    install()?;
    binderhub::test(root)
}

/// Only the requests that are generated from the API's document, many of them.
pub(crate) fn http_api(root: &Path) -> Result<()> {
    install()?;
    http_api::test(root)
}

/// Formatting, clippy and tidy.
pub(crate) fn lint(root: &Path) -> Result<()> {
    run(&mut cargo(root, &["fmt", "--all", "--check"]))?;
    run(&mut cargo(root, &["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]))?;
    println!("+ tidy");
    tidy::run(root)
}

/// Known vulnerabilities in dependencies. Not part of `test`, because its result changes without any commit.
pub(crate) fn advisories(root: &Path) -> Result<()> {
    if which("cargo-deny").is_none() {
        return Err(Missing("cargo install --locked cargo-deny".to_owned()).into());
    }
    run(&mut cargo(root, &["deny", "check", "advisories"]))
}

fn install() -> Result<()> {
    if let Ok(server) = std::env::var(SERVER_VARIABLE) {
        if which(&server).is_none() && !Path::new(&server).is_file() {
            bail!("{SERVER_VARIABLE} names {server}, which is not there");
        }
        println!("The tests run against {server}.");
    } else {
        packages::ensure(&[packages::REDIS])?;
    }
    if let Err(error) = packages::ensure(&[packages::FAKETIME]) {
        println!("\nSKIPPED: tests with a wrong clock. {error:#}");
    }
    // Debian starts the service where there is an init system; the tests start servers of their own.
    if let Err(error) = packages::ensure(&[packages::PROMETHEUS]) {
        println!("\nSKIPPED: what the tests check with promtool and Prometheus. {error:#}");
    }
    packages::ensure(&[
        packages::GIT,
        packages::CURL,
        packages::PYTHON,
        packages::PYTHON_VENV,
        packages::CERTIFICATES,
    ])
}

/// What the tests of the web page need: a browser, and axe-core, from a package of the Python index.
fn install_browser(root: &Path) -> Result<()> {
    packages::ensure(&[packages::CHROMIUM, packages::CHROMIUM_DRIVER])?;
    venv::python(root, "axe", &["--no-deps", AXE]).map(drop)
}

fn tests(root: &Path) -> Result<()> {
    if succeeds(&mut cargo(root, &["nextest", "--version"])) {
        // Most tests wait rather than compute.
        let threads = 2 * std::thread::available_parallelism().map_or(1, NonZero::get);
        run(&mut cargo(root, &["nextest", "run", "--workspace", "--test-threads", &threads.to_string()]))
    } else {
        println!(
            "\nNOTE: cargo-nextest is not installed, so a test that hangs is not stopped. Running them with \
             `cargo test`; `cargo install --locked cargo-nextest` brings it.\n"
        );
        run(&mut cargo(root, &["test", "--workspace"]))
    }
}

fn supply_chain(root: &Path) -> Result<()> {
    if which("cargo-deny").is_none() {
        println!(
            "\nSKIPPED: licenses, bans and sources of dependencies, because cargo-deny is not installed; \
             `cargo install --locked cargo-deny` brings it."
        );
        return Ok(());
    }
    let mut command: Command = cargo(root, &["deny", "check", "bans", "licenses", "sources"]);
    run(&mut command)
}
