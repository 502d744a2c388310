//! `fairlane rule`: bans, holds and limits. A rule has several parts. Each command reads the rule, changes
//! one part and writes the rule back.

use anyhow::Result;
use fairlane_clikit::exit::{Exit, Stop};
use fairlane_clikit::human;
use fairlane_clikit::output::{Align, Cell, Output, Table, Tone};
use fairlane_common::Repo;
use fairlane_common::rule::{Pattern, Rule as Body, Stop as StopRule};
use fairlane_dispatcher::api::{BuildRequest, QueueView, RuleAnswer, RuleList};
use reqwest::Method;

use super::{bulk, submit};
use crate::args::{LimitArgs, PatternText, Reach, Rule, StopArgs};
use crate::client::Client;
use crate::source;

pub(crate) async fn run(rule: Rule, output: Output) -> Result<Exit> {
    match rule {
        Rule::Ban { pattern, stop, until_built, build, reach } => {
            ban(&pattern, stop, until_built, build, reach, output).await
        }
        Rule::Unban { pattern, reach } => {
            end(&pattern.pattern, reach, output, "ban", |rule| rule.ban.take().is_some()).await
        }
        Rule::Hold { pattern, stop, reach } => {
            let editor = Editor::open(reach, pattern.pattern).await?;
            if stop.dry_run {
                return bulk::touched(&editor.client, &editor.pattern, output).await;
            }
            let stop = editor.stop(stop).await?;
            let said = editor.said("accepts requests, but starts no builds", &[("", stop.until)], false);
            let answer = editor.put(|rule| rule.hold = Some(stop)).await?;
            report(&answer, &said, output);
            Ok(Exit::Good)
        }
        Rule::Release { pattern, reach } => {
            end(&pattern.pattern, reach, output, "hold", |rule| rule.hold.take().is_some()).await
        }
        Rule::Limit(args) => limit(args, output).await,
        Rule::List { reach } => list(&Client::new(reach)?, output).await,
    }
}

/// The rule of a pattern, as last read.
struct Editor {
    client: Client,
    pattern: Pattern,
    rule: Body,
}

impl Editor {
    async fn open(reach: Reach, pattern: Pattern) -> Result<Self> {
        let client = Client::new(reach)?;
        let mut list: RuleList = client.get("v1/rules", &[]).await?;
        let mut rule = list.rules.remove(pattern.as_str()).unwrap_or_default();
        // The dispatcher fills in who set the rule and when.
        (rule.by, rule.at) = (None, None);
        Ok(Self { client, pattern, rule })
    }

    /// Changes the rule and writes it back; an empty rule is removed.
    async fn put(&self, change: impl FnOnce(&mut Body)) -> Result<RuleAnswer> {
        let mut rule = self.rule.clone();
        change(&mut rule);
        let query = [("pattern", self.pattern.to_string())];
        if rule.is_empty() {
            return self.client.send(Method::DELETE, "v1/rules", &query, None).await;
        }
        rule.check(&self.pattern).map_err(Stop::usage)?;
        self.client.send(Method::PUT, "v1/rules", &query, Some(&serde_json::to_value(&rule)?)).await
    }

    async fn stop(&self, args: StopArgs) -> Result<StopRule> {
        let until = self.until(args.lasts.as_deref(), args.until.as_deref()).await?;
        Ok(StopRule { message: args.message, until, until_built: false })
    }

    /// When a ban or hold ends, by the queue's clock, because this machine's may be wrong.
    async fn until(&self, lasts: Option<&str>, until: Option<&str>) -> Result<Option<u64>> {
        if lasts.is_none() && until.is_none() {
            return Ok(None);
        }
        let lasts = lasts.map(human::parse_span).transpose().map_err(Stop::usage)?;
        let until = until.map(human::parse_moment).transpose().map_err(Stop::usage)?;
        let now = self.client.get::<QueueView>("v1/queue", &[]).await?.totals.now_ms;
        let end = lasts.map(|lasts| now + u64::try_from(lasts.as_millis()).unwrap_or(0)).or(until);
        if end.is_some_and(|end| end <= now) {
            return Err(Stop::usage("--until is in the past").into());
        }
        Ok(end)
    }

    fn said(&self, what: &str, ends: &[(&str, Option<u64>)], until_built: bool) -> String {
        let ends: Vec<String> = ends
            .iter()
            .filter_map(|(of, end)| end.map(|end| format!(", {of}until {}", human::moment(end))))
            .collect();
        let built = if until_built { ", until it is built" } else { "" };
        format!("{} {what}{}{built}", self.pattern, ends.concat())
    }
}

async fn ban(
    pattern: &PatternText,
    stop: StopArgs,
    until_built: bool,
    build: bool,
    reach: Reach,
    output: Output,
) -> Result<Exit> {
    let editor = Editor::open(reach, pattern.pattern.clone()).await?;
    let repo = if build { Some(repo_of(pattern)?) } else { None };
    if stop.dry_run {
        return bulk::touched(&editor.client, &editor.pattern, output).await;
    }
    let stop = StopRule { until_built, ..editor.stop(stop).await? };
    let said = editor.said(
        "refuses new requests; queued and running builds go on",
        &[("", stop.until)],
        until_built,
    );
    let answer = editor.put(|rule| rule.ban = Some(stop)).await?;
    report(&answer, &said, output);
    if let Some(repo) = repo {
        let reference = source::resolve(&repo, None, output).await?;
        let image = source::image_for(&repo, &reference)?;
        let request = BuildRequest {
            force: true,
            override_ban: true,
            ..BuildRequest::new(repo.to_string(), reference.to_string(), image.to_string())
        };
        let answer = submit::ask(&editor.client, &request).await?;
        output.talk(&format!("Build {} of {image} ends the ban when it succeeds.", answer.id));
    } else if until_built && answer.live == 0 {
        output.talk(&output.paint_talk(
            Tone::Warning,
            "No build of this lane is queued or running, so nothing will end the ban: --build starts a build of its HEAD.",
        ));
    }
    Ok(Exit::Good)
}

/// The address of a lane's repository: as typed, or made from the lane's name.
fn repo_of(pattern: &PatternText) -> Result<Repo> {
    if !pattern.pattern.is_lane() {
        return Err(Stop::usage("--build works for one lane, not for a pattern").into());
    }
    let address = if pattern.typed.contains("://") {
        pattern.typed.clone()
    } else {
        format!("https://{}", pattern.pattern)
    };
    if pattern.pattern.as_str().starts_with("doi/") {
        return Err(Stop::usage(
            "--build works only for Git repositories; build a record with `fairlane submit DOI --override-ban`",
        )
        .into());
    }
    Ok(address.parse().map_err(Stop::usage)?)
}

async fn end(
    pattern: &Pattern,
    reach: Reach,
    output: Output,
    what: &str,
    take: impl Fn(&mut Body) -> bool,
) -> Result<Exit> {
    let editor = Editor::open(reach, pattern.clone()).await?;
    if !take(&mut editor.rule.clone()) {
        return Err(Stop::usage(format!(
            "there is no {what} of {pattern}; `fairlane rule list` lists all rules"
        ))
        .into());
    }
    let answer = editor.put(|rule| _ = take(rule)).await?;
    report(&answer, &format!("The {what} of {pattern} has ended"), output);
    Ok(Exit::Good)
}

async fn limit(args: LimitArgs, output: Output) -> Result<Exit> {
    let pattern = args.pattern.pattern;
    let clear = |rule: &mut Body| {
        let had = rule.limit.is_some() || rule.burst.is_some();
        (rule.limit, rule.burst, rule.together, rule.until) = (None, None, false, None);
        had
    };
    let Some(limit) = args.limit else {
        return end(&pattern, args.reach, output, "limit", clear).await;
    };
    let editor = Editor::open(args.reach, pattern).await?;
    if args.dry_run {
        return bulk::touched(&editor.client, &editor.pattern, output).await;
    }
    let until = editor.until(args.lasts.as_deref(), args.until.as_deref()).await?;
    let each = if args.together {
        "in total"
    } else if editor.pattern.is_lane() {
        "at the same time"
    } else {
        "per lane"
    };
    let builds = human::many(limit.into(), "build");
    let burst = args
        .burst
        .map(|burst| format!(", {burst} while more than half of all slots are free"))
        .unwrap_or_default();
    let said = editor.said(&format!("may have {builds} running {each}{burst}"), &[("", until)], false);
    let answer = editor
        .put(|rule| {
            (rule.limit, rule.burst, rule.together, rule.until) =
                (Some(limit), args.burst, args.together, until);
        })
        .await?;
    report(&answer, &said, output);
    Ok(Exit::Good)
}

fn report(answer: &RuleAnswer, said: &str, output: Output) {
    if output.is_json() {
        output.json(answer);
        return;
    }
    let live =
        if answer.live > 0 { format!(" (queued or running now: {})", answer.live) } else { String::new() };
    output.talk(&format!("{said}{live}."));
}

async fn list(client: &Client, output: Output) -> Result<Exit> {
    let list: RuleList = client.get("v1/rules", &[]).await?;
    if output.is_json() {
        for (pattern, rule) in &list.rules {
            output.json(&serde_json::json!({ "pattern": pattern, "rule": rule }));
        }
        return Ok(Exit::Good);
    }
    if list.rules.is_empty() {
        output.talk("There are no rules.");
        return Ok(Exit::Good);
    }
    let now = client.get::<QueueView>("v1/queue", &[]).await?.totals.now_ms;
    let mut table = Table::new([
        ("PATTERN", Align::Left),
        ("SAYS", Align::Left),
        ("BY", Align::Left),
        ("SET", Align::Right),
    ]);
    for (pattern, rule) in &list.rules {
        for (number, (words, tone)) in parts(rule, now).into_iter().enumerate() {
            let first = number == 0;
            let by = rule.by.clone().filter(|_| first).unwrap_or_default();
            let at = rule.at.filter(|_| first).map(|at| human::ago(at, now)).unwrap_or_default();
            table.row([
                if first { pattern.as_str() } else { "" }.into(),
                Cell::toned(words, tone),
                by.into(),
                at.into(),
            ]);
        }
    }
    output.table(&table);
    Ok(Exit::Good)
}

/// A rule as words, from its JSON.
pub(super) fn in_words(json: &str, now: u64) -> Option<String> {
    let rule: Body = serde_json::from_str(json).ok()?;
    let parts: Vec<String> = parts(&rule, now).into_iter().map(|(words, _)| words).collect();
    Some(parts.join("; ")).filter(|words| !words.is_empty())
}

fn parts(rule: &Body, now: u64) -> Vec<(String, Option<Tone>)> {
    let ends =
        |until: Option<u64>| until.map(|at| format!(", ends {}", human::ahead(at, now))).unwrap_or_default();
    let stop = |word: &str, stop: &StopRule| {
        let built = if stop.until_built { ", until built" } else { "" };
        let message = stop.message.as_deref().map(|text| format!(": {text}")).unwrap_or_default();
        format!("{word}{}{built}{message}", ends(stop.until))
    };
    let mut parts = Vec::new();
    parts.extend(rule.ban.as_ref().map(|ban| (stop("banned", ban), Some(Tone::Bad))));
    parts.extend(rule.hold.as_ref().map(|hold| (stop("held", hold), Some(Tone::Warning))));
    if rule.limit.is_some() || rule.burst.is_some() {
        let limit =
            rule.limit.map(|limit| format!("limit {limit}{}", if rule.together { " together" } else { "" }));
        let burst = rule.burst.map(|burst| format!("burst {burst}"));
        let words: Vec<String> = limit.into_iter().chain(burst).collect();
        parts.push((format!("{}{}", words.join(", "), ends(rule.until)), None));
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_of_the_audit_log_in_words() {
        let hold = r#"{"hold":{"message":"registry moves"}}"#;
        assert_eq!(in_words(hold, 0).as_deref(), Some("held: registry moves"));
        assert_eq!(in_words("it expired", 0), None);
        assert_eq!(in_words("{}", 0), None);
    }

    #[test]
    fn a_rule_in_words() {
        let rule = Body {
            limit: Some(3),
            together: true,
            until: Some(7_201_000),
            ban: Some(StopRule {
                message: Some("being repaired".to_owned()),
                until: None,
                until_built: true,
            }),
            ..Body::default()
        };
        let words: Vec<String> = parts(&rule, 1_000).into_iter().map(|(words, _)| words).collect();
        assert_eq!(words, ["banned, until built: being repaired", "limit 3 together, ends in 2 h"]);
    }

    #[test]
    fn where_a_lane_is_built_from() {
        for (typed, repo) in [
            ("github.com/O/N", Some("https://github.com/o/n")),
            ("http://127.0.0.1:9418/a.git", Some("http://127.0.0.1:9418/a.git")),
            ("github.com/o/*", None),
            ("doi/10.5281/zenodo.1", None),
        ] {
            let found = repo_of(&typed.parse().unwrap()).ok().map(|repo| repo.to_string());
            assert_eq!(found.as_deref(), repo, "{typed}");
        }
    }
}
