//! The people: each asks for a build and follows its events until it ends.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use reqwest::{Client, StatusCode};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::setup::COMMIT;

/// Other repositories, besides the popular one.
const OTHERS: usize = 40;
/// Commits of the popular repository that people want.
const COMMITS: usize = 24;

pub(super) struct Crowd {
    client: Client,
    urls: Vec<String>,
    people: JoinSet<()>,
    /// How many people came, and how many of them for another repository.
    came: usize,
    others: usize,
    /// How many of those who wanted another repository have got it.
    served: Arc<AtomicUsize>,
}

impl Crowd {
    pub(super) fn new(urls: &[String]) -> Self {
        let client = Client::builder().no_proxy().build().unwrap();
        Self {
            client,
            urls: urls.to_vec(),
            people: JoinSet::new(),
            came: 0,
            others: 0,
            served: Arc::default(),
        }
    }

    /// One more person wants one of the commits of the popular repository.
    pub(super) fn wants_popular(&mut self, number: usize) {
        self.wants("popular", number % COMMITS, None);
    }

    /// One more person wants another repository, at a commit that was not asked for before.
    pub(super) fn wants_another(&mut self) {
        let (name, served) = (format!("other{:02}", self.others % OTHERS), Arc::clone(&self.served));
        self.wants(&name, self.others, Some(served));
        self.others += 1;
    }

    fn wants(&mut self, name: &str, commit: usize, served: Option<Arc<AtomicUsize>>) {
        let url = self.urls[self.came % self.urls.len()].clone();
        self.came += 1;
        let body = json!({
            "repo": format!("https://git.example.org/o/{name}"),
            "ref": format!("{}{commit:06}", &COMMIT[..34]),
            "image": format!("registry.example.org/{name}:{commit}"),
        });
        let client = self.client.clone();
        self.people.spawn(async move {
            let answer = insist(|| client.post(format!("{url}/v1/builds")).json(&body)).await;
            let answer: Value = answer.json().await.unwrap();
            let events = format!("{url}/v1/builds/{}/events", answer["id"].as_str().unwrap());
            // The stream ends with the build; it survives a restart of Redis.
            let end = insist(|| client.get(&events)).await.text().await.unwrap();
            assert!(end.contains("\"state\":\"succeeded\""), "{end}");
            if let Some(served) = served {
                served.fetch_add(1, Ordering::Relaxed);
            }
        });
    }

    /// How many people have got another repository than the popular one.
    pub(super) fn served(&self) -> usize {
        self.served.load(Ordering::Relaxed)
    }

    /// Waits until everybody has got what they came for.
    pub(super) async fn leave(&mut self) {
        while let Some(person) = self.people.join_next().await {
            person.expect("a person gets their image");
        }
    }
}

/// Repeats a request until the answer is not 503, which dispatchers give while Redis is away.
async fn insist(request: impl Fn() -> reqwest::RequestBuilder) -> reqwest::Response {
    loop {
        let answer = request().send().await.unwrap();
        if answer.status() != StatusCode::SERVICE_UNAVAILABLE {
            assert!(answer.status().is_success(), "{}: {}", answer.status(), answer.text().await.unwrap());
            return answer;
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}
