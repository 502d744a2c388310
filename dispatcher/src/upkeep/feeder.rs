//! Feeds campaigns: puts their builds into line when slots are free. Every dispatcher may: it can be repeated, and
//! nobody needs to be the first.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use fairlane_common::queue::Queue;
use fairlane_common::queue::campaigns::{CampaignHours, Fed, Window};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::hours;
use crate::outlook::OutlookCache;
use crate::upkeep::outage::{Outage, jitter};

/// How often campaigns are fed when nothing happens.
const EVERY: Duration = Duration::from_secs(1);
/// After the end of a build, the people in line get its slot first, and builds that end together are one reason.
const AFTER_END: Duration = Duration::from_millis(20);
/// How long it sleeps while there are no campaigns, unless somebody says that there is one.
const IDLE: Duration = Duration::from_hours(1);

/// What tells the feeder that there is something to do.
#[derive(Debug, Default)]
pub(crate) struct Feeder {
    /// Campaigns that have not ended.
    open: AtomicU64,
    /// There is one, or a slot may be free.
    news: Notify,
}

impl Feeder {
    /// How many campaigns have not ended, as somebody has just read.
    pub(crate) fn note(&self, open: u64) {
        if self.open.swap(open, Ordering::Relaxed) == 0 && open > 0 {
            self.news.notify_one();
        }
    }

    /// A build has ended, or a campaign was changed.
    pub(crate) fn look(&self) {
        if self.open.load(Ordering::Relaxed) > 0 {
            self.news.notify_one();
        }
    }

    /// Feeds until `shutdown`, while there are campaigns.
    pub(crate) async fn run(
        self: Arc<Self>,
        queue: Queue,
        outlook: Arc<OutlookCache>,
        shutdown: CancellationToken,
    ) {
        let mut outage = Outage::new("feeding campaigns");
        let mut hours: Vec<CampaignHours> = Vec::new();
        let mut now = 0;
        while !shutdown.is_cancelled() {
            let mut pause = EVERY;
            // Memory that is left is for the builds of people.
            let may = self.open.load(Ordering::Relaxed) > 0 && !outlook.is_memory_short(0).await;
            if may {
                let windows: Vec<Window> = hours.iter().filter_map(|of| hours::window(of, now)).collect();
                match queue.feed(&windows).await {
                    Ok(fed) => {
                        outage.over();
                        self.open.store(fed.open, Ordering::Relaxed);
                        // Hours that nobody has asked about yet.
                        let is_new = fed.hours != hours;
                        Fed { hours, now, .. } = fed;
                        if is_new {
                            continue;
                        }
                    }
                    Err(error) => pause = outage.backoff(&error, EVERY),
                }
            } else if self.open.load(Ordering::Relaxed) == 0 {
                pause = IDLE;
            }
            tokio::select! {
                () = tokio::time::sleep(jitter(pause)) => {}
                () = self.news.notified() => tokio::time::sleep(jitter(AFTER_END)).await,
                () = shutdown.cancelled() => {}
            }
        }
    }
}
