//! Every Redis key, as a function of the prefix. The scripts compute the same names from their
//! first key; a test compares the two.
//!
//! All keys of the queue carry one hash tag, `{prefix}`, so that a Redis Cluster keeps them in one
//! slot; logs carry their build's own tag, so that they spread.

use crate::id::{BuildId, DispatcherId, NodeName, WorkerId};
use crate::invalid::Invalid;
use crate::repo::{Image, Lane};

/// The names of all keys under one prefix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keys {
    prefix: String,
}

macro_rules! fixed {
    ($($(#[$doc:meta])* $name:ident = $text:literal;)+) => {
        $($(#[$doc])* pub fn $name(&self) -> String { self.tagged($text) })+
    };
}

impl Keys {
    /// The keys under `prefix`, usually `fairlane`.
    ///
    /// # Errors
    /// If the prefix contains braces, glob characters or spaces, which would change what a key means.
    pub fn new(prefix: &str) -> Result<Self, Invalid> {
        let fits = (1..=64).contains(&prefix.len())
            && prefix.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | ':'));
        if fits {
            Ok(Self { prefix: prefix.to_owned() })
        } else {
            Err(Invalid::new("prefix", "a prefix has 1 to 64 letters, digits, '-', '_', '.' or ':'"))
        }
    }

    /// The prefix of all keys.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    fn tagged(&self, rest: &str) -> String {
        format!("{{{}}}:{rest}", self.prefix)
    }

    fixed! {
        /// string: version of this layout, major.minor.
        schema = "schema";
        /// string: random id of this Redis's life.
        born = "born";
        /// string: the queue's identity, where Redis accepts no function for it.
        identity = "identity";
        /// string: set in a queue opened for simulation only.
        simulation = "simulation";
        /// zset: all queued builds, score = due.
        queued = "queued";
        /// zset: lanes that may start a build now, score = due of their first build.
        lanes = "lanes";
        /// zset: lanes at their limit and below their burst.
        lanes_burst = "lanes:burst";
        /// zset: lanes that have all the permits they can have.
        lanes_full = "lanes:full";
        /// zset: lanes that a rule holds.
        lanes_held = "lanes:held";
        /// zset: leased builds, score = expiry.
        leases = "leases";
        /// zset: builds to adopt, score = since when.
        orphans = "orphans";
        /// zset: places that have, or had, builds to adopt, score = since when.
        places = "places";
        /// zset: registries that builds push to, or wait to push to, under a limit, score = since when.
        pushes = "pushes";
        /// zset: timers, score = when they are due.
        timers = "timers";
        /// zset: workers, score = latest heartbeat.
        workers = "workers";
        /// hash: names of workers that an operator drained → when, by whom, and which worker was named, as JSON.
        drained = "drained";
        /// zset: dispatchers, score = latest heartbeat.
        dispatchers = "dispatchers";
        /// hash: slots, people, background builds running, mean duration; and the policy in force.
        totals = "totals";
        /// hash: lane or pattern → JSON rule.
        rules = "rules";
        /// zset: avoided nodes, as `<cluster>/<node>`, score = until when. An earlier release stored only the
        /// names.
        nodes = "nodes";
        /// zset: ended builds by time, for 7 days.
        ended = "ended";
        /// hash: counters of what happened: started, ended, retried, lost and adopted runs.
        counts = "counts";
        /// stream: a sample of the queue a minute, for 7 days.
        history = "history";
        /// stream: a small record of each ended build, for 7 days.
        past = "past";
        /// zset: logs of ended builds as `<id> <run> <bytes>`, by when the build ended.
        logs = "logs";
        /// zset: the same for logs that were shortened.
        logs_cut = "logs:cut";
        /// zset: builds whose logs are to be archived, score = when that is due.
        archive = "archive";
        /// hash: up to which end builds were put there, the latest failure, and how many logs were given up.
        archive_state = "archive:state";
        /// stream: every change of state, capped.
        events = "events";
        /// stream: what operators did (the audit).
        audit = "audit";
        /// hash: function libraries → when they were last called, `own:<library>` where its release says so itself, and
        /// `dispatcher:<id>` → the library that it calls.
        libraries = "libraries";
        /// hash: what could not be handled and was set aside → JSON, since when and why.
        aside = "aside";
        /// zset: campaigns, score = when they were created.
        campaigns = "campaigns";
        /// zset: those that have not ended.
        campaigns_open = "campaigns:open";
        /// hash: image → `<campaign> <item>`, of all items that are not done.
        campaign_images = "campaign-images";
        /// list: wake-up tokens; each means that a slot can be filled.
        wake = "wake";
    }

    /// hash: everything about a build.
    pub fn build(&self, id: BuildId) -> String {
        self.tagged(&format!("build:{id}"))
    }

    /// string: id of the live, or recently ended, build of that image.
    pub fn image(&self, image: &Image) -> String {
        self.tagged(&format!("image:{image}"))
    }

    /// zset: queued builds of a lane, score = due.
    pub fn lane(&self, lane: &Lane) -> String {
        self.tagged(&format!("lane:{lane}"))
    }

    /// zset: lanes that wait behind a shared limit.
    pub fn lanes_shared(&self, name: &str) -> String {
        self.tagged(&format!("lanes:shared:{name}"))
    }

    /// zset: builds holding a permit of the lane, score = when taken.
    pub fn permits(&self, lane: &Lane) -> String {
        self.tagged(&format!("permits:{lane}"))
    }

    /// zset: builds holding a permit of a shared limit, score = when taken.
    pub fn permits_shared(&self, name: &str) -> String {
        self.tagged(&format!("permits:shared:{name}"))
    }

    /// zset: builds that push to a registry, score = since when.
    pub fn pushes_to(&self, registry: &str) -> String {
        self.tagged(&format!("pushes:{registry}"))
    }

    /// zset: builds that wait to push to a registry, in their order.
    pub fn push_line(&self, registry: &str) -> String {
        self.tagged(&format!("push-line:{registry}"))
    }

    /// zset: builds to adopt whose runs live at a place, score = since when.
    pub fn orphans_at(&self, place: &str) -> String {
        self.tagged(&format!("orphans:{place}"))
    }

    /// zset: workers of a place whose runs outlive them, score = latest heartbeat.
    pub fn place(&self, place: &str) -> String {
        self.tagged(&format!("place:{place}"))
    }

    /// hash: a campaign's state, pacing and sums.
    pub fn campaign(&self, name: &str) -> String {
        self.tagged(&format!("campaign:{name}"))
    }

    /// The parts of a campaign. `todo`: zset of items to be built, score = their number; `items`: hash of all items →
    /// JSON; `open` and `joined`: hashes of items → the build of theirs, or of somebody else, that makes their image;
    /// `done`: hash of items → how they ended, as JSON; `failed`: zset of those that failed, score = when; `starts`:
    /// zset of builds that it started within the hour.
    pub fn campaign_part(&self, name: &str, part: &str) -> String {
        self.tagged(&format!("campaign:{name}:{part}"))
    }

    /// hash: a worker's slots, running builds, host, version.
    pub fn worker(&self, worker: &WorkerId) -> String {
        self.tagged(&format!("worker:{worker}"))
    }

    /// hash: why a node is avoided, its cluster, and when it was last probed.
    pub fn node(&self, cluster: &str, node: &NodeName) -> String {
        self.tagged(&format!("node:{cluster}/{node}"))
    }

    /// zset: lanes whose builds failed on a node, score = when.
    pub fn node_failures(&self, cluster: &str, node: &NodeName) -> String {
        self.tagged(&format!("node-failures:{cluster}/{node}"))
    }

    /// set: builds that are watched through a dispatcher.
    pub fn watched(&self, dispatcher: &DispatcherId) -> String {
        self.tagged(&format!("watched:{dispatcher}"))
    }

    /// hash: dispatcher → number of watchers of a build.
    pub fn people(&self, id: BuildId) -> String {
        self.tagged(&format!("people:{id}"))
    }

    /// hash: a lane's counts of builds, mean duration, last failure, and the set that it is in.
    pub fn stats(&self, lane: &Lane) -> String {
        self.tagged(&format!("stats:{lane}"))
    }

    /// string: when a client's (`token:<name>`, `address:<address>`) request allowance will be full again.
    pub fn spent(&self, whose: &str) -> String {
        self.tagged(&format!("spent:{whose}"))
    }

    /// stream: the head of a run's log, one entry per line.
    pub fn log(&self, id: BuildId, run: u32) -> String {
        format!("{}:log:{{{id}}}:{run}", self.prefix)
    }

    /// stream: the tail of a run's log, once its head is full.
    pub fn log_tail(&self, id: BuildId, run: u32) -> String {
        format!("{}:tail", self.log(id, run))
    }

    /// hash: the fencing number of a log's writer, its sizes, and what was dropped.
    pub fn log_meta(&self, id: BuildId, run: u32) -> String {
        format!("{}:meta", self.log(id, run))
    }

    /// All keys of a run's log: its head, its tail, and its meta hash.
    pub(crate) fn whole_log(&self, id: BuildId, run: u32) -> [String; 3] {
        [self.log(id, run), self.log_tail(id, run), self.log_meta(id, run)]
    }

    /// channel: a build's log has grown.
    pub fn log_channel(&self, id: BuildId) -> String {
        format!("{}:log:{{{id}}}", self.prefix)
    }

    /// Globs that match every key under the prefix.
    pub fn patterns(&self) -> [String; 2] {
        [self.tagged("*"), format!("{}:log:*", self.prefix)]
    }

    /// channel: there are orphans to adopt, a running build is to be stopped, or a push has ended.
    pub fn orphans_channel(&self) -> String {
        self.orphans()
    }
}
