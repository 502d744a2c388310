//! `fairlane top`: the queue on a full screen, refreshed every second.
//!
//! [`data`] fetches from dispatchers, [`app`] handles keys and holds the state (without any input or output),
//! [`draw`] draws the screen. The loop here connects them to the terminal.

mod app;
mod curves;
mod data;
mod draw;
mod feed;
mod keys;
mod log;
mod panes;
mod problems;
mod rows;
mod style;
#[cfg(test)]
mod tests;

use std::io::IsTerminal;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use crossterm::event::{self, Event};
use fairlane_clikit::exit::{Exit, Stop};
use fairlane_clikit::output::Output;
use fairlane_common::id::BuildId;
use fairlane_dispatcher::api::{CancelAnswer, WhoAmI};
use ratatui::DefaultTerminal;
use reqwest::Method;
use rustix::process::{Signal, getpid, kill_process};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};

use self::app::{App, Effect};
use self::data::{Fetched, Fetcher};
use self::feed::{Feed, Following};
use crate::args::Top;
use crate::client::{Client, reason_query};

/// How often the ages on the screen are updated if nothing else happens.
const TICK: Duration = Duration::from_secs(1);
/// Shortest time between two redraws, so that a fast log does not occupy a core.
const FRAME: Duration = Duration::from_millis(50);

pub(crate) async fn run(args: Top, output: Output) -> Result<Exit> {
    let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
    if output.is_json() || dumb || !std::io::stdout().is_terminal() || !std::io::stdin().is_terminal() {
        return Err(Stop::usage(
            "`fairlane top` needs a terminal for its screen; in scripts, use `fairlane queue --json`, \
             `fairlane queue --builds --json`, `fairlane lanes --json` or `fairlane workers --json`",
        )
        .into());
    }
    let client = Arc::new(Client::new(args.reach)?);
    // Fetched before the screen opens, so that a wrong address or token is reported like by any other command.
    let mut fetcher = Fetcher::new(Arc::clone(&client));
    let first = fetcher.fetch().await?;
    let caller: Option<WhoAmI> = client.get("v1/whoami", &[]).await.ok();
    let may_operate = caller.is_some_and(|caller| caller.scopes.iter().any(|scope| scope == "operate"));
    let mut app = App::new(client.shown(), may_operate, output.has_color());
    app.take(Ok(first));
    let mut terminal = ratatui::try_init().context("the terminal cannot be set up")?;
    let end = Screen::new(client, fetcher)?.run(&mut app, &mut terminal).await;
    ratatui::restore();
    end
}

/// Everything that the loop waits for.
struct Screen {
    client: Arc<Client>,
    wanted: data::WantedSender,
    fetched: UnboundedReceiver<Fetched>,
    feed: UnboundedReceiver<Feed>,
    to_feed: UnboundedSender<Feed>,
    following: Option<Following>,
    input: UnboundedReceiver<Event>,
    done: UnboundedReceiver<String>,
    to_done: UnboundedSender<String>,
}

impl Screen {
    fn new(client: Arc<Client>, fetcher: Fetcher) -> Result<Self> {
        let (wanted, fetched) = fetcher.keep_fetching();
        let (to_feed, feed) = mpsc::unbounded_channel();
        let (to_done, done) = mpsc::unbounded_channel();
        let input = read_input()?;
        Ok(Self { client, wanted, fetched, feed, to_feed, following: None, input, done, to_done })
    }

    async fn run(mut self, app: &mut App, terminal: &mut DefaultTerminal) -> Result<Exit> {
        let mut ends = [SignalKind::terminate(), SignalKind::hangup(), SignalKind::interrupt()]
            .map(signal)
            .into_iter()
            .collect::<std::io::Result<Vec<_>>>()?;
        let [terminate, hangup, interrupt] = &mut ends[..] else { return Ok(Exit::Failed) };
        loop {
            app.tick();
            terminal.draw(|frame| draw::draw(frame, app)).context("the terminal cannot be written to")?;
            let drawn = Instant::now();
            tokio::select! {
                event = self.input.recv() => match event {
                    Some(event) => if let Some(exit) = self.handle(&event, app, terminal)? {
                        return Ok(exit);
                    },
                    // The terminal was closed.
                    None => return Ok(Exit::Interrupted),
                },
                Some(fetched) = self.fetched.recv() => app.take(fetched),
                Some(feed) = self.feed.recv() => app.take_feed(feed),
                Some(done) = self.done.recv() => app.say(done),
                _ = terminate.recv() => return Ok(Exit::Interrupted),
                _ = hangup.recv() => return Ok(Exit::Interrupted),
                _ = interrupt.recv() => return Ok(Exit::Interrupted),
                () = tokio::time::sleep(TICK) => {}
            }
            tokio::time::sleep(FRAME.saturating_sub(drawn.elapsed())).await;
            while let Ok(event) = self.input.try_recv() {
                if let Some(exit) = self.handle(&event, app, terminal)? {
                    return Ok(exit);
                }
            }
            while let Ok(feed) = self.feed.try_recv() {
                app.take_feed(feed);
            }
        }
    }

    fn handle(
        &mut self,
        event: &Event,
        app: &mut App,
        terminal: &mut DefaultTerminal,
    ) -> Result<Option<Exit>> {
        let Event::Key(key) = event else { return Ok(None) };
        match app.key(*key) {
            Effect::None => {}
            Effect::Quit => return Ok(Some(Exit::Good)),
            Effect::Redraw => terminal.clear()?,
            Effect::Look => self.look(app),
            Effect::Cancel(id, reason) => self.cancel(id, reason),
            Effect::Suspend => {
                ratatui::restore();
                kill_process(getpid(), Signal::STOP)?;
                *terminal = ratatui::try_init().context("the terminal cannot be set up again")?;
            }
        }
        Ok(None)
    }

    /// Tells the fetching task which build is open, and follows that build's log.
    fn look(&mut self, app: &App) {
        // The fetching task only ends with the program.
        let _ = self.wanted.send(app.wanted());
        let open = app.open_build();
        if self.following.as_ref().map(Following::id) != open {
            self.following = open.map(|id| Following::start(&self.client, id, self.to_feed.clone()));
        }
    }

    fn cancel(&self, id: BuildId, reason: Option<String>) {
        let (client, done) = (Arc::clone(&self.client), self.to_done.clone());
        tokio::spawn(async move {
            let query = reason_query(reason);
            let answer = client.send(Method::DELETE, &format!("v1/builds/{id}"), &query, None).await;
            // The receiver only ends with the program.
            let _ = done.send(match answer {
                Ok(CancelAnswer { stopping: true, .. }) => {
                    "The build is being stopped; it ends when its run is gone.".to_owned()
                }
                Ok(CancelAnswer { state, .. }) => format!("The build is {state}."),
                Err(error) => format!("Not cancelled: {}", fairlane_clikit::exit::in_full(&error)),
            });
        });
    }
}

/// Reads keys in a thread, because reading blocks. The thread ends with the program.
fn read_input() -> Result<UnboundedReceiver<Event>> {
    let (tell, input) = mpsc::unbounded_channel();
    std::thread::Builder::new().name("keys".to_owned()).spawn(move || {
        while let Ok(event) = event::read() {
            if tell.send(event).is_err() {
                return;
            }
        }
    })?;
    Ok(input)
}
