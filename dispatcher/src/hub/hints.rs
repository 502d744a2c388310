//! Listening for hints: which builds changed, and whose logs grew.

use std::collections::HashSet;
use std::time::Duration;

use fairlane_common::events::LogHints;
use fairlane_common::id::BuildId;
use futures::StreamExt;

use super::Hub;
use crate::upkeep::outage::{Outage, jitter};

/// Pause after the connection broke; meanwhile, streams rely on the periodic check.
const RECONNECT: Duration = Duration::from_millis(700);
/// How long Redis may take to accept a subscription.
const SUBSCRIBE_WAIT: Duration = Duration::from_secs(2);

/// Marks builds whose state changed.
pub(super) async fn events(hub: &Hub) {
    let mut reader = hub.queue.events();
    let mut outage = Outage::new("reading events");
    loop {
        let news = tokio::select! {
            news = reader.next() => news,
            () = hub.shutdown.cancelled() => return,
        };
        match news {
            Ok(events) => {
                outage.over();
                for event in &events {
                    hub.mark(event.build);
                }
                // Their slots are free.
                if events.iter().any(|event| event.state.is_ended()) {
                    hub.feeder.look();
                }
            }
            Err(error) => {
                outage.failed(&error);
                pause(hub).await;
                // Some events may have been trimmed from the stream during the outage.
                hub.mark_all();
            }
        }
    }
}

/// Marks builds whose logs grew.
pub(super) async fn logs(hub: &Hub) {
    let mut outage = Outage::new("listening for log hints");
    while !hub.shutdown.is_cancelled() {
        match hub.queue.log_hints().await {
            Ok((control, hints)) => {
                outage.over();
                let mut hints = Box::pin(hints);
                listen(hub, control, &mut hints).await;
            }
            Err(error) => {
                outage.failed(&error);
            }
        }
        pause(hub).await;
        hub.mark_all();
    }
}

/// Listens until the connection breaks, and keeps it subscribed to the logs of all watched builds.
async fn listen(
    hub: &Hub,
    mut control: LogHints,
    hints: &mut (impl futures::Stream<Item = BuildId> + Unpin),
) {
    let mut subscribed = HashSet::new();
    loop {
        let wanted: HashSet<BuildId> = hub.channels().keys().copied().collect();
        for id in wanted.difference(&subscribed) {
            if !within(control.add(*id)).await {
                return;
            }
            // Lines may have been appended before the subscription took effect.
            hub.mark(*id);
        }
        for id in subscribed.difference(&wanted) {
            if !within(control.remove(*id)).await {
                return;
            }
        }
        subscribed = wanted;
        loop {
            tokio::select! {
                hint = hints.next() => match hint {
                    Some(id) => hub.mark(id),
                    None => return,
                },
                () = hub.membership.notified() => break,
                () = hub.shutdown.cancelled() => return,
            }
        }
    }
}

async fn within(call: impl Future<Output = fairlane_common::Result<()>>) -> bool {
    matches!(tokio::time::timeout(SUBSCRIBE_WAIT, call).await, Ok(Ok(())))
}

async fn pause(hub: &Hub) {
    tokio::select! {
        () = tokio::time::sleep(jitter(RECONNECT)) => {}
        () = hub.shutdown.cancelled() => {}
    }
}
