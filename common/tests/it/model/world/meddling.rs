//! Manual changes to Redis, and what a newer release writes.

use fairlane_common::rule::Stop;
use fairlane_common::{Build, BuildState, Priority, Rule};

use super::{Broken, PATTERNS, State, World, ensure, pick};

/// A timer of a kind that this release does not know.
const TIMER: &str = "campaign:spring";
/// How long the repair needs to check everything once.
const WALK_MS: u64 = 20_000;

impl World<'_> {
    /// An operator sets a rule.
    pub(super) async fn rule(&mut self, pattern: u8, kind: u8) {
        let pattern = pick(&PATTERNS, pattern).unwrap();
        let number = u32::from(kind / 6 % 3) + 1;
        let until = Some(self.now() + u64::from(kind) * 100 + 1);
        let rule = match kind % 6 {
            0 => Rule { limit: Some(number), ..Rule::default() },
            1 => Rule { limit: Some(number), until, ..Rule::default() },
            2 => Rule { hold: Some(Stop { until, ..Stop::default() }), ..Rule::default() },
            3 => Rule { ban: Some(Stop { until, ..Stop::default() }), ..Rule::default() },
            4 => Rule { limit: Some(number), burst: Some(number + 2), ..Rule::default() },
            _ if pattern.ends_with('*') => {
                let until = until.filter(|_| number > 1);
                Rule { limit: Some(number), together: true, until, ..Rule::default() }
            }
            _ => Rule { burst: Some(5), ..Rule::default() },
        };
        self.scene.rule(pattern, &rule).await;
        // Sooner or later, a reap re-sorts the lanes of a pattern.
        if (kind / 18).is_multiple_of(2) {
            self.scene.reap().await;
        }
    }

    /// Deletes a build's record. The queue notices, and the holder of the run registers it again.
    pub(super) async fn delete(&mut self, number: u8) {
        let open: Vec<_> = self.before.builds.values().filter(|build| !build.state.is_ended()).collect();
        let mut ids: Vec<_> = open.iter().map(|build| build.id).collect();
        ids.sort_unstable();
        let Some(id) = pick(&ids, number).copied() else { return };
        self.tampered = true;
        self.scene.redis::<()>(&["DEL", &self.scene.queue.keys().build(id)]).await;
        self.builds.retain(|build| *build != id);
        self.counts.retain(|(build, _), _| *build != id);
        self.scene.pass(WALK_MS).await;
        self.before = State::read(self.scene).await;
    }

    /// A worker claims while a waiting build contains a word of a newer release.
    pub(super) async fn bad_word(&mut self, number: u8, at: usize) -> Result<(), Broken> {
        let mut ids: Vec<_> = self.before.builds.values().collect();
        let fits = |build: &&Build| {
            build.state == BuildState::Queued && build.spec.priority == Priority::Interactive
        };
        ids.retain(fits);
        ids.sort_unstable_by_key(|build| build.id);
        let Some(before) = pick(&ids, number).map(|build| (*build).clone()) else { return Ok(()) };
        let key = self.scene.queue.keys().build(before.id);
        self.scene.redis::<()>(&["HSET", &key, "priority", "urgent"]).await;
        let claimed = Box::pin(self.claim(at, u8::MAX, false)).await;
        self.scene.redis::<()>(&["HSET", &key, "priority", "interactive"]).await;
        claimed?;
        let after = self.scene.build(before.id).await;
        ensure(after.attempt >= before.attempt, || format!("{after:?} lost its run number"))
    }

    pub(super) async fn set_foreign_timer(&mut self) {
        let now = self.now().to_string();
        self.scene.redis::<()>(&["ZADD", &self.scene.queue.keys().timers(), &now, TIMER]).await;
        self.foreign_timer = true;
        self.scene.reap().await;
    }

    /// Nothing was repaired unless somebody broke it, and what belongs to another release is still there.
    pub(super) async fn check_hands_off(&self) -> Result<(), Broken> {
        let keys = self.scene.queue.keys();
        let timer: Option<String> = self.scene.redis(&["ZSCORE", &keys.timers(), TIMER]).await;
        ensure(timer.is_some() == self.foreign_timer, || "a newer release's timer is gone".to_owned())?;
        if self.tampered {
            return Ok(());
        }
        let repairs: Option<u64> = self.scene.redis(&["HGET", &keys.totals(), "repairs"]).await;
        let aside: Vec<String> = self.scene.redis(&["HVALS", &keys.aside()]).await;
        let all_bad = aside.iter().all(|why| why.contains("urgent"));
        let acts =
            self.scene.redis::<redis::Value>(&["XREVRANGE", &keys.audit(), "+", "-", "COUNT", "3"]).await;
        ensure(repairs.is_none() && all_bad, || {
            format!("{repairs:?} repairs, set aside: {aside:?}, {acts:?}")
        })
    }
}
