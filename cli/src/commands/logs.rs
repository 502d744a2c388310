//! `fairlane logs`: show what a build has written.

use anyhow::Result;
use fairlane_common::build::BuildState;
use fairlane_common::id::BuildId;
use fairlane_dispatcher::api::LogLine;

use super::builds;
use crate::args::Logs;
use crate::client::Client;
use crate::exit::Exit;
use crate::follow::{Happening, follow};
use crate::output::{Colors, Output, Tone, clean};
use crate::progress::{lines_of, sentence, shown};

/// Runs the command.
pub(crate) async fn run(args: Logs, output: Output) -> Result<Exit> {
    let client = Client::new(args.reach.clone())?;
    let id = builds::find(&client, &args.id).await?;
    if !args.follow {
        return whole(&client, id, output).await;
    }
    let mut waits = false;
    let write = |happening: &Happening, _: &str| match happening {
        Happening::Log(log) => log.lines.iter().for_each(|line| write_line(line, output)),
        Happening::Notice(notice) => {
            output.talk(&output.paint_talk(Tone::Faint, &clean(&notice.text, Colors::Drop)));
        }
        Happening::Lost(why) => output.talk(&output.paint_talk(Tone::Warning, why)),
        Happening::State(state) if state.build.state == BuildState::Queued && !waits => {
            waits = true;
            output.talk(&output.paint_talk(Tone::Faint, &sentence(&state.build)));
        }
        Happening::State(_) | Happening::Moved(_) | Happening::End(_) => {}
    };
    tokio::select! {
        end = follow(&client, id, write) => end.map(|_| Exit::Good),
        _ = tokio::signal::ctrl_c() => Ok(Exit::Interrupted),
    }
}

async fn whole(client: &Client, id: BuildId, output: Output) -> Result<Exit> {
    let mut any = false;
    let colors = if output.has_color() { Colors::Keep } else { Colors::Drop };
    client
        .lines(&format!("v1/builds/{id}/log"), |text| {
            any = true;
            if output.is_json() {
                output.json(&serde_json::json!({ "text": text }));
            } else {
                for line in lines_of(text, colors) {
                    output.data(&line);
                }
            }
        })
        .await?;
    if !any {
        output.talk(&format!("Build {id} has written nothing yet; `fairlane logs -f {id}` waits for it."));
    }
    Ok(Exit::Good)
}

fn write_line(line: &LogLine, output: Output) {
    if output.is_json() {
        output.json(line);
    } else {
        for line in shown(line, output) {
            output.data(&line);
        }
    }
}
