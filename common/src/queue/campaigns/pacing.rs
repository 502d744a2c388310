//! How fast a campaign may go.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::invalid::Invalid;

/// Most starts within an hour that a campaign can be limited to.
const PER_HOUR_MAX: u32 = 10_000;
const DAY_MS: u64 = 24 * 3_600_000;

/// Hours of the day, such as `22:00-06:00`, in which a campaign makes builds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hours {
    /// When they begin, in minutes after midnight.
    pub from: u16,
    /// When they end, in minutes after midnight; earlier than `from` if midnight is among them.
    pub to: u16,
}

impl Hours {
    /// How long they are, in milliseconds.
    pub fn length_ms(self) -> u64 {
        u64::from((self.to + 1440 - self.from) % 1440) * 60_000
    }

    /// Whether a minute of the day is among them.
    pub fn contain(self, minute: u16) -> bool {
        if self.from < self.to {
            self.from <= minute && minute < self.to
        } else {
            minute >= self.from || minute < self.to
        }
    }
}

impl fmt::Display for Hours {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (from, to) = (self.from, self.to);
        write!(f, "{:02}:{:02}-{:02}:{:02}", from / 60, from % 60, to / 60, to % 60)
    }
}

impl FromStr for Hours {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let bad =
            || Invalid::new("hours", format!("'{text}' is not a span of hours; write it as 22:00-06:00"));
        let minute = |clock: &str| {
            let (hour, minute) =
                clock.split_once(':').filter(|(hour, minute)| hour.len() == 2 && minute.len() == 2)?;
            let (hour, minute): (u16, u16) = (hour.parse().ok()?, minute.parse().ok()?);
            (hour < 24 && minute < 60).then_some(hour * 60 + minute)
        };
        let (from, to) = text.split_once('-').ok_or_else(bad)?;
        let hours = Self { from: minute(from).ok_or_else(bad)?, to: minute(to).ok_or_else(bad)? };
        if hours.from == hours.to {
            return Err(Invalid::new(
                "hours",
                "they begin and end at the same minute; leave them out for the whole day",
            ));
        }
        Ok(hours)
    }
}

impl Serialize for Hours {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Hours {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from)?.parse().map_err(serde::de::Error::custom)
    }
}

/// How fast a campaign may go. What is absent does not limit it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Pacing {
    /// Most of its builds at once, as a fraction of all slots; at most the policy's background share.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 0.01, maximum = 1)]
    pub share: Option<f64>,
    /// Most of its builds that start within any 60 minutes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 10_000)]
    pub per_hour: Option<u32>,
    /// It makes no builds while somebody has waited longer than this for a slot, and for as long again afterwards, in
    /// milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1000, maximum = 86_400_000)]
    pub pause_when_waiting_ms: Option<u64>,
    /// Hours of the day in which it makes builds, such as `22:00-06:00`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, example = "22:00-06:00")]
    pub hours: Option<Hours>,
    /// The time zone of these hours, such as `Europe/Berlin`; UTC if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_zone: Option<String>,
}

impl Pacing {
    /// # Errors
    /// If a value is out of its range. Whether the time zone exists is left to the caller.
    pub fn check(&self) -> Result<(), Invalid> {
        if self.share.is_some_and(|share| !(0.01..=1.0).contains(&share)) {
            return Err(Invalid::new("share", "must be a number from 0.01 to 1"));
        }
        if self.per_hour.is_some_and(|count| !(1..=PER_HOUR_MAX).contains(&count)) {
            return Err(Invalid::new("per_hour", format!("must be a whole number from 1 to {PER_HOUR_MAX}")));
        }
        if self.pause_when_waiting_ms.is_some_and(|ms| !(1000..=DAY_MS).contains(&ms)) {
            return Err(Invalid::new("pause_when_waiting_ms", "must be from 1000 (1 s) to 86400000 (24 h)"));
        }
        if self.time_zone.is_some() && self.hours.is_none() {
            return Err(Invalid::new("time_zone", "needs hours, such as 22:00-06:00"));
        }
        Ok(())
    }

    /// Each field as Redis has it.
    pub(super) fn fields(&self) -> [(&'static str, Option<String>); 5] {
        fn text(value: Option<impl ToString>) -> Option<String> {
            value.map(|value| value.to_string())
        }
        [
            ("share", text(self.share)),
            ("per_hour", text(self.per_hour)),
            ("pause_when_waiting", text(self.pause_when_waiting_ms)),
            ("hours", text(self.hours)),
            ("time_zone", self.time_zone.clone()),
        ]
    }
}

/// A change of a pacing: a field that is `null` no longer limits the campaign, an absent one stays as it is.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct PacingChange {
    /// The values of the fields that are set.
    pub to: Pacing,
    /// The names of all fields that change.
    pub names: Vec<&'static str>,
}

impl PacingChange {
    /// Names of the fields, as the HTTP API spells them.
    pub const FIELDS: [&'static str; 5] =
        ["share", "per_hour", "pause_when_waiting_ms", "hours", "time_zone"];

    /// # Errors
    /// See [`Pacing::check`].
    pub fn check(&self) -> Result<(), Invalid> {
        let mut to = self.to.clone();
        // Its hours may have been set before.
        if !self.names.contains(&"hours") {
            to.time_zone = None;
        }
        to.check()
    }

    pub(super) fn fields(&self) -> Vec<(&'static str, Option<String>)> {
        let changes =
            |field: &str| self.names.iter().any(|name| name.strip_suffix("_ms").unwrap_or(name) == field);
        self.to.fields().into_iter().filter(|(field, _)| changes(field)).collect()
    }

    pub(super) fn to_json(&self) -> String {
        serde_json::to_string(&self.to).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hours_may_have_midnight_among_them() {
        let night: Hours = "22:00-06:30".parse().unwrap();
        assert_eq!(
            (night.length_ms(), night.to_string().as_str()),
            (8 * 3_600_000 + 1_800_000, "22:00-06:30")
        );
        assert_eq!(
            [1319, 1320, 0, 389, 390, 720].map(|minute| night.contain(minute)),
            [false, true, true, true, false, false]
        );
        let day: Hours = "08:00-18:00".parse().unwrap();
        assert_eq!([479, 480, 1079, 1080].map(|minute| day.contain(minute)), [false, true, true, false]);
        for bad in ["", "22-6", "22:00", "24:00-06:00", "22:60-06:00", "2:00-06:00", "06:00-06:00", "-"] {
            bad.parse::<Hours>().unwrap_err();
        }
    }

    #[test]
    fn pacings_out_of_range_are_named() {
        let check = |text: &str| serde_json::from_str::<Pacing>(text).unwrap().check();
        check(r#"{"share": 0.5, "per_hour": 100, "pause_when_waiting_ms": 60000, "hours": "22:00-06:00"}"#)
            .unwrap();
        for (text, field) in [
            (r#"{"share": 0}"#, "share"),
            (r#"{"share": 1.1}"#, "share"),
            (r#"{"per_hour": 0}"#, "per_hour"),
            (r#"{"pause_when_waiting_ms": 10}"#, "pause_when_waiting_ms"),
            (r#"{"time_zone": "Europe/Berlin"}"#, "time_zone"),
        ] {
            assert_eq!(check(text).unwrap_err().field, field);
        }
    }
}
