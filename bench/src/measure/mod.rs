//! `fairlane bench`: what the queue costs, compared with a bare queue that takes turns with it.

mod depth;
mod drain;
mod enqueue;
mod latency;
mod meter;
mod profile;
mod rival;
mod scene;
mod skewed;
mod trace;
mod watchers;
mod yardstick;

use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result};
use fairlane_clikit::exit::Exit;
use fairlane_clikit::output::{Output, Tone};
use serde_json::{Value, json};

use crate::args::{Bench, Measure};
use scene::Scene;

/// The result of a measurement: a line for people, and all figures for programs.
struct Report {
    line: String,
    facts: Value,
}

/// Runs `bench`.
pub(crate) async fn run(args: Bench, output: Output) -> Result<Exit> {
    let scene = Scene::open(args.redis_url.as_deref(), args.append_only).await?;
    if let Some(warning) = scene.rival.warning().filter(|_| args.measure.has_rival()) {
        output.talk(&format!("{} {warning}", output.paint_talk(Tone::Warning, "warning:")));
    }
    let measured = measure(&args, &scene).await;
    let machine = scene.machine().await;
    scene.close().await?;
    let mut report = measured?;
    if let Value::Object(facts) = &mut report.facts {
        facts.insert("machine".to_owned(), machine?);
        let command: Vec<String> = std::env::args().skip(1).collect();
        facts.insert("command".to_owned(), json!(format!("fairlane {}", command.join(" "))));
    }
    if let Some(path) = &args.keep {
        keep(path, &report.facts)?;
    }
    if output.is_json() {
        output.json(&report.facts);
    } else {
        output.data(&report.line);
    }
    Ok(Exit::Good)
}

async fn measure(args: &Bench, scene: &Scene) -> Result<Report> {
    let rounds = args.rounds;
    match args.measure {
        Measure::Enqueue { n, concurrency } => Box::pin(enqueue::run(scene, n, concurrency, rounds)).await,
        Measure::Drain { n, concurrency } => Box::pin(drain::run(scene, n, concurrency, rounds)).await,
        Measure::Latency { n } => Box::pin(latency::run(scene, n, rounds)).await,
        Measure::Skewed { n, lanes, limit, workers, build_ms } => {
            let plan = skewed::Plan { builds: n, lanes, limit, workers, build_ms };
            Box::pin(skewed::run(scene, plan)).await
        }
        Measure::Depth { n } => Box::pin(depth::run(scene, n, rounds)).await,
        Measure::Watchers { n, seconds } => Box::pin(watchers::run(scene, n, seconds)).await,
    }
}

fn keep(path: &Path, facts: &Value) -> Result<()> {
    let mut file = std::fs::File::options()
        .create(true)
        .append(true)
        .open(path)
        .with_context(|| format!("{} cannot be written", path.display()))?;
    writeln!(file, "{facts}").with_context(|| format!("{} cannot be written", path.display()))
}
