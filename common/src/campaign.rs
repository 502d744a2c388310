//! One build of a campaign, as plan files, the HTTP API and Redis have it.

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};

use crate::repo::{GitRef, Image, Repo};

/// One build of a campaign.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[schema(as = CampaignItem)]
pub struct Item {
    /// The source to build, as repo2docker accepts it.
    #[schema(value_type = String)]
    pub repo: Repo,
    /// The resolved commit or record id.
    #[serde(rename = "ref")]
    #[schema(value_type = String)]
    pub reference: GitRef,
    /// The image to make.
    #[schema(value_type = String)]
    pub image: Image,
    /// What people open, as launch events name it: `Provider:spec`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spec: Option<String>,
    /// Expected launches. Recent days weigh more, so it may have a fraction.
    #[serde(default = "one_launch", deserialize_with = "launches")]
    #[schema(minimum = 0)]
    pub launches: f64,
    /// How long the build is expected to take.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected_seconds: Option<u64>,
    /// Extra arguments of repo2docker.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub repo2docker_args: Vec<String>,
    /// Whether the image is pushed to its registry. Default: yes.
    #[serde(default = "pushed", skip_serializing_if = "is_pushed")]
    pub push: bool,
}

impl Item {
    /// A build about which nothing else is known: one launch, and the image is pushed.
    pub fn new(repo: Repo, reference: GitRef, image: Image) -> Self {
        Self {
            repo,
            reference,
            image,
            spec: None,
            launches: one_launch(),
            expected_seconds: None,
            repo2docker_args: Vec::new(),
            push: pushed(),
        }
    }
}

fn one_launch() -> f64 {
    1.0
}

fn pushed() -> bool {
    true
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_pushed(push: &bool) -> bool {
    *push
}

/// Reads a number of launches.
///
/// # Errors
/// When it is negative.
pub fn launches<'de, D: Deserializer<'de>>(from: D) -> Result<f64, D::Error> {
    // JSON has neither infinite numbers nor NaN.
    let launches = f64::deserialize(from)?;
    if launches < 0.0 {
        return Err(D::Error::custom(format!("launches is {launches}; it must not be negative")));
    }
    Ok(launches)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEAST: &str = r#"{"repo":"https://github.com/o/n","ref":"3f2a91c","image":"r/b-o-n:3f2a91c""#;

    #[test]
    fn what_is_left_out_is_usual() {
        let least: Item = serde_json::from_str(&format!("{LEAST}}}")).unwrap();
        assert_eq!((least.launches, least.push, &least.spec), (1.0, true, &None));
        let parts = (least.repo.clone(), least.reference.clone(), least.image.clone());
        assert_eq!(least, Item::new(parts.0, parts.1, parts.2));
        assert_eq!(serde_json::to_string(&least).unwrap(), format!("{LEAST},\"launches\":1.0}}"));
    }

    #[test]
    fn everything_comes_back() {
        let text = format!(
            r#"{LEAST},"spec":"GitHub:o/n/HEAD","launches":12.5,"expected_seconds":180,"repo2docker_args":["--debug"],"push":false}}"#
        );
        let item: Item = serde_json::from_str(&text).unwrap();
        assert_eq!(serde_json::to_string(&item).unwrap(), text);
    }

    #[test]
    fn fewer_than_no_launches_are_refused() {
        let error = serde_json::from_str::<Item>(&format!("{LEAST},\"launches\":-1}}")).unwrap_err();
        assert!(error.to_string().contains("must not be negative"), "{error}");
    }
}
