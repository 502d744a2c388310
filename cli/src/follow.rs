//! Follows a build's events. If a stream breaks, the next dispatcher continues it after the last event
//! received.

use std::time::Duration;

use anyhow::Result;
use eventsource_stream::Eventsource;
use fairlane_clikit::exit::{Exit, Stop};
use fairlane_common::id::BuildId;
use fairlane_dispatcher::api::{EndEvent, LogEvent, MovedEvent, NoticeEvent, StateEvent};
use futures::StreamExt;
use serde::de::DeserializeOwned;
use tokio::time::Instant;

use crate::client::{Client, StreamRefused, backoff};

/// How long to look for a dispatcher after a stream was lost; the adapter for `BinderHub` does the same.
const LOST_LIMIT: Duration = Duration::from_mins(5);
/// How long to look for a dispatcher at first, which is enough while one starts.
const FIRST_LIMIT: Duration = Duration::from_secs(2);
/// A stream that lasted this long was healthy, so the backoff starts over.
const STEADY_AFTER: Duration = Duration::from_secs(10);

/// What happens to a build.
#[derive(Debug)]
pub(crate) enum Happening {
    /// Its state has changed.
    State(Box<StateEvent>),
    /// New lines of its log.
    Log(LogEvent),
    /// A remark for readers of the log.
    Notice(NoticeEvent),
    /// Another build took over.
    Moved(MovedEvent),
    /// It has ended.
    End(EndEvent),
    /// The stream broke and is being resumed.
    Lost(String),
}

/// Follows a build to its end, and reports everything that happens, together with the JSON of its event, if
/// there is one.
///
/// # Errors
/// No dispatcher knows the build, or none has answered for 2 s at the start or for 5 minutes later on.
pub(crate) async fn follow(
    client: &Client,
    id: BuildId,
    on: impl FnMut(&Happening, &str),
) -> Result<EndEvent> {
    follow_on(Follower { id, cursor: None, opened: false, people: 1 }, client, on).await
}

/// The same without counting as a person who waits for the build.
pub(crate) async fn look_on(
    client: &Client,
    id: BuildId,
    on: impl FnMut(&Happening, &str),
) -> Result<EndEvent> {
    follow_on(Follower { id, cursor: None, opened: false, people: 0 }, client, on).await
}

async fn follow_on(
    mut follower: Follower,
    client: &Client,
    mut on: impl FnMut(&Happening, &str),
) -> Result<EndEvent> {
    let mut failures: u32 = 0;
    let mut lost_at = Instant::now();
    loop {
        let (began, cursor) = (Instant::now(), follower.cursor.clone());
        let stop = match follower.stream(client, failures, &mut on).await {
            Ok(Some(end)) => return Ok(end),
            Ok(None) => {
                if began.elapsed() > STEADY_AFTER {
                    failures = 0;
                }
                // A stream that opens and closes without sending anything new counts as a failure.
                if began.elapsed() > STEADY_AFTER || follower.cursor != cursor {
                    lost_at = Instant::now();
                }
                Stop::new(Exit::Unreachable, "the dispatcher closed the stream")
            }
            Err(StreamRefused::Never(stop)) => return Err(stop.into()),
            Err(StreamRefused::Later(stop)) => stop,
        };
        let limit = if follower.opened { LOST_LIMIT } else { FIRST_LIMIT };
        if lost_at.elapsed() > limit {
            return Err(stop.into());
        }
        if follower.opened && failures == 0 {
            on(&Happening::Lost("lost the connection to the dispatcher; reconnecting".to_owned()), "");
        }
        tokio::time::sleep(backoff(failures)).await;
        failures += 1;
    }
}

struct Follower {
    id: BuildId,
    cursor: Option<String>,
    opened: bool,
    /// How many people the stream stands for.
    people: u8,
}

impl Follower {
    /// Reads one stream; `None` if it broke before the end.
    async fn stream(
        &mut self,
        client: &Client,
        turn: u32,
        on: &mut impl FnMut(&Happening, &str),
    ) -> Result<Option<EndEvent>, StreamRefused> {
        let path = format!("v1/builds/{}/events", self.id);
        let turn = usize::try_from(turn).unwrap_or(0);
        let query = [("watchers", self.people.to_string())];
        let answer = client.open_stream(turn, &path, &query, self.cursor.as_deref()).await?;
        self.opened = true;
        let mut events = std::pin::pin!(answer.bytes_stream().eventsource());
        while let Some(event) = events.next().await {
            let Ok(event) = event else { return Ok(None) };
            if !event.id.is_empty() {
                self.cursor = Some(event.id.clone());
            }
            match happening(&event.event, &event.data)? {
                None => {}
                Some(Happening::End(end)) => {
                    on(&Happening::End(end.clone()), &event.data);
                    return Ok(Some(end));
                }
                Some(Happening::Moved(moved)) => {
                    (self.id, self.cursor) = (moved.to, None);
                    on(&Happening::Moved(moved), &event.data);
                    return Ok(None);
                }
                Some(other) => on(&other, &event.data),
            }
        }
        Ok(None)
    }
}

fn happening(name: &str, data: &str) -> Result<Option<Happening>, StreamRefused> {
    fn read<T: DeserializeOwned>(name: &str, data: &str) -> Result<T, StreamRefused> {
        serde_json::from_str(data).map_err(|error| {
            let why = format!(
                "the event `{name}` cannot be read ({error}); the dispatcher may be of another release"
            );
            StreamRefused::Never(Stop::new(Exit::Failed, why))
        })
    }
    Ok(Some(match name {
        "state" => Happening::State(Box::new(read(name, data)?)),
        "log" => Happening::Log(read(name, data)?),
        "notice" => Happening::Notice(read(name, data)?),
        "moved" => Happening::Moved(read(name, data)?),
        "end" => Happening::End(read(name, data)?),
        // A newer dispatcher may send other events.
        _ => return Ok(None),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::Reach;

    #[tokio::test(start_paused = true)]
    async fn a_dispatcher_that_is_gone_for_good_is_given_up_after_five_minutes() {
        // Nothing listens on this port, so each try fails at once.
        let reach = Reach { dispatcher_url: vec!["http://127.0.0.1:1".to_owned()], token: None, ca: None };
        let client = Client::new(reach).unwrap();
        for (opened, limit) in [(true, Duration::from_mins(5)), (false, FIRST_LIMIT)] {
            let (began, mut said) = (Instant::now(), 0);
            let follower = Follower { id: BuildId::new(), cursor: None, opened, people: 1 };
            let error = follow_on(follower, &client, |_, _| said += 1).await.unwrap_err();
            assert!(error.to_string().contains("no dispatcher answers"), "{error}");
            let took = began.elapsed();
            assert!(took >= limit && took < limit + Duration::from_secs(30), "{took:?}");
            assert_eq!(said, usize::from(opened), "said once");
        }
    }
}
