//! Topics of other platforms as ours.

use std::collections::BTreeMap;

use crate::cli::Failure;
use crate::domain::topic::Pattern;

/// How topics of another platform are called here.
#[derive(Default)]
pub struct TopicMap(BTreeMap<String, String>);

impl TopicMap {
    /// Reads an object of theirs and ours.
    pub fn read(name: &str, text: &str) -> Result<Self, Failure> {
        let wrong = |problem: String| Failure::usage(format!("{name}: {problem}"));
        let map: BTreeMap<String, String> = serde_json::from_str(text.strip_prefix('\u{feff}').unwrap_or(text))
            .map_err(|cause| {
                wrong(format!("it has to be an object such as {{\"user.signup\": \"user:signup\"}}: {cause}"))
            })?;
        for (theirs, ours) in &map {
            Pattern::try_new(ours).map_err(|violation| wrong(format!("{theirs:?}: {}", violation.problem)))?;
        }
        Ok(Self(map))
    }

    /// What a topic, or a pattern, is here: what the map says; or itself, if it can be one of ours; or the same with
    /// a colon in place of its first dot.
    pub fn ours(&self, theirs: &str) -> Result<String, String> {
        if let Some(ours) = self.0.get(theirs) {
            return Ok(ours.clone());
        }
        let ours = match theirs.contains(':') || theirs == "*" {
            true => theirs.to_owned(),
            false => theirs.replacen('.', ":", 1),
        };
        Pattern::try_new(&ours).map(|_| ours).map_err(|_| {
            format!(
                "the topic {theirs:?} has no counterpart: user.signup becomes user:signup, and user.* user:*; name \
                 that of others with --topic-map"
            )
        })
    }

    /// The same for a list of them.
    pub fn all<'a>(&self, theirs: impl IntoIterator<Item = &'a str>) -> Result<Vec<String>, String> {
        let mut all = Vec::new();
        for topic in theirs {
            let ours = self.ours(topic)?;
            if !all.contains(&ours) {
                all.push(ours);
            }
        }
        Ok(all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_dot_becomes_a_colon() {
        let map = TopicMap::read("f", r#"{"signup": "user:signup", "user.left": "account:closed"}"#).unwrap();
        for (theirs, ours) in [
            ("user.signup", "user:signup"),
            ("order.item.created", "order:item.created"),
            ("user.*", "user:*"),
            ("*", "*"),
            ("order:created", "order:created"),
            ("order:created.v2", "order:created.v2"),
            ("signup", "user:signup"),
            ("user.left", "account:closed"),
        ] {
            assert_eq!(map.ours(theirs).as_deref(), Ok(ours));
        }
        for theirs in ["", "sign up", "left", ".created", "order.", "order.item.*", "a:b:c"] {
            let problem = map.ours(theirs).unwrap_err();
            assert!(problem.contains("--topic-map") && problem.contains(theirs), "{problem}");
        }
        assert_eq!(map.all(["user.signup", "signup", "a.b"]), Ok(vec!["user:signup".into(), "a:b".into()]));
    }

    #[test]
    fn a_map_names_topics_of_ours() {
        for (text, problem) in [
            ("[]", "such as"),
            ("{\"a\": 7}", "such as"),
            ("{\"signup\": \"user.signup\"}", "\"signup\": \"user.signup\" is no topic"),
        ] {
            let told = TopicMap::read("map.json", text).err().and_then(|failure| failure.message).unwrap();
            assert!(told.starts_with("map.json: ") && told.contains(problem), "{told}");
        }
    }
}
