//! Metrics of the queue. They are read from Redis at each scrape, so every dispatcher shows the same values.
//! If you scrape several dispatchers, take the maximum.

use std::time::Duration;

use fairlane_common::Priority;
use fairlane_common::queue::campaigns::{Campaign, CampaignState, ItemState};
use fairlane_common::queue::inspect::{NodeView, Snapshot};
use fairlane_common::queue::memory::Memory;
use fairlane_common::queue::{Counts, Durability, Pressure, Queue};
use fairlane_common::rule::Rule;
use fairlane_http::metrics::{counter, gauge, gauges, seconds, shared};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

use crate::redis_wait::bounded;

/// The queue at one moment.
#[derive(Debug)]
struct Load {
    snapshot: Snapshot,
    pressure: Pressure,
    /// Since when the oldest orphan has been one, if there is one.
    oldest_orphan: Option<u64>,
}

/// What the queue reports at a scrape. Parts that Redis did not return in time are missing.
#[derive(Debug, Default)]
pub(crate) struct QueueNow {
    load: Option<Load>,
    nodes: Option<Vec<NodeView>>,
    rules: Option<Vec<Rule>>,
    memory: Option<Memory>,
    durability: Option<Durability>,
    counts: Option<Counts>,
    /// Those that have not ended.
    campaigns: Option<Vec<Campaign>>,
}

impl QueueNow {
    pub(crate) async fn read(queue: &Queue, wait: Duration) -> Self {
        let load = async {
            let (outlook, oldest_orphan) = tokio::try_join!(queue.outlook(), queue.oldest_orphan())?;
            let (snapshot, pressure) = (outlook.snapshot().clone(), outlook.pressure());
            Ok(Load { snapshot, pressure, oldest_orphan })
        };
        let rules = async { Ok(queue.rules().await?.into_values().collect()) };
        let campaigns = async { Ok(queue.open_campaigns().await?.campaigns) };
        let (load, nodes, rules, memory, durability, counts, campaigns) = tokio::join!(
            bounded(wait, load),
            bounded(wait, queue.nodes()),
            bounded(wait, rules),
            bounded(wait, async { Ok(queue.memory().await) }),
            bounded(wait, queue.durability()),
            bounded(wait, queue.counts()),
            bounded(wait, campaigns),
        );
        Self {
            load: load.ok(),
            nodes: nodes.ok(),
            rules: rules.ok(),
            memory: memory.ok().flatten(),
            durability: durability.ok().flatten(),
            counts: counts.ok(),
            campaigns: campaigns.ok(),
        }
    }

    pub(crate) fn is_there(&self) -> bool {
        self.load.is_some()
    }

    pub(crate) fn register(&self, registry: &mut Registry) {
        if let Some(Load { snapshot, pressure, oldest_orphan }) = &self.load {
            register_builds(registry, snapshot, pressure);
            register_lanes(registry, snapshot, pressure);
            register_processes(registry, snapshot);
            register_upkeep(registry, snapshot);
            let age = oldest_orphan.map_or(0.0, |since| age(snapshot, since));
            let help = shared("How long the oldest orphan has waited for a worker to adopt it");
            seconds(registry, "oldest_orphan", help, age);
        }
        if let Some(counts) = &self.counts {
            register_counts(registry, counts);
        }
        if let Some(campaigns) = &self.campaigns {
            register_campaigns(registry, campaigns);
        }
        if let Some(nodes) = &self.nodes {
            let hosts = nodes.iter().filter(|node| node.cluster == "process").count() as u64;
            let help =
                shared("Nodes, and hosts of process workers, that are avoided because builds fail there");
            let kinds = [("node", nodes.len() as u64 - hosts), ("host", hosts)];
            gauges(registry, "nodes_avoided", help, "kind", kinds);
        }
        if let Some(rules) = &self.rules {
            let count = |part: fn(&Rule) -> bool| rules.iter().filter(|rule| part(rule)).count() as u64;
            let kinds = [
                ("limit", count(|rule| !rule.together && (rule.limit.is_some() || rule.burst.is_some()))),
                ("shared_limit", count(|rule| rule.together)),
                ("hold", count(|rule| rule.hold.is_some())),
                ("ban", count(|rule| rule.ban.is_some())),
            ];
            gauges(registry, "rules", shared("Rules in force, by kind"), "kind", kinds);
        }
        if let Some(memory) = &self.memory {
            let help = shared("Memory that Redis uses; in a Cluster, of its fullest node");
            gauge(registry, "redis_memory_used_bytes", help, memory.used);
            let help = shared("Redis's maxmemory; 0 if unset");
            gauge(registry, "redis_memory_max_bytes", help, memory.max);
        }
        if let Some(durability) = &self.durability {
            let help = shared("Whether Redis has an append-only file");
            gauge(registry, "redis_append_only", help, durability.append_only.into());
            let help = shared("Whether Redis's latest write and rewrite of its append-only file succeeded");
            gauge(registry, "redis_append_only_ok", help, durability.writes.into());
        }
    }
}

/// Seconds since then, by Redis's clock.
fn age(snapshot: &Snapshot, since: u64) -> f64 {
    Duration::from_millis(snapshot.now.saturating_sub(since)).as_secs_f64()
}

fn register_builds(registry: &mut Registry, of: &Snapshot, pressure: &Pressure) {
    for (name, help, value) in [
        ("queued_builds", "Builds that wait", of.queued),
        ("startable_builds", "Builds that people wait for and that wait only for a slot", pressure.startable),
        ("leased_builds", "Builds leased to a worker: they start or run", of.leased),
        ("orphaned_builds", "Builds that wait for adoption", of.orphaned),
        ("ended_builds", "Ended builds that are still known", of.ended),
        ("background_builds", "Background builds that occupy a slot", of.background),
        ("background_builds_max", "Maximum number of background builds at once", of.background_max),
        ("people", "People who wait for a build, across all dispatchers", of.people),
    ] {
        gauge(registry, name, shared(help), value);
    }
    let help = "How long the longest-waiting build has waited, including held and background builds";
    seconds(registry, "oldest_wait", shared(help), of.oldest_asked.map_or(0.0, |asked| age(of, asked)));
    let oldest = pressure.oldest_startable.map_or(0.0, |asked| age(of, asked));
    let help =
        "How long the longest-waiting build has waited that people wait for and that waits only for a slot";
    seconds(registry, "oldest_startable_wait", shared(help), oldest);
    let help = "Builds that push to a registry, or wait until they may; counted while a push limit is set";
    gauges(
        registry,
        "pushes",
        shared(help),
        "state",
        [("pushing", of.pushing), ("waiting", of.push_waiting)],
    );
    if let Some(mean) = of.mean_ms {
        let mean = Duration::from_millis(mean).as_secs_f64();
        seconds(registry, "build_mean", shared("Mean duration of the latest builds"), mean);
    }
}

fn register_lanes(registry: &mut Registry, of: &Snapshot, pressure: &Pressure) {
    let waits = [
        ("ready", of.lanes_ready),
        ("burst", of.lanes_burst),
        ("full", of.lanes_full),
        ("held", of.lanes_held),
    ];
    let help = shared("Lanes with queued builds, by what they wait for");
    gauges(registry, "lanes", help, "waits_for", waits);
    let help = shared("People of the lane that most people wait for");
    gauge(registry, "lane_people_max", help, pressure.crowded.as_ref().map_or(0, |crowd| crowd.people));
    let help = shared("Running builds of the lane that has most of them");
    gauge(registry, "lane_running_builds_max", help, pressure.busiest.as_ref().map_or(0, |(_, runs)| *runs));
}

fn register_processes(registry: &mut Registry, of: &Snapshot) {
    for (name, help, value) in [
        ("slots", "Slots of live workers; drained and paused workers count only the slots in use", of.slots),
        ("workers", "Live workers", of.workers),
        ("workers_taking", "Live workers that accept builds; examined while no slot is free", of.taking),
        (
            "workers_paused",
            "Workers that have paused claiming, for example because the cluster is full",
            of.paused,
        ),
        ("dispatchers", "Live dispatchers", of.dispatchers),
    ] {
        gauge(registry, name, shared(help), value);
    }
}

fn register_upkeep(registry: &mut Registry, of: &Snapshot) {
    let help = "Builds and timers that could not be handled; fairlane doctor lists them";
    gauge(registry, "set_aside", shared(help), of.aside);
    gauge(registry, "logs_bytes", shared("Logs of ended builds in Redis"), of.logs_bytes);
    let help = "Inconsistencies in Redis that were repaired; the audit log lists them";
    counter(registry, "repairs", shared(help), of.repairs);
    let help = "Log lines dropped because Redis could not store them";
    counter(registry, "log_lines_missing", shared(help), of.log_lines_missing);
}

fn register_campaigns(registry: &mut Registry, of: &[Campaign]) {
    let sum = |part: fn(&Campaign) -> u64| of.iter().map(part).sum::<u64>();
    let states = CampaignState::ALL.iter().filter(|state| **state != CampaignState::Ended);
    let states =
        states.map(|state| (state.word(), of.iter().filter(|one| one.state == *state).count() as u64));
    let help = "Campaigns that have not ended, by state; of cancelled ones, the last builds run";
    gauges(registry, "campaigns", shared(help), "state", states);
    let items = ItemState::ALL.iter().map(|state| {
        let count = match state {
            ItemState::Waiting => sum(|one| one.waiting),
            ItemState::Building => sum(|one| one.building),
            ItemState::Joined => sum(|one| one.joined),
            ItemState::Built => sum(|one| one.built),
            ItemState::Present => sum(|one| one.present),
            ItemState::People => sum(|one| one.built_by_people),
            ItemState::Failed => sum(|one| one.failed),
            ItemState::Cancelled => sum(|one| one.cancelled),
        };
        (state.word(), count)
    });
    let help = "Items of campaigns that have not ended, by state";
    gauges(registry, "campaign_items", shared(help), "state", items);
    let launches = "Expected launches of campaigns that have not ended";
    gauge(registry, "campaign_launches", shared(launches), sum(|one| whole(one.launches)));
    let covered = "Expected launches of campaigns that have not ended whose images are there";
    gauge(registry, "campaign_launches_covered", shared(covered), sum(|one| whole(one.covered)));
    let left = Duration::from_millis(sum(|one| one.left_ms)).as_secs_f64();
    let help = "Slot time that the builds of campaigns are still expected to take";
    seconds(registry, "campaign_left", shared(help), left);
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a number of launches, 0 or more"
)]
fn whole(launches: f64) -> u64 {
    launches.round() as u64
}

/// Labels of ended builds. Class and cause are those of a failure, otherwise empty.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Ended {
    outcome: &'static str,
    class: &'static str,
    cause: &'static str,
}

/// Labels of failed runs that are retried.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Retried {
    class: &'static str,
    cause: &'static str,
}

/// What the queue counts itself: each event once, over all processes.
fn register_counts(registry: &mut Registry, of: &Counts) {
    let started = Family::<[(&'static str, &'static str); 1], Counter>::default();
    for priority in Priority::ALL {
        let count = of.started.get(priority).copied().unwrap_or(0);
        started.get_or_create(&[("priority", priority.word())]).inc_by(count);
    }
    registry.register(
        "builds_started",
        shared("Runs that were claimed, by priority; without adoptions"),
        started,
    );
    let ended = Family::<Ended, Counter>::default();
    for (outcome, count) in [("succeeded", of.succeeded), ("cancelled", of.cancelled)] {
        ended.get_or_create(&Ended { outcome, class: "", cause: "" }).inc_by(count);
    }
    for ((class, cause), count) in &of.failed {
        let labels = Ended { outcome: "failed", class: class.word(), cause: cause.word() };
        ended.get_or_create(&labels).inc_by(*count);
    }
    let help = "Builds that ended, by outcome, and for failures by class and by cause as in failures.md";
    registry.register("builds_ended", shared(help), ended);
    let retried = Family::<Retried, Counter>::default();
    for ((class, cause), count) in &of.retried {
        retried.get_or_create(&Retried { class: class.word(), cause: cause.word() }).inc_by(*count);
    }
    let help = "Failed runs that are followed by another one, by class and by cause as in failures.md";
    registry.register("retries", shared(help), retried);
    counter(registry, "leases_lost", shared("Leases that expired"), of.leases_lost);
    counter(registry, "adoptions", shared("Runs that another worker took over"), of.adopted);
}
