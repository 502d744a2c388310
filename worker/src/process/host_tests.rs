//! When a host pauses, and which failures are blamed on it.

use fairlane_common::FailureCause;

use super::*;

fn failure(cause: &str) -> Verdict {
    let (class, reason) = (FailureClass::Infrastructure, "it broke".to_owned());
    Verdict::Finish(Outcome::Failed {
        class,
        cause: FailureCause::OTHER,
        reason,
        blame: Blame::Suspect { cause: cause.to_owned() },
    })
}

fn lane(number: usize) -> Lane {
    format!("github.com/o/n{number}").parse().unwrap()
}

/// A build of that lane runs and ends.
async fn ends(host: &Host, number: usize, verdict: Verdict) {
    host.begun();
    host.examine(&lane(number), true, verdict).await;
}

#[tokio::test]
async fn three_lanes_in_a_row_make_a_host_rest_and_one_build_at_a_time_try_it() {
    let host = Host::new("h", &"/bin/true {repo}".parse().unwrap());
    for number in [1, 2] {
        ends(&host, number, failure("x")).await;
        ends(&host, number, failure("x")).await;
    }
    assert_eq!((host.may_start(4), host.paused()), (4, None), "two repositories prove little");
    ends(&host, 3, Verdict::Finish(Outcome::Succeeded)).await;
    for number in [1, 2, 3] {
        assert_eq!(host.may_start(4), 4);
        ends(&host, number, failure("x")).await;
    }
    assert_eq!(host.may_start(4), 0);
    assert!(host.paused().unwrap().contains("3 repositories in a row"), "{:?}", host.paused());
    tokio::time::pause();
    let tending = host.tend();
    tokio::pin!(tending);
    for _ in 0..3 {
        loop {
            tokio::select! {
                () = &mut tending => unreachable!("it never returns"),
                () = host.changed() => {}
            }
            if host.may_start(4) == 1 {
                break;
            }
        }
        host.unused();
        assert_eq!(host.may_start(4), 1, "a try that found no build is not spent");
        host.begun();
        host.unused();
        assert_eq!(host.may_start(4), 0, "one at a time");
        host.examine(&lane(4), true, failure("x")).await;
        assert_eq!(host.may_start(4), 0);
    }
    host.begun();
    host.examine(&lane(4), true, Verdict::Finish(Outcome::Succeeded)).await;
    assert_eq!((host.may_start(4), host.paused()), (4, None));
}

#[tokio::test]
async fn a_command_that_is_gone_is_the_hosts_own_fault() {
    let host = Host::new("h", &"/no/such/program {repo}".parse().unwrap());
    let verdict = host.examine(&lane(1), false, failure("x")).await;
    let Verdict::Finish(Outcome::Failed { blame, .. }) = verdict else { panic!("{verdict:?}") };
    assert_eq!(blame, Blame::Certain);
    assert!(host.paused().unwrap().contains("/no/such/program"), "{:?}", host.paused());
    assert_eq!(host.may_start(1), 0, "at once");
}
#[tokio::test]
async fn words_of_an_engine_that_answers_may_be_the_repositorys() {
    let host = Host::new("h", &"/bin/true {repo}".parse().unwrap());
    let blame = Blame::Machine { cause: ENGINE_CAUSE.to_owned() };
    let (class, reason) = (FailureClass::Infrastructure, "it broke".to_owned());
    let verdict = Verdict::Finish(Outcome::Failed { class, cause: FailureCause::OTHER, reason, blame });
    let judged = host.examine(&lane(1), true, verdict).await;
    let Verdict::Finish(Outcome::Failed { blame, .. }) = judged else { panic!("{judged:?}") };
    let engine = host.fault(true).await;
    assert_eq!(blame == Blame::Certain, engine.is_some(), "{blame:?}: {engine:?}");
    assert_ne!(blame, Blame::Machine { cause: ENGINE_CAUSE.to_owned() });
}
