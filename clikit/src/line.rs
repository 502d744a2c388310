//! Parsing the command line, with defaults from the settings file.

use std::ffi::OsString;
use std::path::PathBuf;

use anyhow::Result;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Args, CommandFactory, FromArgMatches, ValueHint};

use crate::exit::Stop;
use crate::output::Output;
use crate::settings::Settings;

/// What every command accepts.
#[derive(Debug, Args)]
pub struct Everywhere {
    /// Write data as JSON, one object a line
    #[arg(long, global = true, help_heading = "Everywhere", display_order = 900)]
    json: bool,
    /// Show tables at full width, even if they do not fit the terminal
    #[arg(long, global = true, help_heading = "Everywhere", display_order = 900)]
    wide: bool,
    /// The settings file, instead of ./fairlane.toml
    #[arg(long, global = true, help_heading = "Everywhere", display_order = 901, env = "FAIRLANE_CONFIG", value_name = "FILE", value_hint = ValueHint::FilePath)]
    config: Option<PathBuf>,
}

impl Everywhere {
    /// How to write, as these options have it.
    pub fn output(&self) -> Output {
        Output::new(self.json, self.wide)
    }
}

/// Reads command lines.
#[derive(Debug)]
pub struct Line {
    settings: Settings,
}

/// Rust's and clap's own error texts in plain words.
fn plain(words: &str) -> Option<String> {
    if let Some((from, to)) = words.split_once(" is not in ").and_then(|(_, range)| range.split_once("..=")) {
        // Without an upper bound, clap names the type's.
        let is_open = to == u32::MAX.to_string() || to == u64::MAX.to_string();
        return Some(if is_open {
            format!("it must be at least {from}")
        } else {
            format!("it must be from {from} to {to}")
        });
    }
    let plain = match words {
        "number would be zero for non-zero type" => "it must be at least 1",
        "invalid digit found in string" | "cannot parse integer from empty string" => {
            "it must be a whole number"
        }
        "number too large to fit in target type" => "the number is too large",
        "number too small to fit in target type" => "the number is too small",
        "invalid float literal" | "cannot parse float from empty string" => "it must be a number",
        "provided string was not `true` or `false`" => "it must be true or false",
        "invalid socket address syntax" => "it must be an IP address and a port, such as 127.0.0.1:8600",
        _ => return None,
    };
    Some(plain.to_owned())
}

/// Makes an error show how its command is used instead of what it was given: clap would list arguments that
/// come from the environment, such as a token, as required.
fn with_plain_usage(mut error: clap::Error, command: &clap::Command, words: &[OsString]) -> clap::Error {
    if error.get(ContextKind::Usage).is_none() {
        return error;
    }
    let mut meant = command.clone();
    for word in words.iter().skip(1) {
        if let Some(inner) = meant.find_subcommand(word).cloned() {
            meant = inner;
        }
    }
    error.insert(ContextKind::Usage, ContextValue::StyledStr(meant.render_usage()));
    error
}

impl Line {
    /// Reads the settings file that `arguments` name.
    pub fn new(arguments: &[OsString]) -> Result<Self> {
        let settings = Settings::load(arguments).map_err(|error| Stop::usage(format!("{error:#}")))?;
        Ok(Self { settings })
    }

    /// The same for a program that reads only a part of the settings.
    pub fn of_part(arguments: &[OsString]) -> Result<Self> {
        Self::new(arguments).map(|line| Self { settings: line.settings.in_part() })
    }

    /// Parses a command line. `--help` and usage errors are returned as clap errors.
    pub fn parse<C: CommandFactory + FromArgMatches>(
        &self,
        arguments: impl IntoIterator<Item: Into<OsString> + Clone>,
    ) -> Result<C> {
        let mut command =
            self.settings.apply(C::command()).map_err(|error| Stop::usage(format!("{error:#}")))?;
        let words: Vec<OsString> = arguments.into_iter().map(Into::into).collect();
        let matches = match command.try_get_matches_from_mut(&words) {
            Ok(matches) => matches,
            Err(error) => return Err(self.explain(with_plain_usage(error, &command, &words))),
        };
        Ok(C::from_arg_matches(&matches).map_err(|error| error.format(&mut command))?)
    }

    /// Adds to an error what clap does not say: whether the value came from the file. An address is not
    /// repeated, because it may contain a password.
    fn explain(&self, error: clap::Error) -> anyhow::Error {
        let (ErrorKind::ValueValidation | ErrorKind::InvalidValue, Some(ContextValue::String(value))) =
            (error.kind(), error.get(ContextKind::InvalidValue))
        else {
            return error.into();
        };
        let words = std::error::Error::source(&error).and_then(|why| plain(&why.to_string()));
        let file = self.settings.path().filter(|_| self.settings.has_value(value));
        let origin =
            file.map(|path| format!("\nThe value comes from {}.", path.display())).unwrap_or_default();
        let said = match (error.get(ContextKind::InvalidArg), std::error::Error::source(&error), words) {
            (Some(ContextValue::String(option)), _, Some(words)) => {
                format!("invalid value '{value}' for '{option}': {words}")
            }
            (Some(ContextValue::String(option)), Some(why), None) if value.contains("://") => {
                format!("{option}: {why}")
            }
            _ if origin.is_empty() => return error.into(),
            _ => {
                error.to_string().trim_start_matches("error: ").lines().next().unwrap_or_default().to_owned()
            }
        };
        // The queue names its field; here it is an option.
        let said = said.replace("send credentials in secrets.git_credentials", "use --git-credentials-file");
        Stop::usage(format!("{said}{origin}")).into()
    }
}
