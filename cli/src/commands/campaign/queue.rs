//! What plans ask a dispatcher.

use std::cell::RefCell;
use std::collections::HashMap;
use std::time::Duration;

use anyhow::Result;
use fairlane_campaign::planning;
use fairlane_campaign::rank::Candidate;
use fairlane_campaign::source::Hosts;
use fairlane_clikit::output::{Output, Tone};
use fairlane_common::build::{BuildState, Priority};
use fairlane_common::queue::campaigns::{CampaignName, EXPECTED_S};
use fairlane_common::repo::Lane;
use fairlane_dispatcher::api::{CampaignList, CampaignView, LaneView, QueueView, Totals};

use super::super::builds::{self, Wanted};
use super::super::lists::{PAGE, PAGES_MAX};
use super::PATH;
use crate::args::Reach;
use crate::client::Client;

/// Recent builds that show which prefix is in use.
const RECENT: usize = 200;

/// The dispatcher that answers, and what it said.
pub(super) struct Queue {
    pub(super) client: Client,
    pub(super) totals: Totals,
    /// Expected seconds by lane.
    known: RefCell<HashMap<Lane, u64>>,
}

impl Queue {
    /// Asks a dispatcher.
    ///
    /// # Errors
    /// When none answers, or it refuses.
    pub(super) async fn of(reach: Reach) -> Result<Self> {
        let client = Client::new(reach)?;
        let view = client.get::<QueueView>("v1/queue", &[]).await?;
        Ok(Self { client, totals: view.totals, known: RefCell::default() })
    }

    /// The campaign of this name, if it is among those that the dispatcher lists.
    pub(super) async fn campaign(&self, name: &CampaignName) -> Result<Option<CampaignView>> {
        let list: CampaignList = self.client.get(PATH, &[]).await?;
        Ok(list.campaigns.into_iter().find(|campaign| campaign.name == name.as_str()))
    }

    /// How long a build of this lane is expected to take, in seconds.
    pub(super) async fn expected(&self, lane: &Lane) -> u64 {
        if let Some(known) = self.known.borrow().get(lane) {
            return *known;
        }
        let mean = self.totals.mean_seconds.unwrap_or(EXPECTED_S);
        let view = self.client.get::<LaneView>(&format!("v1/lanes/{lane}"), &[]).await;
        let seconds = view.ok().and_then(|view| view.mean_seconds).unwrap_or(mean);
        self.known.borrow_mut().insert(lane.clone(), seconds);
        seconds
    }

    /// Whether recent builds have images with this prefix.
    pub(super) async fn uses(&self, prefix: &str) -> Result<bool> {
        let (recent, _) = builds::list(&self.client, &Wanted { limit: RECENT, ..Wanted::default() }).await?;
        Ok(recent.iter().any(|build| is_of(&build.image, prefix)))
    }

    /// What was built for people within this time, as candidates: each build is one launch.
    pub(super) async fn launched(
        &self,
        within: Duration,
        current: &str,
        hosts: &Hosts,
        output: Output,
    ) -> Result<Vec<Candidate>> {
        let since = builds::since(&self.client, within).await;
        let limit = (PAGE * PAGES_MAX) as usize;
        let wanted = Wanted { state: Some(BuildState::Succeeded), since, limit, ..Wanted::default() };
        let (built, more) = builds::list(&self.client, &wanted).await?;
        if more {
            output.talk(&format!("Only the latest {limit} builds are considered."));
        }
        let days = (within.as_secs_f64() / 86_400.0).max(1.0);
        let (mut found, mut foreign): (HashMap<String, Candidate>, usize) = (HashMap::new(), 0);
        for build in built.iter().filter(|build| build.priority == Priority::Interactive) {
            match planning::built(&build.repo, &build.reference, &build.image, current, hosts) {
                Some(new) => {
                    let spec = new.spec.clone();
                    found.entry(spec).or_insert(Candidate { launches: 0.0, ..new }).launches += 1.0 / days;
                }
                None => foreign += 1,
            }
        }
        if foreign > 0 {
            let warning = output.paint_talk(Tone::Warning, "warning:");
            output.talk(&format!(
                "{warning} {foreign} builds have no image that BinderHub makes with the prefix '{current}'; they are left out"
            ));
        }
        Ok(found.into_values().collect())
    }
}

/// Whether an image's name consists of this prefix and what `BinderHub` adds: a slug, a hash and a tag.
fn is_of(image: &str, prefix: &str) -> bool {
    let name = image.strip_prefix(prefix).and_then(|rest| rest.split_once(':')).map(|(name, _)| name);
    let hash = name.and_then(|name| name.rsplit_once('-')).filter(|(slug, _)| !slug.contains('/'));
    hash.is_some_and(|(_, hash)| hash.len() == 6 && hash.bytes().all(|byte| byte.is_ascii_hexdigit()))
}
