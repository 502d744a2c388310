//! Finds the commits of branches and tags with `git ls-remote`: one call per repository, a few at a time per host, none
//! that asks for a password or takes forever.

use std::collections::HashMap;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use fairlane_clikit::output::{Colors, clean};
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::process::{Child, Command};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::source::Lookup;

/// Calls at the same time, over all hosts.
const AT_ONCE: usize = 32;
/// Longest answer that is read: a line has about 100 bytes, and only the wanted refs are printed.
const ANSWER_BYTES_MAX: u64 = 1024 * 1024;
/// Longest error message that is read.
const ERROR_BYTES_MAX: u64 = 16 * 1024;
/// Protocols that git may use. No `ext`, which runs commands.
const PROTOCOLS: &str = "https:http:git:ssh:file";

/// How much is asked of hosts.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Calls to one host at the same time.
    pub per_host: usize,
    /// How long one call may take.
    pub timeout: Duration,
}

/// A ref of a repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Query {
    /// The repository's address.
    pub url: String,
    /// The branch, tag or commit, or `HEAD`.
    pub reference: String,
    /// How it is looked for.
    pub lookup: Lookup,
}

/// Why there is no commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unresolved {
    /// The kind of reason, always in the same words.
    pub reason: &'static str,
    /// What git or the host said.
    pub detail: String,
}

pub(crate) const INVALID: &str = "the ref or the address is invalid";
const NOT_PUBLIC: &str = "the repository is private or deleted";
const UNREACHABLE: &str = "the repository cannot be reached";
const TOO_SLOW: &str = "the host did not answer in time";
const GONE: &str = "the ref does not exist";

/// Finds the commits of these refs, in their order.
pub async fn resolve(queries: &[Query], limits: Limits) -> Vec<Result<String, Unresolved>> {
    let mut of_url: HashMap<&str, Vec<usize>> = HashMap::new();
    for (index, query) in queries.iter().enumerate() {
        of_url.entry(&query.url).or_default().push(index);
    }
    let all = Arc::new(Semaphore::new(AT_ONCE));
    let mut of_host: HashMap<&str, Arc<Semaphore>> = HashMap::new();
    let mut calls = JoinSet::new();
    for (url, indexes) in of_url {
        let host =
            of_host.entry(host(url)).or_insert_with(|| Arc::new(Semaphore::new(limits.per_host.max(1))));
        let (host, all) = (host.clone(), all.clone());
        let asked: Vec<Query> = indexes.iter().map(|index| queries[*index].clone()).collect();
        let url = url.to_owned();
        calls.spawn(async move {
            // Semaphores that nobody closes. The host first, so that a slow one does not hold up the others.
            let _host = host.acquire_owned().await;
            let _all = all.acquire_owned().await;
            (indexes, ask(&url, &asked, limits.timeout).await)
        });
    }
    let lost = Unresolved { reason: UNREACHABLE, detail: "the call was aborted".to_owned() };
    let mut answers = vec![Err(lost); queries.len()];
    while let Some(call) = calls.join_next().await {
        let Ok((indexes, found)) = call else { continue };
        for (index, answer) in indexes.into_iter().zip(found) {
            answers[index] = answer;
        }
    }
    answers
}

fn host(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority = rest.split('/').next().unwrap_or_default();
    authority.rsplit_once('@').map_or(authority, |(_, host)| host)
}

/// Asks one repository for all wanted refs.
async fn ask(url: &str, queries: &[Query], timeout: Duration) -> Vec<Result<String, Unresolved>> {
    let all = |reason, detail: &str| {
        let unresolved = Unresolved { reason, detail: detail.to_owned() };
        vec![Err(unresolved); queries.len()]
    };
    if url.starts_with('-') || !url.contains("://") {
        return all(INVALID, url);
    }
    let patterns: Vec<String> =
        queries.iter().filter(|query| is_ref(&query.reference)).flat_map(patterns).collect();
    if patterns.is_empty() {
        return queries.iter().map(|query| Err(invalid(&query.reference))).collect();
    }
    match ls_remote(url, &patterns, timeout).await {
        Ok(text) => {
            let refs: Vec<(&str, &str)> = text.lines().filter_map(|line| line.split_once('\t')).collect();
            queries.iter().map(|query| find(&refs, query)).collect()
        }
        Err(Unresolved { reason, detail }) => all(reason, &detail),
    }
}

/// Whether git could have a ref of this name. (`*`, `?` and `[` would match several.)
fn is_ref(text: &str) -> bool {
    let bad = |c: char| c.is_control() || matches!(c, ' ' | '*' | '?' | '[' | '\\' | '^' | '~' | ':');
    !text.is_empty() && !text.starts_with(['-', '/']) && !text.contains("..") && !text.contains(bad)
}

fn invalid(reference: &str) -> Unresolved {
    Unresolved { reason: INVALID, detail: format!("'{reference}' is not the name of a ref") }
}

/// What git is asked for. For a commit, whether the repository is there.
fn patterns(query: &Query) -> Vec<String> {
    let name = &query.reference;
    match query.lookup {
        _ if is_commit(name) => vec!["HEAD".to_owned()],
        Lookup::LsRemote | Lookup::Gist => vec![name.clone()],
        Lookup::GitHub | Lookup::GitLab => {
            let mut wanted = vec![
                format!("refs/heads/{name}"),
                format!("refs/tags/{name}"),
                format!("refs/tags/{name}^{{}}"),
            ];
            wanted.push(format!("refs/{name}"));
            wanted.push("HEAD".to_owned());
            wanted
        }
    }
}

pub(crate) fn is_commit(text: &str) -> bool {
    text.len() == 40 && text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
}

/// The commit of a ref, as `BinderHub` finds it, among the refs of a repository: (hash, name).
fn find(refs: &[(&str, &str)], query: &Query) -> Result<String, Unresolved> {
    let name = query.reference.as_str();
    if is_commit(name) {
        return Ok(name.to_owned());
    }
    if !is_ref(name) {
        return Err(invalid(name));
    }
    let named = |wanted: &str| refs.iter().find(|(_, name)| *name == wanted).map(|(hash, _)| *hash);
    let found = match query.lookup {
        // The first one that git prints, be it of another branch whose last part is the same.
        Lookup::LsRemote => {
            let fits = |found: &str| {
                found.strip_suffix(name).is_some_and(|rest| rest.is_empty() || rest.ends_with('/'))
            };
            refs.iter().find(|(_, found)| fits(found)).map(|(hash, _)| *hash)
        }
        Lookup::Gist => named("HEAD").filter(|_| name == "HEAD"),
        _ if name == "HEAD" => named("HEAD"),
        lookup => {
            let tag = format!("refs/tags/{name}");
            let found = named(&format!("refs/heads/{name}"))
                .or_else(|| named(&format!("{tag}^{{}}")))
                .or_else(|| named(&tag))
                .or_else(|| named(&format!("refs/{name}")));
            // Renamed default branches.
            let renamed = lookup == Lookup::GitHub && matches!(name, "main" | "master");
            found.or_else(|| named("HEAD").filter(|_| renamed))
        }
    };
    let commit = found.filter(|hash| is_commit(hash)).map(str::to_owned);
    commit.ok_or_else(|| Unresolved { reason: GONE, detail: format!("there is no branch or tag '{name}'") })
}

/// Runs `git ls-remote`.
async fn ls_remote(url: &str, patterns: &[String], timeout: Duration) -> Result<String, Unresolved> {
    let mut git = Command::new("git");
    // No helper may hand over an operator's password: BinderHub could not read such a repository.
    git.args(["-c", "credential.helper=", "-c", "core.askPass=", "ls-remote", "--", url]).args(patterns);
    git.current_dir("/").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    git.env("GIT_TERMINAL_PROMPT", "0").env("GIT_ASKPASS", "").env("SSH_ASKPASS", "").env("LC_ALL", "C");
    git.env("GIT_SSH_COMMAND", "ssh -oBatchMode=yes").env("GIT_ALLOW_PROTOCOL", PROTOCOLS);
    for inherited in ["GIT_DIR", "GIT_WORK_TREE", "GIT_CONFIG_PARAMETERS", "GIT_CONFIG_COUNT"] {
        git.env_remove(inherited);
    }
    // A group, so that what git starts ends with it.
    git.process_group(0).kill_on_drop(true);
    let unreachable = |detail: String| Unresolved { reason: UNREACHABLE, detail };
    let mut child = git.spawn().map_err(|error| unreachable(format!("git cannot be started: {error}")))?;
    let group = child.id();
    let answer = tokio::time::timeout(timeout, answer(&mut child)).await;
    if answer.is_err()
        && let Some(group) = group.and_then(|id| Pid::from_raw(id.cast_signed()))
    {
        // It may have ended at this moment.
        let _ = kill_process_group(group, Signal::KILL);
    }
    match answer {
        Ok(Ok((true, text, _))) => Ok(text),
        Ok(Ok((false, _, error))) => Err(blamed(&error)),
        Ok(Err(error)) => Err(unreachable(error.to_string())),
        Err(_) => {
            Err(Unresolved { reason: TOO_SLOW, detail: format!("no answer within {} s", timeout.as_secs()) })
        }
    }
}

/// Whether git succeeded, its output and its errors.
async fn answer(child: &mut Child) -> std::io::Result<(bool, String, String)> {
    let (out, err) = (child.stdout.take(), child.stderr.take());
    let (out, err, status) =
        tokio::join!(read(out, ANSWER_BYTES_MAX), read(err, ERROR_BYTES_MAX), child.wait());
    Ok((status?.success(), out?, err?))
}

async fn read(from: Option<impl AsyncRead + Unpin>, bytes_max: u64) -> std::io::Result<String> {
    let mut bytes = Vec::new();
    if let Some(from) = from {
        // Whatever is beyond that finds a closed pipe.
        from.take(bytes_max).read_to_end(&mut bytes).await?;
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// What git's errors mean.
fn blamed(error: &str) -> Unresolved {
    const PASSWORD: [&str; 6] = [
        "could not read Username",
        "could not read Password",
        "terminal prompts disabled",
        "Authentication failed",
        "Permission denied",
        "error: 403",
    ];
    const NOT_FOUND: [&str; 4] =
        ["not found", "does not exist", "does not appear to be a git repository", "not exported"];
    let says = |words: &[&str]| words.iter().any(|word| error.contains(word));
    if says(&PASSWORD) {
        return Unresolved { reason: NOT_PUBLIC, detail: "its host asks for a password".to_owned() };
    }
    let last = error.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("git says nothing");
    let detail = clean(last, Colors::Drop);
    let reason = if says(&NOT_FOUND) { NOT_PUBLIC } else { UNREACHABLE };
    Unresolved { reason, detail }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REFS: [(&str, &str); 6] = [
        ("0000000000000000000000000000000000000001", "HEAD"),
        ("0000000000000000000000000000000000000002", "refs/heads/feature/v1"),
        ("0000000000000000000000000000000000000003", "refs/heads/main"),
        ("0000000000000000000000000000000000000004", "refs/pull/7/head"),
        ("0000000000000000000000000000000000000005", "refs/tags/v1"),
        ("0000000000000000000000000000000000000006", "refs/tags/v1^{}"),
    ];

    #[test]
    fn each_provider_finds_its_own_commit() {
        use Lookup::{Gist, GitHub, GitLab, LsRemote};
        for (reference, lookup, last) in [
            ("HEAD", GitHub, Ok(1)),
            ("main", GitHub, Ok(3)),
            ("master", GitHub, Ok(1)),
            ("feature/v1", GitHub, Ok(2)),
            ("v1", GitHub, Ok(6)),
            ("pull/7/head", GitHub, Ok(4)),
            ("heads/main", GitHub, Ok(3)),
            ("gone", GitHub, Err(GONE)),
            ("v1", GitLab, Ok(6)),
            ("master", GitLab, Err(GONE)),
            // As BinderHub does: the branch comes first, and a tag is not followed to its commit.
            ("v1", LsRemote, Ok(2)),
            ("tags/v1", LsRemote, Ok(5)),
            ("HEAD", LsRemote, Ok(1)),
            ("ain", LsRemote, Err(GONE)),
            ("HEAD", Gist, Ok(1)),
            ("main", Gist, Err(GONE)),
            ("a*", GitHub, Err(INVALID)),
            ("--upload-pack=x", GitHub, Err(INVALID)),
        ] {
            let query = Query { url: String::new(), reference: reference.to_owned(), lookup };
            let found = find(&REFS, &query).map_err(|unresolved| unresolved.reason);
            assert_eq!(found, last.map(|last: u64| format!("{last:040}")), "{reference} {lookup:?}");
        }
        let commit = "94a9ed024d3859793618152ea559a168bbcbb5e2";
        let query = Query { url: String::new(), reference: commit.to_owned(), lookup: Gist };
        assert_eq!(find(&[], &query).as_deref(), Ok(commit));
    }

    #[test]
    fn hosts_of_addresses() {
        for (url, name) in [
            ("https://github.com/o/n", "github.com"),
            ("ssh://git@example.org:22/o/n", "example.org:22"),
            ("file:///srv/n", ""),
        ] {
            assert_eq!(host(url), name);
        }
    }
}
