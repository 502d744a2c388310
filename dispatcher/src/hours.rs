//! Hours of the day in which a campaign makes builds: Redis knows no time zones.

use fairlane_common::queue::campaigns::{Campaign, CampaignHours, CampaignState, Campaigns, Hours, Window};
use jiff::Timestamp;
use jiff::tz::TimeZone;

/// A minute and a day, in milliseconds.
const MINUTE_MS: u64 = 60_000;
const DAY_MS: u64 = 24 * 60 * MINUTE_MS;

/// Whether these hours have come, and until when this holds; `None` if there is no such time zone.
fn standing(hours: Hours, zone: &str, now: u64) -> Option<(bool, u64)> {
    let zone = TimeZone::get(zone).ok()?;
    let clock = Timestamp::from_millisecond(i64::try_from(now).ok()?).ok()?.to_zoned(zone).time();
    let minute = u16::try_from(clock.hour()).ok()? * 60 + u16::try_from(clock.minute()).ok()?;
    let open = hours.contain(minute);
    let minutes = (if open { hours.to } else { hours.from } + 1440 - minute) % 1440;
    // Of the minute that has begun.
    let past = u64::try_from(clock.second()).ok()? * 1000 + u64::try_from(clock.millisecond()).ok()?;
    Some((open, now + u64::from(minutes) * MINUTE_MS - past))
}

/// Whether a campaign may be fed now. It is to be asked again within a minute, because clocks are put back and forth.
pub(crate) fn window(of: &CampaignHours, now: u64) -> Option<Window> {
    let (open, until) = standing(of.hours.parse().ok()?, &of.zone, now)?;
    Some(Window { of: of.clone(), open, until: until.min(now + MINUTE_MS) })
}

/// Whether there is a time zone of this name.
pub(crate) fn is_zone(name: &str) -> bool {
    TimeZone::get(name).is_ok()
}

/// When a campaign is expected to end if people need no slots.
pub(crate) fn expected_end(campaign: &Campaign, all: &Campaigns) -> Option<u64> {
    if campaign.standing || !matches!(campaign.state, CampaignState::Loading | CampaignState::Running) {
        return None;
    }
    let mut left = campaign.time_left_ms(all.slots, all.background_max)?;
    let Some(hours) = campaign.pacing.hours else { return Some(all.now + left) };
    let zone = campaign.pacing.time_zone.as_deref().unwrap_or("UTC");
    let (open, mut at) = standing(hours, zone, all.now)?;
    if open {
        let first = at - all.now;
        if left <= first {
            return Some(all.now + left);
        }
        left -= first;
        at += DAY_MS - hours.length_ms();
    }
    // Whole days, then the rest of the last one.
    let days = left.saturating_sub(1) / hours.length_ms();
    Some(at + days * DAY_MS + (left - days * hours.length_ms()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> u64 {
        text.parse::<Timestamp>().unwrap().as_millisecond().try_into().unwrap()
    }

    #[test]
    fn hours_are_those_of_their_time_zone() {
        let night: Hours = "22:00-06:00".parse().unwrap();
        let berlin = |time: &str| standing(night, "Europe/Berlin", at(time)).unwrap();
        assert_eq!(berlin("2026-11-30T20:59:59.500Z"), (false, at("2026-11-30T21:00:00Z")));
        assert_eq!(berlin("2026-11-30T21:00:00Z"), (true, at("2026-12-01T05:00:00Z")));
        assert_eq!(berlin("2026-12-01T04:59:30Z"), (true, at("2026-12-01T05:00:00Z")));
        // In summer they come an hour earlier.
        assert_eq!(berlin("2026-07-01T20:00:00Z"), (true, at("2026-07-02T04:00:00Z")));
        assert!(standing(night, "Europe/Atlantis", 0).is_none());
        assert!(is_zone("America/Los_Angeles") && is_zone("UTC") && !is_zone("Mars/Olympus"));
    }
}
