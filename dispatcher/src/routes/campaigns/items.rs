//! The items and the pacing that a request brings.

use std::collections::HashMap;

use fairlane_common::campaign::Item;
use fairlane_common::queue::campaigns::{ITEMS_AT_ONCE, ITEMS_MAX, Pacing, PacingChange};
use serde_json::{Map, Value};

use crate::hours;
use crate::problem::{Answer, Refusal};
use crate::routes::input::Fields;
use crate::routes::request::{Source, check_text, read_source};
use crate::state::App;

/// Most launches that an item, or a plan, can expect, and the longest build, in seconds.
const LAUNCHES_MAX: f64 = 1e12;
const SECONDS_MAX: u64 = 7 * 86_400;
/// Longest name of what people open.
const SPEC_BYTES_MAX: usize = 1000;
const ITEM_FIELDS: &[&str] =
    &["repo", "ref", "image", "spec", "launches", "expected_seconds", "repo2docker_args", "push"];

pub(super) fn number(fields: &mut Fields, name: &str) -> Answer<Option<f64>> {
    let number = fields.maybe::<f64>(name, "a number, 0 or more")?;
    match number {
        Some(number) if !(0.0..=LAUNCHES_MAX).contains(&number) => {
            Err(Refusal::invalid(name, format!("must be from 0 to {LAUNCHES_MAX}")))
        }
        number => Ok(number),
    }
}

fn check_zone(zone: Option<&str>) -> Answer<()> {
    match zone {
        Some(zone) if !hours::is_zone(zone) => {
            let why =
                "is not the name of a time zone; names look like Europe/Berlin, America/New_York or UTC";
            Err(Refusal::invalid("time_zone", why))
        }
        _ => Ok(()),
    }
}

/// The pacing of a new campaign.
pub(super) fn pacing(fields: Map<String, Value>) -> Answer<Pacing> {
    within_pacing(|| {
        let pacing: Pacing = Fields::from(fields).decode()?;
        pacing.check()?;
        check_zone(pacing.time_zone.as_deref())?;
        Ok(pacing)
    })
}

/// A change of a pacing, field by field: null is no limit.
pub(super) fn pacing_change(fields: Map<String, Value>) -> Answer<PacingChange> {
    within_pacing(|| {
        let names = PacingChange::FIELDS.into_iter().filter(|name| fields.contains_key(*name)).collect();
        let change = PacingChange { to: Fields::from(fields).decode()?, names };
        change.check()?;
        check_zone(change.to.time_zone.as_deref())?;
        Ok(change)
    })
}

fn within_pacing<T>(read: impl FnOnce() -> Answer<T>) -> Answer<T> {
    read().map_err(|refusal| refusal.within("pacing"))
}

/// Items, each checked as a request for its build would be.
pub(super) fn read_items(items: Value, app: &App) -> Answer<Vec<Item>> {
    let Value::Array(items) = items else { return Err(Refusal::invalid("items", "must be a list")) };
    if items.is_empty() || items.len() > ITEMS_AT_ONCE {
        let why = format!(
            "must have 1 to {ITEMS_AT_ONCE} items; send the others in further requests ({ITEMS_MAX} in all)"
        );
        return Err(Refusal::invalid("items", why));
    }
    let read = |(at, item)| match item {
        Value::Object(fields) => {
            read_item(fields.into(), app).map_err(|refusal: Refusal| refusal.within(&entry(at)))
        }
        _ => Err(Refusal::invalid(&entry(at), "must be an object with repo, ref and image")),
    };
    let items: Vec<Item> = items.into_iter().enumerate().map(read).collect::<Answer<_>>()?;
    let mut images = HashMap::new();
    for (at, item) in items.iter().enumerate() {
        if let Some(first) = images.insert(item.image.as_str(), at) {
            let why = format!("is the same as that of {}; name each image once", entry(first));
            return Err(Refusal::invalid("image", why).within(&entry(at)));
        }
    }
    Ok(items)
}

/// An entry of the list, as errors name it.
fn entry(at: usize) -> String {
    format!("items[{at}]")
}

fn read_item(mut fields: Fields, app: &App) -> Answer<Item> {
    fields.nothing_else(ITEM_FIELDS)?;
    let Source { repo, reference, image, args } = read_source(&mut fields, &app.settings)?;
    let usual = Item::new(repo, reference, image);
    let spec = fields.maybe::<String>("spec", "text")?;
    check_text("spec", spec.as_deref().unwrap_or_default(), SPEC_BYTES_MAX)?;
    let expected_seconds = fields.maybe::<u64>("expected_seconds", "a whole number, 0 or more")?;
    if expected_seconds.is_some_and(|seconds| seconds > SECONDS_MAX) {
        return Err(Refusal::invalid("expected_seconds", format!("must be at most {SECONDS_MAX} (7 days)")));
    }
    Ok(Item {
        spec,
        launches: number(&mut fields, "launches")?.unwrap_or(usual.launches),
        expected_seconds,
        repo2docker_args: args,
        push: fields.maybe("push", "true or false")?.unwrap_or(usual.push),
        ..usual
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_names_what_it_changes() {
        let change = |text: &str| pacing_change(serde_json::from_str(text).unwrap());
        let set = change(r#"{"share": 0.5, "hours": null}"#).unwrap();
        assert_eq!(
            (set.names.as_slice(), set.to.share, set.to.hours),
            (["share", "hours"].as_slice(), Some(0.5), None)
        );
        for (text, field) in [
            (r#"{"shares": 1}"#, "pacing.shares"),
            (r#"{"share": 2}"#, "pacing.share"),
            (r#"{"hours": "night"}"#, "pacing.hours"),
            (r#"{"time_zone": "Mars/Olympus"}"#, "pacing.time_zone"),
        ] {
            let refused = format!("{:?}", change(text).unwrap_err());
            assert!(refused.contains(&format!("field: Some(\"{field}\")")), "{text}: {refused}");
        }
    }
}
