//! What the command line leaves out: the commit of a branch, and a name for the image.

use std::fmt::Write as _;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::Result;
use fairlane_clikit::exit::{Exit, Stop};
use fairlane_clikit::output::{Colors, Output, clean};
use fairlane_clikit::program;
use fairlane_common::id::{GitRef, Image, Repo};

/// How long the repository's host may take to answer.
const LIMIT: Duration = Duration::from_secs(30);
/// Characters of a commit that an image's tag contains.
const TAG: usize = 12;
/// Characters of a branch's name that the tag contains if the commit is unknown.
const NAME_TAG: usize = 80;

/// The repository: an address, or a folder on this machine, which is named by its full path.
pub(crate) fn repo(text: &str) -> Result<Repo, String> {
    let is_path = text.starts_with(['/', '.', '~']) || Path::new(text).is_dir();
    if !is_path || text.contains("://") {
        return text.parse::<Repo>().map_err(|error| error.to_string());
    }
    let found = std::fs::canonicalize(text).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => format!("there is no folder {text} here"),
        _ => format!("the folder {text} cannot be read: {error}"),
    })?;
    let Some(path) = found.to_str().filter(|_| found.is_dir()) else {
        return Err(format!("{text} is not a folder with a name in UTF-8"));
    };
    let mut address = "file://".to_owned();
    for byte in path.bytes() {
        if byte.is_ascii_alphanumeric() || b"/._-+=@,~:".contains(&byte) {
            address.push(char::from(byte));
        } else {
            _ = write!(address, "%{byte:02X}");
        }
    }
    address.parse::<Repo>().map_err(|error| error.to_string())
}

/// The id of a record, used as its version: Zenodo's number, otherwise the part after the registrant.
fn record(repo: &Repo) -> Result<GitRef> {
    let lane = repo.lane();
    let last = lane.as_str().rsplit('/').next().unwrap_or_default();
    let id = last.strip_prefix("zenodo.").unwrap_or(last);
    Ok(id.parse()?)
}

/// Warns about changes in a folder that will not be built; fails if the folder cannot be built at all.
async fn check_folder(folder: &Path, output: Output) -> Result<()> {
    let git = |arguments: &[&str]| {
        let mut git = tokio::process::Command::new("git");
        git.arg("-C").arg(folder).args(arguments).stdin(Stdio::null()).kill_on_drop(true);
        async move {
            let answer = tokio::time::timeout(LIMIT, git.output()).await.ok()?.ok()?;
            answer.status.success().then(|| String::from_utf8_lossy(&answer.stdout).trim().to_owned())
        }
    };
    let shown = folder.display();
    let make =
        format!("git -C {shown} init && git -C {shown} add -A && git -C {shown} commit -m 'First version'");
    let Some(top) = git(&["rev-parse", "--show-toplevel"]).await else {
        // A bare repository has no working tree that could have changes.
        return match git(&["rev-parse", "--git-dir"]).await {
            Some(_) => Ok(()),
            None => Err(Stop::usage(format!(
                "{shown} is not a Git repository, and only commits can be built. Make one:\n  {make}"
            ))
            .into()),
        };
    };
    if let Ok(below) = folder.strip_prefix(&top)
        && !below.as_os_str().is_empty()
    {
        return Err(Stop::usage(format!(
            "{shown} is a folder within the repository {top}; build the repository:\n  fairlane submit {top} --arg=--subdir={}",
            below.display()
        ))
        .into());
    }
    if git(&["rev-parse", "--verify", "HEAD"]).await.is_none() {
        return Err(Stop::usage(format!("{shown} has no commit yet. Make one:\n  {make}")).into());
    }
    if git(&["status", "--porcelain"]).await.is_some_and(|changes| !changes.is_empty()) {
        output.talk(&format!("{shown} has uncommitted changes, which will not be built"));
    }
    Ok(())
}

/// The commit to build: the given one, or what the repository's host reports for the branch or tag.
pub(crate) async fn resolve(repo: &Repo, reference: Option<&GitRef>, output: Output) -> Result<GitRef> {
    if let Some(reference) = reference
        && (is_commit(reference.as_str()) || is_doi(repo))
    {
        return Ok(reference.clone());
    }
    if is_doi(repo) {
        return record(repo);
    }
    if let Some(folder) = repo.folder()
        && folder.is_dir()
        && program::find("git").is_some()
    {
        check_folder(&folder, output).await?;
    }
    let name = reference.map_or("HEAD", GitRef::as_str);
    if program::find("git").is_none() {
        return match reference {
            Some(reference) => {
                output.talk(&format!("git is not installed here, so '{reference}' is used as is"));
                Ok(reference.clone())
            }
            None => Err(Stop::usage(
                "git is not installed here, so HEAD cannot be resolved; name the commit with --ref",
            )
            .into()),
        };
    }
    let found = match (ls_remote(repo, name).await, reference) {
        (Ok(Some(found)), _) => found,
        (Ok(None), _) => return Err(Stop::usage(format!("{repo} has no branch or tag '{name}'")).into()),
        // The worker may reach hosts that this machine cannot, and may be able to expand an abbreviated
        // commit.
        (Err(why), Some(reference)) => {
            output.talk(&format!("{why:#}\n'{reference}' is used as is."));
            return Ok(reference.clone());
        }
        (Err(why), None) => return Err(why),
    };
    output.talk(&format!("{name} of {repo} is {found}"));
    Ok(found)
}

/// A name for the image: the repository's path and the commit.
pub(crate) fn image_for(repo: &Repo, reference: &GitRef) -> Result<Image> {
    let lane = repo.lane();
    let path = lane.as_str().split_once('/').map_or(lane.as_str(), |(_, path)| path);
    let folder = repo.folder().and_then(|folder| Some(folder.file_name()?.to_string_lossy().into_owned()));
    let path = folder.as_deref().unwrap_or(path);
    let mut name = String::new();
    for c in path.chars().map(|c| c.to_ascii_lowercase()) {
        match c {
            'a'..='z' | '0'..='9' => name.push(c),
            // In an image's name, separators must be single and between letters or digits.
            _ if name.is_empty() || name.ends_with('-') => {}
            _ => name.push('-'),
        }
    }
    let tag = tag_of(reference.as_str());
    let name: String = name.trim_end_matches('-').chars().take(200).collect();
    let image = format!(
        "{}:{}",
        if name.is_empty() { "image" } else { name.trim_end_matches('-') },
        tag.trim_matches('-')
    );
    image.parse().map_err(|_| {
        Stop::usage("no image name can be derived from the repository and ref; give one with --image").into()
    })
}

/// A tag for a commit, or for a name that could not be resolved. Two branches must not get the same tag.
fn tag_of(reference: &str) -> String {
    if is_commit(reference) {
        return reference.chars().take(TAG).collect();
    }
    let plain: String =
        reference.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).take(NAME_TAG).collect();
    let plain = plain.trim_matches('-');
    if plain == reference {
        return plain.to_owned();
    }
    // FNV-1a is the same on every machine; it only has to tell similar names apart.
    let hash = reference
        .bytes()
        .fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    format!("{plain}-{hash:08x}")
}

fn is_doi(repo: &Repo) -> bool {
    repo.lane().as_str().starts_with("doi/")
}

/// Whether the text is a full commit hash, which needs no lookup. Shorter ones are looked up, because they
/// may be the name of a branch.
fn is_commit(text: &str) -> bool {
    matches!(text.len(), 40 | 64) && text.chars().all(|c| c.is_ascii_hexdigit())
}

async fn ls_remote(repo: &Repo, name: &str) -> Result<Option<GitRef>> {
    let mut git = tokio::process::Command::new("git");
    git.args(["ls-remote", "--quiet", "--", repo.as_str()]);
    if name == "HEAD" {
        git.arg("HEAD");
    } else {
        git.args([
            format!("refs/heads/{name}"),
            format!("refs/tags/{name}"),
            format!("refs/tags/{name}^{{}}"),
            name.to_owned(),
        ]);
    }
    // Git must fail rather than prompt for a password.
    git.env("GIT_TERMINAL_PROMPT", "0")
        .env("GIT_ASKPASS", "true")
        .env("GIT_SSH_COMMAND", "ssh -o BatchMode=yes");
    git.stdin(Stdio::null()).kill_on_drop(true);
    let failed = |why: &str| {
        let why = clean(why, Colors::Drop);
        Stop::new(
            Exit::Failed,
            format!(
                "git cannot look up {name} of {repo}: {why}\nCheck the address. If the repository is private, name the commit with --ref."
            ),
        )
    };
    let answer = match tokio::time::timeout(LIMIT, git.output()).await {
        Err(_) => return Err(failed(&format!("no answer within {} s", LIMIT.as_secs())).into()),
        Ok(answer) => answer.map_err(|error| failed(&error.to_string()))?,
    };
    if !answer.status.success() {
        let said = String::from_utf8_lossy(&answer.stderr);
        let last = said.lines().rfind(|line| line.starts_with("fatal:")).or_else(|| said.lines().last());
        return Err(failed(last.unwrap_or("no reason given")).into());
    }
    let text = String::from_utf8_lossy(&answer.stdout);
    match pick(&text, name) {
        Some(commit) => Ok(Some(commit.parse()?)),
        // `ls-remote` does not know abbreviated commits, but repo2docker can expand them.
        None if name.len() >= 7 && name.chars().all(|c| c.is_ascii_hexdigit()) => Ok(Some(name.parse()?)),
        None => Ok(None),
    }
}

/// The commit of `name` in the answer of `ls-remote`. A branch is preferred to a tag; for an annotated tag,
/// it is the commit that the tag points to.
fn pick<'a>(answer: &'a str, name: &str) -> Option<&'a str> {
    let refs: Vec<(&str, &str)> = answer.lines().filter_map(|line| line.split_once('\t')).collect();
    let wanted = [
        format!("refs/heads/{name}"),
        format!("refs/tags/{name}^{{}}"),
        format!("refs/tags/{name}"),
        name.to_owned(),
    ];
    wanted.iter().find_map(|wanted| refs.iter().find(|(_, found)| found == wanted)).map(|(commit, _)| *commit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_are_named_after_owner_repository_and_commit() {
        for (repo, reference, image) in [
            (
                "https://github.com/Owner/My.Repo.git",
                "3f2a91c0d1e2f3a4b5c6d7e8f9a0b1c2d3e4f5a6",
                "owner-my-repo:3f2a91c0d1e2",
            ),
            ("http://127.0.0.1:9418/--a--/b", "main", "a-b:main"),
            ("file:///home/you/My%20notes", "main", "my-notes:main"),
            ("10.5281/zenodo.3242074", "3242074", "10-5281-zenodo-3242074:3242074"),
            ("https://github.com/o/n", "feature/add-aaa", "o-n:feature-add-aaa-5e1db27d"),
            ("https://github.com/o/n", "feature-add-aaa", "o-n:feature-add-aaa"),
            ("https://github.com/o/n", "feature/add-bbb", "o-n:feature-add-bbb-b762edf2"),
        ] {
            let made = image_for(&repo.parse().unwrap(), &reference.parse().unwrap()).unwrap();
            assert_eq!(made.as_str(), image);
        }
    }

    #[test]
    fn records_are_named_by_their_id() {
        for (doi, id) in [
            ("10.5281/zenodo.3242074", "3242074"),
            ("https://doi.org/10.5281/Zenodo.3242074", "3242074"),
            ("10.7910/DVN/TJCLKP", "tjclkp"),
        ] {
            assert_eq!(record(&doi.parse().unwrap()).unwrap().as_str(), id);
        }
    }

    #[test]
    fn folders_become_addresses() {
        let home = std::env::temp_dir().canonicalize().unwrap();
        let folder = home.join(format!("fairlane a+b {}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let address = repo(folder.to_str().unwrap()).unwrap();
        assert!(address.as_str().starts_with("file:///") && address.as_str().contains("fairlane%20a+b%20"));
        assert_eq!(address.folder().unwrap(), folder);
        std::fs::remove_dir(&folder).unwrap();
        assert!(repo("./no-such-folder").unwrap_err().contains("no folder ./no-such-folder"));
        assert!(repo("owner/name").unwrap_err().contains("neither"));
    }

    #[test]
    fn a_branch_comes_before_a_tag_and_a_tag_gives_its_commit() {
        let answer = "aaa\trefs/tags/v1\nbbb\trefs/tags/v1^{}\nccc\trefs/heads/main\nddd\tHEAD\neee\trefs/heads/x/main\n";
        assert_eq!(pick(answer, "v1"), Some("bbb"));
        assert_eq!(pick(answer, "main"), Some("ccc"));
        assert_eq!(pick(answer, "HEAD"), Some("ddd"));
        assert_eq!(pick(answer, "nothing"), None);
    }
}
