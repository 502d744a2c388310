//! The tables of causes and `docs/failures.md` say the same.

use std::fmt::Write as _;
use std::path::PathBuf;

use fairlane_common::FailureClass;
use fairlane_common::cause::CAUSES;
use fairlane_common::queue::Blame;
use fairlane_testkit::keep_docs;

use crate::LogCause;
use crate::kubernetes::pod::PodCause;

fn pods() -> String {
    let mut table =
        "| cause | class | node | waits | reason | what to do |\n|---|---|---|---|---|---|\n".to_owned();
    for cause in PodCause::ALL {
        let node = if cause.blames_node() { "yes" } else { "" };
        let waits = cause.patience().map_or_else(String::new, |patience| format!("{} s", patience.as_secs()));
        let says = cause.says().replace("{node}", "node …").replace("{detail}", "…");
        let (word, class, advice) = (cause.word(), cause.class(), cause.advice());
        writeln!(table, "| `{word}` | {class} | {node} | {waits} | {says} | {advice} |").unwrap();
    }
    table
}

fn log() -> String {
    let mut table = "| cause | class | node | reason | what to do |\n|---|---|---|---|---|\n".to_owned();
    for cause in LogCause::ALL {
        let node = if cause.blame() == Blame::Nobody { "" } else { "if elsewhere works" };
        let says = cause.says().replace("{detail}", "…");
        let once_more = matches!(cause.blame(), Blame::Unclear { .. });
        let then = if once_more { ", the second time repository" } else { "" };
        let (word, class, advice) = (cause.word(), cause.class(), cause.advice());
        writeln!(table, "| `{word}` | {class}{then} | {node} | {says} | {advice} |").unwrap();
    }
    table
}

#[test]
fn the_docs_have_every_cause() {
    let page = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs/failures.md");
    keep_docs(&page, "pods", &pods());
    keep_docs(&page, "log", &log());
}

/// What the queue counts by cause is in the docs, and the other way round.
#[test]
fn the_queue_knows_every_cause_of_the_docs() {
    let docs = include_str!("../../docs/failures.md");
    let row = |line: &str| Some(line.strip_prefix("| `")?.split_once('`')?.0.to_owned());
    let documented: Vec<String> = docs
        .lines()
        .filter_map(row)
        .filter(|word| word.parse::<FailureClass>().is_err() && word != "cancelled")
        .collect();
    assert_eq!(documented, CAUSES);
    for (word, cause) in PodCause::ALL
        .iter()
        .map(|cause| (cause.word(), cause.cause()))
        .chain(LogCause::ALL.iter().map(|cause| (cause.word(), cause.cause())))
    {
        assert_eq!(word, cause.word());
    }
}

#[test]
fn causes_have_words_of_their_own() {
    let words =
        PodCause::ALL.iter().map(|cause| cause.word()).chain(LogCause::ALL.iter().map(|cause| cause.word()));
    let mut words: Vec<&str> = words.collect();
    words.sort_unstable();
    let count = words.len();
    words.dedup();
    assert_eq!(words.len(), count);
    for cause in PodCause::ALL {
        for reason in [cause.failure(None, "").reason, cause.failure(Some("n"), "d").reason] {
            assert!(!reason.contains(['{', '}']) && !reason.ends_with([':', ' ', '.']), "{reason}");
        }
    }
}

#[test]
fn the_templates_in_the_docs_fit_a_build_pod() {
    let file = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs/pods.md");
    let text = std::fs::read_to_string(&file).unwrap();
    let templates: Vec<&str> =
        text.split("```yaml\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    assert_eq!(templates.len(), 2);
    for template in templates {
        let template = crate::kubernetes::pod::PodTemplate::parse(template).unwrap();
        let settings = crate::kubernetes::pod::PodSettings { template: Some(template), ..Default::default() };
        settings.check().unwrap();
    }
}
