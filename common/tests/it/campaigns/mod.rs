//! Campaigns: lists of builds that are made in the background.

mod control;
mod ends;
mod feeding;
mod pacing;

use fairlane_common::campaign::Item;
use fairlane_common::queue::campaigns::{
    Added, Campaign, CampaignName, Changed, ItemState, ItemView, Made, NewCampaign, Pacing, PacingChange,
};
use fairlane_common::{Build, BuildId};

use crate::scene::{Scene, ask};

pub(crate) fn name(text: &str) -> CampaignName {
    text.parse().unwrap()
}

/// The item for what `ask` asks for.
pub(crate) fn item(repo: &str, commit: u32) -> Item {
    let spec = ask(repo, commit).spec;
    Item { push: false, ..Item::new(spec.repo, spec.reference, spec.image) }
}

/// Items of as many repositories.
pub(crate) fn items(count: u32) -> Vec<Item> {
    (0..count).map(|number| item(&format!("o/n{number}"), 1)).collect()
}

pub(crate) fn new(campaign: &str, pacing: Pacing) -> NewCampaign {
    NewCampaign {
        name: name(campaign),
        request: format!("the first of {campaign}"),
        launches: None,
        launches_present: 0.0,
        pacing,
        standing: false,
    }
}

impl Scene {
    /// A campaign that runs.
    pub(crate) async fn campaign(&self, campaign: &str, items: &[Item], pacing: Pacing) {
        let made = self.queue.new_campaign(&new(campaign, pacing), "test").await.unwrap();
        assert_eq!(made, Made::Made);
        let count = items.len() as u64;
        assert_eq!(self.queue.add_items(&name(campaign), 0, items).await.unwrap(), Added::Added(count));
        self.set_campaign(campaign, true).await;
    }

    pub(crate) async fn set_campaign(&self, campaign: &str, running: bool) -> u64 {
        let none = PacingChange::default();
        match self.queue.change_campaign(&name(campaign), Some(running), &none, "test").await.unwrap() {
            Changed::Changed(_, taken_back) => taken_back,
            other => panic!("{other:?}"),
        }
    }

    /// How many builds a call of `feed` makes.
    pub(crate) async fn feed(&self) -> u64 {
        self.queue.feed(&[]).await.unwrap().fed
    }

    /// What a call of `feed` makes.
    pub(crate) async fn fed(&self) -> Vec<Build> {
        let before = self.queued().await;
        self.feed().await;
        let mut builds = vec![];
        for id in self.queued().await.into_iter().filter(|id| !before.contains(id)) {
            builds.push(self.build(id).await);
        }
        builds
    }

    async fn queued(&self) -> Vec<BuildId> {
        let ids: Vec<String> = self.redis(&["ZRANGE", &self.queue.keys().queued(), "0", "-1"]).await;
        ids.iter().map(|id| id.parse().unwrap()).collect()
    }

    pub(crate) async fn view(&self, campaign: &str) -> Campaign {
        self.queue.campaign(&name(campaign)).await.unwrap().unwrap().campaigns.remove(0)
    }

    /// Why a campaign makes no build.
    pub(crate) async fn waits(&self, campaign: &str) -> String {
        self.view(campaign).await.waits.unwrap_or_default()
    }

    pub(crate) async fn items_of(&self, campaign: &str, state: Option<ItemState>) -> Vec<ItemView> {
        self.queue.campaign_items(&name(campaign), state, 0, 200).await.unwrap().0
    }
}
