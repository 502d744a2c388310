//! The campaign of a replay: builds ahead in the background.

use anyhow::{Result, ensure};
use fairlane_common::campaign::Item;
use fairlane_common::queue::campaigns::{
    Added, CampaignName, Changed, ITEMS_AT_ONCE, Made, NewCampaign, Pacing, PacingChange,
};
use fairlane_common::{Build, Priority};

use super::Player;

impl Player<'_> {
    /// Starts a campaign that builds these specs, best first.
    pub(super) async fn begin_campaign(&mut self, specs: &[usize]) -> Result<()> {
        if specs.is_empty() {
            return Ok(());
        }
        let name: CampaignName = "ahead".parse()?;
        let new = NewCampaign {
            name: name.clone(),
            request: "replay".to_owned(),
            launches: None,
            launches_present: 0.0,
            pacing: Pacing::default(),
            standing: false,
        };
        let made = self.queue.new_campaign(&new, "replay").await?;
        ensure!(made == Made::Made, "the campaign was not created: {made:?}");
        let mut first = 0;
        for part in specs.chunks(ITEMS_AT_ONCE) {
            let items = part.iter().map(|spec| self.item(*spec)).collect::<Result<Vec<_>>>()?;
            let added = self.queue.add_items(&name, first, &items).await?;
            first += part.len() as u64;
            ensure!(added == Added::Added(first), "the campaign's builds were not added: {added:?}");
        }
        let set = self.queue.change_campaign(&name, Some(true), &PacingChange::default(), "replay").await?;
        ensure!(matches!(set, Changed::Changed(..)), "the campaign was not started: {set:?}");
        self.has_campaign = true;
        Ok(())
    }

    fn item(&self, spec: usize) -> Result<Item> {
        let spec = self.request(spec, "after", Priority::Background)?.spec;
        Ok(Item { push: spec.push, ..Item::new(spec.repo, spec.reference, spec.image) })
    }

    /// Lets the campaign put builds into line, only as many as can start at once, and starts them.
    pub(super) async fn build_ahead(&mut self, now: u64) -> Result<()> {
        while self.has_campaign {
            let fed = self.queue.feed(&[]).await?;
            self.has_campaign = fed.open > 0;
            self.fed += fed.fed;
            if fed.fed == 0 {
                break;
            }
            self.start(now).await?;
            if self.fed > 0 {
                self.promises.note(format!("{} builds of the campaign could not start at once", self.fed));
                self.fed = 0;
            }
        }
        Ok(())
    }

    /// A build of the campaign is about to start: the record of it begins here, because its id was made in Redis.
    pub(super) fn starts_ahead(&mut self, build: &Build, lane: usize, now: u64) {
        self.fed = self.fed.saturating_sub(1);
        if !self.promises.has_room(lane) {
            self.promises.note(format!("build {} of the campaign was started where it must not", build.id));
        }
        self.promises.fed(build.id, lane, now, build.expected);
    }
}
