//! Times and numbers as people say them.

use std::time::Duration;

use anyhow::Result;

pub use fairlane_common::queue::many;

use crate::exit::Stop;

/// How long: "45 s", "12 min", "3 h 20 min", "2 days".
pub fn span(ms: u64) -> String {
    let seconds = ms.div_ceil(1000);
    // Rounded to the nearest, so that two hours minus a second is shown as two hours.
    let minutes = (seconds + 30) / 60;
    let hours = minutes / 60;
    match seconds {
        0..90 => format!("{seconds} s"),
        90..5400 => format!("{minutes} min"),
        5400..129_600 if minutes.is_multiple_of(60) => format!("{hours} h"),
        5400..129_600 => format!("{hours} h {} min", minutes % 60),
        _ => format!("{} days", (hours + 12) / 24),
    }
}

/// The same of seconds.
pub fn span_of_seconds(seconds: f64) -> String {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a time, in milliseconds")]
    let ms = (seconds.max(0.0) * 1000.0).round() as u64;
    span(ms)
}

/// How long ago `at` was, both in Unix milliseconds.
pub fn ago(at: u64, now: u64) -> String {
    let gone = now.saturating_sub(at);
    if gone < 1000 { "just now".to_owned() } else { format!("{} ago", span(gone)) }
}

/// How far ahead `at` is, both in Unix milliseconds.
pub fn ahead(at: u64, now: u64) -> String {
    if at <= now { "now".to_owned() } else { format!("in {}", span(at - now)) }
}

/// An estimate of the remaining time.
pub fn about(ms: u64) -> String {
    format!("in about {}", span(ms))
}

/// A point in time for people: Unix milliseconds as UTC.
pub fn moment(ms: u64) -> String {
    let stamp = i64::try_from(ms).ok().and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
    stamp.map_or_else(|| format!("{ms} ms"), |stamp| stamp.strftime("%Y-%m-%d %H:%M UTC").to_string())
}

/// The same to the second, for lists of what happened.
pub fn instant(ms: u64) -> String {
    let stamp = i64::try_from(ms).ok().and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
    stamp.map_or_else(|| format!("{ms} ms"), |stamp| stamp.strftime("%Y-%m-%d %H:%M:%S").to_string())
}

/// Parses a duration from the command line: `90s`, `15m`, `2h`, `3d`, `1h30m`.
pub fn parse_span(text: &str) -> Result<Duration> {
    read_span(text).map_err(|why| Stop::usage(why).into())
}

/// The same, with a message that clap shows as it is.
///
/// # Errors
/// Says how to write it.
pub fn read_span(text: &str) -> Result<Duration, String> {
    let bad = || format!("'{text}' is not a length of time; write 90s, 15m, 2h, 3d or 1h30m");
    let mut total: u64 = 0;
    let mut number = String::new();
    for c in text.chars() {
        if c.is_ascii_digit() {
            number.push(c);
            continue;
        }
        let unit: u64 = match c {
            's' => 1,
            'm' => 60,
            'h' => 3600,
            'd' => 86_400,
            _ => return Err(bad()),
        };
        let part = number.parse::<u64>().ok().and_then(|count| count.checked_mul(unit));
        total = part.and_then(|part| total.checked_add(part)).ok_or_else(bad)?;
        number.clear();
    }
    if !number.is_empty() {
        return Err(format!("'{text}' has no unit; write {text}s, {text}m, {text}h or {text}d"));
    }
    if total == 0 || total > 10 * 366 * 86_400 {
        return Err(format!("'{text}' must be more than 0 and at most 10 years"));
    }
    Ok(Duration::from_secs(total))
}

/// Parses a point in time from the command line (RFC 3339), into Unix milliseconds.
pub fn parse_moment(text: &str) -> Result<u64> {
    let stamp: Result<jiff::Timestamp, _> = text.parse();
    match stamp.map(|stamp| u64::try_from(stamp.as_millisecond())) {
        Ok(Ok(ms)) => Ok(ms),
        _ => Err(Stop::usage(format!(
            "'{text}' is not a point in time; write one like 2026-03-24T18:00:00Z or 2026-03-24T18:00:00+01:00"
        ))
        .into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_read_as_people_say_them() {
        for (ms, said) in [
            (0, "0 s"),
            (400, "1 s"),
            (45_000, "45 s"),
            (89_000, "89 s"),
            (4 * 60_000, "4 min"),
            (2 * 3_600_000 - 2_000, "2 h"),
            (72 * 3_600_000 - 2_000, "3 days"),
            (2 * 3_600_000, "2 h"),
            (3 * 3_600_000 + 20 * 60_000, "3 h 20 min"),
            (72 * 3_600_000, "3 days"),
        ] {
            assert_eq!(span(ms), said);
        }
        assert_eq!(ago(1_000, 241_000), "4 min ago");
        assert_eq!(ago(2_000, 1_000), "just now");
        assert_eq!(ahead(121_000, 1_000), "in 2 min");
        assert_eq!(moment(1_553_414_100_000), "2019-03-24 07:55 UTC");
    }

    #[test]
    fn spans_are_read() {
        for (text, seconds) in [("90s", 90), ("15m", 900), ("2h", 7200), ("1h30m", 5400), ("3d", 259_200)] {
            assert_eq!(parse_span(text).unwrap(), Duration::from_secs(seconds), "{text}");
        }
        for (text, says) in [
            ("2", "no unit"),
            ("", "more than 0"),
            ("h", "length"),
            ("2w", "length"),
            ("0s", "more than 0"),
            ("99999999999999999999s", "length"),
            ("20000d", "10 years"),
        ] {
            let error = parse_span(text).unwrap_err().to_string();
            assert!(error.contains(says), "{text}: {error}");
        }
        assert_eq!(parse_moment("2019-03-24T08:55:00+01:00").unwrap(), 1_553_414_100_000);
        assert!(parse_moment("tomorrow").unwrap_err().to_string().contains("2026-03-24T18:00:00Z"));
    }
}
