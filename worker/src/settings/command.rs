//! The build command: a template of words, filled in without a shell.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use fairlane_common::Build;

/// The command that `BinderHub` runs in its build pods; see repo2docker's command line.
pub const TEMPLATE_DEFAULT: &str = "jupyter-repo2docker --ref={ref} --image={image} --no-clean --no-run \
     --json-logs --user-name=jovyan --user-id=1000 {push} {args} {repo}";

const PLACEHOLDERS: &str = "{repo}, {ref}, {image}, {push}, {args}, {id}, {attempt}, {lane}";

/// A command with placeholders. Each is replaced within its word, so no value from a build can add a word.
/// `{args}` and `{push}` must be separate words and become any number of words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandTemplate {
    words: Vec<Vec<Piece>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Text(String),
    Repo,
    Ref,
    Image,
    Id,
    Attempt,
    Lane,
    Push,
    Args,
}

impl CommandTemplate {
    /// Parses a template: words are split as in a shell (quotes and backslashes, nothing else), placeholders are
    /// in braces, and `{{` and `}}` stand for braces. Text that starts like JSON (`{"`) is not a placeholder: it
    /// is kept as it is, with its quotes, up to its last brace.
    ///
    /// # Errors
    /// An open quote, an unknown placeholder, or a template without a command.
    pub fn parse(text: &str) -> Result<Self> {
        let words: Vec<Vec<Piece>> =
            split_words(text)?.iter().map(|word| pieces(word)).collect::<Result<_>>()?;
        let Some(program) = words.first() else { bail!("the build command is empty") };
        if !matches!(program.as_slice(), [Piece::Text(_)]) {
            bail!("the build command must begin with a program, not with a placeholder");
        }
        if !words.iter().flatten().any(|piece| *piece == Piece::Repo) {
            tracing::warn!(
                "the build command does not mention {{repo}}: every build will run the same command"
            );
        }
        Ok(Self { words })
    }

    /// Finds the program in `path` (the value of `PATH`), as a shell would, so that a missing one is noticed when
    /// the worker starts.
    ///
    /// # Errors
    /// It does not exist or cannot be executed.
    pub fn find_program(&self, path: Option<&std::ffi::OsStr>) -> Result<PathBuf> {
        let Some([Piece::Text(program)]) = self.words.first().map(Vec::as_slice) else {
            bail!("the build command is empty");
        };
        if program.contains('/') {
            return match std::path::absolute(program) {
                Ok(found) if is_executable(&found) => Ok(found),
                _ => bail!("the build command {program} does not exist or cannot be executed; set --command"),
            };
        }
        let folders = path.map(std::env::split_paths).into_iter().flatten();
        let found = folders.map(|folder| folder.join(program)).find(|file| is_executable(file));
        found.with_context(|| {
            format!(
                "the build command {program} is not in PATH; install it, or name another one with --command"
            )
        })
    }

    /// The program and its arguments for one build.
    pub fn words(&self, build: &Build) -> Vec<String> {
        let program = self.words.first().into_iter().flatten().map(|piece| piece.fill(build)).collect();
        [vec![program], self.arguments(build)].concat()
    }

    /// The arguments for one build.
    pub fn arguments(&self, build: &Build) -> Vec<String> {
        let spec = &build.spec;
        let mut arguments = Vec::new();
        for word in self.words.iter().skip(1) {
            match word.as_slice() {
                [Piece::Args] => arguments.extend(spec.args.iter().cloned()),
                [Piece::Push] if spec.push => arguments.push("--push".to_owned()),
                [Piece::Push] => {}
                pieces => arguments.push(pieces.iter().map(|piece| piece.fill(build)).collect()),
            }
        }
        arguments
    }
}

impl Default for CommandTemplate {
    /// [`TEMPLATE_DEFAULT`].
    fn default() -> Self {
        // A test checks that it can be parsed; an empty template is refused when a worker starts.
        Self::parse(TEMPLATE_DEFAULT).unwrap_or(Self { words: Vec::new() })
    }
}

impl std::str::FromStr for CommandTemplate {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        Self::parse(text)
    }
}

impl Piece {
    fn fill(&self, build: &Build) -> String {
        match self {
            Self::Text(text) => text.clone(),
            Self::Repo => build.spec.repo.to_string(),
            Self::Ref => build.spec.reference.to_string(),
            Self::Image => build.spec.image.to_string(),
            Self::Id => build.id.to_string(),
            Self::Attempt => build.attempt.to_string(),
            Self::Lane => build.lane.to_string(),
            Self::Push | Self::Args => String::new(),
        }
    }
}

fn is_executable(file: &Path) -> bool {
    file.is_file() && rustix::fs::access(file, rustix::fs::Access::EXEC_OK).is_ok()
}

fn split_words(text: &str) -> Result<Vec<String>> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    // Open braces of JSON outside of quotes; JSON's own quotes are part of it.
    let mut json = 0_usize;
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        if quote.is_none() && (json > 0 || begins_json(rest)) {
            json = if c == '{' {
                json + 1
            } else if c == '}' {
                json - 1
            } else {
                json
            };
            word.get_or_insert_default().push(c);
            rest = &rest[c.len_utf8()..];
            continue;
        }
        let mut chars = rest.chars();
        chars.next();
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (None, '\'' | '"') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None | Some('"'), '\\') => {
                let Some(next) = chars.next() else { bail!("the build command ends with a backslash") };
                word.get_or_insert_default().push(next);
            }
            (None, c) if c.is_whitespace() => words.extend(word.take()),
            (_, c) => word.get_or_insert_default().push(c),
        }
        rest = chars.as_str();
    }
    if json > 0 {
        bail!("the build command has a {{ that is never closed");
    }
    if let Some(open) = quote {
        bail!("the build command has a {open} that is never closed");
    }
    words.extend(word);
    Ok(words)
}

/// Whether a text starts with a JSON object, whether or not its braces are doubled.
fn begins_json(text: &str) -> bool {
    let inner = text.trim_start_matches('{');
    inner.len() < text.len() && inner.trim_start().starts_with('"')
}

fn pieces(word: &str) -> Result<Vec<Piece>> {
    let mut pieces = Vec::new();
    let mut text = String::new();
    let mut rest = word;
    // Open braces of JSON whose braces are not doubled.
    let mut json = 0_usize;
    while let Some(at) = rest.find(['{', '}']) {
        text.push_str(&rest[..at]);
        let brace = &rest[at..=at];
        if json > 0 || (!rest[at..].starts_with("{{") && begins_json(&rest[at..])) {
            json = if brace == "{" { json + 1 } else { json - 1 };
            text.push_str(brace);
            rest = &rest[at + 1..];
            continue;
        }
        rest = &rest[at + 1..];
        if let Some(more) = rest.strip_prefix(brace) {
            text.push_str(brace);
            rest = more;
            continue;
        }
        let name = rest.split_once('}').filter(|_| brace == "{");
        let Some((name, more)) = name else {
            bail!("the build command has a lone {brace} in '{word}'; write {brace}{brace} for a literal one");
        };
        if !text.is_empty() {
            pieces.push(Piece::Text(std::mem::take(&mut text)));
        }
        pieces.push(placeholder(name, word)?);
        rest = more;
    }
    text.push_str(rest);
    if !text.is_empty() || pieces.is_empty() {
        pieces.push(Piece::Text(text));
    }
    Ok(pieces)
}

fn placeholder(name: &str, word: &str) -> Result<Piece> {
    let piece = match name {
        "repo" => Piece::Repo,
        "ref" => Piece::Ref,
        "image" => Piece::Image,
        "id" => Piece::Id,
        "attempt" => Piece::Attempt,
        "lane" => Piece::Lane,
        "push" => Piece::Push,
        "args" => Piece::Args,
        _ => bail!(
            "the build command has the unknown placeholder {{{name}}} in '{word}'; known placeholders: {PLACEHOLDERS}. \
             Write {{{{ and }}}} for literal braces, and quote JSON as a whole: \
             '--option={{{{\"key\":1}}}}'"
        ),
    };
    if matches!(piece, Piece::Push | Piece::Args) && word.len() != name.len() + 2 {
        bail!("{{{name}}} in the build command must be a separate word");
    }
    Ok(piece)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::build;

    fn fill(template: &str, build: &Build) -> Vec<String> {
        CommandTemplate::parse(template).unwrap().arguments(build)
    }

    #[test]
    fn the_default_is_what_binderhub_runs() {
        let mut build = build();
        build.spec.push = true;
        build.spec.args = vec!["--appendix=RUN echo 'a b'".to_owned()];
        let expected = [
            "--ref=0123abc",
            "--image=r.example.org/i:0123abc",
            "--no-clean",
            "--no-run",
            "--json-logs",
            "--user-name=jovyan",
            "--user-id=1000",
            "--push",
            "--appendix=RUN echo 'a b'",
            "https://github.com/owner/name",
        ];
        assert_eq!(fill(TEMPLATE_DEFAULT, &build), expected);
    }

    #[test]
    fn words_are_split_as_a_shell_would() {
        let build = build();
        assert_eq!(fill(r#"x 'a b' "c \"d" e\ f '' {{g}}"#, &build), ["a b", "c \"d", "e f", "", "{g}"]);
        assert_eq!(fill("x {push} {args} -r={ref}:{attempt}", &build), ["-r=0123abc:1"]);
        assert_eq!(fill("x '$(touch /tmp/a)' ; `b`", &build), ["$(touch /tmp/a)", ";", "`b`"]);
    }

    #[test]
    fn json_keeps_its_quotes_however_it_is_written() {
        let build = build();
        let option = r#"--DockerEngine.extra_init_args={"timeout":1200}"#;
        for written in [
            r#"x --DockerEngine.extra_init_args={"timeout":1200} {repo}"#,
            r#"x --DockerEngine.extra_init_args={{"timeout":1200}} {repo}"#,
            r#"x '--DockerEngine.extra_init_args={"timeout":1200}' {repo}"#,
            r#"x '--DockerEngine.extra_init_args={{"timeout":1200}}' {repo}"#,
            r#"x "--DockerEngine.extra_init_args={{\"timeout\":1200}}" {repo}"#,
        ] {
            assert_eq!(fill(written, &build), [option, build.spec.repo.as_str()], "{written}");
        }
        let nested = r#"x --a={"b c": {"d": "it's"}} {{e}} '{ref}'"#;
        assert_eq!(fill(nested, &build), [r#"--a={"b c": {"d": "it's"}}"#, "{e}", "0123abc"]);
        assert!(CommandTemplate::parse(r#"x {"a": 1"#).unwrap_err().to_string().contains("never closed"));
    }

    #[test]
    fn bad_templates_say_what_is_wrong() {
        for (template, says) in [
            ("", "empty"),
            ("{repo} x", "begin with a program"),
            ("x {nothing}", "unknown placeholder {nothing}"),
            ("x --a={timeout:1200}", "Write {{ and }} for literal braces"),
            ("x 'a", "never closed"),
            ("x a\\", "backslash"),
            ("x {repo", "lone {"),
            ("x repo}", "lone }"),
            ("x --a={args}", "a separate word"),
        ] {
            let error = CommandTemplate::parse(template).unwrap_err().to_string();
            assert!(error.contains(says), "{template}: {error}");
        }
    }

    #[test]
    fn a_missing_command_is_noticed() {
        let find =
            |text: &str, path: &str| CommandTemplate::parse(text).unwrap().find_program(Some(path.as_ref()));
        assert!(find("sh {repo}", "/nonexistent:/bin").is_ok());
        assert!(find("/bin/sh {repo}", "").is_ok());
        let error = find("no-such-command {repo}", "/bin").unwrap_err().to_string();
        assert!(error.contains("no-such-command is not in PATH"), "{error}");
        let error = find("/etc/passwd {repo}", "/bin").unwrap_err().to_string();
        assert!(error.contains("cannot be executed"), "{error}");
    }
}
