//! Campaigns: what operators do to them, and what is put into line.

use fairlane_common::campaign::Item;
use fairlane_common::queue::campaigns::{Campaign, CampaignState, Changed, ItemState, Pacing, PacingChange};

use super::{Broken, REPOS, State, World, ensure, invariants};
use crate::campaigns::{item, name, new};

const NAMES: [&str; 2] = ["spring", "autumn"];

impl World<'_> {
    async fn campaign(&self, campaign: &str) -> Option<Campaign> {
        let found = self.scene.queue.campaign(&name(campaign)).await.unwrap();
        found.map(|mut found| found.campaigns.remove(0))
    }

    /// An operator begins a campaign, or changes one.
    pub(super) async fn campaigns(&mut self, number: u8, kind: u8) -> Result<(), Broken> {
        let (campaign, queue) = (NAMES[usize::from(number) % 2], &self.scene.queue);
        let (id, none) = (name(campaign), PacingChange::default());
        if self.campaign(campaign).await.is_none() {
            // Some of their images are those of people.
            let repos = REPOS.iter().skip(usize::from(number) % 2);
            let items: Vec<_> = repos
                .flat_map(|repo| (1..4).map(move |commit| item(repo, commit)))
                .zip(1..)
                .map(|(item, at)| Item {
                    launches: f64::from(at) / 2.0,
                    expected_seconds: Some(60 * u64::from(at % 3_u32)),
                    ..item
                })
                .collect();
            let per_hour = (kind % 5 == 4).then_some(3);
            let pacing = Pacing { share: (kind % 4 == 3).then_some(0.3), per_hour, ..Pacing::default() };
            queue.new_campaign(&new(campaign, pacing), "model").await.unwrap();
            queue.add_items(&id, 0, &items).await.unwrap();
            queue.change_campaign(&id, Some(true), &none, "model").await.unwrap();
            return Ok(());
        }
        match kind % 8 {
            0 | 1 => {
                let changed = queue.change_campaign(&id, Some(false), &none, "model").await.unwrap();
                if matches!(changed, Changed::Changed(..)) {
                    invariants::check_nothing_starts(&State::read(self.scene).await, campaign)?;
                }
            }
            2..=5 => drop(queue.change_campaign(&id, Some(true), &none, "model").await.unwrap()),
            _ => {
                queue.cancel_campaign(&id, kind % 8 == 7, "model").await.unwrap();
                invariants::check_nothing_starts(&State::read(self.scene).await, campaign)?;
            }
        }
        Ok(())
    }

    /// A dispatcher feeds the campaigns.
    pub(super) async fn feed(&mut self) -> Result<(), Broken> {
        let before = State::read(self.scene).await;
        let fed = self.scene.queue.feed(&[]).await.unwrap().fed;
        let after = State::read(self.scene).await;
        let new = invariants::check_feed(&before, &after)?;
        ensure(new.len() as u64 == fed, || format!("{fed} builds were fed, and {} are new", new.len()))?;
        self.builds.extend(new);
        Ok(())
    }

    /// Once the trouble stops, all items of campaigns that were not cancelled are done.
    pub(super) async fn resume_campaigns(&mut self) {
        for campaign in NAMES {
            let open =
                self.campaign(campaign).await.is_some_and(|campaign| campaign.state == CampaignState::Paused);
            if open {
                let none = PacingChange::default();
                self.scene.queue.change_campaign(&name(campaign), Some(true), &none, "model").await.unwrap();
            }
        }
    }

    pub(super) async fn campaigns_are_over(&self) -> Result<bool, Broken> {
        for campaign in NAMES {
            let Some(found) = self.campaign(campaign).await else { continue };
            if found.ended.is_none() && found.pacing.per_hour.is_none() {
                return Ok(false);
            }
            if found.state != CampaignState::Ended {
                continue;
            }
            let items = self.scene.items_of(campaign, None).await;
            let done = items.iter().filter(|item| item.done.is_some()).count();
            ensure(items.len() as u64 == found.items && done == items.len(), || {
                format!("{done} of {} items of {campaign} are done: {found:?}", items.len())
            })?;
            let built = items.iter().filter(|item| item.state == ItemState::Built).count();
            ensure(built as u64 == found.built, || format!("{built} items were built: {found:?}"))?;
        }
        Ok(true)
    }
}
