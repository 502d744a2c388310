//! Plays a day through the queue's own scripts, in virtual time: one worker whose builds take as long as the day
//! says, and one dispatcher for all requests.

mod ahead;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use fairlane_common::clock::SimulatedClock;
use fairlane_common::queue::{
    Beat, Claim, Claimed, DispatcherBeat, Finish, Finished, Outcome as End, Policy, Submit, Submitted,
};
use fairlane_common::{BuildId, BuildSpec, BuildState, DispatcherId, Priority, Queue, Token, WorkerId};
use indicatif::ProgressBar;
use uuid::Uuid;

use super::day::Day;
use super::outcome::{BuildSpan, Outcome};
use super::promises::Promises;
use super::terms::Terms;
use super::told::{self, Told};

/// Longer than any replay: no lease expires, so none needs to be renewed.
const LEASE: Duration = Duration::from_hours(24 * 365);
/// How often processes reap, in virtual milliseconds.
const REAP_MS: u64 = 1000;
/// Number of ended builds between two consistency checks.
const CHECK_EVERY: usize = 100;
/// Entries of each set that such a check compares.
const CHECK_MAX: usize = 10_000;
/// Where the simulated builds run.
const PLACE: &str = "process:replay";

/// What a replay found.
#[derive(Debug)]
pub(super) struct Played {
    /// The outcome of the day.
    pub(super) outcome: Outcome,
    /// For each spec: when the campaign's build of its image ended, Unix milliseconds, if it had one.
    pub(super) found: Vec<Option<u64>>,
    /// For each spec: when its build started, Unix milliseconds, if it had one.
    pub(super) started: Vec<Option<u64>>,
    /// The waiting times that launches were told.
    pub(super) told: Vec<Told>,
    /// How many promises were broken, and the first ones in words.
    pub(super) broken: (usize, Vec<String>),
}

/// Plays the history and then the day, with a campaign that builds the specs in `ahead`. The queue must be empty, and
/// `clock` its own.
///
/// # Errors
/// When Redis fails, or the queue refuses something without reason.
pub(super) async fn play(
    queue: &Queue,
    clock: &SimulatedClock,
    day: &Day,
    slots: u32,
    policy: &Policy,
    ahead: &[usize],
    progress: &ProgressBar,
) -> Result<Played> {
    let mut player = Player {
        queue,
        clock,
        day,
        slots: slots as usize,
        worker: "replay".parse()?,
        dispatcher: "replay".parse()?,
        promises: Promises::new(Terms::new(slots, policy)),
        images: day.specs.iter().map(|_| Image::default()).collect(),
        has_campaign: false,
        fed: 0,
        ends: BinaryHeap::new(),
        running: HashMap::new(),
        reaped: 0,
        told: Vec::new(),
        later: VecDeque::new(),
        outcome: Outcome { ready: vec![0; day.asks.len()], builds: Vec::new() },
    };
    player.learn(policy, progress).await?;
    player.live(ahead, progress).await?;
    player.promises.over();
    let (found, started) = player.images.iter().map(|image| (image.found, image.started)).unzip();
    Ok(Played {
        outcome: player.outcome,
        found,
        started,
        told: player.told,
        broken: player.promises.broken(),
    })
}

struct Player<'a> {
    queue: &'a Queue,
    clock: &'a SimulatedClock,
    day: &'a Day,
    slots: usize,
    worker: WorkerId,
    dispatcher: DispatcherId,
    promises: Promises,
    /// By spec.
    images: Vec<Image>,
    /// Whether there is a campaign that has not ended.
    has_campaign: bool,
    /// How many builds the campaign has put into line that have not started.
    fed: u64,
    /// When each build's run ends.
    ends: BinaryHeap<Reverse<(u64, BuildId)>>,
    running: HashMap<BuildId, Run>,
    /// Time of the last reap.
    reaped: u64,
    told: Vec<Told>,
    /// Launches that will be told their waiting time again, and when.
    later: VecDeque<(u64, usize)>,
    outcome: Outcome,
}

/// What has happened to an image since the wipe.
#[derive(Debug, Default)]
struct Image {
    built: bool,
    /// When the campaign's build of it ended.
    found: Option<u64>,
    /// When its build started.
    started: Option<u64>,
    /// When it was first requested.
    asked: u64,
    build: Option<BuildId>,
    /// Launches that wait for it.
    waiting: Vec<usize>,
}

#[derive(Debug)]
struct Run {
    token: Token,
    spec: usize,
    started: u64,
    ahead: bool,
}

impl Player<'_> {
    /// Registers the worker, sets the policy, and builds the history, one build after the other. The queue only
    /// keeps how long each build took.
    async fn learn(&mut self, policy: &Policy, progress: &ProgressBar) -> Result<()> {
        let took: u64 = self.day.history.iter().map(|spec| self.day.specs[*spec].build_ms + 1000).sum();
        let mut now = self.day.start.saturating_sub(took);
        self.clock.set_ms(now);
        self.queue.configure(policy).await?;
        self.beat().await?;
        self.reap(now).await?;
        for spec in &self.day.history {
            // Not the day's image name, because the wipe removes what is built here.
            let submit = self.request(*spec, "before", Priority::Interactive)?;
            let admitted = self.queue.submit(&submit).await?;
            let claimed = self.queue.claim(&self.claim(1)).await?.builds;
            let (Submitted::New(_), [claimed]) = (&admitted, claimed.as_slice()) else {
                bail!("the history's build of {} did not start: {admitted:?}", self.day.specs[*spec].name);
            };
            now += self.day.specs[*spec].build_ms;
            self.clock.set_ms(now);
            let finished = self.queue.finish(&claimed.token, &succeeded()).await?;
            if finished != Finished::Ended(BuildState::Succeeded) {
                bail!("the history's build of {} did not end: {finished:?}", self.day.specs[*spec].name);
            }
            self.promises.learned(self.day.specs[*spec].build_ms);
            now += 1000;
            self.clock.set_ms(now);
            progress.inc(1);
        }
        Ok(())
    }

    /// Plays the day: launches and ends of builds in chronological order, and claims after each moment.
    async fn live(&mut self, ahead: &[usize], progress: &ProgressBar) -> Result<()> {
        let mut asks = self.day.asks.iter().enumerate().peekable();
        let mut now = self.day.start;
        self.clock.set_ms(now);
        self.begin_campaign(ahead).await?;
        self.build_ahead(now).await?;
        loop {
            let end = self.ends.peek().map(|Reverse((at, _))| *at);
            let ask = asks.peek().map(|(_, ask)| ask.at);
            // A launch is told again only while its build runs or waits, so an end is still to come.
            let later = self.later.front().map(|(at, _)| *at).filter(|_| end.is_some());
            let Some(next) = end.into_iter().chain(ask).chain(later).min() else { break };
            now = next;
            self.clock.set_ms(now);
            if now >= self.reaped + REAP_MS {
                self.reap(now).await?;
            }
            let mut freed = false;
            while let Some(Reverse((at, id))) = self.ends.peek().copied()
                && at == now
            {
                self.ends.pop();
                self.end(id, now).await?;
                freed = true;
            }
            let mut added = false;
            while let Some((launch, ask)) = asks.next_if(|(_, ask)| ask.at == now) {
                added |= self.ask(launch, ask.spec, now).await?;
                progress.inc(1);
            }
            while let Some((_, launch)) = self.later.pop_front_if(|(at, _)| *at <= now) {
                self.tell(launch, true).await?;
            }
            // Nothing else makes a build startable: joining a build moves it in line, but frees no permit.
            if freed || added {
                self.start(now).await?;
                self.build_ahead(now).await?;
            }
        }
        self.check().await?;
        // Builds that are still in line are lost; their images were never ready.
        for launch in self.images.iter_mut().flat_map(|image| image.waiting.drain(..)) {
            self.outcome.ready[launch] = now;
        }
        Ok(())
    }

    /// Somebody opens a repository. Returns whether that made a new build.
    async fn ask(&mut self, launch: usize, spec: usize, now: u64) -> Result<bool> {
        if self.images[spec].built {
            self.outcome.ready[launch] = now;
            return Ok(false);
        }
        self.images[spec].waiting.push(launch);
        let submit = self.request(spec, "after", Priority::Interactive)?;
        let added = match self.queue.submit(&submit).await? {
            Submitted::New(build) => {
                (self.images[spec].asked, self.images[spec].build) = (now, Some(build.id));
                self.promises.asked(build.id, self.day.specs[spec].lane, now, build.expected_ms);
                self.see_lane(spec).await?;
                true
            }
            Submitted::Joined(build) => {
                if self.images[spec].build.is_none() {
                    (self.images[spec].asked, self.images[spec].build) = (now, Some(build.id));
                }
                self.promises.joined(build.id, build.expected_ms);
                false
            }
            other => bail!("a launch of {} was not admitted: {other:?}", self.day.specs[spec].name),
        };
        if launch.is_multiple_of(told::stride(self.day)) {
            self.tell(launch, false).await?;
            self.later.push_back((now + told::LATER_MS, launch));
        }
        Ok(added)
    }

    /// Records the waiting time that a dispatcher would tell this launch now.
    async fn tell(&mut self, launch: usize, later: bool) -> Result<()> {
        let image = &self.images[self.day.asks[launch].spec];
        let Some(id) = image.build.filter(|_| !image.built) else { return Ok(()) };
        let build = self.queue.build(id).await?.context("a build is not known while it is waited for")?;
        let eta_ms = self.queue.why(&build).await?.eta_ms;
        self.told.push(Told { launch, later, eta_ms });
        Ok(())
    }

    /// A build's run ends, and its image is ready.
    async fn end(&mut self, id: BuildId, now: u64) -> Result<()> {
        let run = self.running.remove(&id).context("a build ended that did not run")?;
        match self.queue.finish(&run.token, &succeeded()).await? {
            Finished::Ended(BuildState::Succeeded) => self.promises.ended(id, now - run.started),
            other => self.promises.note(format!("the end of build {id} was answered with {other:?}")),
        }
        let image = &mut self.images[run.spec];
        if image.built {
            self.promises.note(format!("{} was built twice", self.day.specs[run.spec].name));
        }
        image.built = true;
        (image.found, image.started) = (run.ahead.then_some(now), Some(run.started));
        for launch in image.waiting.drain(..) {
            self.outcome.ready[launch] = now;
        }
        let asked = if image.build.is_some() { image.asked.min(run.started) } else { run.started };
        self.outcome.builds.push(BuildSpan { asked, started: run.started, ended: now, ahead: run.ahead });
        self.see_lane(run.spec).await?;
        if self.outcome.builds.len().is_multiple_of(CHECK_EVERY) {
            self.check().await?;
        }
        Ok(())
    }

    /// Fills the free slots, until the queue has nothing more to give.
    async fn start(&mut self, now: u64) -> Result<()> {
        while self.promises.free() > 0 && (self.promises.queued() > 0 || self.fed > 0) {
            let claimed = self.queue.claim(&self.claim(self.promises.free())).await?.builds;
            if claimed.is_empty() {
                break;
            }
            for Claimed { token, build, adopted, .. } in claimed {
                if adopted {
                    self.promises.note(format!("build {} was adopted, and no run was lost", build.id));
                }
                let spec: usize = build.spec.reference.as_str().parse()?;
                let ahead = build.spec.priority == Priority::Background;
                if ahead {
                    self.starts_ahead(&build, self.day.specs[spec].lane, now);
                }
                self.promises.claimed(&[(build.id, build.due)]);
                self.ends.push(Reverse((now + self.day.specs[spec].build_ms, build.id)));
                self.running.insert(build.id, Run { token, spec, started: now, ahead });
            }
        }
        self.promises.idle();
        Ok(())
    }

    /// Checks whether the queue counts the spec's lane among the slow ones. That depends on what the queue has
    /// learned, which only the queue knows.
    async fn see_lane(&mut self, spec: usize) -> Result<()> {
        let lane = self.day.specs[spec].lane;
        let view = self.queue.lane(&format!("replay/lane/{lane}").parse()?).await?;
        let limit = view.shared.map(|(_, limit, _)| usize::try_from(limit).unwrap_or(usize::MAX));
        self.promises.lane_shares(lane, limit);
        Ok(())
    }

    /// Checks whether anything in Redis contradicts anything else.
    async fn check(&mut self) -> Result<()> {
        for problem in self.queue.check(CHECK_MAX).await?.problems {
            self.promises.note(problem);
        }
        Ok(())
    }

    /// Reaps what is due, as any process would about once a second. The dispatcher sends a heartbeat first:
    /// otherwise, after the time that has just passed in one step, the queue would forget the dispatcher and its
    /// people.
    async fn reap(&mut self, now: u64) -> Result<()> {
        self.reaped = now;
        let beat = DispatcherBeat { dispatcher: self.dispatcher.clone(), counts: Vec::new() };
        self.queue.beat_dispatcher(&beat).await?;
        loop {
            let reaped = self.queue.reap().await?;
            if reaped.orphaned + reaped.lost > 0 {
                self.promises.note(format!("{} leases ran out", reaped.orphaned + reaped.lost));
            }
            if reaped.timers == 0 {
                return Ok(());
            }
        }
    }

    async fn beat(&self) -> Result<()> {
        let beat = Beat {
            worker: self.worker.clone(),
            host: "replay".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            place: PLACE.to_owned(),
            slots: self.slots,
            draining: false,
            paused: None,
            nodes: 0,
            lease: LEASE,
            held: Vec::new(),
        };
        self.queue.renew(&beat).await.map(drop).context("the worker was not registered")
    }

    fn claim(&self, free: usize) -> Claim {
        let (worker, place) = (self.worker.clone(), PLACE.to_owned());
        Claim { worker, place, free, lease: LEASE, request: Uuid::new_v4() }
    }

    /// A request for the image of a spec, `before` or `after` the wipe. Names are made of numbers, because specs
    /// in the events may contain characters that an image's name may not.
    fn request(&self, spec: usize, when: &str, priority: Priority) -> Result<Submit> {
        let lane = self.day.specs[spec].lane;
        let mut spec = BuildSpec::new(
            format!("https://replay/lane/{lane}").parse()?,
            spec.to_string().parse()?,
            format!("replay/{when}:{spec}").parse()?,
        );
        spec.priority = priority;
        // Nobody waits for a build of the campaign.
        let dispatcher = (priority == Priority::Interactive).then(|| self.dispatcher.clone());
        Ok(Submit { id: BuildId::new(), spec, force: false, override_ban: None, dispatcher })
    }
}

fn succeeded() -> Finish {
    Finish::of(End::Succeeded)
}
