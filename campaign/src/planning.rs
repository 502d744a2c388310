//! From what people will open to what is built: resolves refs, names images, and stops where the plan's limits are.

use std::collections::{BTreeMap, HashMap};

use fairlane_common::campaign::Item;
use fairlane_common::{GitRef, Image, Lane, Repo};

use crate::list;
use crate::names::image;
use crate::rank::Candidate;
use crate::resolve::{self, Limits, Query};
use crate::source::{Hosts, Source, Wanted};

/// Candidates whose refs are resolved together.
const CHUNK: usize = 128;

/// What a plan may contain.
#[derive(Debug, Clone)]
pub struct Terms {
    /// The images' prefix, as `BinderHub`'s `image_prefix`.
    pub prefix: String,
    /// Where repositories are.
    pub hosts: Hosts,
    /// Whether refs are resolved, and how; otherwise they are taken as given.
    pub resolve: Option<Limits>,
    /// At most this many builds.
    pub top: Option<usize>,
    /// Until this share of all launches is covered, from 0 to 1.
    pub share: Option<f64>,
    /// At most this much expected time of slots, in seconds.
    pub slot_seconds: Option<u64>,
}

/// The builds of a plan.
#[derive(Debug, Default)]
pub struct Planned {
    /// Best first.
    pub items: Vec<Item>,
    /// All expected launches, also of what was left out.
    pub launches: f64,
    /// Those whose image is in the registry already.
    pub present: f64,
    /// What cannot be built.
    pub skipped: Vec<Skipped>,
    /// Whether candidates are left that a limit kept out.
    pub limited: bool,
}

/// A spec that cannot be built.
#[derive(Debug, Clone, PartialEq)]
pub struct Skipped {
    /// The spec.
    pub spec: String,
    /// The kind of reason, always in the same words.
    pub reason: &'static str,
    /// What exactly.
    pub detail: String,
}

impl Planned {
    /// How many specs were skipped, by reason.
    pub fn reasons(&self) -> BTreeMap<String, u64> {
        let mut reasons = BTreeMap::new();
        for one in &self.skipped {
            *reasons.entry(one.reason.to_owned()).or_default() += 1;
        }
        reasons
    }

    /// The launches that find their image once the plan is carried out.
    pub fn covered(&self) -> f64 {
        self.present + self.items.iter().map(|item| item.launches).sum::<f64>()
    }

    /// How much time of slots its builds are expected to take.
    pub fn slot_seconds(&self) -> u64 {
        self.items.iter().filter_map(|item| item.expected_seconds).sum()
    }
}

/// Makes the plan. `candidates` come best first, `expected` says how many seconds a build of a lane takes, and `has`
/// whether an image is there already.
pub async fn plan(
    candidates: &[Candidate],
    terms: &Terms,
    expected: impl AsyncFn(&Lane) -> u64,
    has: impl AsyncFn(&Image) -> bool,
) -> Planned {
    let mut planned =
        Planned { launches: candidates.iter().map(|one| one.launches).sum(), ..Planned::default() };
    let mut of_image: HashMap<String, Option<usize>> = HashMap::new();
    'candidates: for chunk in candidates.chunks(CHUNK) {
        let sources: Vec<Result<Source, Skipped>> = chunk.iter().map(|one| source(one, terms)).collect();
        for (candidate, found) in chunk.iter().zip(commits(chunk, sources, terms).await) {
            let made = found.and_then(|(source, reference)| item(candidate, &source, &reference, terms));
            let mut item = match made {
                Ok(item) => item,
                Err(skipped) => {
                    planned.skipped.push(skipped);
                    continue;
                }
            };
            // Branches of the same commit have the same image.
            match of_image.get(item.image.as_str()) {
                Some(Some(index)) => {
                    planned.items[*index].launches += candidate.launches;
                    continue;
                }
                Some(None) => {
                    planned.present += candidate.launches;
                    continue;
                }
                None => {}
            }
            item.expected_seconds = Some(expected(&item.repo.lane()).await);
            if is_full(&planned, &item, terms) {
                planned.limited = true;
                break 'candidates;
            }
            if has(&item.image).await {
                of_image.insert(item.image.to_string(), None);
                planned.present += candidate.launches;
                let detail = item.image.to_string();
                planned.skipped.push(Skipped { spec: candidate.spec.clone(), reason: PRESENT, detail });
                continue;
            }
            of_image.insert(item.image.to_string(), Some(planned.items.len()));
            planned.items.push(item);
        }
    }
    // Branches of one commit together may be better than what came before them.
    planned.items.sort_by(|a, b| b.launches.total_cmp(&a.launches));
    planned
}

const UNBUILDABLE: &str = "BinderHub cannot build it";
const NO_COMMIT: &str = "no commit is known";
const WEB_API: &str = "only a web API knows the record's version";
/// The reason of those whose image is there.
pub const PRESENT: &str = "the registry has its image";

fn is_full(planned: &Planned, next: &Item, terms: &Terms) -> bool {
    terms.top.is_some_and(|top| planned.items.len() >= top)
        || terms.share.is_some_and(|share| planned.covered() >= share * planned.launches)
        || terms
            .slot_seconds
            .is_some_and(|budget| planned.slot_seconds() + next.expected_seconds.unwrap_or_default() > budget)
}

fn skipped(candidate: &Candidate, reason: &'static str, detail: impl Into<String>) -> Skipped {
    Skipped { spec: candidate.spec.clone(), reason, detail: detail.into() }
}

fn source(candidate: &Candidate, terms: &Terms) -> Result<Source, Skipped> {
    let source = Source::parse(&candidate.spec, &terms.hosts);
    let source = source.map_err(|why| skipped(candidate, UNBUILDABLE, why))?;
    match source.repo.parse::<Repo>() {
        Ok(_) => Ok(source),
        Err(error) => Err(skipped(candidate, resolve::INVALID, error.to_string())),
    }
}

/// The commits, or records' versions, of these candidates.
async fn commits(
    chunk: &[Candidate],
    sources: Vec<Result<Source, Skipped>>,
    terms: &Terms,
) -> Vec<Result<(Source, String), Skipped>> {
    let query_of = |source: &Result<Source, Skipped>| match source {
        Ok(Source { repo, wanted: Wanted::Git { reference, lookup }, .. }) => {
            Some(Query { url: repo.clone(), reference: reference.clone(), lookup: *lookup })
        }
        _ => None,
    };
    let mut resolved = Vec::new();
    if let Some(limits) = terms.resolve {
        let queries: Vec<Query> = sources.iter().filter_map(query_of).collect();
        resolved = resolve::resolve(&queries, limits).await;
    }
    let mut resolved = resolved.into_iter();
    let mut found = Vec::new();
    for (candidate, source) in chunk.iter().zip(sources) {
        let is_git = query_of(&source).is_some();
        let answer = if is_git { resolved.next() } else { None };
        found.push(source.and_then(|source| {
            let reference = match answer {
                Some(Ok(commit)) => commit,
                Some(Err(unresolved)) => {
                    return Err(skipped(candidate, unresolved.reason, unresolved.detail));
                }
                None => as_given(candidate, &source)?,
            };
            Ok((source, reference))
        }));
    }
    found
}

/// The ref that the events or the spec name.
fn as_given(candidate: &Candidate, source: &Source) -> Result<String, Skipped> {
    if let Some(reference) = &candidate.reference {
        return Ok(reference.clone());
    }
    match &source.wanted {
        Wanted::Record(version) => Ok(version.clone()),
        Wanted::Git { reference, .. } if resolve::is_commit(reference) => Ok(reference.clone()),
        Wanted::Git { reference, .. } => {
            let detail =
                format!("'{reference}' is no commit, and its launches do not say which commit it was");
            Err(skipped(candidate, NO_COMMIT, detail))
        }
        Wanted::Api(of) => {
            Err(skipped(candidate, WEB_API, format!("{of} has to be asked, and its launches do not say")))
        }
    }
}

/// The candidate for which `BinderHub` made this image, with the prefix that it had then; `None` if no provider names
/// images so.
pub fn built(
    repo: &str,
    reference: &str,
    image_then: &str,
    prefix_then: &str,
    hosts: &Hosts,
) -> Option<Candidate> {
    let is_its = |spec: &String| {
        Source::parse(spec, hosts).is_ok_and(|source| {
            source.repo == repo && image(prefix_then, &source.slug(reference), reference) == image_then
        })
    };
    let spec = list::specs_of(repo, reference).into_iter().find(is_its)?;
    Some(Candidate { spec, launches: 1.0, reference: Some(reference.to_owned()) })
}

fn item(candidate: &Candidate, source: &Source, reference: &str, terms: &Terms) -> Result<Item, Skipped> {
    let invalid = |error: fairlane_common::Invalid| skipped(candidate, resolve::INVALID, error.to_string());
    let repo: Repo = source.repo.parse().map_err(invalid)?;
    let image: Image = image(&terms.prefix, &source.slug(reference), reference).parse().map_err(invalid)?;
    let reference: GitRef = reference.parse().map_err(invalid)?;
    let spec = Some(candidate.spec.clone());
    Ok(Item { spec, launches: candidate.launches, ..Item::new(repo, reference, image) })
}

#[cfg(test)]
mod tests {
    use super::*;

    const COMMIT: &str = "94a9ed024d3859793618152ea559a168bbcbb5e2";

    fn terms() -> Terms {
        Terms {
            prefix: "r.example.org/b-".to_owned(),
            hosts: Hosts::default(),
            resolve: None,
            top: None,
            share: None,
            slot_seconds: None,
        }
    }

    fn candidate(spec: &str, launches: f64, reference: Option<&str>) -> Candidate {
        Candidate { spec: spec.to_owned(), launches, reference: reference.map(str::to_owned) }
    }

    async fn planned(candidates: &[Candidate], terms: &Terms) -> Planned {
        plan(candidates, terms, async |_: &Lane| 60, async |image: &Image| image.as_str().contains("there"))
            .await
    }

    #[tokio::test]
    async fn refs_as_given() {
        let candidates = [
            candidate("GitHub:o/n/HEAD", 8.0, Some(COMMIT)),
            candidate("GitHub:o/there/HEAD", 7.0, Some(COMMIT)),
            candidate("GitHub:o/n/main", 2.0, Some(COMMIT)),
            candidate("GitHub:o/m/main", 1.0, None),
            candidate(&format!("GitHub:o/m/{COMMIT}"), 1.0, None),
            candidate("Zenodo:10.5281/zenodo.3242074", 1.0, None),
            candidate("Dataverse:10.7910/DVN/TJCLKP", 1.0, None),
            candidate("Dataverse:10.7910/DVN/TJCLKP", 1.0, Some("3035124.v3.0")),
            candidate("Git:ext%3A%3Ash/main", 1.0, Some(COMMIT)),
            candidate("SWHID:swh:1:rev:94a9ed024d3859793618152ea559a168bbcbb5e2", 1.0, None),
        ];
        let plan = planned(&candidates, &terms()).await;
        let known: Vec<(&str, f64)> =
            plan.items.iter().map(|item| (item.image.as_str(), item.launches)).collect();
        assert_eq!(known.len(), 4, "{plan:#?}");
        assert_eq!(
            known[0],
            (format!("r.example.org/b-o-2dn-2d73fe:{COMMIT}").as_str(), 10.0),
            "both branches"
        );
        assert!(known[2].0.ends_with(":3242074") && known[3].0.ends_with(":3035124.v3.0"), "{known:?}");
        let skipped: Vec<&str> = plan.skipped.iter().map(|one| one.reason).collect();
        assert_eq!(skipped, [PRESENT, NO_COMMIT, WEB_API, resolve::INVALID, UNBUILDABLE]);
        assert!((plan.present - 7.0).abs() < 1e-9 && (plan.covered() - 20.0).abs() < 1e-9, "{plan:#?}");
        assert!((plan.launches - 24.0).abs() < 1e-9 && plan.slot_seconds() == 240, "{plan:#?}");
        assert!(!plan.limited);
    }

    #[test]
    fn what_was_built_is_known_by_its_image() {
        let hosts = Hosts::default();
        for (spec, reference) in [
            (format!("GitHub:O/n/{COMMIT}"), COMMIT),
            (format!("Git:https%3A%2F%2Fgit.example.org%2Fn.git/{COMMIT}"), COMMIT),
            (format!("GitLab:g%2Fs%2Fn/{COMMIT}"), COMMIT),
            ("Zenodo:10.5281/zenodo.3242074".to_owned(), "3242074"),
            ("CKAN:https%3A%2F%2Fexample.org%2Fdataset%2Fx".to_owned(), "x.v1"),
        ] {
            let source = Source::parse(&spec, &hosts).unwrap();
            let then = image("r/Old_", &source.slug(reference), reference);
            let found = built(&source.repo, reference, &then, "r/Old_", &hosts);
            assert_eq!(found, Some(candidate(&spec, 1.0, Some(reference))));
            assert_eq!(built(&source.repo, reference, &then, "r/other-", &hosts), None);
        }
    }

    #[tokio::test]
    async fn limits_end_a_plan() {
        let candidates: Vec<Candidate> =
            (0..10).map(|n| candidate(&format!("GitHub:o/n{n}/HEAD"), 1.0, Some(COMMIT))).collect();
        for (terms, count) in [
            (Terms { top: Some(3), ..terms() }, 3),
            (Terms { share: Some(0.45), ..terms() }, 5),
            (Terms { slot_seconds: Some(150), ..terms() }, 2),
            (Terms { top: Some(0), ..terms() }, 0),
            (Terms { top: Some(10), share: Some(1.0), ..terms() }, 10),
        ] {
            let plan = planned(&candidates, &terms).await;
            assert_eq!((plan.items.len(), plan.limited), (count, count < 10), "{terms:?}");
        }
    }
}
