//! From the queue's campaigns to those of the API.

use fairlane_common::queue::campaigns::{Campaign, Campaigns, ItemView};

use crate::api::{CampaignItemView, CampaignView};
use crate::hours;
use crate::routes::view::{round_seconds, seconds};

pub(super) fn campaign(of: &Campaign, all: &Campaigns) -> CampaignView {
    CampaignView {
        name: of.name.to_string(),
        state: of.state,
        by: of.by.clone(),
        created_ms: of.created,
        started_ms: of.started,
        ended_ms: of.ended,
        pacing: of.pacing.clone(),
        standing: of.standing,
        waits: of.waits.clone(),
        launches: of.launches,
        launches_covered: of.covered,
        launches_present: of.covered_before,
        launches_built: of.covered_by_it,
        coverage: of.coverage(),
        items: of.items,
        waiting: of.waiting,
        building: of.building,
        in_line: of.in_line,
        joined: of.joined,
        built: of.built,
        present: of.present,
        built_by_people: of.built_by_people,
        failed: of.failed,
        cancelled: of.cancelled,
        slot_seconds: round_seconds(of.slot_ms),
        slot_seconds_left: seconds(of.left_ms),
        expected_end_ms: hours::expected_end(of, all),
        builds: of.builds.iter().map(|(_, build)| *build).collect(),
    }
}

pub(super) fn item(of: ItemView) -> CampaignItemView {
    CampaignItemView {
        number: of.number,
        repo: of.repo,
        reference: of.reference,
        image: of.image,
        spec: of.spec,
        launches: of.launches,
        expected_seconds: of.expected_seconds,
        state: of.state,
        build: of.build,
        done_ms: of.done.as_ref().map(|done| done.at),
        slot_seconds: of.done.as_ref().map(|done| round_seconds(done.slot_ms)),
        cause: of.done.as_ref().and_then(|done| done.cause.clone()),
        reason: of.done.and_then(|done| done.reason),
    }
}
