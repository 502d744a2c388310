//! What `doctor` found, and how it is printed.

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
    text: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    advice: Option<String>,
}

#[cfg(test)]
impl Finding {
    /// Its text and its advice.
    pub(super) fn in_full(&self) -> String {
        format!("{} {}", self.text, self.advice.as_deref().unwrap_or_default())
    }
}

#[derive(Debug, Default)]
pub(super) struct Findings(pub(super) Vec<Finding>);

impl Findings {
    /// Reports that something is fine.
    pub(super) fn ok(&mut self, about: &'static str, text: impl Into<String>) {
        self.0.push(Finding { level: Level::Ok, about, text: text.into(), advice: None });
    }

    /// Reports a warning; `advice` says what to do.
    pub(super) fn warning(
        &mut self,
        about: &'static str,
        text: impl Into<String>,
        advice: impl Into<String>,
    ) {
        let advice = Some(advice.into()).filter(|advice| !advice.is_empty());
        self.0.push(Finding { level: Level::Warning, about, text: text.into(), advice });
    }

    /// Reports an error; `advice` says what to do.
    pub(super) fn error(&mut self, about: &'static str, text: impl Into<String>, advice: impl Into<String>) {
        self.0.push(Finding { level: Level::Error, about, text: text.into(), advice: Some(advice.into()) });
    }

    /// Whether there is a finding of that level.
    pub(super) fn has(&self, level: Level) -> bool {
        self.0.iter().any(|finding| finding.level == level)
    }

    /// Prints the findings.
    pub(super) fn write(&self, output: Output) {
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
