//! The command line, read with the settings file beneath it.

use std::ffi::OsString;

use anyhow::Result;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{CommandFactory, FromArgMatches};

use crate::args::Cli;
use crate::exit::Stop;
use crate::settings::Settings;

/// Reads command lines.
#[derive(Debug)]
pub(crate) struct Line {
    settings: Settings,
}

impl Line {
    /// Reads the settings file that `arguments` name.
    pub(crate) fn new(arguments: &[OsString]) -> Result<Self> {
        let settings = Settings::load(arguments).map_err(|error| Stop::usage(format!("{error:#}")))?;
        Ok(Self { settings })
    }

    /// Reads a command line. `--help` and mistakes are errors of clap's.
    pub(crate) fn parse<I: IntoIterator<Item: Into<OsString> + Clone>>(&self, arguments: I) -> Result<Cli> {
        let mut command = self.settings.apply(Cli::command()).map_err(|error| Stop::usage(format!("{error:#}")))?;
        let matches = command.try_get_matches_from_mut(arguments).map_err(|error| self.explain(error))?;
        Ok(Cli::from_arg_matches(&matches).map_err(|error| error.format(&mut command))?)
    }

    /// A mistake in the file looks like one in an option that nobody typed: say where it stands.
    fn explain(&self, error: clap::Error) -> anyhow::Error {
        let value = match (error.kind(), error.get(ContextKind::InvalidValue)) {
            (ErrorKind::ValueValidation | ErrorKind::InvalidValue, Some(ContextValue::String(value))) => value,
            _ => return error.into(),
        };
        match self.settings.path() {
            Some(path) if self.settings.has_value(value) => {
                let said = error.to_string();
                let said = said.trim_start_matches("error: ").lines().next().unwrap_or_default().to_owned();
                Stop::usage(format!("{said}\nThe value stands in {}.", path.display())).into()
            }
            _ => error.into(),
        }
    }
}
