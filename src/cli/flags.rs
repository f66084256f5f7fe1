//! The flags of the configuration, made from its table of keys.

use std::path::PathBuf;

use clap::{Arg, ArgAction, ArgMatches, Command, FromArgMatches, value_parser};

use super::Failure;
use crate::config::{CONFIG_VARIABLE, Config, KEYS, Key, Rule, Sources, Unit};

/// A flag for every key.
pub type ServeFlags = Flags<true>;
/// The flags that say which store.
pub type StoreFlags = Flags<false>;

/// What the flags said. `EVERY`: every key has one, else only the store.
#[derive(Clone, Debug)]
pub struct Flags<const EVERY: bool> {
    flags: Vec<(&'static str, String)>,
    file: Option<PathBuf>,
}

impl<const EVERY: bool> Flags<EVERY> {
    /// The configuration after flags, environment and file.
    pub fn load(&self) -> Result<Config, Failure> {
        let variables = std::env::vars_os().collect();
        Config::load(&Sources { flags: self.flags.clone(), variables, file: self.file.clone() }).map_err(Failure::usage)
    }

    fn keys() -> impl Iterator<Item = &'static Key> {
        KEYS.iter().filter(|key| EVERY || key.name == "store")
    }
}

/// The store of that address, and what else the environment and a file say of it.
pub fn load_store(address: &str, file: Option<&PathBuf>) -> Result<crate::store::Config, Failure> {
    let store = Flags::<false> { flags: vec![("store", address.to_owned())], file: file.cloned() };
    Ok(store.load()?.store)
}

impl<const EVERY: bool> clap::Args for Flags<EVERY> {
    fn augment_args(command: Command) -> Command {
        let file = Arg::new("config")
            .long("config")
            .value_name("FILE")
            .env(CONFIG_VARIABLE)
            .value_parser(value_parser!(PathBuf))
            .help("A TOML file with any of these keys, in snake case. Flags go before variables, variables before it");
        command.arg(file).args(Self::keys().map(flag))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl<const EVERY: bool> FromArgMatches for Flags<EVERY> {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let said = |key: &'static Key| {
            let values = matches.get_many::<String>(key.name)?;
            Some((key.name, values.map(String::as_str).collect::<Vec<_>>().join(",")))
        };
        Ok(Self { flags: Self::keys().filter_map(said).collect(), file: matches.get_one::<PathBuf>("config").cloned() })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

/// The flag of a key. It has no default of its own: what nobody set must
/// stay unset here, so that a variable or the file can set it.
fn flag(key: &'static Key) -> Arg {
    let help = key.help_line();
    let default = if key.default.is_empty() { String::new() } else { format!(" [default: {}]", key.default) };
    let help = format!("{}{default} [env: {}]", help.trim_end_matches('.'), key.variable());
    let flag = Arg::new(key.name).long(key.flag()).help(help).value_name(value_name(key.rule));
    match key.rule {
        Rule::Switch => flag.num_args(0..=1).require_equals(true).default_missing_value("true"),
        Rule::Networks | Rule::Ports => flag.action(ArgAction::Append),
        Rule::Number { .. } => flag.help_heading("Limits and times"),
        Rule::Address
        | Rule::Store
        | Rule::Database
        | Rule::Prepare
        | Rule::Durability
        | Rule::Filter
        | Rule::LogFormat
        | Rule::Url
        | Rule::Proxy
        | Rule::Resolves
        | Rule::File
        | Rule::Name
        | Rule::Ratio
        | Rule::Roles => flag,
    }
}

fn value_name(rule: Rule) -> &'static str {
    match rule {
        Rule::Address => "ADDRESS:PORT",
        Rule::Store => "sqlite:PATH",
        Rule::Database => "postgres://…",
        Rule::Prepare => "auto|on|off",
        Rule::Durability => "full|normal",
        Rule::Switch => "true|false",
        Rule::Networks => "CIDR",
        Rule::Ports => "PORTS",
        Rule::Filter => "FILTER",
        Rule::LogFormat => "text|json",
        Rule::Url => "URL",
        Rule::Proxy => "http://HOST:PORT",
        Rule::Resolves => "here|proxy",
        Rule::File => "PATH",
        Rule::Name => "NAME",
        Rule::Roles => "ROLES",
        Rule::Ratio => "0..1",
        Rule::Number { unit: Unit::Count, .. } => "N",
        Rule::Number { unit: Unit::Bytes, .. } => "BYTES",
        Rule::Number { unit: Unit::Seconds, .. } => "SECONDS",
        Rule::Number { unit: Unit::Millis, .. } => "MILLISECONDS",
        Rule::Number { unit: Unit::Days, .. } => "DAYS",
    }
}

#[cfg(test)]
mod tests {
    use clap::Args;

    use super::*;

    fn parse(line: &[&str]) -> Result<ServeFlags, clap::Error> {
        let command = ServeFlags::augment_args(Command::new("serve"));
        ServeFlags::from_arg_matches(&command.try_get_matches_from(line)?)
    }

    #[test]
    fn flags_say_only_what_was_typed() {
        let flags = parse(&[
            "serve",
            "--listen",
            "127.0.0.1:0",
            "--dev",
            "--allow-target",
            "10.0.0.0/8",
            "--allow-target",
            "::1",
        ])
        .unwrap();
        let expected = [("listen", "127.0.0.1:0"), ("dev", "true"), ("allow_target", "10.0.0.0/8,::1")];
        assert_eq!(flags.flags, expected.map(|(key, text)| (key, text.to_owned())));
        assert!(parse(&["serve"]).unwrap().flags.is_empty());
        assert_eq!(parse(&["serve", "--dev=false"]).unwrap().flags, [("dev", "false".to_owned())]);
    }

    #[test]
    fn single_values_cannot_repeat_and_unknown_flags_are_refused() {
        assert!(parse(&["serve", "--listen", "127.0.0.1:1", "--listen", "127.0.0.1:2"]).is_err());
        assert!(parse(&["serve", "--lisen", "127.0.0.1:1"]).is_err());
    }
}
