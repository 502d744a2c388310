//! Names and label values that are valid in Kubernetes, made from the names of repositories.

use std::fmt::Write as _;

use aws_lc_rs::digest::{SHA256, digest};
use fairlane_common::Build;

/// Longest name of a pod that is also its host name, and longest label value.
const NAME_BYTES_MAX: usize = 63;
/// Hex digits of the hash in a name: 40 bits, so that 10,000 live pods have a chance of about 1 in 20,000 that two
/// names collide.
const HASH_DIGITS: usize = 10;
/// Bytes of the ref in a name: enough to tell commits apart by eye.
const REF_BYTES: usize = 7;

/// The name of the pod of one run of a build: repository and commit for people, a hash of the installation and the
/// image for uniqueness, and the run's number. The same build and run of an installation always have the same
/// name, so that a repeated creation finds the pod of the first one.
pub fn pod_name(build: &Build, run: u32, installation: &str) -> String {
    named(build, run, &format!("{installation}\n{}", build.spec.image))
}

/// All names that the pod may have: the current one, then the one of earlier releases, without the installation.
pub fn pod_names(build: &Build, run: u32, installation: &str) -> [String; 2] {
    [pod_name(build, run, installation), named(build, run, build.spec.image.as_str())]
}

fn named(build: &Build, run: u32, unique: &str) -> String {
    let end = format!("-{}-{run}", hash_of(unique));
    let lane = build.lane.as_str();
    let path = lane.split_once('/').map_or(lane, |(_, path)| path);
    let reference = cut(&slug(build.spec.reference.as_str()), REF_BYTES).to_owned();
    let mut name = "build".to_owned();
    let room = NAME_BYTES_MAX - end.len() - name.len() - 1 - (reference.len() + 1);
    // The end of a path says more than its beginning, because it is the repository's own name.
    let path = slug(path);
    let path = &path[path.len().saturating_sub(room)..];
    for part in [path, &reference] {
        let part = part.trim_matches('-');
        if !part.is_empty() {
            name.push('-');
            name.push_str(part);
        }
    }
    name + &end
}

/// `text` as the value of a label: invalid characters become `-`, both ends are letters or digits, and long texts
/// are cut. Different texts may give the same value.
pub fn label_value(text: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.') { c } else { '-' };
    let value: String = text.chars().map(plain).collect();
    let value = value.trim_start_matches(|c: char| !c.is_ascii_alphanumeric());
    cut(value, NAME_BYTES_MAX).trim_end_matches(|c: char| !c.is_ascii_alphanumeric()).to_owned()
}

fn hash_of(text: &str) -> String {
    hex(digest(&SHA256, text.as_bytes()).as_ref())[..HASH_DIGITS].to_owned()
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Lowercase letters, digits and single `-`.
fn slug(text: &str) -> String {
    let mut slug = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_ascii_alphanumeric() {
            slug.push(c.to_ascii_lowercase());
        } else if !slug.ends_with('-') {
            slug.push('-');
        }
    }
    slug.trim_matches('-').to_owned()
}

fn cut(text: &str, bytes_max: usize) -> &str {
    &text[..text.floor_char_boundary(bytes_max.min(text.len()))]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::build;

    const INSTALLATION: &str = "hub-a";

    fn named(repo: &str, reference: &str, image: &str, run: u32) -> String {
        let mut build = build();
        build.spec.repo = repo.parse().unwrap();
        build.lane = build.spec.repo.lane();
        build.spec.reference = reference.parse().unwrap();
        build.spec.image = image.parse().unwrap();
        pod_name(&build, run, INSTALLATION)
    }

    fn hashed(image: &str) -> String {
        hash_of(&format!("{INSTALLATION}\n{image}"))
    }

    fn is_dns_label(name: &str) -> bool {
        let edge = |c: Option<char>| c.is_some_and(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
        (1..=63).contains(&name.len())
            && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
            && edge(name.chars().next())
            && edge(name.chars().next_back())
    }

    #[test]
    fn names_are_read_by_people_and_taken_by_kubernetes() {
        assert_eq!(
            named("https://github.com/Owner/My.Repo", "0123abcdef", "r.example.org/i:1", 2),
            "build-owner-my-repo-0123abc-1234567890-2".replace("1234567890", &hashed("r.example.org/i:1"))
        );
        let long = "n".repeat(300);
        let slashes = format!("https://git.example.org/{}/x", "a/".repeat(200));
        for (repo, reference) in [
            ("https://github.com/o/n", "feature/…".trim_end_matches('…')),
            (&*format!("https://github.com/o/{long}"), "0123abc"),
            (&*slashes, "_.~"),
            ("https://git.example.org/~/---", "..."),
            ("10.5281/zenodo.3242074", "3242074"),
        ] {
            let name = named(repo, reference, "r/i:t", u32::MAX);
            assert!(is_dns_label(&name), "{repo}: {name}");
            assert!(name.ends_with(&format!("-{}-{}", hashed("r/i:t"), u32::MAX)), "{name}");
        }
    }

    #[test]
    fn names_differ_by_image_and_run_alone() {
        let name = |image, run| named("https://github.com/o/n", "0123abc", image, run);
        assert_ne!(name("r/a:1", 1), name("r/b:1", 1));
        assert_ne!(name("r/a:1", 1), name("r/a:1", 2));
        assert_eq!(name("r/a:1", 1), name("r/a:1", 1));
    }

    #[test]
    fn names_of_two_installations_never_meet() {
        let build = build();
        assert_ne!(pod_name(&build, 1, "hub-a"), pod_name(&build, 1, "hub-b"));
        let [name, former] = pod_names(&build, 1, "hub-a");
        assert_eq!((&name, name.len()), (&pod_name(&build, 1, "hub-a"), former.len()));
        assert!(former.ends_with(&format!("-{}-1", hash_of(build.spec.image.as_str()))), "{former}");
    }

    #[test]
    fn label_values_are_cut_and_escaped() {
        for (text, value) in [
            ("github.com/owner/name", "github.com-owner-name"),
            ("--a b--", "a-b"),
            ("_._", ""),
            ("é", ""),
            ("", ""),
        ] {
            assert_eq!(label_value(text), value, "{text}");
        }
        let value = label_value(&format!("{}-tail", "x".repeat(62)));
        assert_eq!(value, "x".repeat(62));
    }
}
