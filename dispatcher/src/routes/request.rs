//! Parsing a request for a build: every field is checked, and every error names its field.

use std::collections::BTreeMap;

use fairlane_common::AllowedArgs;
use fairlane_common::build::{BuildSpec, Priority};
use fairlane_common::id::{BuildId, GitRef, Image, Repo};
use fairlane_common::limits;
use fairlane_common::seal::{SealKeys, Secrets};
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;

use crate::Settings;
use crate::problem::{ARGUMENT_NOT_ALLOWED, Answer, NO_SEAL_KEY, Refusal};
use crate::routes::input::Fields;

const FIELDS: &[&str] = &[
    "repo",
    "ref",
    "image",
    "name",
    "priority",
    "repo2docker_args",
    "push",
    "labels",
    "secrets",
    "force",
    "override_ban",
];
/// Longest name and longest label key, in bytes.
pub(super) const NAME_BYTES_MAX: usize = 255;

/// A checked request for a build.
pub(super) struct Wanted {
    pub(super) spec: BuildSpec,
    pub(super) force: bool,
    pub(super) override_ban: bool,
}

/// What to build, and as what.
pub(super) struct Source {
    pub(super) repo: Repo,
    pub(super) reference: GitRef,
    pub(super) image: Image,
    pub(super) args: Vec<String>,
}

/// Reads the fields that say what to build: `repo`, `ref`, `image`, `repo2docker_args`.
pub(super) fn read_source(fields: &mut Fields, settings: &Settings) -> Answer<Source> {
    let repo: Repo = fields.need::<String>("repo", "a Git URL or a DOI, as a string")?.parse()?;
    let reference = fields.need::<String>("ref", "a commit or a record's id, as a string")?.parse()?;
    let image = fields.need::<String>("image", "an image's name, as a string")?.parse()?;
    let args: Vec<String> = fields.maybe("repo2docker_args", "a list of strings")?.unwrap_or_default();
    if repo.folder().is_some() && !settings.allow_local_repos {
        let detail = "folders (file://) are not accepted here: name a Git URL or a DOI. The operator can allow them \
                      with --allow-local-repos on dispatchers and workers; `fairlane up` allows them";
        return Err(Refusal::invalid("repo", detail));
    }
    check_args(&args)?;
    check_allowed(&args, &settings.allowed_args)?;
    Ok(Source { repo, reference, image, args })
}

/// Reads a request. Secrets are sealed for the build `id`.
pub(super) fn read(mut fields: Fields, id: BuildId, settings: &Settings) -> Answer<Wanted> {
    fields.nothing_else(FIELDS)?;
    let Source { repo, reference, image, args } = read_source(&mut fields, settings)?;
    let name: String = fields.maybe("name", "text")?.unwrap_or_default();
    check_text("name", &name, NAME_BYTES_MAX)?;
    let priority = match fields.maybe::<String>("priority", "'interactive' or 'background'")? {
        Some(word) => word.parse().map_err(|why| Refusal::invalid("priority", why))?,
        None => Priority::Interactive,
    };
    let push = fields.maybe("push", "true or false")?.unwrap_or(false);
    let labels: BTreeMap<String, String> =
        fields.maybe("labels", "an object of strings")?.unwrap_or_default();
    check_labels(&labels)?;
    let force = fields.maybe("force", "true or false")?.unwrap_or(false);
    let override_ban = fields.maybe("override_ban", "true or false")?.unwrap_or(false);
    let secrets = read_secrets(&mut fields)?;
    let secrets =
        if secrets.is_empty() { None } else { Some(sealed(&secrets, id, &image, settings.seal.as_ref())?) };
    let spec =
        BuildSpec { name, priority, args, push, labels, secrets, ..BuildSpec::new(repo, reference, image) };
    Ok(Wanted { spec, force, override_ban })
}

fn check_allowed(args: &[String], allowed: &AllowedArgs) -> Answer<()> {
    let Some(bad) = allowed.first_forbidden(args) else { return Ok(()) };
    let option = bad.split('=').next().unwrap_or(bad);
    let shown: String = option.chars().take(60).flat_map(char::escape_default).collect();
    let detail = format!(
        "repo2docker_args: '{shown}' is not allowed here; allowed arguments: {}, written --option=value. \
         The operator sets the list with --allow-arg",
        allowed.names().join(", ")
    );
    Err(Refusal::new(ARGUMENT_NOT_ALLOWED, detail).field("repo2docker_args"))
}

pub(super) fn check_text(field: &str, text: &str, bytes_max: usize) -> Answer<()> {
    if text.len() > bytes_max {
        return Err(Refusal::invalid(
            field,
            format!("has {} bytes; at most {bytes_max} are allowed", text.len()),
        ));
    }
    if text.chars().any(char::is_control) {
        return Err(Refusal::invalid(field, "must not contain control characters"));
    }
    Ok(())
}

fn check_args(args: &[String]) -> Answer<()> {
    let field = "repo2docker_args";
    if args.len() > limits::ARGS_MAX {
        return Err(Refusal::invalid(field, format!("at most {} arguments are allowed", limits::ARGS_MAX)));
    }
    for arg in args {
        if arg.len() > limits::ARG_BYTES_MAX {
            let max = limits::ARG_BYTES_MAX;
            return Err(Refusal::invalid(field, format!("an argument may have at most {max} bytes")));
        }
        // Line breaks are allowed because an appendix may have several lines.
        if arg.chars().any(|c| c.is_control() && !matches!(c, '\n' | '\t')) {
            return Err(Refusal::invalid(
                field,
                "must contain no control characters but line breaks and tabs",
            ));
        }
    }
    Ok(())
}

fn check_labels(labels: &BTreeMap<String, String>) -> Answer<()> {
    if labels.len() > limits::LABELS_MAX {
        return Err(Refusal::invalid("labels", format!("at most {} labels are allowed", limits::LABELS_MAX)));
    }
    for (key, value) in labels {
        if key.is_empty() {
            return Err(Refusal::invalid("labels", "a label's name must not be empty"));
        }
        check_text("labels", key, NAME_BYTES_MAX)?;
        check_text("labels", value, limits::ARG_BYTES_MAX)?;
    }
    Ok(())
}

/// Parses the secrets by hand, because no error message may repeat them.
fn read_secrets(fields: &mut Fields) -> Answer<Secrets> {
    let mut secrets = Secrets::new();
    let given = match fields.value("secrets") {
        None => return Ok(secrets),
        Some(Value::Object(given)) => given,
        Some(_) => {
            return Err(Refusal::invalid(
                "secrets",
                "must be an object with git_credentials, registry_credentials or both",
            ));
        }
    };
    for (name, value) in given {
        let (field, secret) = match (name.as_str(), value) {
            ("git_credentials" | "registry_credentials", Value::Null) => continue,
            ("git_credentials", Value::String(text)) => ("secrets.git_credentials", text),
            ("registry_credentials", Value::String(text)) => ("secrets.registry_credentials", text),
            ("registry_credentials", object @ Value::Object(_)) => {
                ("secrets.registry_credentials", object.to_string())
            }
            ("git_credentials", _) => {
                return Err(Refusal::invalid("secrets.git_credentials", "must be a string"));
            }
            ("registry_credentials", _) => {
                return Err(Refusal::invalid(
                    "secrets.registry_credentials",
                    "must be an object or a string",
                ));
            }
            _ => {
                let why = "has an unknown field; known fields: git_credentials, registry_credentials";
                return Err(Refusal::invalid("secrets", why));
            }
        };
        if secret.len() > limits::SECRET_BYTES_MAX {
            let why = format!("has {} bytes; at most {} are allowed", secret.len(), limits::SECRET_BYTES_MAX);
            return Err(Refusal::invalid(field, why));
        }
        if !secret.is_empty() {
            secrets.insert(name, SecretString::from(secret));
        }
    }
    Ok(secrets)
}

fn sealed(secrets: &Secrets, id: BuildId, image: &Image, seal: Option<&SealKeys>) -> Answer<String> {
    debug_assert!(secrets.values().all(|secret| !secret.expose_secret().is_empty()));
    let Some(seal) = seal else {
        let detail = "secrets: this dispatcher has no seal key, and secrets are never stored unencrypted; \
                      ask the operator to set FAIRLANE_SEAL_KEY, or leave the secrets out";
        return Err(Refusal::new(NO_SEAL_KEY, detail).field("secrets"));
    };
    Ok(seal.seal(secrets, id, image)?)
}
