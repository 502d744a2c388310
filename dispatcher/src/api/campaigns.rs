//! Campaigns: lists of builds that are made in the background.

use fairlane_common::id::BuildId;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

pub use fairlane_common::campaign::Item as CampaignItem;
pub use fairlane_common::queue::campaigns::{CampaignState, ItemState, Pacing};

/// A new campaign.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct CampaignRequest {
    /// Its name: 1 to 63 lowercase letters, digits or `-`.
    #[schema(pattern = "^[a-z0-9][a-z0-9-]{0,62}$")]
    pub name: String,
    /// A random text: a repeated request with the same one finds its campaign instead of another one of that name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 100)]
    pub request: Option<String>,
    /// All expected launches, also of what the plan left out; otherwise those of its items.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 0)]
    pub launches: Option<f64>,
    /// Expected launches whose images are in the registry already.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 0)]
    pub launches_present: Option<f64>,
    /// How fast it may go.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pacing: Option<Pacing>,
    /// Its first items, best first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(max_items = 1000)]
    pub items: Vec<CampaignItem>,
    /// Whether it goes on until it is cancelled, instead of ending once all its items are done.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub standing: bool,
    /// `running` starts it at once, with these items; without it, it waits for more items.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<CampaignState>,
}

/// More items for a campaign.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct CampaignItems {
    /// How many items the campaign has before these: a repeated request adds nothing.
    pub first: u64,
    /// The items, best first.
    #[schema(min_items = 1, max_items = 1000)]
    pub items: Vec<CampaignItem>,
}

/// How many items a campaign has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CampaignItemsAnswer {
    /// All its items.
    pub items: u64,
}

/// A change of a campaign.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct CampaignChange {
    /// `running` starts or resumes it, `paused` pauses it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<CampaignState>,
    /// A field of the pacing that is null no longer limits it, an absent one stays as it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Pacing>)]
    pub pacing: Option<serde_json::Value>,
}

/// What a cancellation did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CampaignCancelAnswer {
    /// Items that will not be built.
    pub dropped: u64,
    /// Running builds that are being stopped.
    pub stopping: u64,
    /// Running builds that finish.
    pub finishing: u64,
}

/// All campaigns.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct CampaignList {
    /// The campaigns, newest first: those that have not ended, and those that ended within 30 days.
    pub campaigns: Vec<CampaignView>,
    /// Names of campaigns that cannot be read: changed by hand, or written by a newer release.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unreadable: Vec<String>,
}

/// A campaign.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct CampaignView {
    /// Its name.
    pub name: String,
    /// Its state.
    pub state: CampaignState,
    /// Who created it.
    pub by: String,
    /// When it was created.
    pub created_ms: u64,
    /// When it was started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_ms: Option<u64>,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_ms: Option<u64>,
    /// How fast it may go.
    pub pacing: Pacing,
    /// Whether it goes on until it is cancelled.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub standing: bool,
    /// Why it makes no build at the moment; absent if it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waits: Option<String>,
    /// All expected launches.
    pub launches: f64,
    /// Expected launches whose images are there.
    pub launches_covered: f64,
    /// Of these, those whose images were there before the campaign.
    pub launches_present: f64,
    /// Of these, those whose images it built itself.
    #[serde(default)]
    pub launches_built: f64,
    /// `launches_covered` as a part of `launches`, from 0 to 1.
    pub coverage: f64,
    /// All its items.
    pub items: u64,
    /// Items whose builds were not asked for yet.
    pub waiting: u64,
    /// Items whose builds are in line or run.
    pub building: u64,
    /// Of these, those whose builds are in line; absent in the list of all campaigns.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub in_line: Option<u64>,
    /// Items whose images are being built because somebody asked for them.
    pub joined: u64,
    /// Items that it built.
    pub built: u64,
    /// Items whose images were in the registry already.
    pub present: u64,
    /// Items whose images were built because somebody asked for them.
    pub built_by_people: u64,
    /// Items whose builds failed.
    pub failed: u64,
    /// Items whose builds were cancelled.
    pub cancelled: u64,
    /// How long its builds occupied a slot.
    pub slot_seconds: f64,
    /// How long the builds of all items that are not done are expected to occupy a slot.
    pub slot_seconds_left: u64,
    /// When it is expected to end if people need no slots; absent if it cannot go on, or has ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected_end_ms: Option<u64>,
    /// Builds of its items that are in line or run: 50 of them at most.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(value_type = Vec<String>)]
    pub builds: Vec<BuildId>,
}

/// A page of a campaign's items.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct CampaignItemPage {
    /// The items in their order. A page may be short, or empty, although others follow.
    pub items: Vec<CampaignItemView>,
    /// Where the next page starts; absent after the last one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
}

/// An item of a campaign.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct CampaignItemView {
    /// Its number, from 0.
    pub number: u64,
    /// The source.
    pub repo: String,
    /// The commit or record id.
    #[serde(rename = "ref")]
    pub reference: String,
    /// The image.
    pub image: String,
    /// What people open, as launch events name it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spec: Option<String>,
    /// Expected launches.
    pub launches: f64,
    /// How long its build is expected to take.
    pub expected_seconds: u64,
    /// Where it is.
    pub state: ItemState,
    /// The build that makes, or made, its image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = "uuid")]
    pub build: Option<BuildId>,
    /// When it was done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub done_ms: Option<u64>,
    /// How long its build occupied a slot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slot_seconds: Option<f64>,
    /// The cause of a failure, as in failures.md.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<String>,
    /// The reason of a failure or a cancellation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}
