//! What a value of a configuration may be.

/// What a value may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// An IP address and a port.
    Address,
    /// `sqlite:PATH`.
    Store,
    /// `postgres://…`.
    Database,
    /// `auto`, `on` or `off`.
    Prepare,
    /// `full` or `normal`.
    Durability,
    /// `true` or `false`.
    Switch,
    /// A list of networks or single addresses.
    Networks,
    /// A list of ports or ranges of them.
    Ports,
    /// A filter of `tracing`.
    Filter,
    /// `text` or `json`.
    LogFormat,
    /// An http or https URL.
    Url,
    /// `http://USER:PASSWORD@HOST:PORT`.
    Proxy,
    /// `here` or `proxy`.
    Resolves,
    /// A file that is read at the start.
    File,
    /// A name for people.
    Name,
    /// What a node does.
    Roles,
    /// A part of all, from 0 to 1.
    Ratio,
    /// A whole number.
    Number {
        /// What it counts.
        unit: Unit,
        /// The least it may be.
        min: u64,
        /// The most it may be.
        max: u64,
    },
}

/// What a number counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Things.
    Count,
    /// Bytes.
    Bytes,
    /// Seconds.
    Seconds,
    /// Milliseconds.
    Millis,
    /// Days.
    Days,
}

impl Rule {
    /// What may be written, for people.
    pub fn allowed(self) -> String {
        match self {
            Self::Address => "ADDRESS:PORT".to_owned(),
            Self::Store => "sqlite:PATH or postgres://…".to_owned(),
            Self::Database => "postgres://…".to_owned(),
            Self::Prepare => "auto, on or off".to_owned(),
            Self::Durability => "full or normal".to_owned(),
            Self::Switch => "true or false".to_owned(),
            Self::Networks => "networks or addresses".to_owned(),
            Self::Ports => "ports or ranges".to_owned(),
            Self::Filter => "a filter of tracing".to_owned(),
            Self::LogFormat => "text or json".to_owned(),
            Self::Url => "an http or https URL".to_owned(),
            Self::Proxy => "http://USER:PASSWORD@HOST:PORT".to_owned(),
            Self::Resolves => "here or proxy".to_owned(),
            Self::File => "a path".to_owned(),
            Self::Name => "a name".to_owned(),
            Self::Roles => "api, send or api,send".to_owned(),
            Self::Ratio => "0 to 1".to_owned(),
            Self::Number { unit, min, max } => format!("{min} to {max}{}", unit.suffix()),
        }
    }
}

impl Unit {
    fn suffix(self) -> &'static str {
        match self {
            Self::Count => "",
            Self::Bytes => " bytes",
            Self::Seconds => " s",
            Self::Millis => " ms",
            Self::Days => " days",
        }
    }
}
