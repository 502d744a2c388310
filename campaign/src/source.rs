//! What a spec of a launch event means: which repository, which ref, and `BinderHub`'s slug for it
//! (`binderhub/repoproviders.py`).

use crate::names::escape;

/// Where repositories of GitHub and GitLab are, as in `BinderHub`'s configuration.
#[derive(Debug, Clone)]
pub struct Hosts {
    /// `c.GitHubRepoProvider.hostname`
    pub github: String,
    /// `c.GitLabRepoProvider.hostname`
    pub gitlab: String,
}

impl Default for Hosts {
    fn default() -> Self {
        Self { github: "github.com".to_owned(), gitlab: "gitlab.com".to_owned() }
    }
}

/// A repository to build, whose ref is not resolved yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// The repository, as `BinderHub` passes it to repo2docker.
    pub repo: String,
    /// How its ref is found.
    pub wanted: Wanted,
    slug: Slug,
}

/// How a ref is found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wanted {
    /// A ref of a Git repository.
    Git {
        /// The branch, tag or commit; `HEAD` for the default branch.
        reference: String,
        /// How `BinderHub` looks for it.
        lookup: Lookup,
    },
    /// The record's version, which the spec says.
    Record(String),
    /// Only a web API knows the record's latest version: which one.
    Api(&'static str),
}

/// How `BinderHub` finds the commit of a branch or tag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lookup {
    /// GitHub: the commit of a branch or tag; without `main` and `master`, the default branch.
    GitHub,
    /// GitLab: the commit of a branch or tag.
    GitLab,
    /// Gists only have a default branch and commits.
    Gist,
    /// The first ref that `git ls-remote` prints for it, a tag's own hash included.
    LsRemote,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Slug {
    Fixed(String),
    /// This, and the resolved ref.
    WithRef(&'static str),
}

impl Source {
    /// Reads a spec, as launch events name it: `Provider:spec`.
    ///
    /// # Errors
    /// With the reason why `BinderHub` would not build it, or Fairlane cannot.
    pub fn parse(name: &str, hosts: &Hosts) -> Result<Self, String> {
        let (provider, spec) = name.split_once(':').ok_or("a spec is written Provider:spec")?;
        let spec = spec.trim_end_matches('/');
        match provider {
            "GitHub" => github(spec, hosts),
            "Gist" => gist(spec),
            "GitLab" => gitlab(spec, hosts),
            "Git" => git(spec),
            "Zenodo" => Ok(zenodo(spec)),
            "Figshare" => Ok(figshare(spec)),
            "Dataverse" => dataverse(spec),
            "Hydroshare" => hydroshare(spec),
            "CKAN" => ckan(spec),
            "SWHID" => Err("BinderHub has no provider for Software Heritage".to_owned()),
            other => Err(format!("the provider '{other}' is unknown")),
        }
    }

    /// `BinderHub`'s slug, once the ref is resolved.
    pub fn slug(&self, reference: &str) -> String {
        match &self.slug {
            Slug::Fixed(slug) => slug.clone(),
            Slug::WithRef(before) => format!("{before}{reference}"),
        }
    }

    fn git(repo: String, reference: &str, lookup: Lookup, slug: String) -> Self {
        let wanted = Wanted::Git { reference: reference.to_owned(), lookup };
        Self { repo, wanted, slug: Slug::Fixed(slug) }
    }
}

fn github(spec: &str, hosts: &Hosts) -> Result<Source, String> {
    let parts: Vec<&str> = spec.splitn(3, '/').collect();
    let [owner, name, reference] = parts[..] else {
        return Err("not of the form owner/name/ref".to_owned());
    };
    let name = name.strip_suffix(".git").unwrap_or(name);
    let repo = format!("https://{}/{owner}/{name}", hosts.github);
    Ok(Source::git(repo, reference, Lookup::GitHub, format!("{owner}-{name}")))
}

fn gist(spec: &str) -> Result<Source, String> {
    let mut parts = spec.split('/');
    let (Some(owner), Some(id)) = (parts.next(), parts.next()) else {
        return Err("not of the form owner/gist/ref".to_owned());
    };
    let reference = match parts.next() {
        None | Some("" | "HEAD" | "master" | "main") => "HEAD",
        Some(other) => other,
    };
    let repo = format!("https://gist.github.com/{owner}/{id}.git");
    Ok(Source::git(repo, reference, Lookup::Gist, id.to_owned()))
}

fn gitlab(spec: &str, hosts: &Hosts) -> Result<Source, String> {
    let (namespace, reference) = escaped_and_ref(spec)?;
    let repo = format!("https://{}/{namespace}.git", hosts.gitlab);
    let slug = namespace.split('/').map(|part| part.replace('-', "_-")).collect::<Vec<_>>().join("-");
    Ok(Source::git(repo, &reference, Lookup::GitLab, slug))
}

fn git(spec: &str) -> Result<Source, String> {
    let (mut repo, reference) = escaped_and_ref(spec)?;
    if let Some((before, path)) = repo.split_once(':')
        && let Some((user, host)) = before.split_once('@')
        && !path.starts_with("//")
        && !path.is_empty()
        && [user, host].iter().all(|part| !part.is_empty() && !part.contains('/'))
    {
        repo = format!("ssh://{before}/{path}");
    }
    Ok(Source::git(repo.clone(), &reference, Lookup::LsRemote, repo))
}

/// `<percent-encoded>/<ref>`, both decoded.
fn escaped_and_ref(spec: &str) -> Result<(String, String), String> {
    let (escaped, reference) = spec.split_once('/').ok_or("not of the form repository/ref")?;
    if reference.is_empty() {
        return Err("it names no ref".to_owned());
    }
    Ok((unquote(escaped), unquote(reference)))
}

/// The DOI of a version ends with the number of its record. (That of all versions does, too; only the web page of
/// the record tells.)
fn zenodo(spec: &str) -> Source {
    let number = spec.rsplit_once("zenodo.").map(|(_, number)| number);
    let number = number.filter(|text| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()));
    let wanted = number.map_or(Wanted::Api("Zenodo"), |number| Wanted::Record(number.to_owned()));
    Source { repo: spec.to_owned(), wanted, slug: Slug::WithRef("zenodo-") }
}

fn figshare(spec: &str) -> Source {
    let fields: Vec<&str> = spec.split_once('/').map_or(spec, |(_, record)| record).split('.').collect();
    let wanted = match fields[..] {
        [_, .., article, version] if fields.len() > 2 && version.starts_with('v') => {
            Wanted::Record(format!("{article}.{version}"))
        }
        _ => Wanted::Api("Figshare"),
    };
    Source { repo: spec.to_owned(), wanted, slug: Slug::WithRef("figshare-") }
}

fn dataverse(spec: &str) -> Result<Source, String> {
    let (_, identifier) = spec.split_once('/').ok_or("not a DOI")?;
    let slug = Slug::Fixed(format!("dataverse-{}", escape(identifier).to_ascii_lowercase()));
    Ok(Source { repo: spec.to_owned(), wanted: Wanted::Api("Dataverse"), slug })
}

fn hydroshare(spec: &str) -> Result<Source, String> {
    const DIGITS: usize = 32;
    let is_id = |part: &[u8]| part.iter().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(byte));
    // The last one, as a greedy pattern finds it.
    let start =
        spec.as_bytes().windows(DIGITS).rposition(is_id).ok_or("it names no resource of Hydroshare")?;
    let repo = format!("https://www.hydroshare.org/resource/{}", &spec[start..start + DIGITS]);
    Ok(Source { repo, wanted: Wanted::Api("Hydroshare"), slug: Slug::WithRef("hydroshare-") })
}

fn ckan(spec: &str) -> Result<Source, String> {
    let repo = unquote(spec);
    let path = repo.split(['?', '#']).next().unwrap_or_default();
    let (_, dataset) = path.split_once("/dataset/").ok_or("it is no dataset of CKAN")?;
    let slug = format!("ckan-{}", dataset.split('/').next().unwrap_or_default());
    Ok(Source { repo, wanted: Wanted::Api("CKAN"), slug: Slug::Fixed(slug) })
}

/// Decodes `%2F` and the like; what is no such code stays.
fn unquote(text: &str) -> String {
    let (mut bytes, mut at) = (Vec::with_capacity(text.len()), 0);
    while let Some(byte) = text.as_bytes().get(at) {
        let digits = text.get(at + 1..at + 3).filter(|_| *byte == b'%');
        let digits = digits.filter(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()));
        let decoded = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok());
        bytes.push(decoded.unwrap_or(*byte));
        at += if decoded.is_some() { 3 } else { 1 };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(name: &str) -> Result<Source, String> {
        Source::parse(name, &Hosts::default())
    }

    #[test]
    fn refs_that_a_spec_names() {
        let git = |reference: &str, lookup| Wanted::Git { reference: reference.to_owned(), lookup };
        for (name, wanted) in [
            ("GitHub:o/n/feature/x", git("feature/x", Lookup::GitHub)),
            ("GitHub:o/n/main/", git("main", Lookup::GitHub)),
            ("Gist:o/abc", git("HEAD", Lookup::Gist)),
            ("Gist:o/abc/master", git("HEAD", Lookup::Gist)),
            ("GitLab:g%2Fn/feature%2Fx", git("feature/x", Lookup::GitLab)),
            ("Git:https%3A%2F%2Fexample.org%2Fn/v1", git("v1", Lookup::LsRemote)),
            ("Zenodo:10.5281/zenodo.3242074", Wanted::Record("3242074".to_owned())),
            ("Zenodo:10.5281/whatever", Wanted::Api("Zenodo")),
            ("Figshare:10.6084/m9.figshare.9782777.v3", Wanted::Record("9782777.v3".to_owned())),
            ("Figshare:10.6084/m9.figshare.9782777", Wanted::Api("Figshare")),
            ("Dataverse:10.7910/DVN/TJCLKP", Wanted::Api("Dataverse")),
        ] {
            assert_eq!(parse(name).unwrap().wanted, wanted, "{name}");
        }
    }

    #[test]
    fn specs_that_nothing_can_be_built_from() {
        for (name, says) in [
            ("o/n/main", "Provider:spec"),
            ("GitHub:o/n", "owner/name/ref"),
            ("Gist:o", "owner/gist"),
            ("GitLab:group", "repository/ref"),
            ("Git:https%3A%2F%2Fexample.org/", "repository/ref"),
            ("Dataverse:x", "not a DOI"),
            ("Hydroshare:x", "no resource"),
            ("CKAN:https%3A%2F%2Fexample.org", "no dataset"),
            ("SWHID:swh:1:rev:94a9ed024d3859793618152ea559a168bbcbb5e2", "no provider"),
            ("SourceForge:x", "unknown"),
        ] {
            let refused = parse(name).expect_err(name);
            assert!(refused.contains(says), "{name}: {refused}");
        }
    }

    #[test]
    fn percent_codes() {
        assert_eq!(unquote("a%2Fb%2fc%zz%4"), "a/b/c%zz%4");
        assert_eq!(unquote("caf%C3%A9%"), "café%");
        assert_eq!(unquote("é%é"), "é%é");
    }
}
