use super::*;

fn people() -> Arc<People> {
    People::new(DispatcherId::new("here"), Duration::from_secs(30), Some(500))
}

#[test]
fn a_token_stands_for_so_many_people_over_all_builds() {
    let people = people();
    let ids: Vec<BuildId> = (0..4).map(|_| BuildId::new()).collect();
    let mut streams: Vec<_> = ids.iter().map(|id| people.subscribe(*id, 190, "hub")).collect();
    let others = people.subscribe(ids[3], 190, "other");
    let count = |id: BuildId| people.counted().builds[&id].count();
    assert_eq!(ids.iter().map(|id| count(*id)).collect::<Vec<_>>(), [190, 190, 120, 190]);
    let serial = people.serial(&streams[3].name()).unwrap();
    assert_eq!(people.set(ids[3], serial, 50), Some(190), "there is no room for them");
    drop(streams.remove(0));
    drop(others);
    assert_eq!(people.set(ids[3], serial, 200), Some(190));
    assert_eq!(people.counted().tokens["hub"], 500);
    drop(streams);
    assert!(people.counted().tokens.is_empty());
}

#[test]
fn requests_count_until_a_stream_opens_or_time_is_up() {
    let (people, id, now) = (people(), BuildId::new(), Instant::now());
    people.asked(id, "hub");
    people.asked(id, "hub");
    assert!(people.take(false, now).is_empty(), "the queue has counted them already");
    assert_eq!(people.take(true, now), [(id, 2)]);
    let stream = people.subscribe(id, 5, "hub");
    people.asked(id, "hub");
    assert_eq!(people.take(false, now), [(id, 5)]);
    drop(stream);
    assert_eq!(people.take(false, now), [(id, 1)]);
    let now = now + Duration::from_secs(31);
    assert_eq!(people.take(false, now), [(id, 0)]);
    assert!(people.take(true, now).is_empty());
}

#[test]
fn counts_are_capped_and_can_be_set() {
    let (people, id, now) = (people(), BuildId::new(), Instant::now());
    let stream = people.subscribe(id, 1, "hub");
    let serial = people.serial(&stream.name()).unwrap();
    assert_eq!(people.set(id, serial, 1_000_000), Some(PEOPLE_MAX));
    assert_eq!(people.set(id, serial + 1, 1), None);
    assert_eq!(people.serial("elsewhere-12345678.1"), None);
    people.put_back(&people.take(false, now));
    assert_eq!(people.take(false, now), [(id, PEOPLE_MAX)]);
}

#[test]
fn requests_count_for_their_token_as_streams_do() {
    let (people, now) = (people(), Instant::now());
    let ids: Vec<BuildId> = (0..4).map(|_| BuildId::new()).collect();
    for id in &ids {
        for _ in 0..150 {
            people.asked(*id, "hub");
        }
    }
    people.asked(ids[3], "other");
    let count = |id: BuildId| people.counted().builds[&id].count();
    assert_eq!(ids.iter().map(|id| count(*id)).collect::<Vec<_>>(), [150, 150, 150, 51]);
    // The queue has counted every request of the last token, so the correct number must be written.
    assert_eq!(people.take(false, now), [(ids[3], 51)]);
    let stream = people.subscribe(ids[0], 100, "hub");
    assert_eq!(people.counted().tokens["hub"], 450, "a build's stream stands for its requests");
    let now = now + Duration::from_secs(31);
    let mut left = people.take(false, now);
    left.sort_unstable();
    assert_eq!(left, [(ids[0], 100), (ids[1], 0), (ids[2], 0), (ids[3], 0)]);
    assert_eq!(people.counted().tokens["hub"], 100);
    drop(stream);
    assert!(people.counted().tokens.is_empty());
}

#[test]
fn one_stream_stands_for_no_more_people_than_count() {
    let people = people();
    let _stream = people.subscribe(BuildId::new(), 1000, "hub");
    assert_eq!(people.counted().tokens["hub"], PEOPLE_MAX);
}
