//! Lists of repositories that somebody wrote: one a line.

use std::fmt::Write as _;
use std::io::BufRead;

use crate::lines::{self, BadLines};
use crate::rank::Candidate;

const LINE_BYTES_MAX: usize = 4096;

/// Reads a list: a line is `address ref`, such as `https://github.com/owner/name main`, or a spec such as
/// `GitHub:owner/name/main`. Each is expected to be launched once. Lines that start with `#` are comments.
pub fn read(from: &mut impl BufRead, name: String) -> (Vec<Candidate>, BadLines) {
    let (mut candidates, mut bad) = (Vec::new(), BadLines::of(name));
    lines::each(from, LINE_BYTES_MAX, "a repository", &mut bad, |_, line| {
        let line = std::str::from_utf8(line).map_err(|_| "not UTF-8".to_owned())?.trim();
        if !line.starts_with('#') {
            candidates.push(Candidate { spec: spec(line)?, launches: 1.0, reference: None });
        }
        Ok(())
    });
    (candidates, bad)
}

/// The spec of a line, as launch events would have it.
fn spec(line: &str) -> Result<String, String> {
    let mut words = line.split_whitespace();
    let (address, reference) = (words.next().unwrap_or_default(), words.next());
    if words.next().is_some() {
        return Err("write an address and a ref".to_owned());
    }
    if address.starts_with("10.") && reference.is_none() {
        let of = [("zenodo.", "Zenodo"), ("figshare", "Figshare"), ("/DVN/", "Dataverse")];
        let known = of.iter().find(|(part, _)| address.contains(part));
        return known.map(|(_, provider)| format!("{provider}:{address}")).ok_or_else(|| {
            "only DOIs of Zenodo, Figshare and Dataverse are known; write Provider:DOI".to_owned()
        });
    }
    let Some((scheme, rest)) = address.split_once("://") else {
        let is_spec = address.split_once(':').is_some_and(|(provider, spec)| {
            provider.bytes().all(|byte| byte.is_ascii_alphabetic()) && !spec.is_empty()
        });
        return match reference {
            None if is_spec => Ok(address.to_owned()),
            _ => Err("neither an address and a ref nor Provider:spec".to_owned()),
        };
    };
    let reference = reference.unwrap_or("HEAD");
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    let path = path.trim_end_matches('/');
    let name = path.strip_suffix(".git").unwrap_or(path);
    Ok(match (scheme, host) {
        ("http" | "https", "github.com" | "www.github.com") => format!("GitHub:{name}/{reference}"),
        ("http" | "https", "gist.github.com") => format!("Gist:{name}/{reference}"),
        ("http" | "https", "gitlab.com" | "www.gitlab.com") => {
            format!("GitLab:{}/{}", quote(name), quote(reference))
        }
        _ => format!("Git:{}/{}", quote(address), quote(reference)),
    })
}

/// What may have been launched if this was built: specs of each provider that has such a repository, at this ref.
pub fn specs_of(repo: &str, reference: &str) -> Vec<String> {
    let is_doi = repo.starts_with("10.");
    let usual = if is_doi { spec(repo) } else { spec(&format!("{repo} {reference}")) };
    let records = ["Hydroshare", "CKAN"].map(|provider| format!("{provider}:{}", quote(repo)));
    usual.into_iter().chain(if is_doi { Vec::new() } else { records.to_vec() }).collect()
}

/// Writes everything but plain letters as `%2F` and the like.
fn quote(text: &str) -> String {
    let mut quoted = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            quoted.push(char::from(byte));
        } else {
            // Writing to a string cannot fail.
            let _ = write!(quoted, "%{byte:02X}");
        }
    }
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repositories_become_specs_again() {
        assert_eq!(specs_of("https://gist.github.com/o/abc.git", "f00")[0], "Gist:o/abc/f00");
        assert_eq!(specs_of("10.5281/zenodo.3242074", "3242074"), ["Zenodo:10.5281/zenodo.3242074"]);
        let hydroshare = specs_of("https://www.hydroshare.org/resource/8f7c", "8f7c.v1");
        assert_eq!(hydroshare[1], "Hydroshare:https%3A%2F%2Fwww.hydroshare.org%2Fresource%2F8f7c");
    }

    #[test]
    fn lines_become_specs() {
        let text = "# popular ones\n\
            https://github.com/Owner/Name.git main\n\
            https://github.com/o/n\n\
            https://gist.github.com/o/abc HEAD\n\
            https://gitlab.com/group/sub/n feature/x\n\
            file:///srv/my%20n.git v1\n\
            10.5281/zenodo.3242074\n\
            GitHub:o/n/v2\n\
            one two three\n\
            o/n main\n\
            10.1234/unknown\n";
        let (found, bad) = read(&mut text.as_bytes(), "list".to_owned());
        let specs: Vec<&str> = found.iter().map(|one| one.spec.as_str()).collect();
        assert_eq!(
            specs,
            [
                "GitHub:Owner/Name/main",
                "GitHub:o/n/HEAD",
                "Gist:o/abc/HEAD",
                "GitLab:group%2Fsub%2Fn/feature%2Fx",
                "Git:file%3A%2F%2F%2Fsrv%2Fmy%2520n.git/v1",
                "Zenodo:10.5281/zenodo.3242074",
                "GitHub:o/n/v2",
            ]
        );
        let said = bad.sentence().unwrap();
        for line in ["line 9: write an address", "line 10: neither", "line 11: only DOIs"] {
            assert!(said.contains(line), "{line}: {said}");
        }
    }
}
