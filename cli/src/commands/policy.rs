//! `fairlane policy`.

use anyhow::Result;
use fairlane_clikit::exit::{Exit, Stop};
use fairlane_clikit::human;
use fairlane_clikit::output::{Align, Output, Table};
use fairlane_common::queue::Policy;
use fairlane_dispatcher::api::PolicyView;
use reqwest::Method;
use serde_json::Value;

use crate::args::{PolicyAct, PolicyArgs, Reach};
use crate::client::Client;

const PATH: &str = "v1/policy";

pub(crate) async fn run(args: PolicyArgs, output: Output) -> Result<Exit> {
    match args.act {
        None => {
            let client = Client::new(args.reach)?;
            show(&client.get(PATH, &[]).await?, output);
        }
        Some(PolicyAct::Show { reach }) => show(&Client::new(reach)?.get(PATH, &[]).await?, output),
        Some(PolicyAct::Set { words, reach }) => {
            change(reach, output, |policy| words.iter().try_for_each(|word| policy.set(word))).await?;
        }
        Some(PolicyAct::Unset { names, reach }) => {
            change(reach, output, |policy| names.iter().try_for_each(|name| policy.unset(name))).await?;
        }
    }
    Ok(Exit::Good)
}

async fn change(
    reach: Reach,
    output: Output,
    change: impl FnOnce(&mut Policy) -> Result<(), fairlane_common::Invalid>,
) -> Result<()> {
    let client = Client::new(reach)?;
    let mut policy = client.get::<PolicyView>(PATH, &[]).await?.set;
    change(&mut policy).map_err(|why| Stop::usage(why.to_string()))?;
    let body = serde_json::to_value(&policy)?;
    show(&client.send(Method::PUT, PATH, &[], Some(&body)).await?, output);
    Ok(())
}

fn show(view: &PolicyView, output: Output) {
    if output.is_json() {
        output.json(view);
        return;
    }
    let fields = |policy: &Policy| serde_json::to_value(policy).unwrap_or_default();
    let (in_force, set) = (fields(&view.in_force), fields(&view.set));
    let mut table = Table::new([("FIELD", Align::Left), ("IN FORCE", Align::Left), ("", Align::Left)]);
    for name in Policy::FIELDS {
        let whose = if set.get(name).is_some() { "set" } else { "default" };
        table.row([name.into(), shown(name, &in_force[name]).into(), whose.into()]);
    }
    output.table(&table);
    if let (Some(by), Some(at)) = (&view.by, view.at_ms) {
        output.talk(&format!("Set by {by}, {}.", human::moment(at)));
    }
}

/// A value as an operator would type it, with durations such as `4h`.
fn shown(name: &str, value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => "none".to_owned(),
        Value::Object(own) => {
            own.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(" ")
        }
        Value::Number(ms) if name.ends_with("_ms") => match ms.as_u64() {
            Some(0) => "0 (never)".to_owned(),
            Some(ms) => humantime::format_duration(std::time::Duration::from_millis(ms)).to_string(),
            None => ms.to_string(),
        },
        other => other.to_string(),
    }
}
