//! What a request names: repositories and their lanes, refs, images. Each is parsed once, at the edge, and is
//! valid from then on.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::invalid::Invalid;
use crate::limits;

/// Whether `c` is allowed in a repository, a lane or an image: printable ASCII without spaces, quotes, braces
/// and glob characters. (Keys contain lanes and images, and people paste keys.)
fn is_plain(c: char) -> bool {
    c.is_ascii_graphic()
        && !matches!(c, '"' | '\'' | '`' | '<' | '>' | '\\' | '^' | '{' | '|' | '}' | '*' | '[' | ']')
}

fn check_plain(field: &'static str, text: &str, max: usize) -> Result<(), Invalid> {
    if text.is_empty() {
        return Err(Invalid::new(field, "must not be empty"));
    }
    if text.len() > max {
        return Err(Invalid::new(field, format!("has {} bytes; at most {max} are allowed", text.len())));
    }
    if text.starts_with('-') {
        return Err(Invalid::new(
            field,
            "must not start with '-', which a command line would take for an option",
        ));
    }
    if let Some(bad) = text.chars().find(|c| !is_plain(*c)) {
        let shown: String = bad.escape_default().collect();
        return Err(Invalid::new(
            field,
            format!(
                "has the character '{shown}', which is not allowed: use printable ASCII without blanks, quotes, braces, backslashes or '*'"
            ),
        ));
    }
    Ok(())
}

/// All builds of one repository: `github.com/owner/name`, or `doi/10.5281/zenodo.3242074`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct Lane(String);

impl Lane {
    /// The lane's name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Lane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for Lane {
    type Err = Invalid;

    /// Parses a lane's name, or a repository's address, which gives that repository's lane.
    fn from_str(text: &str) -> Result<Self, Invalid> {
        if text.contains("://") || text.starts_with("swh:1:") || doi_of(text).is_some() || is_scp_like(text) {
            return Ok(Repo::from_str(text).map_err(|e| Invalid::new("lane", e.why))?.lane());
        }
        check_plain("lane", text, limits::REPO_BYTES_MAX)?;
        if !text.contains('/') || text.split('/').any(str::is_empty) {
            return Err(Invalid::new(
                "lane",
                "a lane looks like github.com/owner/name or doi/10.5281/zenodo.3242074",
            ));
        }
        Ok(Self(normal_lane(text)))
    }
}

impl<'de> Deserialize<'de> for Lane {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from)?.parse().map_err(serde::de::Error::custom)
    }
}

/// Hosts on which owner and name mean the same in upper and lower case.
fn ignores_case(host: &str) -> bool {
    matches!(host, "github.com" | "www.github.com" | "gist.github.com" | "gitlab.com" | "www.gitlab.com")
}

/// `host/path` with the host in lower case, and the path too where the host ignores case.
pub(crate) fn normal_lane(text: &str) -> String {
    let (host, path) = text.split_once('/').unwrap_or((text, ""));
    let host = host.to_ascii_lowercase();
    let path = path.trim_end_matches('/');
    let path = path.strip_suffix(".git").unwrap_or(path);
    if ignores_case(&host) || matches!(host.as_str(), "doi" | "swh") {
        let host = host.strip_prefix("www.").unwrap_or(&host).to_owned();
        format!("{host}/{}", path.to_ascii_lowercase())
    } else {
        format!("{host}/{path}")
    }
}

/// A source that repo2docker accepts: a Git URL, the DOI of a record, or a Software Heritage identifier.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
#[serde(transparent)]
pub struct Repo(String);

impl Repo {
    /// The repository as given; git's short form for ssh is expanded.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The folder of a `file://` repository, on the workers' hosts.
    pub fn folder(&self) -> Option<std::path::PathBuf> {
        Some(unescaped(self.0.strip_prefix("file://")?).into())
    }

    /// The lane that this repository's builds belong to.
    pub fn lane(&self) -> Lane {
        if let Some(path) = self.0.strip_prefix("file:///") {
            return Lane(normal_lane(&format!("file/{path}")));
        }
        if let Some(doi) = doi_of(&self.0) {
            return Lane(format!("doi/{}", doi.to_ascii_lowercase()));
        }
        if let Some(swhid) = swhid_of(&self.0) {
            return Lane(format!("swh/{}", swhid.to_ascii_lowercase()));
        }
        let rest = self.0.split_once("://").map_or(self.0.as_str(), |(_, rest)| rest);
        let rest = rest.split(['?', '#']).next().unwrap_or(rest);
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
        let path: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
        Lane(normal_lane(&format!("{host}/{}", path.join("/"))))
    }
}

impl fmt::Display for Repo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for Repo {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let field = "repo";
        check_plain(field, text, limits::REPO_BYTES_MAX)?;
        if doi_of(text).is_some() || swhid_of(text).is_some() {
            return Ok(Self(text.to_owned()));
        }
        if let (true, Some((authority, path))) = (is_scp_like(text), text.split_once(':')) {
            return format!("ssh://{authority}/{}", path.trim_start_matches('/')).parse();
        }
        let Some((scheme, rest)) = text.split_once("://") else {
            return Err(Invalid::new(
                field,
                "neither a Git URL (https://github.com/owner/name) nor a DOI (10.5281/zenodo.3242074) nor a \
                 Software Heritage identifier (swh:1:rev:…)",
            ));
        };
        if scheme == "file" {
            let parts = rest.strip_prefix('/').unwrap_or_default().trim_end_matches('/').split('/');
            if !rest.starts_with('/') || parts.clone().any(|part| matches!(part, "" | "." | "..")) {
                return Err(Invalid::new(
                    field,
                    "a folder's address is file:// and its full path, such as file:///home/you/notebooks",
                ));
            }
            return Ok(Self(text.trim_end_matches('/').to_owned()));
        }
        if !matches!(scheme, "https" | "http" | "git" | "ssh") {
            return Err(Invalid::new(
                field,
                "a Git URL starts with https://, http://, git://, ssh:// or file://",
            ));
        }
        let authority = rest.split(['/', '?', '#']).next().unwrap_or("");
        let (user, host) = match authority.rsplit_once('@') {
            Some((user, host)) => (Some(user), host),
            None => (None, authority),
        };
        if user.is_some_and(|user| scheme != "ssh" || user.contains(':')) {
            return Err(Invalid::new(
                field,
                "must not carry a user name or password; send credentials in secrets.git_credentials",
            ));
        }
        if host.is_empty() || host.starts_with(['-', ':', '.']) {
            return Err(Invalid::new(field, "the URL names no host"));
        }
        let path = rest.split_once('/').map_or("", |(_, path)| path);
        if path.split(['?', '#']).next().unwrap_or("").trim_matches('/').is_empty() {
            return Err(Invalid::new(field, "the URL names no repository on that host"));
        }
        if path.split('/').any(|part| part == ".." || part == ".") {
            return Err(Invalid::new(field, "the URL's path must not contain '.' or '..'"));
        }
        Ok(Self(text.to_owned()))
    }
}

impl<'de> Deserialize<'de> for Repo {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from)?.parse().map_err(serde::de::Error::custom)
    }
}

/// Decodes the path of an address: `%20` is a space.
fn unescaped(path: &str) -> String {
    let (mut bytes, mut at) = (Vec::with_capacity(path.len()), 0);
    while at < path.len() {
        let escaped = path.get(at..at + 3).and_then(|part| part.strip_prefix('%'));
        let byte = escaped.and_then(|digits| u8::from_str_radix(digits, 16).ok());
        bytes.push(byte.unwrap_or(path.as_bytes()[at]));
        at += if byte.is_some() { 3 } else { 1 };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The DOI in `text`, bare (`10.5281/…`), with `doi:`, or as an address of doi.org.
fn doi_of(text: &str) -> Option<&str> {
    let doi = ["https://doi.org/", "http://doi.org/", "https://dx.doi.org/", "http://dx.doi.org/", "doi:"]
        .iter()
        .find_map(|prefix| text.strip_prefix(prefix))
        .unwrap_or(text);
    let (registrant, record) = doi.split_once('/')?;
    let digits = registrant.strip_prefix("10.")?;
    let fits = digits.len() >= 4 && digits.chars().all(|c| c.is_ascii_digit() || c == '.');
    (fits && !record.is_empty() && !record.starts_with('/') && !record.ends_with('/')).then_some(doi)
}

/// The type and hash in an identifier of Software Heritage: `rev:…` of `swh:1:rev:…;origin=…`.
fn swhid_of(text: &str) -> Option<&str> {
    let core = text.strip_prefix("swh:1:")?.split(';').next()?;
    let (kind, hash) = core.split_once(':')?;
    let fits = matches!(kind, "cnt" | "dir" | "rel" | "rev" | "snp")
        && hash.len() == 40
        && hash.chars().all(|c| c.is_ascii_hexdigit());
    fits.then_some(core)
}

/// Whether `text` is git's short form for ssh: `git@host:owner/name`.
fn is_scp_like(text: &str) -> bool {
    let Some((authority, path)) = text.split_once(':') else { return false };
    let Some((user, host)) = authority.split_once('@') else { return false };
    let plain = |text: &str| {
        !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-'))
    };
    plain(user) && plain(host) && !path.is_empty() && !path.starts_with("//")
}

macro_rules! checked_text {
    ($(#[$doc:meta])* $name:ident, $field:literal, $max:expr, $extra:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
        #[serde(transparent)]
        pub struct $name(String);

        impl $name {
            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = Invalid;

            fn from_str(text: &str) -> Result<Self, Invalid> {
                check_plain($field, text, $max)?;
                let extra: fn(&str) -> Result<(), &'static str> = $extra;
                extra(text).map_err(|why| Invalid::new($field, why))?;
                Ok(Self(text.to_owned()))
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                String::deserialize(from)?.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

checked_text!(
    /// A resolved commit, a branch or tag, or a record's id: what `repo2docker --ref` takes.
    GitRef, "ref", limits::REF_BYTES_MAX, |_| Ok(()));

checked_text!(
/// The image to be made, `registry/name:tag`. Two requests for the same image are one build.
Image, "image", limits::IMAGE_BYTES_MAX, |text| {
    let name = text.rsplit('/').next().unwrap_or(text);
    // No '@': a digest is known only after the build, and a password before an '@' must not reach Redis.
    let fits = text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '/' | ':'));
    if !fits || name.is_empty() || text.starts_with(['/', ':', '.']) || text.contains("//") {
        return Err("not an image's name; one looks like registry.example.org/binder-owner-name:3f2a91c");
    }
    Ok(())
});

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lanes_of_repositories() {
        for (repo, lane) in [
            ("https://github.com/Owner/Name", "github.com/owner/name"),
            ("https://GitHub.com/Owner/Name.git/", "github.com/owner/name"),
            ("https://www.github.com/o/n", "github.com/o/n"),
            ("ssh://git@gitlab.com/Group/Sub/Name.git", "gitlab.com/group/sub/name"),
            ("https://git.example.org/Owner/Name.git", "git.example.org/Owner/Name"),
            ("git://127.0.0.1:9418//a//b", "127.0.0.1:9418/a/b"),
            ("10.5281/zenodo.3242074", "doi/10.5281/zenodo.3242074"),
            ("https://doi.org/10.5281/Zenodo.3242074", "doi/10.5281/zenodo.3242074"),
            ("doi:10.5281/zenodo.3242074", "doi/10.5281/zenodo.3242074"),
            ("git@github.com:Owner/Name.git", "github.com/owner/name"),
            ("git@git.example.org:/srv/Name", "git.example.org/srv/Name"),
            (
                "swh:1:rev:94A9ED024D3859793618152EA559A168BBCBB5E2;origin=https://github.com/o/n",
                "swh/rev:94a9ed024d3859793618152ea559a168bbcbb5e2",
            ),
            ("file:///home/You/my%20notes/", "file/home/You/my%20notes"),
        ] {
            assert_eq!(repo.parse::<Repo>().unwrap().lane().as_str(), lane, "{repo}");
            // A rule's pattern may be given as the repository's address.
            assert_eq!(repo.parse::<Lane>().unwrap().as_str(), lane, "{repo}");
            assert_eq!(lane.parse::<Lane>().unwrap().as_str(), lane, "{repo}");
        }
        assert_eq!(
            "git@host.example.org:o/n".parse::<Repo>().unwrap().as_str(),
            "ssh://git@host.example.org/o/n"
        );
        assert_eq!("GitHub.com/O/N".parse::<Lane>().unwrap().as_str(), "github.com/o/n");
        assert_eq!("https://github.com/O/N".parse::<Lane>().unwrap().as_str(), "github.com/o/n");
    }

    #[test]
    fn folders_have_a_path() {
        let folder = |text: &str| text.parse::<Repo>().unwrap().folder();
        assert_eq!(folder("file:///home/a%20b%2").unwrap(), std::path::Path::new("/home/a b%2"));
        assert_eq!(folder("https://github.com/o/n"), None);
        let lane = "file:///home/A".parse::<Repo>().unwrap().lane();
        assert_eq!(lane.as_str().parse::<Lane>().unwrap(), lane);
    }

    #[test]
    fn bad_repositories_are_refused_with_a_reason() {
        for (repo, says) in [
            ("", "empty"),
            ("owner/name", "neither"),
            ("-ufoo", "start with '-'"),
            ("ftp://host/o/n", "starts with https"),
            ("file://etc", "full path"),
            ("file:///", "full path"),
            ("file:///etc/../root", "full path"),
            ("https://user:secret@github.com/o/n", "credentials"),
            ("https://token@github.com/o/n", "credentials"),
            ("ssh://git:pw@github.com/o/n", "credentials"),
            ("https://github.com", "no repository"),
            ("https:///o/n", "no host"),
            ("https://github.com/o/../n", "'..'"),
            ("https://github.com/o/n\n", "character"),
            ("https://github.com/o/{n}", "character"),
            ("10.1/x", "neither"),
            ("swh:1:rev:94a9", "neither"),
            ("swh:2:rev:94a9ed024d3859793618152ea559a168bbcbb5e2", "neither"),
            ("git@host:../../etc", "'..'"),
            ("a:b@host:o/n", "neither"),
        ] {
            let refused = repo.parse::<Repo>().expect_err(repo);
            assert!(refused.why.contains(says), "{repo}: {refused}");
        }
        let long = format!("https://github.com/o/{}", "n".repeat(3000));
        assert!(long.parse::<Repo>().unwrap_err().why.contains("bytes"));
    }

    #[test]
    fn refs_and_images() {
        assert!("3f2a91c".parse::<GitRef>().is_ok());
        assert!("--upload-pack=x".parse::<GitRef>().is_err());
        assert!("a b".parse::<GitRef>().is_err());
        assert!("registry.example.org:5000/binder-o-n:3f2".parse::<Image>().is_ok());
        for bad in ["", "-x", "a//b", "a b", "a/", "a$b", "/a"] {
            assert!(bad.parse::<Image>().is_err(), "{bad}");
        }
    }
}
