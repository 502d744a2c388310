//! Tests of [`super::LogPump`].

use super::*;

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
    let note = format!("[fairlane] {} lines were dropped", 10_000 - kept);
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
    assert!(state.lines.back().unwrap().text.contains("7 lines were dropped"));
}

#[test]
fn a_log_that_others_go_on_with_has_no_gap_and_no_note() {
    let buffer = Arc::new(Buffer::default());
    let pump = LogPump {
        buffer: Arc::clone(&buffer),
        task: tokio::runtime::Runtime::new().unwrap().spawn(async {}),
    };
    while buffer.state().dropped == 0 {
        pump.push_whole(line(8 * 1024));
    }
    let kept = buffer.state().lines.len();
    // It would fit, but it came after one that did not.
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
