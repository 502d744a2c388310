//! Looking at campaigns.

use std::collections::HashMap;
use std::fmt;

use super::super::Queue;
use super::super::why::span;
use super::item::CampaignName;
use super::pacing::Pacing;
use super::state::CampaignState;
use crate::error::{Error, Result};
use crate::id::BuildId;
use crate::library::CAMPAIGNS_VIEW;
use crate::limits;
use crate::queue::script::{Args, Reply};

/// A campaign. Times are Unix milliseconds of Redis's clock.
#[derive(Debug, Clone, PartialEq)]
pub struct Campaign {
    /// Its name.
    pub name: CampaignName,
    /// Its state.
    pub state: CampaignState,
    /// Who created it.
    pub by: String,
    /// When it was created.
    pub created: u64,
    /// When it was started.
    pub started: Option<u64>,
    /// When it ended.
    pub ended: Option<u64>,
    /// Who paused, resumed or cancelled it last, and when.
    pub set: Option<(String, u64)>,
    /// How fast it may go.
    pub pacing: Pacing,
    /// Whether it goes on until it is cancelled.
    pub standing: bool,
    /// Why it makes no build at the moment: one sentence. `None` if it does, or has ended.
    pub waits: Option<String>,
    /// All expected launches.
    pub launches: f64,
    /// Expected launches whose image is there.
    pub covered: f64,
    /// Of these, those whose image was there before it.
    pub covered_before: f64,
    /// Of these, those whose image it built itself.
    pub covered_by_it: f64,
    /// How many items it has.
    pub items: u64,
    /// How many of them wait.
    pub waiting: u64,
    /// How many are in line or run.
    pub building: u64,
    /// How many of these are in line; only known if one campaign was asked for.
    pub in_line: Option<u64>,
    /// Of how many the image is being built because somebody asked for it.
    pub joined: u64,
    /// How many it built.
    pub built: u64,
    /// Of how many the image was in the registry already.
    pub present: u64,
    /// Of how many the image was built because somebody asked for it.
    pub built_by_people: u64,
    /// How many failed.
    pub failed: u64,
    /// Of how many the build was cancelled.
    pub cancelled: u64,
    /// How long the builds of all items that are not done are expected to take, in milliseconds.
    pub left_ms: u64,
    /// How long its builds occupied a slot, in milliseconds.
    pub slot_ms: u64,
    /// Builds that it has put into line and that have not ended (some of them), by the number of their item.
    pub builds: Vec<(u64, BuildId)>,
}

impl Campaign {
    /// Which part of all expected launches finds its image.
    pub fn coverage(&self) -> f64 {
        if self.launches > 0.0 { (self.covered / self.launches).min(1.0) } else { 1.0 }
    }

    /// How many items are done.
    pub fn done(&self) -> u64 {
        self.built + self.present + self.built_by_people + self.failed + self.cancelled
    }

    /// How long it still takes if it makes builds all the time, given all slots and how many of them background builds
    /// may have; `None` if it can make none.
    pub fn time_left_ms(&self, slots: u64, background_max: u64) -> Option<u64> {
        let share = self.pacing.share.map_or(u64::MAX, |share| portion(slots, share));
        let at_once = share.min(background_max);
        if at_once == 0 || slots == 0 {
            return None;
        }
        // The last ones run beside nothing.
        let by_slots = self.left_ms.div_ceil(at_once.min(self.waiting + self.building).max(1));
        let by_hour =
            self.pacing.per_hour.map_or(0, |most| self.waiting * 3_600_000 / u64::from(most.max(1)));
        Some(by_slots.max(by_hour))
    }
}

/// A part of a number of slots: at least one.
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "slots are few"
)]
fn portion(slots: u64, share: f64) -> u64 {
    ((slots as f64 * share) as u64).max(1)
}

/// Some or all campaigns, and what they are paced by.
#[derive(Debug, Clone, PartialEq)]
pub struct Campaigns {
    /// When they were read.
    pub now: u64,
    /// All slots.
    pub slots: u64,
    /// How many background builds may run at once.
    pub background_max: u64,
    /// The campaigns, newest first.
    pub campaigns: Vec<Campaign>,
    /// Names of those that cannot be read.
    pub unreadable: Vec<String>,
}

impl Queue {
    /// All campaigns of the last 30 days, newest first (200 at most).
    pub async fn campaigns(&self) -> Result<Campaigns> {
        self.view("", false, limits::PAGE).await
    }

    /// Those that have not ended, newest first.
    pub async fn open_campaigns(&self) -> Result<Campaigns> {
        self.view("", true, limits::PAGE).await
    }

    /// A campaign, or `None` if none has that name. (It is the only one of the answer.)
    pub async fn campaign(&self, name: &CampaignName) -> Result<Option<Campaigns>> {
        let found = self.view(name.as_str(), false, 1).await?;
        if let Some(bad) = found.unreadable.first() {
            return Err(Error::Unreadable(format!("campaign {bad}")));
        }
        Ok(Some(found).filter(|found| !found.campaigns.is_empty()))
    }

    async fn view(&self, name: &str, open: bool, most: usize) -> Result<Campaigns> {
        let args = Args::new().text("name", name).flag("open", open).show("most", most);
        let mut reply = self.call(&CAMPAIGNS_VIEW, args).await?;
        if reply.tag != "campaigns" {
            return Err(reply.unknown());
        }
        let now = reply.parse("now")?;
        let mut unreadable: Vec<String> = reply.get("unreadable")?;
        let mut campaigns = Vec::new();
        for mut one in reply.items("campaigns")? {
            let name: String = one.get("name")?;
            match campaign(&mut one, &name, now) {
                Ok(campaign) => campaigns.push(campaign),
                Err(_) => unreadable.push(name),
            }
        }
        Ok(Campaigns {
            now,
            slots: reply.parse("slots")?,
            background_max: reply.parse("background_max")?,
            campaigns,
            unreadable,
        })
    }
}

fn campaign(one: &mut Reply, name: &str, now: u64) -> Result<Campaign> {
    let fields: Vec<String> = one.get("fields")?;
    let mut fields: HashMap<&str, &str> =
        fields.chunks_exact(2).map(|pair| (pair[0].as_str(), pair[1].as_str())).collect();
    let bad =
        |field: &str, why: &dyn fmt::Display| Error::Corrupt(format!("campaign {name}: {field}: {why}"));
    let mut take = |field: &str| fields.remove(field).filter(|text| !text.is_empty());
    let text = |text: Option<&str>| text.unwrap_or_default().to_owned();
    let state: CampaignState = take("state").unwrap_or_default().parse().map_err(|e| bad("state", &e))?;
    let count = |text: Option<&str>| {
        text.and_then(|text| text.parse::<i64>().ok()).map_or(0, |n| n.max(0).cast_unsigned())
    };
    let number = |text: Option<&str>| text.and_then(|text| text.parse::<f64>().ok());
    let present = number(take("present_before")).unwrap_or(0.0);
    let of_items = number(take("item_launches")).unwrap_or(0.0);
    let set = take("set_by").map(ToOwned::to_owned).zip(take("set_at").and_then(|at| at.parse().ok()));
    let waits = waits(state, take("why").unwrap_or_default(), set.as_ref(), now);
    let pacing = Pacing {
        share: number(take("share")),
        per_hour: take("per_hour").and_then(|text| text.parse().ok()),
        pause_when_waiting_ms: take("pause_when_waiting").and_then(|text| text.parse().ok()),
        hours: take("hours").and_then(|text| text.parse().ok()),
        time_zone: take("time_zone").map(ToOwned::to_owned),
    };
    let builds: Vec<Vec<String>> = one.get("builds")?;
    let builds =
        builds.iter().filter_map(|pair| Some((pair.first()?.parse().ok()?, pair.get(1)?.parse().ok()?)));
    Ok(Campaign {
        name: name.parse()?,
        state,
        by: text(take("by")),
        created: count(take("created")),
        started: take("started").and_then(|at| at.parse().ok()),
        ended: take("ended").and_then(|at| at.parse().ok()),
        set,
        pacing,
        standing: take("standing").is_some(),
        waits,
        launches: number(take("launches")).unwrap_or(of_items + present),
        covered: number(take("covered")).unwrap_or(0.0),
        covered_before: present,
        covered_by_it: number(take("covered_built")).unwrap_or(0.0),
        items: count(take("items")),
        waiting: one.parse("todo")?,
        building: one.parse("open")?,
        in_line: one.maybe("in_line")?,
        joined: one.parse("joined")?,
        built: count(take("built")),
        present: count(take("present")),
        built_by_people: count(take("people")),
        failed: count(take("failed")),
        cancelled: count(take("cancelled")),
        left_ms: count(take("left_ms")),
        slot_ms: count(take("slot_ms")),
        builds: builds.collect(),
    })
}

/// What feed.lua says, as a sentence.
fn waits(state: CampaignState, why: &str, set: Option<&(String, u64)>, now: u64) -> Option<String> {
    let mut words = why.split(' ');
    let (code, number) =
        (words.next().unwrap_or_default(), words.next().and_then(|text| text.parse::<u64>().ok()));
    let left = || span(number.unwrap_or(now).saturating_sub(now));
    let text = match (state, code) {
        (CampaignState::Loading, _) => "its items are still being loaded, or it was not started".to_owned(),
        (CampaignState::Paused, _) => match set {
            Some((by, at)) => format!("paused by {by} {} ago", span(now.saturating_sub(*at))),
            None => "paused before it was started".to_owned(),
        },
        (CampaignState::Ended | CampaignState::Cancelled, _) | (_, "") => return None,
        (_, "hours") => "outside its hours".to_owned(),
        (_, "per-hour") => format!("its limit per hour is reached; the next build may start in {}", left()),
        (_, "people") => format!("people wait for a slot; it goes on in {} if they do not any more", left()),
        (_, "share") => format!("{} of its builds run, its share of the slots", number.unwrap_or(0)),
        (_, "slots") => match number.unwrap_or(0) {
            0 => "no slot is free".to_owned(),
            1 => "the last free slot is kept for people".to_owned(),
            free => format!("the last {free} free slots are kept for people"),
        },
        (_, "background") if number == Some(0) => "the policy's background share is 0".to_owned(),
        (_, "background") => {
            format!(
                "background builds running: {}, as many as the policy's background share allows",
                number.unwrap_or(0)
            )
        }
        (_, "line") => "builds in line are about to start".to_owned(),
        (_, "lanes") => "its next repositories are at their limits, held or banned".to_owned(),
        (_, "idle") => "it waits for new items".to_owned(),
        (_, "last") => "its last builds are running".to_owned(),
        (_, "refilling") => "Redis was emptied, and workers register their runs".to_owned(),
        _ => "it cannot be read; `fairlane doctor` says why".to_owned(),
    };
    Some(text)
}
