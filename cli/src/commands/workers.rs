//! `fairlane workers` and `drain`.

use anyhow::Result;
use fairlane_clikit::exit::Exit;
use fairlane_clikit::human;
use fairlane_clikit::output::{Align, Cell, Colors, Output, Table, Tone, clean, cut};
use fairlane_common::WorkerId;
use fairlane_dispatcher::api::{DrainAnswer, DrainBody, DrainedName, QueueView, WorkerList, WorkerView};
use reqwest::Method;

use crate::args::{Drain, Workers};
use crate::client::Client;

/// Longest state in the table, in characters. A longer one is printed below the table.
const STATE_MAX: usize = 60;

pub(crate) async fn run(args: Workers, output: Output) -> Result<Exit> {
    let client = Client::new(args.reach)?;
    let mut list: WorkerList = client.get("v1/workers", &[]).await?;
    while let Some(cursor) = list.cursor.take() {
        let next: WorkerList = client.get("v1/workers", &[("cursor", cursor)]).await?;
        list.workers.extend(next.workers);
        list.cursor = next.cursor;
    }
    if output.is_json() {
        for worker in &list.workers {
            output.json(worker);
        }
        return Ok(Exit::Good);
    }
    if list.workers.is_empty() {
        output
            .talk("No worker is alive: start one with `fairlane worker`, or everything with `fairlane up`.");
        talk_of_drained(&list.drained, output);
        return Ok(Exit::Good);
    }
    let now = client.get::<QueueView>("v1/queue", &[]).await?.totals.now_ms;
    let mut long = Vec::new();
    let mut table = Table::new([
        ("WORKER", Align::Left),
        ("HOST", Align::Left),
        ("RUNNING", Align::Right),
        ("SLOTS", Align::Right),
        ("STATE", Align::Left),
        ("SEEN", Align::Right),
        ("RELEASE", Align::Left),
        ("PLACE", Align::Left),
    ]);
    for worker in &list.workers {
        let (mut state, tone) = state(worker, now);
        if state.chars().count() > STATE_MAX {
            long.push(format!("{}: {}", worker.id, clean(&state, Colors::Drop)));
            state = cut(&state, STATE_MAX);
        }
        table.row([
            (&worker.id).into(),
            (&worker.host).into(),
            worker.running.into(),
            worker.slots.into(),
            Cell::toned(state, tone),
            human::ago(worker.seen_ms, now).into(),
            (&worker.version).into(),
            (&worker.place).into(),
        ]);
    }
    output.table(&table);
    for state in long {
        output.talk(&state);
    }
    talk_of_drained(&list.drained, output);
    Ok(Exit::Good)
}

/// A worker's state in words, and whether it needs attention.
pub(crate) fn state(worker: &WorkerView, now: u64) -> (String, Option<Tone>) {
    if worker.draining && worker.drained.is_none() {
        return ("shutting down".to_owned(), Some(Tone::Warning));
    }
    let words = if let Some(drained) = &worker.drained {
        format!("drained by {}, {}", drained.by, human::ago(drained.since_ms, now))
    } else if let Some(why) = &worker.paused {
        format!("paused: {why}")
    } else if let Some(avoided) = &worker.avoided {
        format!("builds fail here; used again {}: {}", human::ahead(avoided.until_ms, now), avoided.reason)
    } else {
        return ("claiming builds".to_owned(), None);
    };
    (words, Some(Tone::Warning))
}

/// Prints drained names without a live worker; a worker that starts there will be drained.
fn talk_of_drained(absent: &[DrainedName], output: Output) {
    for name in absent {
        output.talk(&format!(
            "{name} is drained, and no worker runs there; `fairlane drain {name} --undo` ends that.",
            name = name.name
        ));
    }
}

pub(crate) async fn drain(args: Drain, output: Output) -> Result<Exit> {
    let client = Client::new(args.reach)?;
    let body = serde_json::to_value(DrainBody { drain: !args.undo })?;
    let answer: DrainAnswer =
        client.send(Method::POST, &format!("v1/workers/{}/drain", args.worker), &[], Some(&body)).await?;
    if output.is_json() {
        output.json(&answer);
    } else if answer.drain {
        output.talk(&format!(
            "{name} is drained: {} no more builds, even after a restart, until `fairlane drain {name} --undo`. \
             Running builds go on.",
            who(&answer, "claims", "claim"),
            name = answer.name
        ));
    } else {
        output.talk(&format!("{} builds again.", who(&answer, "claims", "claim")));
    }
    Ok(Exit::Good)
}

/// Names the workers in an answer, with the words for one worker or for several.
fn who(answer: &DrainAnswer, one: &str, many: &str) -> String {
    match answer.workers.as_slice() {
        [] => format!("workers there {many}"),
        [worker] => format!("worker {worker} {one}"),
        workers => {
            let names: Vec<&str> = workers.iter().map(WorkerId::as_str).collect();
            format!("the workers {} {many}", names.join(", "))
        }
    }
}
