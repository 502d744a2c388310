//! Many people request one image: there is one build with one run, and everybody gets an answer.

use std::collections::BTreeSet;
use std::time::Duration;

use reqwest::{Client, RequestBuilder, Response, StatusCode};
use serde_json::{Value, json};

use crate::setup::{COMMIT, LIMIT};
use crate::system::System;

const PEOPLE: usize = 200;
/// Records that it ran, then waits for a file.
const SCRIPT: &str =
    "echo run >> $RUNS/count\necho \"built $2\"\nwhile [ ! -e $RUNS/over ]; do sleep 0.1; done\n";

/// Repeats a request until the answer is not 503, with which a busy dispatcher asks clients to retry.
async fn send(request: RequestBuilder) -> Response {
    let answered = async {
        loop {
            let response = request.try_clone().unwrap().send().await.unwrap();
            if response.status() != StatusCode::SERVICE_UNAVAILABLE {
                return response;
            }
            let wait = response.headers().get("retry-after").expect("when to come again");
            let wait: u64 = wait.to_str().unwrap().parse().unwrap();
            tokio::time::sleep(Duration::from_secs(wait)).await;
        }
    };
    tokio::time::timeout(LIMIT, answered).await.expect("an answer in time")
}

#[tokio::test]
async fn two_hundred_requests_for_one_image_are_one_build_and_two_hundred_answers() {
    let system = System::start(SCRIPT, 2, 2, 2).await;
    let client = Client::builder().no_proxy().build().unwrap();
    let urls = system.urls();
    let body = json!({
        "repo": "https://git.example.org/owner/popular", "ref": COMMIT, "image": "registry.example.org/popular:1",
    });
    let ask = |number: usize| {
        let request = client.post(format!("{}/v1/builds", urls[number % 2])).json(&body);
        async move {
            let response = send(request).await;
            (response.status().as_u16(), response.json::<Value>().await.unwrap())
        }
    };
    let began = std::time::Instant::now();
    let answers = futures::future::join_all((0..PEOPLE).map(ask)).await;
    println!("{PEOPLE} answers after {:?}", began.elapsed());
    let new = answers.iter().filter(|(status, _)| *status == 202).count();
    let joined = answers.iter().filter(|(status, _)| *status == 200).count();
    assert_eq!((new, joined), (1, PEOPLE - 1));
    let ids: BTreeSet<&str> = answers.iter().map(|(_, answer)| answer["id"].as_str().unwrap()).collect();
    assert_eq!(ids.len(), 1, "{ids:?}");
    let id = (*ids.first().unwrap()).to_owned();

    let follow = |number: usize| {
        let request = client.get(format!("{}/v1/builds/{id}/events", urls[number % 2]));
        async move {
            let response = send(request).await;
            assert_eq!(response.status(), StatusCode::OK);
            tokio::time::timeout(LIMIT, response.text()).await.expect("the end in time").unwrap()
        }
    };
    let over = async {
        fairlane_testkit::wait_for("the build to run", LIMIT, async || {
            std::fs::read_to_string(system.home.join("runs/count")).ok()
        })
        .await;
        std::fs::write(system.home.join("runs/over"), "").unwrap();
    };
    let (streams, ()) = tokio::join!(futures::future::join_all((0..PEOPLE).map(follow)), over);
    for stream in streams {
        assert_eq!(stream.matches("event: end\n").count(), 1, "{stream}");
        assert!(
            stream.contains("\"state\":\"succeeded\"")
                && stream.contains("built registry.example.org/popular:1")
        );
    }
    assert_eq!(std::fs::read_to_string(system.home.join("runs/count")).unwrap(), "run\n", "it ran once");

    // A request after the end is answered at once by either dispatcher, and the log is available.
    for number in 0..2 {
        let (status, answer) = ask(number).await;
        assert_eq!((status, answer["state"].as_str()), (200, Some("succeeded")), "{answer}");
        assert_eq!(answer["id"], id.as_str());
        assert!(follow(number).await.contains("built registry.example.org/popular:1"));
    }
    let queue = system.queue().await;
    assert!(queue.check(1000).await.unwrap().problems.is_empty());
    assert_eq!(system.redis.denied().await, Vec::<String>::new(), "each has the rights that it needs");
}
