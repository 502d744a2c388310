//! A headless Chromium, driven through chromedriver by the few calls of `WebDriver` that the tests need.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::missing_panics_doc,
    reason = "a browser that does not answer ends the test"
)]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};

use crate::process::{Process, free_port};
use crate::wait::wait_for;

/// A browser beside other tests is slow; a wait ends as soon as what it waits for is there.
const SOON: Duration = Duration::from_secs(80);

const CHROMIUM: &str = "/usr/bin/chromium";
const CHROMEDRIVER: &str = "/usr/bin/chromedriver";
/// The key of an element's id, from the standard.
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";

/// A browser with one tab.
#[derive(Debug)]
pub struct Browser {
    client: reqwest::Client,
    session: String,
    _driver: Process,
}

impl Browser {
    /// Starts a browser, or says that the test is skipped.
    #[expect(clippy::print_stderr, reason = "a skipped test says so")]
    pub async fn start() -> Option<Self> {
        if let Some(missing) = [CHROMIUM, CHROMEDRIVER].into_iter().find(|path| !Path::new(path).is_file()) {
            eprintln!("SKIPPED: {missing} is not there; `cargo xtask test` installs it");
            return None;
        }
        let port = free_port();
        let driver = Process::spawn("chromedriver", Command::new(CHROMEDRIVER).arg(format!("--port={port}")));
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let base = format!("http://127.0.0.1:{port}");
        wait_for("chromedriver", SOON, async || {
            client.get(format!("{base}/status")).send().await.is_ok_and(|answer| answer.status().is_success())
        })
        .await;
        let args = [
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--no-proxy-server",
        ];
        let wanted = json!({ "capabilities": { "alwaysMatch": {
            "goog:chromeOptions": { "binary": CHROMIUM, "args": args },
            "goog:loggingPrefs": { "browser": "ALL" },
        } } });
        let answer: Value =
            client.post(format!("{base}/session")).json(&wanted).send().await.unwrap().json().await.unwrap();
        let id = answer["value"]["sessionId"].as_str().unwrap_or_else(|| panic!("no session: {answer}"));
        let browser = Self { client, session: format!("{base}/session/{id}"), _driver: driver };
        browser.size(1280, 900).await;
        Some(browser)
    }

    /// Sends a command, and returns its value or its error.
    async fn try_send(&self, path: &str, body: &Value) -> Result<Value, Value> {
        let sending = self.client.post(format!("{}/{path}", self.session)).json(body).send();
        let response = tokio::time::timeout(SOON * 2, sending).await.expect("the browser answers").unwrap();
        let is_good = response.status().is_success();
        let mut answer: Value = response.json().await.unwrap();
        if is_good { Ok(answer["value"].take()) } else { Err(answer["value"].take()) }
    }

    async fn send(&self, path: &str, body: &Value) -> Value {
        self.try_send(path, body).await.unwrap_or_else(|error| panic!("{path} {body}: {}", error["message"]))
    }

    /// Opens an address anew.
    pub async fn open(&self, url: &str) {
        self.send("url", &json!({ "url": "about:blank" })).await;
        self.send("url", &json!({ "url": url })).await;
    }

    /// The value of an expression in the page.
    pub async fn value(&self, expression: &str) -> Value {
        self.send("execute/sync", &json!({ "script": format!("return {expression}"), "args": [] })).await
    }

    /// The value that a promise in the page leads to.
    pub async fn promised(&self, expression: &str) -> Value {
        let script =
            format!("const done = arguments[0]; ({expression}).then(done, (e) => done('failed: ' + e))");
        self.send("execute/async", &json!({ "script": script, "args": [] })).await
    }

    /// All text of the page that can be seen.
    pub async fn text(&self) -> String {
        self.value("document.body.innerText").await.as_str().unwrap_or_default().to_owned()
    }

    /// Waits until the page shows a text.
    pub async fn sees(&self, text: &str) {
        let quoted = Value::from(text);
        wait_for(&format!("'{text}' on the page"), SOON, async || {
            self.value(&format!("document.body.innerText.includes({quoted})")).await == true
        })
        .await;
    }

    async fn find(&self, xpath: &str) -> String {
        let wanted = json!({ "using": "xpath", "value": xpath });
        let found = wait_for(&format!("{xpath} on the page"), SOON, async || {
            self.try_send("element", &wanted).await.ok()
        })
        .await;
        found[ELEMENT].as_str().unwrap().to_owned()
    }

    /// Clicks an element as a person would: it must be seen, and nothing may lie over it.
    pub async fn click(&self, xpath: &str) {
        wait_for(&format!("a click on {xpath}"), SOON, async || {
            // The page may be drawn anew between finding and clicking.
            let element = self.find(xpath).await;
            self.try_send(&format!("element/{element}/click"), &json!({})).await.is_ok()
        })
        .await;
    }

    /// Clicks the button with this label; in a dialog, if one is open.
    pub async fn press(&self, label: &str) {
        let is_open = self.value("document.querySelector('dialog[open]') !== null").await == true;
        let place = if is_open { "//dialog" } else { "" };
        self.click(&format!("{place}//button[normalize-space()='{label}']")).await;
    }

    /// Types into an element.
    pub async fn write(&self, xpath: &str, text: &str) {
        let element = self.find(xpath).await;
        self.send(&format!("element/{element}/value"), &json!({ "text": text })).await;
    }

    /// Presses a key, wherever the focus is.
    pub async fn key(&self, key: &str) {
        let presses = json!([{ "type": "keyDown", "value": key }, { "type": "keyUp", "value": key }]);
        let actions = json!({ "actions": [{ "type": "key", "id": "keys", "actions": presses }] });
        self.send("actions", &actions).await;
    }

    /// A command of Chromium's developer tools.
    pub async fn tool(&self, command: &str, params: Value) -> Value {
        self.send("goog/cdp/execute", &json!({ "cmd": command, "params": params })).await
    }

    /// Writes what is seen into a PNG file.
    pub async fn screenshot(&self, file: &Path) {
        let shot = self.tool("Page.captureScreenshot", json!({ "format": "png" })).await;
        let picture = BASE64_STANDARD.decode(shot["data"].as_str().expect("a picture")).unwrap();
        std::fs::write(file, picture).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    }

    /// Sets the size of what is seen, in CSS pixels.
    pub async fn size(&self, width: u32, height: u32) {
        let size = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": false });
        self.tool("Emulation.setDeviceMetricsOverride", size).await;
    }

    /// Prefers dark or light colors.
    pub async fn colors(&self, scheme: &str) {
        let feature = json!({ "name": "prefers-color-scheme", "value": scheme });
        self.tool("Emulation.setEmulatedMedia", json!({ "features": [feature] })).await;
    }

    /// What the browser has complained about since the last call: errors of scripts, and what the page's policy
    /// forbids. Answers that the page asked for and that say no are not complaints.
    pub async fn complaints(&self) -> Vec<String> {
        let log = self.send("se/log", &json!({ "type": "browser" })).await;
        let texts = log.as_array().into_iter().flatten().filter(|entry| entry["level"] != "INFO");
        let texts = texts.map(|entry| entry["message"].as_str().unwrap_or_default().to_owned());
        texts.filter(|text| !text.contains("Failed to load resource")).collect()
    }

    /// What axe-core finds wrong on the page, one line each.
    pub async fn barriers(&self, axe: &str) -> Vec<String> {
        self.send("execute/sync", &json!({ "script": axe, "args": [] })).await;
        let run = "axe.run({ resultTypes: ['violations'] }).then((found) => found.violations.map((one) => one.id + \
                   ': ' + one.nodes.map((node) => node.html.slice(0, 150) + ' ' + node.failureSummary).join('; ')))";
        let found = self.promised(run).await;
        let list = found.as_array().unwrap_or_else(|| panic!("axe did not run: {found}"));
        list.iter().map(|one| one.as_str().unwrap_or_default().to_owned()).collect()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // Ends Chromium; chromedriver is killed with its handle, and would leave it behind. The connections of our
        // client belong to the test's runtime, which waits here.
        let session = self.session.clone();
        let ending = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            let client = reqwest::Client::builder().no_proxy().timeout(SOON).build();
            let deleting = async { client?.delete(session).send().await };
            runtime.block_on(deleting).map_err(std::io::Error::other)
        });
        let _ = ending.join();
    }
}

/// The text of axe-core, which `cargo xtask test` puts below `target`; without it, the test is skipped.
#[expect(clippy::print_stderr, reason = "a skipped test says so")]
pub fn axe() -> Option<String> {
    let lib = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/axe/lib");
    let pythons = std::fs::read_dir(&lib).into_iter().flatten().flatten();
    let at = |python: PathBuf| python.join("site-packages/axe_playwright_python/axe.min.js");
    let text = pythons.map(|python| at(python.path())).find_map(|path| std::fs::read_to_string(path).ok());
    if text.is_none() {
        eprintln!("SKIPPED: axe-core is not below {}; `cargo xtask test` installs it", lib.display());
    }
    text
}
