//! What `doctor` found, and how it is printed.

use fairlane_clikit::exit::Exit;
use fairlane_clikit::output::{Colors, Output, Tone, clean};
use serde::Serialize;

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Level {
    /// Everything is as it should be.
    Ok,
    /// It works, but it may cause trouble.
    Warning,
    /// It does not work.
    Error,
}

/// What was checked, and the result.
#[derive(Debug, Serialize)]
pub(super) struct Finding {
    pub(super) level: Level,
    pub(super) about: &'static str,
    pub(super) text: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    advice: Option<String>,
    /// The node and the pool of nodes that it is about, for programs; people read their names in the text.
    #[serde(skip_serializing_if = "Option::is_none")]
    node: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pool: Option<String>,
}

#[cfg(test)]
impl Finding {
    /// Its text and its advice.
    pub(super) fn in_full(&self) -> String {
        format!("{} {}", self.text, self.advice.as_deref().unwrap_or_default())
    }
}

#[derive(Debug, Default)]
pub(in crate::commands) struct Findings(pub(super) Vec<Finding>);

impl Findings {
    /// Reports that something is fine.
    pub(super) fn ok(&mut self, about: &'static str, text: impl Into<String>) {
        self.add(Level::Ok, about, text.into(), String::new());
    }

    /// Reports a warning; `advice` says what to do.
    pub(super) fn warning(
        &mut self,
        about: &'static str,
        text: impl Into<String>,
        advice: impl Into<String>,
    ) {
        self.add(Level::Warning, about, text.into(), advice.into());
    }

    /// Reports an error; `advice` says what to do.
    pub(super) fn error(&mut self, about: &'static str, text: impl Into<String>, advice: impl Into<String>) {
        self.add(Level::Error, about, text.into(), advice.into());
    }

    fn add(&mut self, level: Level, about: &'static str, text: String, advice: String) {
        let advice = Some(advice).filter(|advice| !advice.is_empty());
        self.0.push(Finding { level, about, text, advice, node: None, pool: None });
    }

    /// Says which node or pool the latest finding is about.
    pub(super) fn of_node(&mut self, node: Option<&str>, pool: Option<&str>) {
        if let Some(latest) = self.0.last_mut() {
            (latest.node, latest.pool) = (node.map(str::to_owned), pool.map(str::to_owned));
        }
    }

    /// Whether there is a finding of that level.
    pub(super) fn has(&self, level: Level) -> bool {
        self.0.iter().any(|finding| finding.level == level)
    }

    /// Prints the findings; the exit code says whether there is an error.
    pub(super) fn finish(&self, output: Output) -> Exit {
        self.write(output);
        if self.has(Level::Error) { Exit::Failed } else { Exit::Good }
    }

    fn write(&self, output: Output) {
        let width = self.0.iter().map(|finding| finding.about.len()).max().unwrap_or(0);
        for finding in &self.0 {
            if output.is_json() {
                output.json(finding);
                continue;
            }
            let (word, tone) = match finding.level {
                Level::Ok => ("ok     ", Tone::Good),
                Level::Warning => ("warning", Tone::Warning),
                Level::Error => ("error  ", Tone::Bad),
            };
            let advice = finding.advice.as_deref().map(|advice| format!(". {advice}")).unwrap_or_default();
            let text = clean(&finding.text, Colors::Drop);
            output.data(&format!("{}  {:width$}  {text}{advice}", output.paint(tone, word), finding.about));
        }
    }
}
