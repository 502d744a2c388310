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
        let mut command =
            self.settings.apply(Cli::command()).map_err(|error| Stop::usage(format!("{error:#}")))?;
        let matches = command.try_get_matches_from_mut(arguments).map_err(|error| self.explain(error))?;
        Ok(Cli::from_arg_matches(&matches).map_err(|error| error.format(&mut command))?)
    }

    /// Says of a mistake what clap does not: where it stands if it is in the file. An address is not
    /// repeated, because a password may be in it.
    fn explain(&self, error: clap::Error) -> anyhow::Error {
        let (ErrorKind::ValueValidation | ErrorKind::InvalidValue, Some(ContextValue::String(value))) =
            (error.kind(), error.get(ContextKind::InvalidValue))
        else {
            return error.into();
        };
        let place = self.settings.path().filter(|_| self.settings.has_value(value));
        let place =
            place.map(|path| format!("\nThe value stands in {}.", path.display())).unwrap_or_default();
        let said = match (error.get(ContextKind::InvalidArg), std::error::Error::source(&error)) {
            (Some(ContextValue::String(option)), Some(why)) if value.contains("://") => {
                format!("{option}: {why}")
            }
            _ if place.is_empty() => return error.into(),
            _ => {
                error.to_string().trim_start_matches("error: ").lines().next().unwrap_or_default().to_owned()
            }
        };
        // The queue names its field; here it is an option.
        let said = said.replace("send credentials in secrets.git_credentials", "use --git-credentials-file");
        Stop::usage(format!("{said}{place}")).into()
    }
}
