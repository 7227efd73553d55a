//! The access rules, checked as Mosquitto 2.1.2 reads them (`plugins/acl-file/acl_parse.c`): it ends at the first line
//! that it does not understand.

use crate::plan::Version;

/// Mosquitto's limit for the levels of a topic.
const MAX_LEVELS: usize = 200;

/// Why a rule file is refused.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum AclError {
    #[error("the ACL has no rule: nobody could publish or subscribe")]
    Empty,
    #[error("line {line} of the ACL is not a rule: {reason}: {text:?}")]
    Line { line: usize, reason: &'static str, text: String },
}

/// A rule file that Mosquitto can read.
#[derive(Clone, Debug)]
pub(crate) struct Acl {
    text: String,
    version: Version,
}

impl Acl {
    /// Checks all lines of a rule file.
    ///
    /// # Errors
    /// The first line that Mosquitto would end at, or that there is no rule at all.
    pub(crate) fn check(text: String) -> Result<Self, AclError> {
        let mut rules = 0;
        for (line, text) in (1..).zip(text.lines()) {
            let is_rule = rule(text.trim_end()).map_err(|reason| AclError::Line {
                line,
                reason,
                text: text.to_owned(),
            })?;
            rules += usize::from(is_rule);
        }
        if rules == 0 {
            return Err(AclError::Empty);
        }
        Ok(Self { version: Version::of(&[&text]), text })
    }

    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    pub(crate) fn version(&self) -> Version {
        self.version
    }
}

/// Whether a line grants or denies something; others are blank, a comment or a heading.
fn rule(line: &str) -> Result<bool, &'static str> {
    if line.starts_with('#') || line.trim_start_matches(' ').is_empty() {
        return Ok(false);
    }
    let (keyword, rest) = word(line);
    match keyword {
        "user" if rest.is_empty() => Err("no user name"),
        "user" => Ok(false),
        "topic" | "pattern" => {
            let topic = match word(rest) {
                (access, "") => access,
                ("read" | "write" | "readwrite" | "deny", topic) => topic,
                _ => return Err("access is read, write, readwrite or deny"),
            };
            is_filter(topic).then_some(true).ok_or("not a topic filter")
        }
        _ => Err("a rule begins with user, topic or pattern"),
    }
}

/// The first word and what follows it. Words are parted by spaces: a tab is part of one.
fn word(text: &str) -> (&str, &str) {
    let text = text.trim_start_matches(' ');
    let (word, rest) = text.split_once(' ').unwrap_or((text, ""));
    (word, rest.trim())
}

/// MQTT 5, 4.7.1: `+` is alone in its level, `#` too, and it is the last.
fn is_filter(topic: &str) -> bool {
    let levels: Vec<_> = topic.split('/').collect();
    let last = levels.len() - 1;
    let is_level = |(at, level): (usize, &&str)| match *level {
        "+" => true,
        "#" => at == last,
        name => !name.contains(['+', '#', '\0']),
    };
    (1..=65_535).contains(&topic.len()) && last < MAX_LEVELS && levels.iter().enumerate().all(is_level)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rules_of_the_project_are_accepted() {
        let rules = "# devices\npattern write devices/%u/#\npattern read cmd/%u/#\n\n\
                     user dashboard.dashboard\ntopic read devices/#\ntopic read $SYS/#\n\
                     user operator.ca-iot\ntopic cmd/#\ntopic deny a b/+/c\n";
        assert_eq!(Acl::check(rules.to_owned()).unwrap().text(), rules);
    }

    #[test]
    fn a_line_that_would_end_the_broker_is_named() {
        for line in [
            "hello",
            "user",
            "topic",
            "topic sometimes a/b",
            "topic read a/#/b",
            "pattern write a+/b",
            "\ttopic read a",
            "topic\tread a",
        ] {
            let refused = Acl::check(format!("topic read a\n{line}\n")).unwrap_err();
            assert!(matches!(refused, AclError::Line { line: 2, .. }), "{line:?}: {refused}");
        }
    }

    #[test]
    fn a_file_without_rules_is_refused() {
        let refused = Acl::check("# nothing\nuser someone\n".to_owned()).unwrap_err();
        assert_eq!(refused, AclError::Empty);
    }
}
