//! Commands that change builds, one or many.

use clap::{ArgGroup, Args};
use fairlane_common::Invalid;
use fairlane_common::build::{BuildState, FailureClass};
use fairlane_common::id::Lane;

use super::{Reach, states, words};

/// A build's id, or the beginning of one that only one build has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BuildRef(String);

/// Shortest beginning: all ids of an hour share the first five characters.
const PREFIX_MIN: usize = 6;

impl BuildRef {
    /// The text, in lower case.
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
                "not a build id; one looks like 0198c9e4-7c1f-7d3a-9b1e-3f6f0a1b2c3d, and its first {PREFIX_MIN} or more \
                 characters do where only one build has them"
            ),
        ))
    }
}

/// Either of two ways to say what is meant.
fn one_of(name: &'static str, ways: [&'static str; 2]) -> ArgGroup {
    ArgGroup::new(name).args(ways).required(true)
}

/// End a build, or all builds of a lane, for everybody who waits
///
/// Examples:
///   fairlane cancel 0198c9e4-7c1f-7d3a-9b1e-3f6f0a1b2c3d --reason "wrong branch"
///   fairlane cancel --lane github.com/owner/name --state queued --dry-run
#[derive(Debug, Args)]
#[command(display_order = 8, verbatim_doc_comment, group = one_of("what", ["id", "lane"]))]
pub(crate) struct Cancel {
    /// The build: its id, or the beginning of it
    pub(crate) id: Option<BuildRef>,
    /// All builds of this lane that have not ended
    #[arg(long, value_name = "LANE")]
    pub(crate) lane: Option<Lane>,
    /// Of the lane, only builds in this state
    #[arg(long, requires = "lane", value_name = "STATE", value_parser = states())]
    pub(crate) state: Option<BuildState>,
    /// What its watchers are told
    #[arg(long)]
    pub(crate) reason: Option<String>,
    /// List what would be cancelled, and cancel nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    #[command(flatten)]
    pub(crate) reach: Reach,
}

/// Build again what has failed
///
/// Each image is built once, with the arguments of its latest failed build; images that were built since are left
/// out. Credentials are gone with the failed build: builds that needed some fail again.
///
/// Examples:
///   fairlane retry 0198c9e4-7c1f-7d3a-9b1e-3f6f0a1b2c3d
///   fairlane retry --failed --class infrastructure --since 1h --dry-run
#[derive(Debug, Args)]
#[command(display_order = 8, verbatim_doc_comment, group = one_of("which", ["id", "failed"]))]
pub(crate) struct Retry {
    /// The build: its id, or the beginning of it
    pub(crate) id: Option<BuildRef>,
    /// All failed builds that the options below leave
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
    /// List what would be built, and ask for nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    #[command(flatten)]
    pub(crate) reach: Reach,
}
