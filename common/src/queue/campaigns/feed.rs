//! Putting items into line.

use super::super::Queue;
use super::item::CampaignName;
use crate::error::Result;
use crate::id::BuildId;
use crate::library::FEED;
use crate::queue::script::Args;

/// Most builds that one call makes.
const FEED_BATCH: usize = 64;

/// The hours of a campaign.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CampaignHours {
    /// Its name.
    pub name: String,
    /// Its hours, such as `22:00-06:00`.
    pub hours: String,
    /// Their time zone.
    pub zone: String,
}

/// Whether a campaign with hours may make builds now. Redis knows no time zones, so the caller says so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Window {
    /// Whose and which.
    pub of: CampaignHours,
    /// Whether it may.
    pub open: bool,
    /// Until when this holds, Unix milliseconds.
    pub until: u64,
}

/// What one call did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Fed {
    /// How many builds it put into line.
    pub fed: u64,
    /// Campaigns that have not ended.
    pub open: u64,
    /// When, by Redis's clock.
    pub now: u64,
    /// The hours of those that have some.
    pub hours: Vec<CampaignHours>,
}

impl Queue {
    /// Puts the next items of campaigns into line, as many as could start now. A campaign with hours is fed only if
    /// `windows` says that they have come.
    pub async fn feed(&self, windows: &[Window]) -> Result<Fed> {
        let ids: Vec<String> = (0..FEED_BATCH).map(|_| BuildId::new().to_string()).collect();
        let args = windows.iter().fold(Args::new().text("ids", ids.join(" ")), |args, window| {
            args.text("name", &window.of.name)
                .text("hours", format!("{} {}", window.of.hours, window.of.zone))
                .show("until", window.until)
                .flag("open", window.open)
        });
        let mut reply = self.call(&FEED, args).await?;
        if reply.tag != "fed" {
            return Err(reply.unknown());
        }
        let mut hours = Vec::new();
        for mut one in reply.items("hours")? {
            // A name that we did not write is not fed.
            let Ok(name) = one.parse::<CampaignName>("name") else { continue };
            let name = name.as_str().to_owned();
            hours.push(CampaignHours { name, hours: one.get("hours")?, zone: one.get("zone")? });
        }
        Ok(Fed { fed: reply.parse("fed")?, open: reply.parse("open")?, now: reply.parse("now")?, hours })
    }
}
