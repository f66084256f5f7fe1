//! The methods: thin, each decodes, calls a use case, encodes.

mod audit;
mod delivery;
mod event;
mod job;
mod live;
mod merchant;
mod node;
mod session;
mod token;
mod topic;
mod user;
mod webhook;

use schemars::JsonSchema;
use serde::Deserialize;

use super::method::Method;

/// All methods, in the order in which they are described.
pub fn all() -> Vec<Method> {
    let mut methods = session::methods();
    methods.extend(webhook::methods());
    methods.extend(event::methods());
    methods.extend(live::event_methods());
    methods.extend(delivery::methods());
    methods.extend(live::delivery_methods());
    methods.extend(job::methods());
    methods.extend(topic::methods());
    methods.extend(merchant::methods());
    methods.extend(user::methods());
    methods.extend(token::methods());
    methods.extend(audit::methods());
    methods.extend(node::methods());
    methods
}

/// For methods without parameters.
#[derive(Deserialize, JsonSchema)]
struct NoParams {}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn each_method_stands_in_the_table_once_and_is_described() {
        let mut names = HashSet::new();
        for method in all() {
            assert!(names.insert(method.spec.name), "{} stands there twice", method.spec.name);
            assert!(method.spec.summary.ends_with('.'), "{}", method.spec.name);
        }
    }
}
