//! `fairlane workers` and `drain`.

use anyhow::Result;
use fairlane_dispatcher::api::{DrainAnswer, DrainBody, QueueView, WorkerList};
use reqwest::Method;

use crate::args::{Drain, Workers};
use crate::client::Client;
use crate::exit::Exit;
use crate::human;
use crate::output::{Align, Cell, Output, Table, Tone};

/// Runs `workers`.
pub(crate) async fn run(args: Workers, output: Output) -> Result<Exit> {
    let client = Client::new(&args.reach.dispatcher_url, args.reach.token)?;
    let list: WorkerList = client.get("v1/workers", &[]).await?;
    if output.is_json() {
        for worker in &list.workers {
            output.json(worker);
        }
        return Ok(Exit::Good);
    }
    if list.workers.is_empty() {
        output
            .talk("No worker is alive: start one with `fairlane worker`, or everything with `fairlane up`.");
        return Ok(Exit::Good);
    }
    let now = client.get::<QueueView>("v1/queue", &[]).await?.totals.now_ms;
    let mut table = Table::new([
        ("WORKER", Align::Left),
        ("HOST", Align::Left),
        ("RUNNING", Align::Right),
        ("SLOTS", Align::Right),
        ("STATE", Align::Left),
        ("SEEN", Align::Right),
        ("RELEASE", Align::Left),
        ("RUNS LIVE IN", Align::Left),
    ]);
    for worker in &list.workers {
        let (state, tone) = match &worker.paused {
            _ if worker.draining => ("draining".to_owned(), Some(Tone::Warning)),
            Some(why) => (format!("paused: {why}"), Some(Tone::Warning)),
            None => ("taking builds".to_owned(), None),
        };
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
    Ok(Exit::Good)
}

/// Runs `drain`.
pub(crate) async fn drain(args: Drain, output: Output) -> Result<Exit> {
    let client = Client::new(&args.reach.dispatcher_url, args.reach.token)?;
    let body = serde_json::to_value(DrainBody { drain: !args.undo })?;
    let answer: DrainAnswer =
        client.send(Method::POST, &format!("v1/workers/{}/drain", args.worker), &[], Some(&body)).await?;
    if output.is_json() {
        output.json(&answer);
    } else if answer.drain {
        output.talk(&format!(
            "Worker {} takes no more builds, and ends when those that it runs have; until then `--undo` takes this back.",
            answer.id
        ));
    } else {
        output.talk(&format!("Worker {} takes builds again.", answer.id));
    }
    Ok(Exit::Good)
}
