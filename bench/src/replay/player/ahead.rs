//! The campaign of a replay: builds ahead in the background.

use anyhow::{Result, bail};
use fairlane_common::Priority;
use fairlane_common::queue::Submitted;

use super::Player;

impl Player<'_> {
    /// Puts the campaign's next builds into line, each only when it can start at once, and starts them.
    pub(super) async fn build_ahead(&mut self, now: u64) -> Result<()> {
        let mut next = 0;
        while let Some(spec) = self.ahead.get(next).copied() {
            if self.promises.free() == 0 {
                break;
            }
            let image = &self.images[spec];
            if image.built || image.build.is_some() {
                // People were faster.
                self.ahead.remove(next);
            } else if self.promises.has_room(self.day.specs[spec].lane) {
                self.ahead.remove(next);
                self.feed(spec, now).await?;
                self.start(now).await?;
            } else {
                next += 1;
            }
        }
        Ok(())
    }

    async fn feed(&mut self, spec: usize, now: u64) -> Result<()> {
        let submit = self.request(spec, "after", Priority::Background)?;
        match self.queue.submit(&submit).await? {
            Submitted::New(build) => {
                self.promises.fed(build.id, self.day.specs[spec].lane, now, build.expected_ms);
                self.see_lane(spec).await
            }
            other => {
                bail!("the campaign's build of {} was not admitted: {other:?}", self.day.specs[spec].name)
            }
        }
    }
}
