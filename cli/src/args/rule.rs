//! The commands of `fairlane rule`.

use clap::{Args, Subcommand};
use fairlane_common::rule::Pattern;

use super::Reach;

/// What to do with rules.
#[derive(Debug, Subcommand)]
pub(crate) enum Rule {
    /// Refuse new requests; queued and running builds go on
    ///
    /// Example: fairlane rule ban github.com/owner/name --message "being repaired" --for 2h
    Ban {
        /// A lane or a pattern of lanes
        pattern: PatternText,
        #[command(flatten)]
        stop: StopArgs,
        /// End the ban when a build of the lane succeeds
        #[arg(long)]
        until_built: bool,
        /// Build the repository's HEAD now; if it succeeds, the ban ends (needs --until-built)
        #[arg(long, requires = "until_built")]
        build: bool,
        #[command(flatten)]
        reach: Reach,
    },
    /// End a ban
    ///
    /// Example: fairlane rule unban github.com/owner/name
    Unban {
        /// A lane or a pattern of lanes
        pattern: PatternText,
        #[command(flatten)]
        reach: Reach,
    },
    /// Accept requests, but start no builds
    ///
    /// Example: fairlane rule hold 'github.com/owner/*' --message "registry move" --until 2026-03-24T18:00:00Z
    Hold {
        /// A lane or a pattern of lanes
        pattern: PatternText,
        #[command(flatten)]
        stop: StopArgs,
        #[command(flatten)]
        reach: Reach,
    },
    /// End a hold
    ///
    /// Example: fairlane rule release 'github.com/owner/*'
    Release {
        /// A lane or a pattern of lanes
        pattern: PatternText,
        #[command(flatten)]
        reach: Reach,
    },
    /// Set how many builds of a lane may run at the same time
    ///
    /// Examples:
    ///   fairlane rule limit github.com/owner/name 4
    ///   fairlane rule limit 'github.com/owner/*' 3 --together --for 2h
    ///   fairlane rule limit github.com/owner/name --clear
    #[command(verbatim_doc_comment)]
    Limit(LimitArgs),
    /// List all rules
    ///
    /// Example: fairlane rule list
    List {
        #[command(flatten)]
        reach: Reach,
    },
}

/// When a ban or a hold ends, and what people are told.
#[derive(Debug, Args)]
pub(crate) struct StopArgs {
    /// Message for people
    #[arg(long, short)]
    pub(crate) message: Option<String>,
    /// End it after this time: 90s, 15m, 2h, 3d
    #[arg(long = "for", value_name = "TIME", conflicts_with = "until")]
    pub(crate) lasts: Option<String>,
    /// End it at this time: 2026-03-24T18:00:00Z
    #[arg(long, value_name = "TIME")]
    pub(crate) until: Option<String>,
    /// Show which builds and lanes the rule would affect, and change nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
}

/// A limit, or removing it.
#[derive(Debug, Args)]
pub(crate) struct LimitArgs {
    /// A lane or a pattern of lanes
    pub(crate) pattern: PatternText,
    /// Builds of each lane that may run at the same time
    #[arg(required_unless_present = "clear", conflicts_with = "clear", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) limit: Option<u32>,
    /// Builds of a lane that may run while more than half of all slots are free
    #[arg(long, value_name = "N", conflicts_with = "clear", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) burst: Option<u32>,
    /// Share the limit among all lanes of the pattern
    #[arg(long, conflicts_with = "clear")]
    pub(crate) together: bool,
    /// End it after this time: 90s, 15m, 2h, 3d
    #[arg(long = "for", value_name = "TIME", conflicts_with_all = ["until", "clear"])]
    pub(crate) lasts: Option<String>,
    /// End it at this time: 2026-03-24T18:00:00Z
    #[arg(long, value_name = "TIME", conflicts_with = "clear")]
    pub(crate) until: Option<String>,
    /// Remove the limit
    #[arg(long)]
    pub(crate) clear: bool,
    /// Show which builds and lanes the limit would affect, and change nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    #[command(flatten)]
    pub(crate) reach: Reach,
}

/// A pattern, and the text as typed.
#[derive(Debug, Clone)]
pub(crate) struct PatternText {
    /// As typed: a repository's address says where to build from.
    pub(crate) typed: String,
    /// Its normal form.
    pub(crate) pattern: Pattern,
}

impl std::str::FromStr for PatternText {
    type Err = fairlane_common::Invalid;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self { typed: text.to_owned(), pattern: text.parse()? })
    }
}
