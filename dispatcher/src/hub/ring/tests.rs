//! What the streams of one build get from their ring.

use super::*;

const SOON: Duration = Duration::ZERO;
const SLOW: Duration = Duration::from_secs(10);

fn id(ms: u64) -> EntryId {
    format!("{ms}-0").parse().unwrap()
}

fn piece(from: u64, to: u64) -> Piece {
    Piece { from: id(from), to: id(to), bytes: Bytes::from(format!("{from}>{to}")) }
}

fn ring(bytes_max: usize) -> Ring {
    Ring::new(1, EntryId::START, 1, "{}".to_owned(), bytes_max)
}

fn sent(step: Step) -> String {
    match step {
        Step::Send(bytes) => String::from_utf8(bytes.to_vec()).unwrap(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_newcomer_gets_every_piece_once() {
    let mut ring = ring(1000);
    let mut offset = Offset::new(1, EntryId::START, 1);
    assert!(matches!(ring.step(&mut offset, SOON, SLOW), Step::Wait));
    ring.push_log(piece(0, 5));
    ring.push_log(piece(5, 9));
    let mut late = Offset::new(1, EntryId::START, 1);
    for offset in [&mut offset, &mut late] {
        assert_eq!(sent(ring.step(offset, SOON, SLOW)), "0>5");
        assert_eq!(sent(ring.step(offset, SOON, SLOW)), "5>9");
        assert!(matches!(ring.step(offset, SOON, SLOW), Step::Wait));
    }
}

#[test]
fn a_place_between_two_pieces_is_read_from_the_log() {
    let mut ring = ring(1000);
    ring.push_log(piece(0, 5));
    ring.push_log(piece(5, 9));
    let mut offset = Offset::new(1, id(7), 1);
    assert!(
        matches!(ring.step(&mut offset, SOON, SLOW), Step::Read { until: Some(until), .. } if until == id(9))
    );
    offset.entry = id(9);
    ring.push_log(piece(9, 12));
    assert_eq!(sent(ring.step(&mut offset, SOON, SLOW)), "9>12");
    // A client that is ahead of this dispatcher skips what it already has.
    let mut ahead = Offset::new(1, id(12), 1);
    assert!(matches!(ring.step(&mut ahead, SOON, SLOW), Step::Wait));
    ring.push_log(piece(12, 13));
    assert_eq!(sent(ring.step(&mut ahead, SOON, SLOW)), "12>13");
}

#[test]
fn who_falls_out_of_the_ring_reads_by_itself_or_is_let_go() {
    let mut ring = ring(10);
    let mut offset = Offset::new(1, EntryId::START, 1);
    assert!(matches!(ring.step(&mut offset, SOON, SLOW), Step::Wait));
    for n in 0..9 {
        ring.push_log(piece(n, n + 1));
    }
    assert!(matches!(ring.step(&mut offset.clone(), SLOW * 2, SLOW), Step::TooSlow));
    assert!(matches!(ring.step(&mut offset, SOON, SLOW), Step::Read { until: Some(_), .. }));
}

#[test]
fn states_come_once_and_the_end_last() {
    let mut ring = ring(1000);
    ring.push_state(2, "{\"a\":2}".to_owned());
    ring.push_log(piece(0, 5));
    ring.push_state(3, "{\"a\":3}".to_owned());
    let mut fresh = Offset::new(1, EntryId::START, 2);
    assert!(sent(ring.step(&mut fresh, SOON, SLOW)).contains("\"a\":3"));
    assert_eq!(sent(ring.step(&mut fresh, SOON, SLOW)), "0>5");
    assert!(matches!(ring.step(&mut fresh, SOON, SLOW), Step::Wait));
    ring.close(None, "end", "{}");
    assert!(sent(ring.step(&mut fresh, SOON, SLOW)).contains("event: end"));
    assert!(matches!(ring.step(&mut fresh, SOON, SLOW), Step::Done));
    let mut after = Offset::new(1, id(5), 1);
    assert!(sent(ring.step(&mut after, SOON, SLOW)).contains("\"a\":3"));
    assert!(sent(ring.step(&mut after, SOON, SLOW)).contains("event: end"));
    assert!(matches!(ring.step(&mut after, SOON, SLOW), Step::Done));
}

#[test]
fn another_run_comes_after_the_rest_of_the_one_before() {
    let mut ring = ring(1000);
    ring.push_log(piece(0, 5));
    ring.push_run(2);
    ring.push_log(piece(0, 3));
    let mut offset = Offset::new(1, EntryId::START, 1);
    assert_eq!(sent(ring.step(&mut offset, SOON, SLOW)), "0>5");
    assert!(sent(ring.step(&mut offset, SOON, SLOW)).contains("started again"));
    assert_eq!(sent(ring.step(&mut offset, SOON, SLOW)), "0>3");
    let mut behind = Offset::new(1, id(4), 1);
    assert!(matches!(ring.step(&mut behind, SOON, SLOW), Step::Read { until: None, .. }));
}

#[test]
fn the_ending_stays_for_those_who_join_later_however_long_it_is() {
    let mut ring = ring(10);
    ring.push_log(piece(0, 5));
    ring.close(Some(("moved", "x".repeat(50))), "end", "{}");
    let mut late = Offset::new(1, id(5), 1);
    assert!(sent(ring.step(&mut late, SOON, SLOW)).contains("xxx"));
    assert!(sent(ring.step(&mut late, SOON, SLOW)).contains("event: end"));
    assert!(matches!(ring.step(&mut late, SOON, SLOW), Step::Done));
}
