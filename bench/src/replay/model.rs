//! What the events do not contain, and every replay must agree on: which lane a spec is in, and how long its build
//! takes.

use aws_lc_rs::digest::{SHA256, digest};
use statrs::distribution::{ContinuousCDF, Normal};

/// The median build, in seconds. This and the numbers below are a model, not a measurement: the events do not
/// contain build times.
const MEDIAN_SECONDS: f64 = 180.0;
/// How much repositories differ from each other (standard deviation of the logarithm).
const LANE_SPREAD: f64 = 0.7;
/// How much the commits of one repository differ.
const SPEC_SPREAD: f64 = 0.4;
/// No build takes longer, unless `--slow` says so.
const SECONDS_MAX: f64 = 3600.0;

/// The lane of a spec (`Provider:spec`): `Provider:owner/name` for GitHub and Gist, otherwise the spec without the
/// last part of its path.
pub(super) fn lane_of(spec: &str) -> &str {
    if spec.starts_with("GitHub:") || spec.starts_with("Gist:") {
        spec.match_indices('/').nth(1).map_or(spec, |(cut, _)| &spec[..cut])
    } else {
        spec.rsplit_once('/').map_or(spec, |(lane, _)| lane)
    }
}

/// How long the build of `spec` takes, in milliseconds: log-normal around three minutes, drawn from
/// the names alone, so that it is the same in every replay.
pub(super) fn build_ms(spec: &str) -> u64 {
    let spread = LANE_SPREAD * z(lane_of(spec)) + SPEC_SPREAD * z(spec);
    let seconds = (MEDIAN_SECONDS * spread.exp()).min(SECONDS_MAX);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 0 and an hour")]
    let ms = (seconds * 1000.0).round() as u64;
    ms
}

/// A standard normal number that belongs to `text`: the quantile at its SHA-256, whose first 8 bytes
/// are read as a fraction (big-endian).
fn z(text: &str) -> f64 {
    let hash = digest(&SHA256, text.as_bytes());
    let head = hash.as_ref().iter().take(8).fold(0_u64, |number, byte| (number << 8) | u64::from(*byte));
    #[expect(clippy::cast_precision_loss, reason = "53 bits of a random number are plenty")]
    let fraction = (head as f64 + 0.5) / 2_f64.powi(64);
    Normal::standard().inverse_cdf(fraction)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lanes_of_specs() {
        for (spec, lane) in [
            ("GitHub:jupyterlab/jupyterlab-demo/master", "GitHub:jupyterlab/jupyterlab-demo"),
            ("GitHub:o/n/feature/with/slashes", "GitHub:o/n"),
            ("GitHub:o/n", "GitHub:o/n"),
            ("Gist:minrk/57c1a1/master", "Gist:minrk/57c1a1"),
            ("GitLab:group%2Fname/main", "GitLab:group%2Fname"),
            ("Git:https%3A%2F%2Fgit.example.org%2Fx/abc", "Git:https%3A%2F%2Fgit.example.org%2Fx"),
            ("Zenodo:10.5281/zenodo.3242074", "Zenodo:10.5281"),
            ("Figshare:whole", "Figshare:whole"),
        ] {
            assert_eq!(lane_of(spec), lane);
        }
    }

    // Computed independently, with Python's hashlib and statistics.NormalDist.
    #[test]
    fn times_are_the_same_everywhere() {
        for (text, number) in Z_VALUES {
            assert!((z(text) - number).abs() < 1e-9, "{text}: {} {number}", z(text));
        }
        for (spec, ms) in BUILD_MS {
            assert_eq!(build_ms(spec), *ms, "{spec}");
        }
    }

    const Z_VALUES: &[(&str, f64)] = &[
        ("GitHub:jupyterlab/jupyterlab-demo", -1.279_387_640_228),
        ("GitHub:ipython/ipython-in-depth/master", -1.237_855_137_805),
        ("", 1.223_428_193_150),
        ("a", 0.811_198_896_998),
    ];
    const BUILD_MS: &[(&str, u64)] = &[
        ("GitHub:jupyterlab/jupyterlab-demo/master", 148_599),
        ("GitHub:ipython/ipython-in-depth/master", 79_474),
        ("GitHub:binder-examples/requirements/master", 84_162),
        ("Gist:minrk/57c1a1/master", 557_140),
        ("Git:https%3A%2F%2Fgit.example.org%2Fx/abc", 152_881),
        ("Zenodo:10.5281/zenodo.3242074", 63_745),
        ("GitHub:Microsoft/QuantumKatas/master", 3_600_000),
    ];
}
