//! Texts in a log that show why a run failed.
//!
//! Each text contains a space, a quote or the like, so that no name of an image, a repository or a package matches
//! a rule by itself (a test checks this).

use crate::build::log_cause::LogCause::{
    self, BaseImage, DiskFull, Download, GitNetwork, Incomplete, NoBaseImage, NoEngine, NoFolder, NoNames,
    NoRef, NoRepository, NoSuchOption, NoVersion, Package, PushDenied, PushFailed, Unreachable,
};
use crate::log::lines::Phase;

/// Texts that show why a run failed.
#[derive(Debug)]
struct Rule {
    /// The message contains all of these; case does not matter.
    words: &'static [&'static str],
    when: When,
    cause: LogCause,
}

/// The phase in which a rule applies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum When {
    Always,
    /// Before anything from the repository runs.
    Early,
    Fetching,
    Pushing,
}

const fn rule(words: &'static [&'static str], when: When, cause: LogCause) -> Rule {
    Rule { words, when, cause }
}

use When::{Always, Early, Fetching, Pushing};

static RULES: &[Rule] = &[
    rule(&["no space left on device"], Always, DiskFull),
    rule(&["disk quota exceeded"], Always, DiskFull),
    rule(&["cannot connect to the docker daemon"], Always, NoEngine),
    rule(&["is the docker daemon running"], Always, NoEngine),
    rule(&["error while fetching server api version"], Always, NoEngine),
    rule(&["docker client initialization error"], Always, NoEngine),
    rule(&["container engine initialization error"], Always, NoEngine),
    rule(&["docker.sock", "connection refused"], Always, NoEngine),
    rule(&["rpc error: code = unavailable"], Always, NoEngine),
    rule(&["'docker', 'version'", "returned non-zero exit status"], Always, NoEngine),
    rule(&["commandline client must be installed"], Always, Incomplete),
    rule(&["buildx plugin must be installed"], Always, Incomplete),
    rule(&["no such file or directory: 'hg'"], Early, Incomplete),
    rule(&["no such file or directory: 'git'"], Early, Incomplete),
    rule(&["module 'chardet' has no attribute"], Early, Incomplete),
    rule(&["error during build: no module named"], Early, Incomplete),
    rule(&["build-memory-limit is no longer supported"], Early, NoSuchOption),
    rule(&["error: unrecognized arguments:"], Early, NoSuchOption),
    rule(&["dubious ownership in repository"], Fetching, NoFolder),
    rule(&["unauthorized: "], Pushing, PushDenied),
    rule(&["authentication required"], Pushing, PushDenied),
    rule(&["denied: "], Pushing, PushDenied),
    rule(&["resource is denied"], Pushing, PushDenied),
    rule(&["no basic auth credentials"], Pushing, PushDenied),
    rule(&["401 unauthorized"], Pushing, PushDenied),
    rule(&["403 forbidden"], Pushing, PushDenied),
    rule(&["403 (forbidden)"], Pushing, PushDenied),
    rule(&["insufficient_scope: "], Pushing, PushDenied),
    rule(&["unexpected http status: "], Pushing, PushFailed),
    rule(&["unexpected status: "], Pushing, PushFailed),
    rule(&["unexpected status code "], Pushing, PushFailed),
    rule(&["failed commit on ref "], Pushing, PushFailed),
    rule(&["error parsing http "], Pushing, PushFailed),
    rule(&["on closed pipe"], Pushing, PushFailed),
    rule(&["broken pipe"], Pushing, PushFailed),
    rule(&["x509: "], Pushing, PushFailed),
    rule(&[": unauthorized"], Pushing, PushDenied),
    rule(&["failed to push "], Pushing, PushFailed),
    rule(&["toomanyrequests: "], Pushing, PushFailed),
    rule(&["toomanyrequests: "], Always, BaseImage),
    rule(&["pull access denied for "], Always, NoBaseImage),
    rule(&["pull access denied, "], Always, NoBaseImage),
    rule(&["manifest unknown: "], Always, NoBaseImage),
    rule(&[": manifest unknown"], Always, NoBaseImage),
    rule(&["failed to resolve source metadata", ": not found"], Always, NoBaseImage),
    rule(&["repository not found"], Fetching, NoRepository),
    rule(&["could not read username"], Fetching, NoRepository),
    rule(&["authentication failed for "], Fetching, NoRepository),
    rule(&["url returned error: 403"], Fetching, NoRepository),
    rule(&["fatal: repository", "not found"], Fetching, NoRepository),
    rule(&["does not appear to be a git repository"], Fetching, NoRepository),
    rule(&["failed to check out ref"], Always, NoRef),
    rule(&["failed to update to ref"], Fetching, NoRef),
    rule(&["couldn't find remote ref"], Fetching, NoRef),
    rule(&["could not parse object"], Fetching, NoRef),
    rule(&["reference is not a tree"], Fetching, NoRef),
    rule(&["unadvertised object "], Fetching, NoRef),
    rule(&["early eof"], Fetching, GitNetwork),
    rule(&["rpc failed; "], Fetching, GitNetwork),
    rule(&["the remote end hung up"], Fetching, GitNetwork),
    rule(&["unable to connect to "], Fetching, GitNetwork),
    rule(&["connection aborted.'"], Fetching, GitNetwork),
    rule(&["(from versions: none)"], Always, NoVersion),
    rule(&["(from versions: "], Always, Package),
    rule(&["no matching distribution found"], Always, Package),
    rule(&["could not find a version that satisfies"], Always, Package),
    rule(&["packagesnotfounderror: "], Always, Package),
    rule(&["libmambaunsatisfiableerror: "], Always, Package),
    rule(&["could not solve for environment specs"], Always, Package),
    rule(&["nothing provides ", " needed by "], Always, Package),
    rule(&["condahttperror: http 404"], Always, Package),
    rule(&["unable to locate package"], Always, Package),
    rule(&["e: failed to fetch ", "404  not found"], Always, Package),
    rule(&["is not available for this version of r"], Always, Package),
    rule(&["are not available for this version of r"], Always, Package),
    rule(&["there is no package called "], Always, Package),
    rule(&["unsatisfiable requirements detected for package "], Always, Package),
    rule(&["package names could not be resolved:"], Always, Package),
    rule(&["hash sum mismatch"], Always, Download),
    rule(&["mirror sync in progress"], Always, Download),
    rule(&["checksummismatcherror: "], Always, Download),
];

/// Messages that are exactly one of these: Docker prints them if the registry gives no details.
static BARE: &[(&str, When, LogCause)] = &[
    ("unauthorized", Pushing, PushDenied),
    ("denied", Pushing, PushDenied),
    ("unauthorized", Always, NoBaseImage),
    ("denied", Always, NoBaseImage),
    ("manifest unknown", Always, NoBaseImage),
    ("ResolvePackageNotFound:", Always, Package),
];

/// Texts that mean that nobody answers, or not in time.
static AWAY: &[&str] = &[
    "could not resolve host",
    "couldn't resolve host",
    "could not resolve '",
    "temporary failure resolving '",
    "name or service not known",
    "failed to resolve '",
    "no such host",
    "server misbehaving",
    "connection refused",
    "connection reset by peer",
    "recv failure: ",
    "send failure: ",
    "connection timed out",
    "failed to connect to ",
    "couldn't connect to server",
    "could not connect to ",
    "connection failed [ip: ",
    "network is unreachable",
    "no route to host",
    "i/o timeout",
    "tls handshake timeout",
    "context deadline exceeded",
    "client.timeout exceeded",
    "timed out. (",
    "read timed out",
    "operation timed out",
    "resolving timed out",
    "timeout was reached",
    "timeout of ",
    "http 000 connection failed",
    "connection broken by ",
    "remote end closed connection",
    "unable to access index for repository ",
    "cannot open url '",
    "could not download https://",
    "cert verify failed: ",
    "ssl_error_syscall in ",
    "unexpected eof while reading",
    "download error (",
    "error enotfound",
    "getaddrinfo enotfound ",
    "getaddrinfo eai_again ",
    "code econnreset",
    "network etimedout",
    "\": eof",
    ": eof\n",
];

/// Texts that mean that a server has an outage or limits requests, which is never the repository's fault.
static OUT_OF_ORDER: &[&str] = &[
    "returned error: 5",
    "returned error: 429",
    "unexpected http status: 5",
    "invalid status code from registry 5",
    "500 internal server error",
    "502 bad gateway",
    "503 service unavailable",
    "503  service unavailable",
    "502  bad gateway",
    "504 gateway time",
    "504  gateway time",
    "429 too many requests",
    "error 503: ",
    "error 502: ",
    "error 504: ",
    "condahttperror: http 5",
    "condahttperror: http 429",
    "http status was '5",
    "http error 50",
    "too many 50",
    "httperror: 50",
    "httperror: 429",
];

/// Texts of an engine that pulls a base image.
static PULLS: &[&str] = &[
    "/v2/",
    "failed to do request: ",
    "pulling from host ",
    "pinging container registry ",
    "unexpected http status: ",
    "failed to resolve source metadata",
    "failed to fetch oauth token",
    "failed to fetch anonymous token",
    "creating build container: ",
    "failed to copy: ",
];

/// Servers that nearly every build uses: if one of them does not answer, it is not the repository's fault.
static WELL_KNOWN: &[&str] = &[
    "pypi.org",
    "files.pythonhosted.org",
    "conda.anaconda.org",
    "repo.anaconda.com",
    "conda-static.anaconda.org",
    "micro.mamba.pm",
    "deb.debian.org",
    "security.debian.org",
    "archive.ubuntu.com",
    "security.ubuntu.com",
    "ports.ubuntu.com",
    "deb.nodesource.com",
    "registry.npmjs.org",
    "registry.yarnpkg.com",
    "cran.r-project.org",
    "cran.rstudio.com",
    "cloud.r-project.org",
    "packagemanager.posit.co",
    "packagemanager.rstudio.com",
    "pkg.julialang.org",
    "julialang-s3.julialang.org",
    "github.com",
    "raw.githubusercontent.com",
    "docker.io",
    "docker.com",
    "quay.io",
    "ghcr.io",
    "iqss.github.io",
];

/// What a line shows about a failure, if anything. `phase` is what the build is doing.
pub(crate) fn cause_in(message: &str, phase: Phase) -> Option<LogCause> {
    // Once for all texts: there are hundreds, and a build may print a hundred thousand lines.
    let lower = message.to_ascii_lowercase();
    if is_quotation(message, &lower) {
        return None;
    }
    let fits = |when: When| match when {
        Always => true,
        Early => matches!(phase, Phase::Starting | Phase::Fetching),
        Fetching => phase == Phase::Fetching,
        Pushing => phase == Phase::Pushing,
    };
    let has = |words: &[&str]| words.iter().any(|word| lower.contains(word));
    let bare = message.trim();
    if let Some((.., cause)) = BARE.iter().find(|(word, when, _)| bare == *word && fits(*when)) {
        return Some(*cause);
    }
    if let Some(rule) =
        RULES.iter().find(|rule| fits(rule.when) && rule.words.iter().all(|word| lower.contains(word)))
    {
        return Some(rule.cause);
    }
    let (away, out_of_order) = (has(AWAY), has(OUT_OF_ORDER));
    let names = lower.contains("temporary failure in name resolution");
    if !(away || out_of_order || names) {
        return has(&["failed to resolve source metadata"]).then_some(BaseImage);
    }
    let outside = out_of_order || has(WELL_KNOWN);
    Some(match phase {
        Phase::Pushing => PushFailed,
        Phase::Fetching => GitNetwork,
        _ if has(PULLS) && outside => BaseImage,
        _ if outside => Download,
        _ if names => NoNames,
        _ => Unreachable,
    })
}

/// Whether a line only quotes what the repository or the request contains: the heading of a step, the command that
/// failed, the name to push to.
fn is_quotation(message: &str, lower: &str) -> bool {
    let step = |text: &str| text.starts_with(|c: char| c.is_ascii_digit());
    message.strip_prefix("Step ").is_some_and(step)
        || message
            .strip_prefix('#')
            .is_some_and(|rest| rest.trim_start_matches(|c: char| c.is_ascii_digit()).starts_with(" ["))
        || message.starts_with("The push refers to repository [")
        || message.starts_with("The command '")
        || (lower.contains("process \"") && lower.contains("did not complete successfully"))
        || (message.starts_with("Error during build: Command '[")
            && !message.starts_with("Error during build: Command '['docker', 'version'"))
}

/// Whether `later` is a known consequence of a cause: if pip or apt cannot reach its index, it next reports a
/// missing version or package.
pub(crate) fn explains(cause: LogCause, later: LogCause) -> bool {
    let network = matches!(cause, Unreachable | Download | NoNames);
    match later {
        Package => network || cause == NoVersion,
        NoVersion => network,
        _ => false,
    }
}

/// Whether a build may get over it, because tools retry by themselves.
pub(crate) fn may_be_survived(cause: LogCause) -> bool {
    matches!(cause, Unreachable | Download | NoVersion | NoNames | BaseImage)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_name_fits_a_rule_by_itself() {
        let words = RULES.iter().flat_map(|rule| {
            // In a rule of several texts, one is enough.
            let telling = rule.words.iter().find(|word| !may_be_in_a_name(word));
            [telling.copied().unwrap_or(rule.words[0])]
        });
        for word in words.chain(AWAY.iter().copied()).chain(OUT_OF_ORDER.iter().copied()) {
            assert!(!may_be_in_a_name(word), "'{word}' may be part of a name");
            assert_eq!(word, word.to_ascii_lowercase(), "lines are compared in lower case");
        }
    }

    /// Names of images, repositories, refs, packages and files.
    fn may_be_in_a_name(word: &str) -> bool {
        word.chars().all(|c| c.is_ascii_alphanumeric() || "._-/:@+=~".contains(c))
    }
}
