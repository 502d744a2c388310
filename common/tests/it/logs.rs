//! Logs are written once, only by the newest holder, and keep their beginning and end.

use fairlane_common::id::Token;
use fairlane_common::log::{Appended, LogLine, LogWriter};
use fairlane_common::{BuildId, limits};

use crate::scene::{Scene, worker};

fn line(n: usize) -> LogLine {
    LogLine { t: format!("2026-01-01T00:00:00.{:09}Z", n / 2), text: format!("line {n}") }
}

fn writer(scene: &Scene, id: BuildId, epoch: u64, last: &str) -> LogWriter {
    let token = Token { build: id, epoch, worker: worker("w") };
    LogWriter::new(scene.queue.clone(), token, 1, last.to_owned())
}

async fn texts(scene: &Scene, id: BuildId) -> Vec<String> {
    let (mut after, mut all) = ("0".to_owned(), vec![]);
    loop {
        let page = scene.queue.read_log(id, 1, &after, 100).await.unwrap();
        let Some(last) = page.entries.last() else {
            return all;
        };
        after.clone_from(&last.id);
        all.extend(page.entries.into_iter().map(|entry| entry.text));
    }
}

#[tokio::test]
async fn lines_come_once_also_when_an_answer_is_lost() {
    let scene = Scene::new().await;
    let id = BuildId::new();
    let lines: Vec<_> = (0..1200).map(line).collect();
    let mut one = writer(&scene, id, 5, "0-0");
    one.append(&lines[..700]).await.unwrap();
    let heard = one.last().to_owned();
    one.append(&lines[700..900]).await.unwrap();
    // The holder did not receive its last answer, so it writes the same lines again, and more.
    let mut again = writer(&scene, id, 5, &heard);
    assert!(matches!(again.append(&lines[700..]).await.unwrap(), Appended::Done(_)));
    let expected: Vec<_> = lines.iter().map(|line| line.text.clone()).collect();
    assert_eq!(texts(&scene, id).await, expected);
}

#[tokio::test]
async fn an_older_holder_cannot_write() {
    let scene = Scene::new().await;
    let id = BuildId::new();
    let mut old = writer(&scene, id, 5, "0-0");
    old.append(&[line(0)]).await.unwrap();
    let (last, stored) = scene.queue.log_end(id, 1, 50).await.unwrap();
    assert_eq!(stored.len(), 1);
    let mut new = writer(&scene, id, 6, &last);
    new.append(&[line(1)]).await.unwrap();
    assert_eq!(old.append(&[line(2)]).await.unwrap(), Appended::Stale);
    assert_eq!(texts(&scene, id).await, ["line 0", "line 1"]);
}

#[tokio::test]
async fn of_a_huge_log_head_and_tail_stay_and_the_gap_is_told() {
    let scene = Scene::new().await;
    let id = BuildId::new();
    let mut log = writer(&scene, id, 1, "0-0");
    let big = |n: usize| LogLine { t: String::new(), text: format!("{n} {}", "x".repeat(20_000)) };
    let count = 4 * 1024 * 1024 / limits::LINE_BYTES_MAX;
    for n in 0..count {
        log.append(&[big(n)]).await.unwrap();
    }
    let (mut after, mut gaps, mut kept) = ("0".to_owned(), vec![], vec![]);
    loop {
        let page = scene.queue.read_log(id, 1, &after, 7).await.unwrap();
        let Some(last) = page.entries.last() else { break };
        after.clone_from(&last.id);
        if let Some(dropped) = page.dropped {
            gaps.push((kept.len() + page.before_gap, dropped));
        }
        for entry in page.entries {
            assert!(entry.text.len() <= limits::LINE_BYTES_MAX);
            kept.push(entry.text.split(' ').next().unwrap().parse::<usize>().unwrap());
        }
    }
    let [(before, dropped)] = gaps[..] else { panic!("one gap, not {gaps:?}") };
    assert_eq!(kept[..before], (0..before).collect::<Vec<_>>());
    assert_eq!(kept[before..], (before + usize::try_from(dropped).unwrap()..count).collect::<Vec<_>>());
    // As many of both as there is room for.
    let fit = |bytes: usize| bytes / (limits::LINE_BYTES_MAX + 32);
    assert_eq!((before, kept.len() - before), (fit(limits::LOG_HEAD_BYTES), fit(limits::LOG_TAIL_BYTES)));
    let bytes: usize = scene.redis::<usize>(&["MEMORY", "USAGE", &scene.queue.keys().log_tail(id, 1)]).await;
    assert!(bytes < 2 * limits::LOG_TAIL_BYTES, "{bytes}");
    let keys = scene.queue.keys();
    for key in [keys.log(id, 1), keys.log_tail(id, 1), keys.log_meta(id, 1)] {
        let ttl: i64 = scene.redis(&["TTL", &key]).await;
        assert!(ttl > 86_000, "{key} stays for {ttl} s");
    }
}

#[tokio::test]
async fn a_log_that_is_taken_over_is_closed_to_its_older_holder_at_once() {
    let scene = Scene::new().await;
    let id = BuildId::new();
    let mut old = writer(&scene, id, 5, "0-0");
    old.append(&[line(0), line(1)]).await.unwrap();
    let token = |epoch| Token { build: id, epoch, worker: worker("w") };
    let taken = LogWriter::take_over(scene.queue.clone(), token(6), 1).await.unwrap();
    let (mut new, stored) = taken.unwrap();
    assert_eq!(stored.iter().map(|entry| entry.text.as_str()).collect::<Vec<_>>(), ["line 0", "line 1"]);
    // The old holder is refused even before the new one has written anything.
    assert_eq!(old.append(&[line(2)]).await.unwrap(), Appended::Stale);
    new.append(&[line(3)]).await.unwrap();
    assert_eq!(texts(&scene, id).await, ["line 0", "line 1", "line 3"]);
    assert!(LogWriter::take_over(scene.queue.clone(), token(5), 1).await.unwrap().is_none());
}

#[tokio::test]
async fn a_holder_hears_that_its_log_is_gone() {
    let scene = Scene::new().await;
    let id = BuildId::new();
    let mut one = writer(&scene, id, 5, "0-0");
    one.append(&[line(0)]).await.unwrap();
    let mut one = writer(&scene, id, 5, one.last());
    let _: () = scene.redis(&["FLUSHALL"]).await;
    assert_eq!(one.append(&[line(1)]).await.unwrap(), Appended::Emptied);
    assert!(texts(&scene, id).await.is_empty());
    assert!(matches!(one.append(&[line(0), line(1)]).await.unwrap(), Appended::Done(_)));
    assert_eq!(texts(&scene, id).await, ["line 0", "line 1"]);
}

/// Brings the log into the state of a replica that has only its first line.
async fn lose_all_but(scene: &Scene, id: BuildId, kept: &str) {
    let (log, meta) = (scene.queue.keys().log(id, 1), scene.queue.keys().log_meta(id, 1));
    let _: i64 = scene.redis(&["DEL", &log]).await;
    let _: String = scene.redis(&["XADD", &log, kept, "t", "0", "text", "line 0"]).await;
    let _: i64 = scene.redis(&["HSET", &meta, "last", kept]).await;
}

#[tokio::test]
async fn a_holder_hears_that_more_of_its_log_is_gone_than_it_remembers() {
    let scene = Scene::new().await;
    let id = BuildId::new();
    let mut one = writer(&scene, id, 5, "0-0");
    one.append(&[line(0)]).await.unwrap();
    let kept = one.last().to_owned();
    one.append(&[line(1)]).await.unwrap();
    let long = |n| LogLine { text: "x".repeat(16_000), ..line(n) };
    for n in 2..30 {
        one.append(&[long(n)]).await.unwrap();
    }
    lose_all_but(&scene, id, &kept).await;
    assert_eq!(one.append(&[line(30)]).await.unwrap(), Appended::SetBack);
    let lost = one.take_lost();
    assert!(
        lost.len() > 10 && lost.last() == Some(&long(29)) && !lost.contains(&line(1)),
        "what it remembers"
    );
    assert!(matches!(one.append(&[lost, vec![line(30)]].concat()).await.unwrap(), Appended::Done(_)));
    assert_eq!(texts(&scene, id).await.last().unwrap(), "line 30");
    assert!(one.take_lost().is_empty());
}

#[tokio::test]
async fn lines_that_a_failover_lost_are_written_again_as_the_entries_that_they_were() {
    let scene = Scene::new().await;
    let id = BuildId::new();
    let mut one = writer(&scene, id, 5, "0-0");
    one.append(&[line(0)]).await.unwrap();
    let kept = one.last().to_owned();
    one.append(&[line(1), line(2)]).await.unwrap();
    one.append(&[line(3)]).await.unwrap();
    let before = scene.queue.read_log(id, 1, "0", 100).await.unwrap().entries;
    for n in 4..7 {
        if n == 6 {
            let _: () = scene.redis(&["FLUSHALL"]).await;
        } else {
            lose_all_but(&scene, id, &kept).await;
        }
        assert!(matches!(one.append(&[line(n)]).await.unwrap(), Appended::Done(_)));
        let after = scene.queue.read_log(id, 1, "0", 100).await.unwrap().entries;
        assert_eq!(after[1..4], before[1..], "whoever has read them does not read them again");
    }
    let all = ["line 0", "line 1", "line 2", "line 3", "line 4", "line 5", "line 6"];
    assert_eq!(texts(&scene, id).await, all);
}

#[tokio::test]
async fn a_full_redis_lets_a_log_be_taken_over_and_end_with_a_note() {
    let scene = Scene::new().await;
    let id = BuildId::new();
    let mut old = writer(&scene, id, 5, "0-0");
    old.append(&[line(0)]).await.unwrap();
    let _: String = scene.redis(&["CONFIG", "SET", "maxmemory", "1"]).await;
    let token = Token { build: id, epoch: 6, worker: worker("w") };
    let (mut new, stored) = LogWriter::take_over(scene.queue.clone(), token, 1).await.unwrap().unwrap();
    assert_eq!(stored.len(), 1);
    assert!(matches!(new.append(&[line(1)]).await.unwrap_err(), fairlane_common::Error::OutOfMemory(_)));
    assert!(matches!(new.append_note(&line(2)).await.unwrap(), Appended::Done(_)));
    assert_eq!(texts(&scene, id).await, ["line 0", "line 2"]);
    let _: String = scene.redis(&["CONFIG", "SET", "maxmemory", "0"]).await;
    assert_eq!(old.append(&[line(3)]).await.unwrap(), Appended::Stale);
}

#[tokio::test]
async fn entries_have_the_time_of_redis_unless_its_clock_is_set_back() {
    let scene = Scene::new().await;
    let id = BuildId::new();
    let mut log = writer(&scene, id, 5, "0-0");
    let (before, _): (u64, u64) = scene.redis(&["TIME"]).await;
    log.append(&[line(0), line(1)]).await.unwrap();
    let (after, _): (u64, u64) = scene.redis(&["TIME"]).await;
    let (ms, number) = log.last().split_once('-').unwrap();
    let ms: u64 = ms.parse().unwrap();
    assert!((before * 1000..(after + 1) * 1000).contains(&ms), "{ms}");
    assert_eq!(number, "1");
    // An entry of the time before.
    let late = format!("{}-5", ms + 3_600_000);
    let keys = scene.queue.keys();
    scene.redis::<()>(&["HSET", &keys.log_meta(id, 1), "last", &late]).await;
    let mut log = writer(&scene, id, 5, &late);
    log.append(&[line(2)]).await.unwrap();
    assert_eq!(log.last(), format!("{}-6", ms + 3_600_000));
    assert_eq!(texts(&scene, id).await, ["line 0", "line 1", "line 2"]);
}
