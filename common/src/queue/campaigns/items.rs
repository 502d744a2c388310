//! Looking at the items of a campaign.

use serde::Deserialize;

use super::super::Queue;
use super::super::inspect::{first, page_size};
use super::item::{CampaignName, Kept};
use super::state::ItemState;
use crate::error::{Error, Result};
use crate::id::BuildId;
use crate::limits;

/// Most items read for one page, matching or not.
const READ_MAX: usize = 2000;

/// How an item ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Done {
    /// When.
    pub at: u64,
    /// How long its build occupied a slot, in milliseconds.
    pub slot_ms: u64,
    /// The cause of a failure.
    pub cause: Option<String>,
    /// The reason of a failure or a cancellation.
    pub reason: Option<String>,
}

/// An item of a campaign.
#[derive(Debug, Clone, PartialEq)]
pub struct ItemView {
    /// Its number, from 0, best first.
    pub number: u64,
    /// The source.
    pub repo: String,
    /// The commit or record.
    pub reference: String,
    /// The image.
    pub image: String,
    /// What people launch.
    pub spec: Option<String>,
    /// Expected launches.
    pub launches: f64,
    /// How long its build is expected to take.
    pub expected_seconds: u64,
    /// Where it is.
    pub state: ItemState,
    /// The build that makes, or made, its image.
    pub build: Option<BuildId>,
    /// How it ended.
    pub done: Option<Done>,
}

/// How an item ended, as Redis has it.
#[derive(Deserialize)]
struct Note {
    how: String,
    at: f64,
    #[serde(default)]
    build: String,
    #[serde(default)]
    slot_ms: f64,
    #[serde(default)]
    cause: String,
    #[serde(default)]
    reason: String,
}

impl Queue {
    /// A page of a campaign's items in their order, from the item `cursor` on; with the cursor of the next page. A page
    /// may be empty although others follow.
    pub async fn campaign_items(
        &self,
        name: &CampaignName,
        state: Option<ItemState>,
        cursor: u64,
        limit: usize,
    ) -> Result<(Vec<ItemView>, Option<u64>)> {
        let limit = page_size(limit);
        let key = self.keys().campaign(name.as_str());
        let mut pipe = redis::pipe();
        pipe.cmd("HGET").arg(&key).arg("items");
        let count: u64 = first::<Option<String>>(self.link().bulk(&pipe).await?)?
            .and_then(|count| count.parse().ok())
            .unwrap_or(0);
        let (mut found, mut at, mut read) = (Vec::new(), cursor, 0);
        while at < count && read < READ_MAX {
            let batch: Vec<u64> = (at..count.min(at + limits::PAGE as u64)).collect();
            for item in self.items(&key, &batch).await? {
                if found.len() == limit {
                    return Ok((found, Some(at)));
                }
                at = item.number + 1;
                if state.is_none_or(|state| state == item.state) {
                    found.push(item);
                }
            }
            read += batch.len();
            at = batch.last().map_or(count, |last| last + 1);
        }
        Ok((found, (at < count).then_some(at)))
    }

    async fn items(&self, key: &str, numbers: &[u64]) -> Result<Vec<ItemView>> {
        let mut pipe = redis::pipe();
        for part in ["items", "done", "open", "joined"] {
            pipe.cmd("HMGET").arg(format!("{key}:{part}")).arg(numbers);
        }
        let mut columns = Vec::new();
        for answer in self.link().bulk(&pipe).await? {
            let column: Vec<Option<String>> = redis::from_redis_value(answer).map_err(Error::reply)?;
            columns.push(column.into_iter());
        }
        let mut next = |at: usize| columns.get_mut(at).and_then(Iterator::next).flatten();
        let mut items = Vec::new();
        for number in numbers {
            let (text, done, open, joined) = (next(0), next(1), next(2), next(3));
            if let Some(kept) = text.and_then(|text| serde_json::from_str(&text).ok()) {
                items.push(item(*number, kept, done, open, joined));
            }
        }
        Ok(items)
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "times")]
fn item(
    number: u64,
    kept: Kept,
    done: Option<String>,
    open: Option<String>,
    joined: Option<String>,
) -> ItemView {
    let note: Option<Note> = done.and_then(|text| serde_json::from_str(&text).ok());
    let (state, build) = match (&note, open, joined) {
        (Some(note), ..) => (done_word(&note.how), Some(note.build.clone())),
        (None, Some(id), _) => (ItemState::Building, Some(id)),
        (None, None, Some(id)) => (ItemState::Joined, Some(id)),
        (None, None, None) => (ItemState::Waiting, None),
    };
    let said = |text: String| Some(text).filter(|text| !text.is_empty());
    ItemView {
        number,
        repo: kept.repo,
        reference: kept.reference,
        image: kept.image,
        spec: kept.spec,
        launches: kept.launches,
        expected_seconds: kept.expected_seconds,
        state,
        build: build.and_then(|id| id.parse().ok()),
        done: note.map(|note| Done {
            at: note.at as u64,
            slot_ms: note.slot_ms as u64,
            cause: said(note.cause),
            reason: said(note.reason),
        }),
    }
}

fn done_word(how: &str) -> ItemState {
    match how {
        "built" => ItemState::Built,
        "present" => ItemState::Present,
        "people" => ItemState::People,
        "cancelled" => ItemState::Cancelled,
        _ => ItemState::Failed,
    }
}
