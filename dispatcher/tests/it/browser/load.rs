//! Measures what open pages cost the dispatcher and Redis, and what a fast log costs the browser. Prints the
//! figures.

use std::time::Duration;

use fairlane_testkit::{Browser, RedisServer};
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep};

use super::Scene;
use crate::support::Dispatcher;

/// How long to measure with each number of pages.
const OPEN: Duration = Duration::from_secs(20);
/// What the view Now requests, and how often, in milliseconds.
const FEEDS: [(&str, u64); 6] = [
    ("/v1/queue", 2000),
    ("/v1/builds?limit=200", 5000),
    ("/v1/builds?state=running", 2000),
    ("/v1/builds?state=starting", 2000),
    ("/v1/history?since=1h&step=1m", 30_000),
    ("/v1/history?since=1h&step=1m", 30_000),
];
/// Clock ticks per second in `/proc`.
const TICKS: f64 = 100.0;

/// CPU time of a process or thread so far, in seconds.
fn spent(of: &str) -> f64 {
    let text = std::fs::read_to_string(format!("/proc/{of}/stat")).unwrap();
    let fields: Vec<&str> = text.rsplit_once(") ").unwrap().1.split(' ').collect();
    (fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap()) / TICKS
}

/// Commands that Redis has run so far.
async fn commands(redis: &RedisServer) -> f64 {
    let mut connection = redis.connect().await;
    let info: String = redis::cmd("INFO").arg("stats").query_async(&mut connection).await.unwrap();
    let line = info.lines().find_map(|line| line.strip_prefix("total_commands_processed:")).unwrap();
    line.trim().parse().unwrap()
}

/// Starts a dispatcher in its own thread: its URL, its thread, and a sender that stops it.
async fn alone(redis: &str) -> (String, String, oneshot::Sender<()>) {
    let (tell, told) = oneshot::channel();
    let (stop, stopped) = oneshot::channel();
    let redis = redis.to_owned();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let dispatcher = Dispatcher::start(&redis).await;
            let thread = std::fs::read_link("/proc/thread-self").unwrap().display().to_string();
            tell.send((dispatcher.url.clone(), thread)).unwrap();
            let _ = stopped.await;
            dispatcher.stop().await;
        });
    });
    let (url, thread) = told.await.unwrap();
    (url, thread, stop)
}

/// Requests one path repeatedly, as a page does.
async fn feed(client: reqwest::Client, url: String, every: u64) {
    let mut tag = None;
    sleep(Duration::from_millis(fastrand::u64(0..every))).await;
    loop {
        let began = Instant::now();
        let age = format!("max-age={}", every.div_ceil(1000));
        let mut get = client.get(&url).header("cache-control", age).header("accept-encoding", "gzip");
        if let Some(tag) = &tag {
            get = get.header("if-none-match", tag);
        }
        let answer = get.send().await.unwrap();
        assert!(answer.status().is_success() || answer.status() == 304, "{}", answer.status());
        tag = answer.headers().get("etag").cloned().or(tag);
        let _ = answer.bytes().await;
        sleep(Duration::from_millis(every).saturating_sub(began.elapsed())).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement; `cargo xtask page-load` runs it"]
async fn what_open_pages_cost() {
    let scene = Scene::start().await;
    for number in 0..300 {
        scene.dispatcher.build(&format!("waiting-{number}")).await;
    }
    let (url, thread, stop) = alone(&scene.redis.url()).await;
    println!("pages  dispatcher  Redis  commands/s");
    for pages in [0, 1, 50] {
        let mut open = tokio::task::JoinSet::new();
        for _ in 0..pages {
            let client = reqwest::Client::builder().no_proxy().gzip(false).build().unwrap();
            for (path, every) in FEEDS {
                open.spawn(feed(client.clone(), format!("{url}{path}"), every));
            }
        }
        sleep(Duration::from_secs(5)).await;
        let redis = scene.redis.pid().to_string();
        let before = (spent(&thread), spent(&redis), commands(&scene.redis).await);
        sleep(OPEN).await;
        let seconds = OPEN.as_secs_f64();
        let share = |now: f64, then: f64| 100.0 * (now - then) / seconds;
        println!(
            "{pages:>5}  {:>8.2} %  {:>3.2} %  {:>10.1}",
            share(spent(&thread), before.0),
            share(spent(&redis), before.1),
            (commands(&scene.redis).await - before.2) / seconds,
        );
        open.shutdown().await;
    }
    let _ = stop.send(());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement; `cargo xtask page-load` runs it"]
async fn what_a_fast_log_costs_the_browser() {
    let Some(browser) = Browser::start().await else { return };
    let mut scene = Scene::start().await;
    browser.open(&scene.view(&format!("build/{}", scene.running.claimed.build.id))).await;
    browser.sees("line 39").await;
    let watch = "(() => { window.gaps = []; let last = performance.now(); const look = (now) => { \
                 window.gaps.push(now - last); last = now; requestAnimationFrame(look); }; \
                 requestAnimationFrame(look); })()";
    browser.value(watch).await;
    let began = Instant::now();
    let mut written = 0;
    while began.elapsed() < OPEN {
        scene.running.write_long(100, 80).await;
        written += 100;
        let due = Duration::from_millis(written);
        sleep(due.saturating_sub(began.elapsed())).await;
    }
    let rate = f64::from(u32::try_from(written).unwrap()) / began.elapsed().as_secs_f64();
    browser.sees(&format!("line {}", written + 39)).await;
    let late = began.elapsed().saturating_sub(OPEN);
    let gaps: Vec<f64> = serde_json::from_value(browser.value("window.gaps").await).unwrap();
    let longest = gaps.iter().copied().fold(0.0, f64::max);
    let slow = gaps.iter().filter(|gap| **gap > 100.0).count();
    println!(
        "{rate:.0} lines/s for {} s: {} frames, longest gap {longest:.0} ms, {slow} gaps above 100 ms; \
         the last line was shown {} ms after the end",
        OPEN.as_secs(),
        gaps.len(),
        late.as_millis(),
    );
    scene.dispatcher.stop().await;
}
