//! The log of the open build, as it arrives.

use std::sync::Arc;

use fairlane_clikit::exit;
use fairlane_clikit::output::{Colors, clean};
use fairlane_common::id::BuildId;
use tokio::sync::mpsc::UnboundedSender;
use tokio::task::AbortHandle;

use crate::client::Client;
use crate::follow::{Happening, look_on};
use crate::progress::lines_of;

/// What the task sends.
#[derive(Debug)]
pub(super) enum Feed {
    /// Lines of this build's log. Colors are kept; anything else that could affect the terminal is removed.
    Lines(BuildId, Vec<String>),
    /// A remark about the log.
    Remark(BuildId, String),
    /// The log is complete.
    End(BuildId),
}

/// A task that follows a build, until this handle is dropped.
#[derive(Debug)]
pub(super) struct Following {
    id: BuildId,
    task: AbortHandle,
}

impl Following {
    pub(super) fn start(client: &Arc<Client>, id: BuildId, tell: UnboundedSender<Feed>) -> Self {
        let client = Arc::clone(client);
        let task = tokio::spawn(async move {
            let send = |feed| drop(tell.send(feed));
            let end = look_on(&client, id, |happening, _| match happening {
                Happening::Log(log) => {
                    let lines = log.lines.iter().flat_map(|line| lines_of(&line.text, Colors::Keep));
                    send(Feed::Lines(id, lines.collect()));
                }
                Happening::Notice(notice) => send(Feed::Remark(id, clean(&notice.text, Colors::Drop))),
                Happening::Moved(moved) => {
                    send(Feed::Remark(id, format!("build {} took over after Redis was emptied", moved.to)));
                }
                Happening::Lost(why) => send(Feed::Remark(id, why.clone())),
                Happening::State(_) | Happening::End(_) => {}
            });
            match end.await {
                Ok(_) => send(Feed::End(id)),
                Err(error) => send(Feed::Remark(id, clean(&exit::in_full(&error), Colors::Drop))),
            }
        });
        Self { id, task: task.abort_handle() }
    }

    pub(super) fn id(&self) -> BuildId {
        self.id
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        self.task.abort();
    }
}
