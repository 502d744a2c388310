//! `fairlane submit`: request a build, and follow it with `--watch`.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Result;
use fairlane_clikit::exit::{Exit, Stop};
use fairlane_clikit::human;
use fairlane_clikit::output::{Output, Tone};
use fairlane_common::build::BuildState;
use fairlane_common::limits;
use fairlane_dispatcher::api::{BuildAnswer, BuildRequest, SecretsBody};
use reqwest::Method;
use secrecy::SecretString;

use super::watch;
use crate::args::Submit;
use crate::client::Client;
use crate::progress::ordinal;
use crate::source;

pub(crate) async fn run(args: Submit, output: Output) -> Result<Exit> {
    let client = Client::new(args.reach.clone())?;
    let (watches, request) = (args.watch, request(args, output).await?);
    if request.secrets.is_some() && client.sends_in_the_clear() {
        output.talk(&output.paint_talk(
            Tone::Warning,
            "warning: the credentials are sent unencrypted; use an https:// address",
        ));
    }
    let answer = ask(&client, &request).await?;
    if output.is_json() {
        let mut object = serde_json::to_value(&answer)?;
        if let (true, Some(object)) = (watches, object.as_object_mut()) {
            object.insert("event".to_owned(), "submitted".into());
        }
        output.json(&object);
    } else {
        output.talk(&sentence(&answer, &request, output));
    }
    if watches {
        return watch::follow_to_end(&client, answer.id, output).await;
    }
    if !output.is_json() {
        output.data(&answer.id.to_string());
        if !answer.state.is_ended() {
            output.talk(&format!("Follow it with `fairlane watch {}`.", answer.id));
        }
    }
    Ok(watch::exit_of(Some(answer.state)))
}

/// Sends a request for a build.
pub(crate) async fn ask(client: &Client, request: &BuildRequest) -> Result<BuildAnswer> {
    client.send(Method::POST, "v1/builds", &[], Some(&serde_json::to_value(request)?)).await
}

async fn request(args: Submit, output: Output) -> Result<BuildRequest> {
    let reference = source::resolve(&args.repo, args.reference.as_ref(), output).await?;
    let image = if let Some(image) = args.image {
        image
    } else {
        let image = source::image_for(&args.repo, &reference)?;
        output.talk(&format!("the image will be {image}"));
        image
    };
    let mut labels = BTreeMap::new();
    for (name, value) in args.labels {
        if labels.insert(name.clone(), value).is_some() {
            return Err(Stop::usage(format!("the label '{name}' is given twice")).into());
        }
    }
    let git_credentials = secret(args.git_credentials_file.as_deref(), "FAIRLANE_GIT_CREDENTIALS")?;
    let registry_credentials =
        secret(args.registry_credentials_file.as_deref(), "FAIRLANE_REGISTRY_CREDENTIALS")?;
    let any_secret = git_credentials.is_some() || registry_credentials.is_some();
    Ok(BuildRequest {
        repo: args.repo.to_string(),
        reference: reference.to_string(),
        image: image.to_string(),
        name: args.name.unwrap_or_default(),
        priority: args.priority,
        repo2docker_args: args.args,
        push: args.push,
        labels,
        secrets: any_secret.then_some(SecretsBody { git_credentials, registry_credentials }),
        force: args.force,
        override_ban: args.override_ban,
    })
}

fn secret(file: Option<&Path>, variable: &str) -> Result<Option<SecretString>> {
    let Some(file) = file else {
        let text = std::env::var(variable).ok().filter(|text| !text.is_empty());
        return Ok(text.map(SecretString::from));
    };
    let cannot = |why: std::io::Error| {
        Stop::usage(format!("the credentials in {} cannot be read: {why}", file.display()))
    };
    let size = file.metadata().map_err(cannot)?.len();
    if size > limits::SECRET_BYTES_MAX as u64 {
        return Err(Stop::usage(format!(
            "{} has {size} bytes; the limit for credentials is {}",
            file.display(),
            limits::SECRET_BYTES_MAX
        ))
        .into());
    }
    Ok(Some(SecretString::from(std::fs::read_to_string(file).map_err(cannot)?)))
}

fn sentence(answer: &BuildAnswer, request: &BuildRequest, output: Output) -> String {
    let id = output.paint_talk(Tone::Strong, &answer.id.to_string());
    let eta =
        answer.eta_seconds.map(|eta| format!(", ready {}", human::about(eta * 1000))).unwrap_or_default();
    match (answer.state, answer.joined) {
        (BuildState::Succeeded, _) => {
            format!("build {id} of {} succeeded just now; build it again with --force", request.image)
        }
        (BuildState::Failed, _) => {
            format!("build {id} failed just now and would fail again; use --force to try anyway")
        }
        (state, true) => {
            let others = match answer.people.saturating_sub(1) {
                0 => "nobody else is waiting for it".to_owned(),
                1 => "somebody else is waiting for it, too".to_owned(),
                more => format!("{more} others are waiting for it, too"),
            };
            format!("joined build {id}, which is {state}; {others}{eta}")
        }
        (_, false) => {
            let position = answer
                .position
                .map(|position| format!(", {} in line", ordinal(position)))
                .unwrap_or_default();
            format!("build {id} of {}{position}{eta}", answer.lane)
        }
    }
}
