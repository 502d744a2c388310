//! What `fairlane top` shows, fetched from dispatchers every second.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use fairlane_clikit::exit::{Exit, Stop};
use fairlane_common::build::BuildState;
use fairlane_common::id::BuildId;
use fairlane_dispatcher::api::{BuildPage, BuildView, Health, History, LanePage, QueueView, WorkerList};
use tokio::sync::{mpsc, watch};

use crate::client::{Client, Kept};

/// How often to fetch.
const EVERY: Duration = Duration::from_secs(1);
/// A dispatcher that has not answered for this long is reported as away; it may be frozen.
const PATIENCE: Duration = Duration::from_secs(5);
/// Most lanes, workers, and builds in each state that are fetched, because nobody scrolls further.
const MOST: &str = "200";

/// All data of one fetch.
#[derive(Debug, Clone)]
pub(super) struct Data {
    pub(super) queue: Arc<QueueView>,
    pub(super) workers: Arc<WorkerList>,
    /// A page each of running, starting, orphaned and queued builds.
    pub(super) builds: Vec<Arc<BuildPage>>,
    pub(super) lanes: Arc<LanePage>,
    /// The last hour, a sample a minute; absent if the dispatcher has none.
    pub(super) history: Option<Arc<History>>,
    /// Why no dispatcher is ready.
    pub(super) warning: Option<String>,
    /// The build that is open.
    pub(super) build: Option<Arc<BuildView>>,
}

impl Data {
    pub(super) fn live(&self) -> impl Iterator<Item = &BuildView> {
        self.builds.iter().flat_map(|page| &page.builds).filter(|build| !build.state.is_ended())
    }

    /// Whether every live build was fetched.
    pub(super) fn is_whole(&self) -> bool {
        self.builds.iter().all(|page| page.cursor.is_none())
    }
}

/// The fetched data, or why it could not be fetched.
pub(super) type Fetched = Result<Data, String>;
/// Sends which build is open.
pub(super) type WantedSender = watch::Sender<Option<BuildId>>;

/// Fetches data, and keeps responses that have not changed.
pub(super) struct Fetcher {
    client: Arc<Client>,
    wanted: Option<BuildId>,
    queue: Kept<QueueView>,
    workers: Kept<WorkerList>,
    builds: [Kept<BuildPage>; 4],
    lanes: Kept<LanePage>,
    history: Kept<History>,
    health: Kept<Health>,
    build: Kept<BuildView>,
}

impl Fetcher {
    pub(super) fn new(client: Arc<Client>) -> Self {
        Self {
            client,
            wanted: None,
            queue: Kept::default(),
            workers: Kept::default(),
            builds: Default::default(),
            lanes: Kept::default(),
            history: Kept::default(),
            health: Kept::default(),
            build: Kept::default(),
        }
    }

    /// Fetches everything, in parallel.
    pub(super) async fn fetch(&mut self) -> Result<Data> {
        let late = Stop::new(
            Exit::Unreachable,
            format!("{} has not answered for {} s", self.client.shown(), PATIENCE.as_secs()),
        );
        tokio::time::timeout(PATIENCE, Box::pin(self.fetch_all())).await.map_err(|_| late)?
    }

    async fn fetch_all(&mut self) -> Result<Data> {
        let client = &*self.client;
        let most = [("limit", MOST.to_owned())];
        let [running, starting, orphaned, queued] = &mut self.builds;
        let of = |state: BuildState| [("state", state.to_string()), ("limit", MOST.to_owned())];
        let (first, second, third, fourth) = (
            of(BuildState::Running),
            of(BuildState::Starting),
            of(BuildState::Orphaned),
            of(BuildState::Queued),
        );
        let builds = async {
            let (running, starting, orphaned, queued) = tokio::try_join!(
                client.get_again("v1/builds", &first, running),
                client.get_again("v1/builds", &second, starting),
                client.get_again("v1/builds", &third, orphaned),
                client.get_again("v1/builds", &fourth, queued),
            )?;
            anyhow::Ok(vec![running, starting, orphaned, queued])
        };
        let hour = [("since", "1h".to_owned()), ("step", "1m".to_owned())];
        let history =
            async { anyhow::Ok(client.get_again("v1/history", &hour, &mut self.history).await.ok()) };
        let build = async {
            let Some(id) = self.wanted else { return anyhow::Ok(None) };
            // If the build is no longer known, the screen keeps its last state.
            Ok(client.get_again(&format!("v1/builds/{id}"), &[], &mut self.build).await.ok())
        };
        let (queue, workers, builds, lanes, history, build) = tokio::try_join!(
            client.get_again("v1/queue", &[], &mut self.queue),
            client.get_again("v1/workers", &most, &mut self.workers),
            builds,
            client.get_again("v1/lanes", &most, &mut self.lanes),
            history,
            build,
        )?;
        let ready = client.get_again("readyz", &[], &mut self.health).await;
        let warning = ready.err().map(|error| fairlane_clikit::exit::in_full(&error));
        Ok(Data { queue, workers, builds, lanes, history, warning, build })
    }

    /// Starts a task that fetches every second, and at once when another build is opened.
    pub(super) fn keep_fetching(mut self) -> (WantedSender, mpsc::UnboundedReceiver<Fetched>) {
        let (wanted, mut changed) = watch::channel(None);
        let (tell, fetched) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    () = tokio::time::sleep(EVERY) => {}
                    change = changed.changed() => if change.is_err() {
                        return;
                    },
                }
                let wanted = *changed.borrow_and_update();
                if wanted != self.wanted {
                    (self.wanted, self.build) = (wanted, Kept::default());
                }
                let result = self.fetch().await.map_err(|error| fairlane_clikit::exit::in_full(&error));
                if tell.send(result).is_err() {
                    return;
                }
            }
        });
        (wanted, fetched)
    }
}
