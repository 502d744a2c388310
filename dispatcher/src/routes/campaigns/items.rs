//! The items and the pacing that a request brings.

use fairlane_common::campaign::Item;
use fairlane_common::queue::campaigns::{ITEMS_AT_ONCE, ITEMS_MAX, PacingChange};
use serde_json::{Map, Value};

use crate::hours;
use crate::problem::{Answer, Refusal};
use crate::routes::input::Fields;
use crate::routes::request::check_source;
use crate::state::App;

/// Most launches that an item, or a plan, can expect, and the longest build, in seconds.
const LAUNCHES_MAX: f64 = 1e12;
const SECONDS_MAX: u64 = 7 * 86_400;
/// Longest name of what people open.
const SPEC_BYTES_MAX: usize = 1000;

pub(super) fn number(fields: &mut Fields, name: &str) -> Answer<Option<f64>> {
    let number = fields.maybe::<f64>(name, "a number, 0 or more")?;
    match number {
        Some(number) if !(0.0..=LAUNCHES_MAX).contains(&number) => {
            Err(Refusal::invalid(name, "must be 0 or more"))
        }
        number => Ok(number),
    }
}

pub(super) fn check_zone(zone: Option<&str>) -> Answer<()> {
    match zone {
        Some(zone) if !hours::is_zone(zone) => {
            let why =
                "is not the name of a time zone; names look like Europe/Berlin, America/New_York or UTC";
            Err(Refusal::invalid("time_zone", why))
        }
        _ => Ok(()),
    }
}

/// A change of a pacing, field by field: null is no limit.
pub(super) fn pacing_change(fields: Map<String, Value>) -> Answer<PacingChange> {
    let names = PacingChange::FIELDS.into_iter().filter(|name| fields.contains_key(*name)).collect();
    let change = PacingChange { to: Fields::from(fields).decode()?, names };
    change.check()?;
    check_zone(change.to.time_zone.as_deref())?;
    Ok(change)
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
    items.into_iter().enumerate().map(|(at, item)| read_item(&format!("items[{at}]"), item, app)).collect()
}

fn read_item(at: &str, item: Value, app: &App) -> Answer<Item> {
    let item: Item = serde_json::from_value(item).map_err(|error| Refusal::invalid(at, error))?;
    check_source(&item.repo, &item.repo2docker_args, &app.settings).map_err(|refusal| refusal.within(at))?;
    if item.launches > LAUNCHES_MAX {
        return Err(Refusal::invalid(&format!("{at}.launches"), "is too large"));
    }
    if item.expected_seconds.is_some_and(|seconds| seconds > SECONDS_MAX) {
        return Err(Refusal::invalid(&format!("{at}.expected_seconds"), "must be at most 7 days"));
    }
    let spec = item.spec.as_deref().unwrap_or_default();
    if spec.len() > SPEC_BYTES_MAX || spec.chars().any(char::is_control) {
        let why = format!("must have at most {SPEC_BYTES_MAX} bytes and no control characters");
        return Err(Refusal::invalid(&format!("{at}.spec"), why));
    }
    Ok(item)
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
            (r#"{"shares": 1}"#, "shares"),
            (r#"{"share": 2}"#, "share"),
            (r#"{"hours": "night"}"#, "hours"),
            (r#"{"time_zone": "Mars/Olympus"}"#, "time_zone"),
        ] {
            let refused = format!("{:?}", change(text).unwrap_err());
            assert!(refused.contains(&format!("field: Some(\"{field}\")")), "{text}: {refused}");
        }
    }
}
