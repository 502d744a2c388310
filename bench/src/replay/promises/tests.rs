use fairlane_common::queue::{Order, Policy};

use super::*;

fn promises(slots: u32, policy: &Policy) -> Promises {
    Promises::new(Terms::new(slots, policy))
}

fn ids<const N: usize>() -> [BuildId; N] {
    std::array::from_fn(|_| BuildId::new())
}

/// Checks how many promises were broken, and the text of the last one.
#[track_caller]
fn expect(promises: Promises, count: usize, says: &str) {
    let (broken, told) = promises.broken();
    assert_eq!(broken, count, "{told:#?}");
    assert!(told.last().is_some_and(|told| told.contains(says)) || count == 0, "{told:#?}");
}

/// Requests these builds one second apart, each expected to take a minute, a third of the mean.
fn asked(promises: &mut Promises, builds: &[(BuildId, usize)]) -> Vec<(BuildId, u64)> {
    (0..)
        .step_by(1000)
        .zip(builds)
        .map(|(now, (id, lane))| {
            promises.asked(*id, *lane, now, 60_000);
            (*id, now + 106_666)
        })
        .collect()
}

#[test]
fn a_day_without_fault() {
    let [a, b, c] = ids();
    let mut promises = promises(2, &Policy::default());
    let due = asked(&mut promises, &[(a, 1), (b, 1), (c, 2)]);
    // With so few slots, a lane has one permit; its second build is skipped.
    promises.joined(c, 60_000);
    promises.claimed(&[(c, 2000 + 13_333), due[0]]);
    promises.idle();
    promises.ended(a, 1);
    promises.claimed(&[due[1]]);
    promises.idle();
    promises.ended(b, 1);
    promises.ended(c, 1);
    promises.over();
    expect(promises, 0, "");
}

#[test]
fn limits() {
    let [a, b, c, d] = ids();
    let mut over_slots = promises(1, &Policy::default());
    let due = asked(&mut over_slots, &[(a, 1), (b, 2)]);
    over_slots.claimed(&due);
    expect(over_slots, 1, "beyond the 1 slots");

    let mut over_limit = promises(4, &Policy::default());
    let due = asked(&mut over_limit, &[(a, 1), (b, 1), (c, 1)]);
    over_limit.claimed(&due);
    expect(over_limit, 1, "2 run already");

    // Six slots: the third build of a lane may borrow while four are free, the fourth may not.
    let mut over_burst = promises(6, &Policy::default());
    let due = asked(&mut over_burst, &[(a, 1), (b, 1), (c, 1), (d, 1)]);
    over_burst.claimed(&due);
    expect(over_burst, 1, "3 run already");

    let mut over_shared = promises(8, &Policy::default());
    over_shared.lane_shares(1, Some(1));
    over_shared.lane_shares(2, Some(1));
    let due = asked(&mut over_shared, &[(a, 1), (b, 2)]);
    over_shared.claimed(&due);
    expect(over_shared, 1, "beyond its lane's limit");
}

#[test]
fn a_campaign_keeps_to_its_share() {
    let [a, b, c, d] = ids();
    // Of four slots, background builds may use three.
    let mut promises = promises(4, &Policy::default());
    let due = 1_000_000_000_000 + 106_666;
    for (lane, id) in [(1, a), (2, b), (3, c), (4, d)] {
        assert_eq!(promises.has_room(lane), id != d);
        promises.fed(id, lane, 0, 60_000);
        promises.claimed(&[(id, due)]);
    }
    // Somebody asks for one of them, so that another may start.
    promises.joined(a, 60_000);
    assert_eq!(promises.running_background, 3);
    expect(promises, 1, "beyond the 3 of the background");
}

#[test]
fn people_go_before_a_campaign() {
    let [a, b] = ids();
    let mut promises = promises(4, &Policy::default());
    promises.fed(a, 1, 0, 60_000);
    asked(&mut promises, &[(b, 2)]);
    promises.claimed(&[(a, 1_000_000_000_000 + 106_666)]);
    expect(promises, 1, "was overtaken by");
}

#[test]
fn order_and_idleness() {
    let [a, b] = ids();
    let mut overtaken = promises(4, &Policy::default());
    let due = asked(&mut overtaken, &[(a, 1), (b, 2)]);
    overtaken.claimed(&due[1..]);
    expect(overtaken, 1, "was overtaken by");

    let mut elsewhere = promises(4, &Policy { order: Some(Order::FirstCome), ..Policy::default() });
    asked(&mut elsewhere, &[(a, 1)]);
    elsewhere.claimed(&[(a, 1)]);
    expect(elsewhere, 1, "due at 1, not at 0");

    let mut idle = promises(4, &Policy::default());
    asked(&mut idle, &[(a, 1)]);
    idle.idle();
    expect(idle, 1, "free slots");
}

#[test]
fn lost_and_doubled() {
    let [a, b, stranger] = ids();
    let mut promises = promises(4, &Policy::default());
    let due = asked(&mut promises, &[(a, 1), (b, 2)]);
    promises.claimed(&[due[0], due[0]]);
    promises.claimed(&[(stranger, 0)]);
    promises.ended(a, 1);
    promises.ended(a, 1);
    promises.ended(b, 1);
    promises.ended(stranger, 1);
    promises.joined(a, 1);
    promises.joined(stranger, 1);
    promises.over();
    let (broken, told) = promises.broken();
    assert_eq!(broken, 8, "{told:#?}");
    for says in ["in state Running", "never requested", "ended in state Ended", "ended in state Queued"] {
        assert!(told.iter().any(|told| told.contains(says)), "{says}: {told:#?}");
    }
    assert!(told[7].contains("was lost"), "{told:#?}");
}
