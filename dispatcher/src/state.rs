//! What all routes share.

use std::sync::Arc;

use fairlane_common::Queue;
use fairlane_common::id::DispatcherId;
use tokio_util::sync::CancellationToken;

use crate::access::rate_limit::RateLimits;
use crate::access::tokens;
use crate::history::HistoryCache;
use crate::hub::Hub;
use crate::metrics::Metrics;
use crate::outlook::OutlookCache;
use crate::problem::Answer;
use crate::problems::ProblemsCache;
use crate::redis_wait::bounded;
use crate::settings::Settings;
use crate::shared::Shared;
use crate::upkeep::feeder::Feeder;
use crate::upkeep::people::People;
use crate::upkeep::reaper::Writes;

/// What all routes share.
pub(crate) struct App {
    pub(crate) queue: Queue,
    pub(crate) settings: Settings,
    pub(crate) tokens: Arc<tokens::Current>,
    pub(crate) dispatcher: DispatcherId,
    pub(crate) people: Arc<People>,
    pub(crate) hub: Arc<Hub>,
    pub(crate) outlook: Arc<OutlookCache>,
    pub(crate) history: HistoryCache,
    pub(crate) problems: ProblemsCache,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) rates: RateLimits,
    /// Responses for callers that accept one from a moment ago.
    pub(crate) shared: Shared,
    /// Whether Redis accepts writes.
    pub(crate) writes: Arc<Writes>,
    pub(crate) feeder: Arc<Feeder>,
}

impl App {
    pub(crate) fn new(settings: Settings, queue: Queue, shutdown: CancellationToken) -> Arc<Self> {
        let dispatcher = DispatcherId::new(&settings.host);
        let metrics = Arc::new(Metrics::default());
        let people =
            People::new(dispatcher.clone(), settings.bounds.post_counts, settings.clients.people_per_token);
        let outlook = OutlookCache::new(queue.clone());
        let history = HistoryCache::new(queue.clone());
        let feeder = Arc::<Feeder>::default();
        let hub = Hub::new(
            queue.clone(),
            Arc::clone(&outlook),
            Arc::clone(&metrics),
            Arc::clone(&feeder),
            settings.bounds.clone(),
            shutdown,
        );
        let rates = RateLimits::new(settings.clients.clone());
        let tokens = tokens::Current::new(settings.tokens.clone());
        Arc::new(Self {
            queue,
            settings,
            tokens,
            dispatcher,
            people,
            hub,
            outlook,
            history,
            problems: ProblemsCache::default(),
            metrics,
            rates,
            shared: Shared::default(),
            writes: Arc::default(),
            feeder,
        })
    }

    /// Calls the queue for a waiting client, with a time limit.
    pub(crate) fn ask<T>(
        &self,
        call: impl Future<Output = fairlane_common::Result<T>>,
    ) -> impl Future<Output = Answer<T>> {
        bounded(self.settings.bounds.redis_wait, call)
    }

    /// Whether Redis's memory is so full that a request of `bytes` should be refused.
    pub(crate) async fn is_memory_short(&self, bytes: usize) -> Answer<bool> {
        self.ask(async { Ok(self.outlook.is_memory_short(bytes).await) }).await
    }
}
