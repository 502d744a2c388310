//! A real Prometheus with the shipped rules.

use std::fmt::Write as _;
use std::process::Command;

use fairlane_testkit::{Process, TempDir, free_port};
use reqwest::Client;
use serde_json::Value;

use super::read;
use crate::setup::LIMIT;

pub(crate) struct Prometheus {
    client: Client,
    url: String,
    process: Process,
}

impl Prometheus {
    /// Starts one that scrapes `targets`, and evaluates the shipped rules, every so often; they say `15s`.
    pub(crate) async fn start(home: &TempDir, targets: &[String], every: &str) -> Self {
        let rules =
            read("deploy/monitoring/alerts.yaml").replace("interval: 15s", &format!("interval: {every}"));
        std::fs::write(home.join("rules.yaml"), rules).unwrap();
        let mut config = format!(
            "global:\n  scrape_interval: {every}\n  evaluation_interval: {every}\nrule_files: [rules.yaml]\nscrape_configs:\n  \
             - job_name: fairlane\n    static_configs:\n      - targets:\n"
        );
        for target in targets {
            writeln!(config, "          - {target}").unwrap();
        }
        std::fs::write(home.join("prometheus.yml"), config).unwrap();
        let address = format!("127.0.0.1:{}", free_port());
        let mut command = Command::new("prometheus");
        command
            .arg(format!("--config.file={}", home.join("prometheus.yml").display()))
            .arg(format!("--storage.tsdb.path={}", home.join("tsdb").display()))
            .arg(format!("--web.listen-address={address}"));
        let process = Process::spawn("prometheus", &mut command);
        process.wait_for_line("Server is ready to receive web requests", LIMIT).await;
        let client = Client::builder().no_proxy().build().unwrap();
        Self { client, url: format!("http://{address}"), process }
    }

    pub(crate) fn is_running(&self) -> bool {
        self.process.is_running()
    }

    /// The data of an answer of its API.
    pub(crate) async fn ask(&self, path: &str, query: &[(&str, &str)]) -> Value {
        let answer = self.client.get(format!("{}{path}", self.url)).query(query).send().await.unwrap();
        let answer: Value = answer.json().await.unwrap();
        assert_eq!(answer["status"], "success", "{query:?}: {answer}");
        answer["data"].clone()
    }

    /// Whether a query gives at least one number.
    pub(crate) async fn has_data(&self, query: &str) -> bool {
        let data = self.ask("/api/v1/query", &[("query", query)]).await;
        let results = data["result"].as_array().unwrap();
        results.iter().any(|result| result["value"][1].as_str().is_some_and(|value| value != "NaN"))
    }
}
