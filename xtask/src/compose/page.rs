//! A browser at the published address.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use super::engine::wait;
use super::project::Project;
use crate::packages::{self, CHROMIUM, CHROMIUM_DRIVER, CURL};
use crate::shell::quiet;

/// A browser beside other programs is slow.
const SOON: Duration = Duration::from_mins(1);
/// Signs in as a person would; true once the form was there.
const SIGN_IN: &str = "const form = document.querySelector('section.sign-in form');\n\
    if (!form) return false;\n\
    form.elements.token.value = arguments[0];\n\
    form.requestSubmit();\n\
    return true;";

struct Browser {
    driver: Child,
    server: SocketAddr,
    session: String,
}

/// Signs in on the page, and takes a picture of two views.
pub(super) fn visit(project: &Project, folder: &Path) -> Result<String> {
    if let Err(error) = packages::ensure(&[CHROMIUM, CHROMIUM_DRIVER, CURL]) {
        return Ok(format!("SKIPPED: {error:#}"));
    }
    let browser = Browser::start()?;
    let address = format!("http://{}/", project.address);
    browser.send("url", &json!({ "url": address }))?;
    wait("the page's form for the token", SOON, || {
        let signed_in = browser.run(SIGN_IN, &json!([project.token]))?;
        Ok((signed_in == true).then_some(()))
    })?;
    browser.text("the view Now", &["People wait", "Builds"])?;
    let first = browser.picture(&folder.join("page.png"))?;
    browser.send("url", &json!({ "url": format!("{address}#/workers") }))?;
    browser.text("the view of workers", &["worker-1", "worker-2"])?;
    let second = browser.picture(&folder.join("workers.png"))?;
    Ok(format!("{address} shows its page: {} and {}", first.display(), second.display()))
}

impl Browser {
    fn start() -> Result<Self> {
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
        let server = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let mut driver = Command::new("chromedriver");
        driver.arg(format!("--port={port}")).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut browser = Self { driver: driver.spawn()?, server, session: String::new() };
        wait("chromedriver", SOON, || {
            Ok((ask(server, "GET", "/status", None)?["value"]["ready"] == true).then_some(()))
        })?;
        let args = [
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--no-proxy-server",
            "--window-size=1280,900",
        ];
        let wanted = json!({ "capabilities": { "alwaysMatch": { "goog:chromeOptions": { "args": args } } } });
        let answer = ask(server, "POST", "/session", Some(&wanted))?;
        let id = answer["value"]["sessionId"].as_str().context("chromedriver starts no session")?;
        browser.session = format!("/session/{id}");
        Ok(browser)
    }

    fn send(&self, command: &str, body: &Value) -> Result<Value> {
        let path = format!("{}/{command}", self.session);
        Ok(ask(self.server, "POST", &path, Some(body))?["value"].take())
    }

    fn run(&self, script: &str, arguments: &Value) -> Result<Value> {
        self.send("execute/sync", &json!({ "script": script, "args": arguments }))
    }

    /// Waits until the page contains all these words.
    fn text(&self, what: &str, words: &[&str]) -> Result<()> {
        wait(what, SOON, || {
            let text = self.run("return document.body.innerText", &json!([]))?;
            let text = text.as_str().unwrap_or_default();
            ensure!(words.iter().all(|word| text.contains(word)), "the page shows {text:?}");
            Ok(Some(()))
        })
    }

    fn picture(&self, path: &Path) -> Result<PathBuf> {
        let answer = ask(self.server, "GET", &format!("{}/screenshot", self.session), None)?;
        let encoded = path.with_extension("base64");
        std::fs::write(&encoded, answer["value"].as_str().context("no picture")?)?;
        quiet(
            Command::new("sh").args(["-c", "base64 --decode \"$1\" > \"$2\"", "sh"]).arg(&encoded).arg(path),
        )?;
        std::fs::remove_file(encoded)?;
        Ok(path.to_owned())
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // The browser ends with its session, but not with the driver.
        let _ = ask(self.server, "DELETE", &self.session, None);
        let _ = self.driver.kill();
        let _ = self.driver.wait();
    }
}

/// A request to chromedriver, which does not answer HTTP/1.0.
fn ask(server: SocketAddr, method: &str, path: &str, body: Option<&Value>) -> Result<Value> {
    let mut curl = Command::new("curl");
    curl.args(["--silent", "--show-error", "--noproxy", "*", "--max-time", "60", "--request", method]);
    if let Some(body) = body {
        curl.args(["--header", "content-type: application/json", "--data", &body.to_string()]);
    }
    let text = quiet(curl.arg(format!("http://{server}{path}")))?;
    let answer: Value =
        serde_json::from_str(&text).with_context(|| format!("chromedriver answers {text:?}"))?;
    let error = &answer["value"]["error"];
    ensure!(!error.is_string(), "chromedriver: {}", answer["value"]["message"]);
    Ok(answer)
}
