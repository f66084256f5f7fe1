//! Which attacks are made, each at a server of its own or all at one.

use clap::builder::PossibleValuesParser;

use super::attacks::{self, Attack};

/// What names all attacks, one after the other.
const ALL: &str = "all";
/// All of them at once.
pub const TOGETHER: Trial = Trial {
    name: "together",
    what: "all of these at once, each by a merchant and a process of its own",
    attacks: attacks::ALL,
};
/// What is done at one server.
#[derive(Clone, Copy)]
pub struct Trial {
    /// What it is called.
    pub name: &'static str,
    /// What it is, in a few words.
    pub what: &'static str,
    /// Of these attacks, at once.
    pub attacks: &'static [Attack],
}

/// What may be named on the command line.
pub fn names() -> PossibleValuesParser {
    PossibleValuesParser::new(attacks::ALL.iter().map(|attack| attack.name).chain([ALL, TOGETHER.name]))
}

/// The ten worst if none is named.
pub fn asked_for(names: &[String]) -> Vec<Trial> {
    let is_named = |asked: &str| names.iter().any(|name| name == asked);
    let is_asked_for = |attack: &&Attack| match names {
        [] => attack.is_worst,
        _ => is_named(attack.name) || is_named(ALL),
    };
    let alone =
        |attack: &'static Attack| Trial { name: attack.name, what: attack.what, attacks: std::slice::from_ref(attack) };
    let each = attacks::ALL.iter().filter(is_asked_for).map(alone);
    each.chain(is_named(TOGETHER.name).then_some(TOGETHER)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_are_asked_for_by_one_name_and_those_together_by_theirs() {
        let named = |names: &[&str]| {
            let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
            asked_for(&names).iter().map(|trial| (trial.name, trial.attacks.len())).collect::<Vec<_>>()
        };
        assert!(named(&[]).len() == 10 && named(&[]).iter().all(|(_, attacks)| *attacks == 1));
        assert_eq!(named(&["half-heads", "long-filter"]), [("long-filter", 1), ("half-heads", 1)]);
        assert_eq!(named(&["together"]), [("together", attacks::ALL.len())]);
        let all = named(&["all", "together"]);
        assert!(all.len() == attacks::ALL.len() + 1 && all.last() == named(&["together"]).first());
    }
}
