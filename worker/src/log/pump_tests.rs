//! Tests of [`super::LogPump`].

use super::*;
use crate::log::buffer::{AWAY, BUFFER_BYTES_MAX, BUFFER_LINES_MAX, REFUSED_BYTES_MAX, State};

fn line(bytes: usize) -> LogLine {
    LogLine { t: "t".to_owned(), text: "x".repeat(bytes) }
}

#[test]
fn what_waits_is_bounded_and_the_gap_is_told() {
    let mut state = State::default();
    for _ in 0..10_000 {
        state.push(line(1024));
    }
    assert!(state.bytes <= BUFFER_BYTES_MAX);
    let kept = state.lines.len();
    while !state.batch().is_empty() {}
    assert_eq!(state.bytes, 0);
    state.push(line(1));
    assert_eq!(state.lines.len(), 2);
    let note = format!("[fairlane] 5,904 lines (5.8 MB) were left out here: {AWAY}");
    assert_eq!(10_000 - kept, 5904);
    assert!(state.lines[0].text.starts_with(&note), "{}", state.lines[0].text);
    assert_eq!(state.lines[1], line(1));
}

#[test]
fn empty_lines_are_bounded_too() {
    let mut state = State::default();
    for _ in 0..BUFFER_LINES_MAX + 7 {
        state.push(line(0));
    }
    assert_eq!(state.lines.len(), BUFFER_LINES_MAX);
    state.close(false);
    assert!(state.lines.back().unwrap().text.contains("7 lines (0 B) were left out"));
}

#[test]
fn a_log_that_others_go_on_with_has_no_gap_and_no_note() {
    let buffer = Arc::new(Buffer::default());
    let pump = LogPump {
        buffer: Arc::clone(&buffer),
        task: tokio::runtime::Runtime::new().unwrap().spawn(async {}),
    };
    while buffer.state().dropped.lines == 0 {
        pump.push_whole(line(8 * 1024));
    }
    let kept = buffer.state().lines.len();
    // It would fit, but it came after a line that did not.
    pump.push_whole(line(0));
    buffer.state().close(true);
    assert_eq!(buffer.state().lines.len(), kept);
}

#[tokio::test]
async fn who_waits_for_room_loses_nothing() {
    let buffer = Arc::new(Buffer::default());
    let pump = LogPump { buffer: Arc::clone(&buffer), task: tokio::spawn(async {}) };
    let source = async {
        for number in 0..20_000 {
            if !pump.has_room() {
                pump.room().await;
            }
            pump.push(LogLine { t: number.to_string(), text: "x".repeat(1024) });
        }
        pump.buffer.state().close(false);
        pump.buffer.changed.notify_one();
    };
    let sink = async {
        let (mut next, mut most) = (0, 0);
        while let Some(batch) = buffer.take().await {
            most = most.max(buffer.state().bytes);
            for line in batch {
                assert_eq!(line.t, next.to_string());
                next += 1;
            }
            tokio::task::yield_now().await;
        }
        assert!(most <= BUFFER_BYTES_MAX, "{most}");
        next
    };
    let both = async { tokio::join!(source, sink).1 };
    let written = tokio::time::timeout(Duration::from_mins(1), both).await.expect("it stands still");
    assert_eq!(written, 20_000);
}

#[test]
fn where_redis_refuses_lines_nobody_waits_and_the_oldest_are_left_out() {
    let mut state = State::default();
    state.push(line(1));
    let in_flight = state.batch();
    assert!(state.refuse("no memory") && !state.refuse("no memory"));
    for number in 0..10_000 {
        assert!(state.look_for_room());
        state.push(LogLine { t: number.to_string(), text: "x".repeat(1024) });
    }
    assert!(state.bytes <= REFUSED_BYTES_MAX);
    assert_eq!(state.lines.back().unwrap().t, "9999");
    let kept = state.lines.len();
    assert!(state.accept());
    let batch = state.batch();
    assert_eq!(batch[0].text, "[fairlane] 8,976 lines (8.8 MB) were left out here: no memory");
    assert_eq!(10_000 - kept, 8976);
    assert!(is_gap(&batch[0].text) && !is_gap(&batch[1].text));
    // The run ends, and Redis refuses that batch, too: the note includes all missing lines.
    state.refuse("no memory");
    state.close(false);
    assert_eq!(state.give_up(&batch).text, "[fairlane] 10,000 lines (9.8 MB) were left out here: no memory");
    assert_eq!((in_flight.len(), state.missing, state.lines.len()), (1, 10_000, 0));
}
