//! Colours, where there is a terminal that wants them.

use std::ffi::OsStr;
use std::io::IsTerminal;

/// What must not be overlooked.
pub const RED: &str = "31";

/// True if what goes to stdout may have colours.
pub fn is_wanted() -> bool {
    let variable = |name| std::env::var_os(name).unwrap_or_default();
    wants(std::io::stdout().is_terminal(), &variable("NO_COLOR"), &variable("TERM"))
}

/// Only a terminal wants them; not if `NO_COLOR` says anything
/// (<https://no-color.org>), nor one that calls itself dumb.
fn wants(is_terminal: bool, no_color: &OsStr, term: &OsStr) -> bool {
    is_terminal && no_color.is_empty() && term != "dumb"
}

/// The text in a colour, given as ANSI's number of it, if colours are wanted.
pub fn painted(text: &str, colour: &str, is_wanted: bool) -> String {
    if is_wanted { format!("\x1b[{colour}m{text}\x1b[0m") } else { text.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_terminal_that_wants_colours_gets_them() {
        let wants = |is_terminal, no_color: &str, term: &str| wants(is_terminal, no_color.as_ref(), term.as_ref());
        assert!(wants(true, "", "xterm") && wants(true, "", ""));
        assert!(!wants(false, "", "xterm") && !wants(true, "1", "xterm") && !wants(true, "", "dumb"));
        assert_eq!(painted("GAP", RED, true), "\x1b[31mGAP\x1b[0m");
        assert_eq!(painted("GAP", RED, false), "GAP");
    }
}
