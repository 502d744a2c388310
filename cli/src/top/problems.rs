//! What an operator should know now: the dispatcher's sentences, each with the command that helps.

use fairlane_clikit::output::{Colors, Tone, clean};
use fairlane_dispatcher::api::{CurrentProblem, Severity};

use super::data::Data;
use crate::commands::queue::problem;

/// All of them, the worst first.
pub(super) fn problems(data: &Data) -> Vec<(Tone, String)> {
    let mut found = Vec::new();
    if let Some(warning) = &data.warning {
        found.push((Tone::Bad, clean(&format!("{warning}. `fairlane doctor` says more."), Colors::Drop)));
    }
    found.extend(data.queue.problems.iter().map(|one| (tone_of(one), problem(one))));
    found
}

fn tone_of(problem: &CurrentProblem) -> Tone {
    match problem.severity {
        Severity::Bad => Tone::Bad,
        Severity::Warning => Tone::Warning,
        Severity::Note => Tone::Faint,
    }
}
