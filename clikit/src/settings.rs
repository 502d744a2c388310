//! Settings: a flag wins over the environment, which wins over `fairlane.toml`.
//!
//! The command line's options are the only list of settings. A value from the file becomes the default of its
//! option, so it is checked and rejected like a typed one.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::{ArgAction, Command};
use toml::{Table, Value};

/// The file that is read if none is named.
const FILE: &str = "fairlane.toml";
/// Larger files are not settings files.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// The contents of a settings file.
#[derive(Debug, Default)]
pub struct Settings {
    path: PathBuf,
    table: Table,
    /// Whether the program knows a part of the settings only, and others read the rest.
    in_part: bool,
}

impl Settings {
    /// Reads the file that `--config` or `FAIRLANE_CONFIG` names, else `fairlane.toml` in the
    /// current folder if there is one.
    pub fn load(arguments: &[OsString]) -> Result<Self> {
        let named = named_file(arguments)
            .or_else(|| std::env::var_os("FAIRLANE_CONFIG").filter(|path| !path.is_empty()))
            .map(PathBuf::from);
        let (path, needed) = named.map_or_else(|| (PathBuf::from(FILE), false), |path| (path, true));
        match std::fs::metadata(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && !needed => {
                return Ok(Self::default());
            }
            Err(error) => {
                return Err(error)
                    .with_context(|| format!("the settings file {} cannot be read", path.display()));
            }
            Ok(file) if file.len() > FILE_BYTES_MAX => {
                bail!("{} has {} bytes, which is too large for a settings file", path.display(), file.len())
            }
            Ok(_) => {}
        }
        let text = std::fs::read_to_string(&path)
            .with_context(|| format!("the settings file {} cannot be read", path.display()))?;
        let table = text.parse::<Table>().map_err(|error| {
            // The full message would repeat the line, which may contain a token.
            let line =
                error.span().map_or(1, |span| text[..span.start.min(text.len())].lines().count().max(1));
            anyhow::anyhow!("{}, line {line}: {}", path.display(), error.message())
        })?;
        Ok(Self { path, table: policy_as_option(table), in_part: false })
    }

    /// The same for a program that knows some of the settings; `fairlane` refuses those that nobody knows.
    #[must_use]
    pub fn in_part(self) -> Self {
        Self { in_part: true, ..self }
    }

    /// Where it was read from; `None` without a file.
    pub fn path(&self) -> Option<&Path> {
        (!self.path.as_os_str().is_empty()).then_some(self.path.as_path())
    }

    /// Whether `value` is in the file.
    pub fn has_value(&self, value: &str) -> bool {
        fn within(entry: &Value, value: &str) -> bool {
            match entry {
                Value::Table(table) => table.values().any(|entry| within(entry, value)),
                Value::Array(entries) => entries.iter().any(|entry| within(entry, value)),
                other => text_of(other).is_some_and(|text| text == value),
            }
        }
        self.table.values().any(|entry| within(entry, value))
    }

    /// Makes the file's values the defaults of the options that it names.
    ///
    /// # Errors
    /// A name that no option has, or a value that is not text, a number, a truth value or a list.
    pub fn apply(&self, mut command: Command) -> Result<Command> {
        let known = Known::of(&command);
        for (key, value) in &self.table {
            let name = key.replace('_', "-");
            if let Value::Table(table) = value {
                if self.is_for_another(&command, &name) {
                    continue;
                }
                let options =
                    known.by_command.get(name.as_str()).ok_or_else(|| self.unknown(key, known.commands()))?;
                for (key, value) in table {
                    let long = key.replace('_', "-");
                    let fits: Vec<&Opt> = options.iter().filter(|option| option.long == long).collect();
                    if fits.is_empty() {
                        let known = options.iter().map(|option| format!("{name}.{}", option.long));
                        return Err(self.unknown(&format!("{name}.{key}"), known));
                    }
                    let values = self.values(key, value)?;
                    for option in fits {
                        command = with_default(command, &option.path, option, &values);
                    }
                }
                continue;
            }
            let fits: Vec<(&String, &Opt)> = known.everywhere(&name).collect();
            if fits.is_empty() {
                if self.in_part {
                    continue;
                }
                return Err(self.unknown(key, known.shared_names()));
            }
            let values = self.values(key, value)?;
            for (of, option) in fits {
                // The command's own table takes precedence, wherever it is in the file.
                let own = self.table.get(of.as_str()).and_then(Value::as_table);
                if !own.is_some_and(|own| own.keys().any(|key| key.replace('_', "-") == name)) {
                    command = with_default(command, &option.path, option, &values);
                }
            }
        }
        Ok(command)
    }

    /// Whether another program reads the settings of this command.
    fn is_for_another(&self, program: &Command, command: &str) -> bool {
        let command = program.find_subcommand(command);
        command
            .map_or(self.in_part, |command| command.get_arguments().any(clap::Arg::is_trailing_var_arg_set))
    }

    fn values(&self, key: &str, value: &Value) -> Result<Vec<String>> {
        let one = |value: &Value| {
            text_of(value).ok_or_else(|| {
                anyhow::anyhow!(
                    "{}: {key} must be a text, a number, true or false, or a list of these",
                    self.path.display()
                )
            })
        };
        match value {
            Value::Array(values) => values.iter().map(one).collect(),
            value => Ok(vec![one(value)?]),
        }
    }

    fn unknown(&self, key: &str, known: impl Iterator<Item = String>) -> anyhow::Error {
        let wanted = key.replace('_', "-");
        let mut near: Vec<(usize, String)> =
            known.map(|name| (strsim::levenshtein(&wanted, &name), name)).collect();
        near.sort();
        near.dedup();
        let hint = match near.first() {
            Some((away, name)) if *away <= 3.max(wanted.len() / 3) => {
                format!("; did you mean `{}`?", name.replace('-', "_"))
            }
            _ => format!(
                "; known settings: {}",
                near.iter().map(|(_, name)| name.replace('-', "_")).collect::<Vec<_>>().join(", ")
            ),
        };
        anyhow::anyhow!("{}: there is no setting `{key}`{hint}", self.path.display())
    }
}

/// Turns the table `[policy]` into the dispatchers' option `--policy`, one value per line.
fn policy_as_option(mut table: Table) -> Table {
    if let Some(Value::Table(policy)) = table.get("policy") {
        let words = policy.iter().map(|(name, value)| {
            let value = text_of(value).unwrap_or_else(|| "(no plain value)".to_owned());
            Value::String(format!("{name}={value}"))
        });
        let words = words.collect();
        table.insert("policy".to_owned(), Value::Array(words));
    }
    table
}

/// A plain value as it would be typed.
fn text_of(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Integer(number) => Some(number.to_string()),
        Value::Float(number) => Some(number.to_string()),
        Value::Boolean(truth) => Some(truth.to_string()),
        Value::Datetime(_) | Value::Array(_) | Value::Table(_) => None,
    }
}

/// An option that a file can set.
struct Opt {
    /// The commands that lead to it: `rule`, `ban`.
    path: Vec<String>,
    id: String,
    long: String,
    shared: bool,
}

/// The options of each command.
struct Known {
    by_command: BTreeMap<String, Vec<Opt>>,
}

impl Known {
    fn of(command: &Command) -> Self {
        let options = |sub: &Command| (sub.get_name().to_owned(), options_of(sub, &[]));
        let by_command = command.get_subcommands().map(options).collect();
        Self { by_command }
    }

    /// The options of that name that mean the same in every command: those with an environment variable.
    fn everywhere<'a>(&'a self, long: &'a str) -> impl Iterator<Item = (&'a String, &'a Opt)> {
        self.by_command
            .iter()
            .flat_map(|(name, options)| options.iter().map(move |option| (name, option)))
            .filter(move |(_, option)| option.shared && option.long == long)
    }

    fn shared_names(&self) -> impl Iterator<Item = String> {
        self.by_command.values().flatten().filter(|option| option.shared).map(|option| option.long.clone())
    }

    fn commands(&self) -> impl Iterator<Item = String> {
        self.by_command.iter().filter(|(_, options)| !options.is_empty()).map(|(name, _)| name.clone())
    }
}

/// The options of a command and of those below it.
fn options_of(command: &Command, above: &[String]) -> Vec<Opt> {
    let path = [above, &[command.get_name().to_owned()]].concat();
    let settable = command.get_arguments().filter(|arg| {
        !matches!(
            arg.get_action(),
            ArgAction::Help | ArgAction::HelpShort | ArgAction::HelpLong | ArgAction::Version
        )
    });
    let own = settable.filter_map(|arg| {
        let long = arg.get_long()?.to_owned();
        Some(Opt { path: path.clone(), id: arg.get_id().to_string(), long, shared: arg.get_env().is_some() })
    });
    own.chain(command.get_subcommands().flat_map(|sub| options_of(sub, &path))).collect()
}

fn with_default(command: Command, path: &[String], option: &Opt, values: &[String]) -> Command {
    if let Some((first, rest)) = path.split_first() {
        return command.mut_subcommand(first, |sub| with_default(sub, rest, option, values));
    }
    command.mut_arg(&option.id, |arg| {
        // Help would print a token from the file.
        arg.required(false).default_values(values.to_vec()).hide_default_value(true)
    })
}

/// The file that `--config` names, read before the command line, because the file changes how that is parsed.
fn named_file(arguments: &[OsString]) -> Option<OsString> {
    let mut arguments = arguments.iter().take_while(|argument| *argument != "--");
    while let Some(argument) = arguments.next() {
        if argument == "--config" {
            return arguments.next().cloned();
        }
        if let Some(path) = argument.to_str().and_then(|text| text.strip_prefix("--config=")) {
            return Some(path.into());
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use clap::Arg;

    use super::*;

    fn settings(text: &str) -> Settings {
        Settings { path: "fairlane.toml".into(), table: text.parse().unwrap(), in_part: false }
    }

    fn command() -> Command {
        let slots = || {
            Arg::new("slots")
                .long("slots")
                .env("FAIRLANE_UNIT_TEST_SLOTS")
                .value_parser(clap::value_parser!(u32))
        };
        let url = || {
            Arg::new("urls")
                .long("dispatcher-url")
                .env("FAIRLANE_UNIT_TEST_URL")
                .num_args(1)
                .action(ArgAction::Append)
        };
        Command::new("fairlane")
            .subcommand(Command::new("worker").arg(slots().required(true)).arg(Arg::new("host").long("host")))
            .subcommand(Command::new("up").arg(slots()).arg(url()))
            .subcommand(Command::new("rule").subcommand(Command::new("ban").arg(url())))
    }

    fn slots(settings: &str, line: &[&str]) -> Option<u32> {
        let matches =
            super::tests::settings(settings).apply(command()).unwrap().try_get_matches_from(line).unwrap();
        matches.subcommand().unwrap().1.get_one("slots").copied()
    }

    #[test]
    fn a_flag_wins_over_the_file_and_a_commands_table_over_the_rest() {
        assert_eq!(slots("slots = 3", &["fairlane", "up"]), Some(3));
        assert_eq!(slots("slots = 3", &["fairlane", "worker"]), Some(3));
        assert_eq!(slots("slots = 3", &["fairlane", "worker", "--slots", "5"]), Some(5));
        assert_eq!(slots("slots = 3\n[worker]\nslots = 4", &["fairlane", "worker"]), Some(4));
        assert_eq!(slots("slots = 3\n[worker]\nslots = 4", &["fairlane", "up"]), Some(3));
        assert_eq!(slots("", &["fairlane", "up"]), None);
    }

    #[test]
    fn lists_are_lists() {
        let command = settings("dispatcher_url = ['a', 'b']").apply(command()).unwrap();
        let matches = command.try_get_matches_from(["fairlane", "up"]).unwrap();
        let urls: Vec<&String> = matches.subcommand().unwrap().1.get_many("urls").unwrap().collect();
        assert_eq!(urls, ["a", "b"]);
    }

    #[test]
    fn a_command_below_a_command_has_its_settings_too() {
        for file in ["dispatcher_url = 'a'", "[rule]\ndispatcher_url = 'a'"] {
            let matches = settings(file)
                .apply(command())
                .unwrap()
                .try_get_matches_from(["fairlane", "rule", "ban"])
                .unwrap();
            let ban = matches.subcommand().unwrap().1.subcommand().unwrap().1.clone();
            assert_eq!(ban.get_one::<String>("urls").unwrap(), "a");
        }
    }

    #[test]
    fn unknown_names_are_refused_with_the_nearest_one() {
        for (text, says) in [
            ("slot = 3", "did you mean `slots`?"),
            ("host = 'a'", "there is no setting `host`"),
            ("dispatcher_ulr = 'a'", "did you mean `dispatcher_url`?"),
            ("[wroker]\nslots = 1", "did you mean `worker`?"),
            ("[worker]\nslotz = 1", "did you mean `worker.slots`?"),
            ("slots = 2020-01-01", "must be a text"),
        ] {
            let error = settings(text).apply(command()).unwrap_err().to_string();
            assert!(error.contains(says), "{text}: {error}");
        }
    }

    #[test]
    fn what_another_program_reads_is_left_to_it() {
        let bench = || {
            let words = Arg::new("words").num_args(0..).trailing_var_arg(true);
            command().subcommand(Command::new("bench").arg(words))
        };
        assert!(settings("[bench]\nrounds = 3").apply(bench()).is_ok());
        assert!(settings("[bench]\nrounds = 3").apply(command()).is_err());
        let others = settings("listen = ':1'\n[dispatcher]\nlisten = ':1'\n[worker]\nslots = 4").in_part();
        let matches = others.apply(command()).unwrap().try_get_matches_from(["fairlane", "worker"]).unwrap();
        assert_eq!(matches.subcommand().unwrap().1.get_one("slots").copied(), Some(4_u32));
        let own = settings("[worker]\nslotz = 1").in_part();
        assert!(own.apply(command()).unwrap_err().to_string().contains("worker.slots"));
    }

    #[test]
    fn the_file_is_found_before_the_line_is_read() {
        let line = |words: &[&str]| named_file(&words.iter().map(OsString::from).collect::<Vec<_>>());
        assert_eq!(line(&["fairlane", "--config", "a.toml", "up"]), Some("a.toml".into()));
        assert_eq!(line(&["fairlane", "up", "--config=b.toml"]), Some("b.toml".into()));
        assert_eq!(line(&["fairlane", "submit", "--", "--config", "c"]), None);
    }
}
