//! `fairlane campaign watch`: popular images stay fresh.

use std::collections::{BTreeSet, HashSet};

use anyhow::Result;
use fairlane_campaign::events::Launch;
use fairlane_campaign::follow::Follow;
use fairlane_campaign::planning::{self, Planned, Terms};
use fairlane_campaign::rank::{self, Candidate};
use fairlane_clikit::exit::{self, Exit, Stop};
use fairlane_clikit::human;
use fairlane_clikit::output::{Output, Tone};
use fairlane_common::campaign::Item;
use fairlane_common::id::{BuildId, Image};
use fairlane_common::queue::campaigns::{Pacing, PacingChange};
use fairlane_common::repo::Lane;
use fairlane_dispatcher::api::{CampaignRequest, CampaignState, CampaignView};
use fairlane_worker::RegistryCheck;
use reqwest::Method;
use serde_json::{Map, Value, json};

use super::plan::{check_prefix, tell_bad, tell_skipped};
use super::queue::Queue;
use super::start::add;
use super::{PATH, items, path};
use crate::args::CampaignWatch;

/// Runs the command.
pub(super) async fn run(args: CampaignWatch, output: Output) -> Result<Exit> {
    check_prefix(&args.prefix)?;
    let pacing = args.pacing.read()?;
    let follow = Follow::open(&args.events, args.days.into())?;
    let check = args.registry.check().map_err(|error| Stop::usage(exit::in_full(&error)))?;
    let mut watch = Watch {
        args,
        pacing,
        is_paced: false,
        output,
        follow,
        check,
        known: HashSet::new(),
        told: BTreeSet::new(),
    };
    tokio::select! {
        end = watch.rounds() => end,
        _ = tokio::signal::ctrl_c() => Ok(Exit::Interrupted),
    }
}

struct Watch {
    args: CampaignWatch,
    pacing: Pacing,
    /// Whether the campaign has got it: operators may change it later.
    is_paced: bool,
    output: Output,
    follow: Follow,
    check: RegistryCheck,
    /// Images of the campaign's items.
    known: HashSet<String>,
    /// Specs that cannot be built, and why, which were reported.
    told: BTreeSet<(String, &'static str)>,
}

impl Watch {
    async fn rounds(&mut self) -> Result<Exit> {
        loop {
            match self.round().await {
                Ok(Some(end)) => return Ok(end),
                Ok(None) if self.args.once => return Ok(Exit::Good),
                Ok(None) => {}
                // A dispatcher may come back; what was not handed over is tried again.
                Err(error) if !self.args.once && exit::of(&error) == Exit::Unreachable => {
                    self.output.talk(&exit::in_full(&error));
                }
                Err(error) => return Err(error),
            }
            tokio::time::sleep(self.args.every).await;
        }
    }

    /// Looks for new commits of the specs that are launched most, and hands them over. `Some` if that is to end.
    async fn round(&mut self) -> Result<Option<Exit>> {
        for bad in self.follow.read()? {
            tell_bad(&bad, self.output);
        }
        let queue = Queue::of(self.args.reach.clone()).await?;
        let campaign = self.campaign(&queue).await?;
        if let Some(campaign) =
            campaign.as_ref().filter(|campaign| campaign.state == CampaignState::Cancelled)
        {
            self.output.talk(&format!(
                "{} is cancelled, so it builds nothing more; another --name begins anew.",
                campaign.name
            ));
            return Ok(Some(Exit::Cancelled));
        }
        let mut planned = self.plan(&queue).await;
        planned.skipped.retain(|one| one.reason != planning::PRESENT);
        planned.skipped.retain(|one| self.told.insert((one.spec.clone(), one.reason)));
        tell_skipped(&planned, self.output);
        if !planned.items.is_empty() {
            self.hand_over(&queue, campaign, &planned.items).await?;
        }
        Ok(None)
    }

    /// The campaign, if it was begun; and its images are known.
    async fn campaign(&mut self, queue: &Queue) -> Result<Option<CampaignView>> {
        let name = &self.args.name;
        let Some(mut campaign) = queue.campaign(name).await? else {
            // Also if Redis was emptied.
            self.known.clear();
            return Ok(None);
        };
        if !campaign.standing {
            let message =
                format!("the campaign '{name}' is not one of `watch`; choose another name with --name");
            return Err(Stop::usage(message).into());
        }
        if campaign.state == CampaignState::Cancelled {
            return Ok(Some(campaign));
        }
        let pacing = &self.pacing;
        if !std::mem::replace(&mut self.is_paced, true) && *pacing != campaign.pacing {
            let body = json!({ "pacing": in_full(pacing)? });
            campaign = queue.client.send(Method::PATCH, &path(name), &[], Some(&body)).await?;
        }
        // Another one may add to it, too.
        if campaign.items != self.known.len() as u64 {
            let all = items(&queue.client, name, None).await?;
            self.known = all.into_iter().map(|item| item.image).collect();
        }
        Ok(Some(campaign))
    }

    /// The new images of the specs that are launched most, best first.
    async fn plan(&mut self, queue: &Queue) -> Planned {
        let launches = self.follow.launches();
        let mut candidates = rank::expected(launches, self.args.half_life.as_secs_f64() / 86_400.0);
        candidates.truncate(self.args.top.into());
        let (git, prefix) = (&self.args.git, self.args.prefix.clone());
        let terms =
            Terms { prefix, hosts: git.hosts(), resolve: None, top: None, share: None, slot_seconds: None };
        let mut there = HashSet::new();
        if !self.check.is_on() {
            let specs: HashSet<&str> = candidates.iter().map(|one| one.spec.as_str()).collect();
            let launched = launched(launches, &specs);
            let built = planning::plan(&launched, &terms, async |_: &Lane| 0, async |_: &Image| false).await;
            there.extend(built.items.into_iter().map(|item| item.image));
        }
        let (known, check) = (&self.known, &self.check);
        let has = async |image: &Image| {
            known.contains(image.as_str()) || there.contains(image) || check.is_there(image, None).await
        };
        let terms = Terms { resolve: Some(git.limits()), ..terms };
        planning::plan(&candidates, &terms, async |lane: &Lane| queue.expected(lane).await, has).await
    }

    /// Makes builds of the campaign, which begins with the first ones.
    async fn hand_over(&mut self, queue: &Queue, before: Option<CampaignView>, items: &[Item]) -> Result<()> {
        let name = &self.args.name;
        let before = match before {
            Some(campaign) => campaign,
            None => self.begin(queue).await?,
        };
        if let Err(error) = add(&queue.client, name, before.items, items).await {
            let now = queue.campaign(name).await?;
            // Another process adds to it, too: the next round knows what.
            return if now.is_some_and(|now| now.items != before.items) { Ok(()) } else { Err(error) };
        }
        self.known.extend(items.iter().map(|item| item.image.to_string()));
        if self.output.is_json() {
            self.output.json(&json!({ "campaign": name, "items": items }));
        } else {
            let line = format!("{name} builds {}", human::many(items.len() as u64, "new image"));
            self.output.data(&self.output.paint(Tone::Good, &line));
        }
        Ok(())
    }

    async fn begin(&self, queue: &Queue) -> Result<CampaignView> {
        let request = CampaignRequest {
            name: self.args.name.to_string(),
            request: Some(BuildId::new().to_string()),
            launches: None,
            launches_present: None,
            pacing: Some(self.pacing.clone()),
            standing: true,
            items: Vec::new(),
            state: Some(CampaignState::Running),
        };
        let body = serde_json::to_value(&request)?;
        queue.client.send(Method::POST, PATH, &[], Some(&body)).await
    }
}

/// What was launched of these specs, at which refs: each once.
fn launched(launches: &[Launch], specs: &HashSet<&str>) -> Vec<Candidate> {
    let of_them = launches.iter().filter(|launch| specs.contains(launch.spec.as_str()));
    let found: HashSet<(&str, &str)> =
        of_them.filter_map(|launch| Some((launch.spec.as_str(), launch.reference.as_deref()?))).collect();
    let candidate = |(spec, reference): (&str, &str)| Candidate {
        spec: spec.to_owned(),
        launches: 1.0,
        reference: Some(reference.to_owned()),
    };
    found.into_iter().map(candidate).collect()
}

/// A pacing as a change: what it does not limit is null.
fn in_full(pacing: &Pacing) -> Result<Value> {
    let mut fields: Map<String, Value> =
        PacingChange::FIELDS.iter().map(|field| ((*field).to_owned(), Value::Null)).collect();
    if let Value::Object(set) = serde_json::to_value(pacing)? {
        fields.extend(set);
    }
    Ok(Value::Object(fields))
}
