//! Commands that change builds, one or many.

use clap::{ArgGroup, Args};
use fairlane_common::Invalid;
use fairlane_common::build::{BuildState, FailureClass};
use fairlane_common::id::Lane;

use super::{Reach, states, words};

/// A build's id, or a beginning or end of an id that only one build has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BuildRef(String);

/// Shortest part of an id: ids made within the same hour share their first five characters.
const PREFIX_MIN: usize = 6;

impl BuildRef {
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::str::FromStr for BuildRef {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let fits = (PREFIX_MIN..=36).contains(&text.len())
            && text.chars().all(|c| c.is_ascii_hexdigit() || c == '-');
        if fits {
            return Ok(Self(text.to_ascii_lowercase()));
        }
        Err(Invalid::new(
            "id",
            format!(
                "not a build id, such as 0198c9e4-7c1f-7d3a-9b1e-3f6f0a1b2c3d; {PREFIX_MIN} or more \
                 characters of its beginning or end are enough if only one build has them"
            ),
        ))
    }
}

/// Requires exactly one of two arguments.
fn one_of(name: &'static str, ways: [&'static str; 2]) -> ArgGroup {
    ArgGroup::new(name).args(ways).required(true)
}

/// Cancel a build, or all builds of a lane, for everybody who is waiting
///
/// Examples:
///   fairlane cancel 0198c9e4-7c1f-7d3a-9b1e-3f6f0a1b2c3d --reason "wrong branch"
///   fairlane cancel --lane github.com/owner/name --state queued --dry-run
#[derive(Debug, Args)]
#[command(display_order = 8, verbatim_doc_comment, group = one_of("what", ["id", "lane"]))]
pub(crate) struct Cancel {
    /// The build: its id, or 6 or more characters of its beginning or end
    pub(crate) id: Option<BuildRef>,
    /// All builds of this lane that have not ended
    #[arg(long, value_name = "LANE")]
    pub(crate) lane: Option<Lane>,
    /// Only builds of the lane in this state
    #[arg(long, requires = "lane", value_name = "STATE", value_parser = states())]
    pub(crate) state: Option<BuildState>,
    /// Reason to show to the people who watch it
    #[arg(long)]
    pub(crate) reason: Option<String>,
    /// List what would be cancelled, without cancelling it
    #[arg(long)]
    pub(crate) dry_run: bool,
    #[command(flatten)]
    pub(crate) reach: Reach,
}

/// Retry failed builds
///
/// Each image is built once, with the arguments of its latest failed build; images
/// that have been built since then are skipped. Credentials were deleted with the
/// failed build, so builds that need them fail again.
///
/// Examples:
///   fairlane retry 0198c9e4-7c1f-7d3a-9b1e-3f6f0a1b2c3d
///   fairlane retry --failed --class infrastructure --since 1h --dry-run
#[derive(Debug, Args)]
#[command(display_order = 8, verbatim_doc_comment, group = one_of("which", ["id", "failed"]))]
pub(crate) struct Retry {
    /// The build: its id, or 6 or more characters of its beginning or end
    pub(crate) id: Option<BuildRef>,
    /// All failed builds that match the options below
    #[arg(long)]
    pub(crate) failed: bool,
    /// Only failures of this class: repository, infrastructure, stuck
    #[arg(long, requires = "failed", value_name = "CLASS", value_parser = words(FailureClass::ALL, FailureClass::word))]
    pub(crate) class: Option<FailureClass>,
    /// Only builds of this lane
    #[arg(long, requires = "failed", value_name = "LANE")]
    pub(crate) lane: Option<Lane>,
    /// Only builds that failed within this time: 90s, 15m, 2h, 3d
    #[arg(long, requires = "failed", value_name = "TIME")]
    pub(crate) since: Option<String>,
    /// List what would be built, and request nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    #[command(flatten)]
    pub(crate) reach: Reach,
}
