//! What real tools print when they fail: `real_messages.txt` says what each is put down to.

use super::*;

const MESSAGES: &str = include_str!("real_messages.txt");

fn line(text: &str) -> String {
    let (phase, message) = text.split_once('|').expect(text);
    let message = message.replace("\\n", "\n");
    let json = |phase| serde_json::json!({"message": message, "phase": phase}).to_string();
    match phase {
        "F" => json("fetching"),
        "B" => json("building"),
        "P" => json("pushing"),
        "X" => json("failed"),
        "J" => serde_json::json!({ "message": message }).to_string(),
        _ => message.clone(),
    }
}

#[test]
fn real_messages_are_put_down_to_their_cause() {
    let (mut count, mut wrong) = (0, Vec::new());
    for message in MESSAGES.split("\n\n").skip(1).filter(|message| !message.trim().is_empty()) {
        let (head, lines) = message.split_once('\n').unwrap();
        let [tool, class, word] = head.split(" / ").collect::<Vec<_>>()[..] else { panic!("{head}") };
        let mut facts = Facts::default();
        lines.lines().for_each(|text| {
            facts.note(&line(text));
        });
        let exit = Exit { code: Some(1), signal: None, stopped: None };
        let (cause, reason) = failure(exit, &facts);
        count += 1;
        if cause.class().to_string() != class || cause.word() != word {
            let found = (cause.word(), cause.class());
            wrong.push(format!("{tool}: {found:?}, should be {word} ({class}): {reason}\n{lines}"));
        }
    }
    assert!(count > 100 && wrong.is_empty(), "{} of {count} wrong:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn a_failure_without_a_last_word_quotes_nothing() {
    let mut facts = Facts::default();
    facts.note(&line("B|#1 step 1"));
    let exit = Exit { code: Some(1), signal: None, stopped: None };
    assert_eq!(failure(exit, &facts).1, "the build failed (exit code 1); see its log");
    facts.note(&line("X|Error during build: it has an end."));
    assert_eq!(
        failure(exit, &facts).1,
        "the build failed (exit code 1): Error during build: it has an end; see its log"
    );
}
