//! `fairlane logs`: shows a build's log, or removes old ones.

use anyhow::{Result, bail};
use fairlane_clikit::exit::Exit;
use fairlane_clikit::human;
use fairlane_clikit::output::{Colors, Output, Tone, clean};
use fairlane_common::build::BuildState;
use fairlane_common::id::BuildId;
use fairlane_dispatcher::api::{LogLine, PrunedLogs};
use reqwest::Method;

use super::builds;
use crate::args::{Logs, LogsAct, LogsPrune};
use crate::client::Client;
use crate::follow::{Happening, follow};
use crate::progress::{lines_of, sentence, shown};

pub(crate) async fn run(args: Logs, output: Output) -> Result<Exit> {
    if let Some(LogsAct::Prune(args)) = args.act {
        return prune(args, output).await;
    }
    let Some(id) = &args.id else { bail!("name a build: fairlane logs BUILD-ID") };
    let client = Client::new(args.reach.clone())?;
    let id = builds::find(&client, id).await?;
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
        output.talk(&format!(
            "Build {id} has no log (yet); `fairlane logs -f {id}` waits for one until the build ends."
        ));
    }
    Ok(Exit::Good)
}

/// Repeats the request, which removes a limited number of logs, until none is left to remove.
async fn prune(args: LogsPrune, output: Output) -> Result<Exit> {
    let client = Client::new(args.reach)?;
    let mut query: Vec<(&str, String)> = Vec::new();
    query.extend(args.older_than.map(|time| ("older_than", time)));
    query.extend(args.to.map(|size| ("to", size)));
    query.push(("dry_run", args.dry_run.to_string()));
    let mut all = PrunedLogs { logs: 0, bytes: 0, left_bytes: 0, more: true, dry_run: args.dry_run };
    while all.more {
        let one: PrunedLogs = client.send(Method::DELETE, "v1/logs", &query, None).await?;
        all = PrunedLogs { logs: all.logs + one.logs, bytes: all.bytes + one.bytes, ..one };
        all.more &= !args.dry_run;
    }
    if output.is_json() {
        output.json(&all);
    } else {
        let logs = human::many(all.logs, "log");
        let act = if args.dry_run {
            "would be removed or shortened, which would free"
        } else {
            "removed or shortened, which freed"
        };
        output.talk(&format!(
            "{logs} {act} {}; {} of logs remain.",
            megabytes(all.bytes),
            megabytes(all.left_bytes)
        ));
    }
    Ok(Exit::Good)
}

/// Formats bytes: 1.5 MB.
fn megabytes(bytes: u64) -> String {
    let tenths = bytes.saturating_mul(10) / (1 << 20);
    format!("{}.{} MB", tenths / 10, tenths % 10)
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
