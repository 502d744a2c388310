//! Campaigns: named lists of builds made in the background, such as the renewal of an image cache.
//!
//! A campaign's items do not stand in line. [`Queue::feed`], which every dispatcher calls about once a second, puts
//! an item into line when its build could start at that moment, and a quarter of the slots would stay free. So people
//! never find a campaign's builds before them, a pause takes effect at once, and 100,000 items do not slow the queue
//! down.

mod feed;
mod item;
mod items;
mod pacing;
mod state;
mod view;

pub use feed::{CampaignHours, Fed, Window};
pub use item::{CampaignName, EXPECTED_S, ITEMS_AT_ONCE, ITEMS_MAX};
pub use items::{Done, ItemView};
pub use pacing::{Hours, Pacing, PacingChange};
pub use state::{CampaignState, ItemState};
pub use view::{Campaign, Campaigns};

use super::{By, Queue};
use crate::campaign::Item;
use crate::error::Result;
use crate::library::{CAMPAIGN_ADD, CAMPAIGN_CANCEL, CAMPAIGN_NEW, CAMPAIGN_SET};
use crate::queue::script::{Args, Reply};

/// A campaign to be made.
#[derive(Debug, Clone)]
pub struct NewCampaign {
    /// Its name.
    pub name: CampaignName,
    /// A random text, the same in a repeated call.
    pub request: String,
    /// All expected launches, also of specs that the plan left out; `None`: those of its items.
    pub launches: Option<f64>,
    /// Expected launches whose images are there already.
    pub launches_present: f64,
    /// How fast it may go.
    pub pacing: Pacing,
    /// Whether it goes on until it is cancelled, and gets new items now and then.
    pub standing: bool,
}

/// What became of a new campaign.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Made {
    /// It is there, and waits for its items.
    Made,
    /// Another one has its name; its state.
    Exists(CampaignState),
    /// There are as many as there may be.
    Full(u64),
}

/// What became of items.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Added {
    /// They are there; how many items the campaign has.
    Added(u64),
    /// No campaign has that name.
    Unknown,
    /// It has ended.
    Ended(CampaignState),
    /// It has another number of items than the caller thinks.
    Misfit(u64),
    /// Two items are of one image: which of these, and the number of the other one.
    Duplicate(usize, u64),
    /// It would have more items than it may.
    Full(u64),
}

/// What became of a campaign that was to be changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Changed {
    /// Its state now, and how many of its builds were taken out of line.
    Changed(CampaignState, u64),
    /// No campaign has that name.
    Unknown,
    /// It has ended.
    Ended(CampaignState),
}

/// What became of a campaign that was to be cancelled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CampaignCancelled {
    /// It is cancelled.
    Cancelled {
        /// Items that will not be built.
        dropped: u64,
        /// Running builds that are being stopped.
        stopping: u64,
        /// Running builds that finish.
        left: u64,
    },
    /// No campaign has that name.
    Unknown,
    /// It had ended.
    Ended(CampaignState),
}

impl Queue {
    /// Begins a campaign. It gets its items with [`Self::add_items`], and feeds nothing before it is set to running.
    pub async fn new_campaign<'a>(&self, new: &NewCampaign, by: impl Into<By<'a>>) -> Result<Made> {
        let args = Args::new()
            .text("name", new.name.as_str())
            .text("request", &new.request)
            .maybe("launches", new.launches)
            .show("present", new.launches_present)
            .flag("standing", new.standing)
            .by(by.into())
            .with(pacing_words(new.pacing.fields()));
        let mut reply = self.call(&CAMPAIGN_NEW, args).await?;
        match reply.tag.as_str() {
            "made" => Ok(Made::Made),
            "exists" => Ok(Made::Exists(reply.parse("state")?)),
            "full" => Ok(Made::Full(reply.parse("max")?)),
            _ => Err(reply.unknown()),
        }
    }

    /// Adds items to a campaign that has `first` of them, at most [`ITEMS_AT_ONCE`]. A repeated call adds nothing.
    pub async fn add_items(&self, name: &CampaignName, first: u64, items: &[Item]) -> Result<Added> {
        let args = Args::new().text("name", name.as_str()).show("first", first);
        let args = items
            .iter()
            .fold(args, |args, of| args.text("image", of.image.as_str()).text("item", item::stored(of)));
        let mut reply = self.call(&CAMPAIGN_ADD, args).await?;
        match reply.tag.as_str() {
            "added" => Ok(Added::Added(reply.parse("items")?)),
            "unknown" => Ok(Added::Unknown),
            "ended" => Ok(Added::Ended(reply.parse("state")?)),
            "misfit" => Ok(Added::Misfit(reply.parse("items")?)),
            "duplicate" => Ok(Added::Duplicate(reply.parse("at")?, reply.parse("item")?)),
            "full" => Ok(Added::Full(reply.parse("max")?)),
            _ => Err(reply.unknown()),
        }
    }

    /// Starts, pauses or resumes a campaign, or changes its pacing.
    pub async fn change_campaign<'a>(
        &self,
        name: &CampaignName,
        running: Option<bool>,
        pacing: &PacingChange,
        by: impl Into<By<'a>>,
    ) -> Result<Changed> {
        let state = running.map(|on| if on { CampaignState::Running } else { CampaignState::Paused });
        let args = Args::new()
            .text("name", name.as_str())
            .maybe("state", state)
            .text("pacing", pacing.to_json())
            .by(by.into())
            .with(pacing_words(pacing.fields()));
        let mut reply = self.call(&CAMPAIGN_SET, args).await?;
        match reply.tag.as_str() {
            "changed" => Ok(Changed::Changed(reply.parse("state")?, reply.parse("taken_back")?)),
            "unknown" => Ok(Changed::Unknown),
            "ended" => Ok(Changed::Ended(reply.parse("state")?)),
            _ => Err(reply.unknown()),
        }
    }

    /// Cancels a campaign: what has not started is taken back. Running builds finish, unless `running`.
    pub async fn cancel_campaign<'a>(
        &self,
        name: &CampaignName,
        running: bool,
        by: impl Into<By<'a>>,
    ) -> Result<CampaignCancelled> {
        let args = Args::new().text("name", name.as_str()).flag("running", running).by(by.into());
        let mut reply = self.call(&CAMPAIGN_CANCEL, args).await?;
        match reply.tag.as_str() {
            "cancelled" => cancelled(&mut reply),
            "unknown" => Ok(CampaignCancelled::Unknown),
            "ended" => Ok(CampaignCancelled::Ended(reply.parse("state")?)),
            _ => Err(reply.unknown()),
        }
    }
}

fn cancelled(reply: &mut Reply) -> Result<CampaignCancelled> {
    Ok(CampaignCancelled::Cancelled {
        dropped: reply.parse("dropped")?,
        stopping: reply.parse("stopping")?,
        left: reply.parse("left")?,
    })
}

/// Fields of a pacing as list items.
fn pacing_words(fields: impl IntoIterator<Item = (&'static str, Option<String>)>) -> Args {
    fields.into_iter().fold(Args::new(), |args, (field, value)| {
        args.text("field", field).text("value", value.unwrap_or_default())
    })
}
