//! How many Redis commands each operation of the queue runs.

use super::trace::Recorder;
use anyhow::Result;
use fairlane_common::queue::DispatcherBeat;
use serde_json::{Map, Value, json};

use super::drain::{claim, finish};
use super::scene::Scene;

/// Most reaps until nothing is due.
const REAPS_MAX: u32 = 50;

/// Records one call of each operation. Build numbers from `from` on are new.
pub(super) async fn run(scene: &Scene, from: u32, lanes: u32) -> Result<Value> {
    let mut recorder = Recorder::start(scene.queue.link()).await?;
    let mut counts = Map::new();
    let mut note = async |counts: &mut Map<String, Value>, name: &str| {
        let commands = recorder.commands().await?;
        counts.insert(name.to_owned(), json!(commands.len()));
        anyhow::Ok(())
    };
    note(&mut counts, "").await?;

    let request = scene.request(from, from % lanes)?;
    scene.queue.submit(&request).await?;
    note(&mut counts, "submit_new").await?;
    let again = fairlane_common::queue::Submit { id: fairlane_common::BuildId::new(), ..request.clone() };
    scene.queue.submit(&again).await?;
    note(&mut counts, "submit_join").await?;
    let beat = DispatcherBeat { dispatcher: scene.dispatcher.clone(), counts: vec![(request.id, 5)] };
    scene.queue.beat_dispatcher(&beat).await?;
    note(&mut counts, "people").await?;
    let mut held = claim(scene, 1).await?;
    note(&mut counts, "claim_1").await?;
    held.extend(claim(scene, 8).await?);
    note(&mut counts, "claim_8").await?;
    let mut beat = scene.beat(&scene.worker, 64);
    beat.held = held.iter().take(8).map(|claimed| claimed.token.clone()).collect();
    scene.queue.renew(&beat).await?;
    note(&mut counts, "renew_8").await?;
    for (name, claimed) in ["finish_first_of_a_lane", "finish"].into_iter().zip(&held) {
        finish(scene, &claimed.token).await?;
        note(&mut counts, name).await?;
    }
    // Because the policy was set, reaps sort all lanes again, in batches, before one finds nothing to do.
    let mut busy = REAPS_MAX;
    while scene.queue.reap().await?.timers > 0 && busy > 0 {
        busy -= 1;
    }
    note(&mut counts, "").await?;
    scene.queue.reap().await?;
    note(&mut counts, "reap_idle").await?;
    for claimed in held.iter().skip(2) {
        finish(scene, &claimed.token).await?;
    }
    counts.remove("");
    Ok(Value::Object(counts))
}
