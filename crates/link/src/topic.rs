//! The topics of a site. `<cn>` is the common name of the writer's certificate, which the broker's
//! access list puts in place of `%u`: a device can write below its own name only.
//!
//! | topic | writer |
//! | --- | --- |
//! | `devices/<cn>/telemetry` | the device |
//! | `devices/<cn>/status` | the device, retained, and its last will |
//! | `devices/<cn>/cert` | the device, retained |
//! | `cmd/<cn>/#` | the operator |

/// Everything that devices say.
pub const ALL_DEVICES: &str = "devices/#";

/// The broker's own log: connects, disconnects, refusals.
pub const BROKER_LOG: &str = "$SYS/broker/log/#";

/// What a device says on one of its topics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Channel {
    /// [`crate::wire::Reading`]
    Telemetry,
    /// [`crate::wire::ConnectionStatus`]
    Status,
    /// [`crate::wire::CertificateAcknowledgement`]
    Certificate,
}

impl Channel {
    /// The last level of the topic.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Telemetry => "telemetry",
            Self::Status => "status",
            Self::Certificate => "cert",
        }
    }

    /// The topic of device `name` for this channel.
    pub fn topic(self, name: &str) -> String {
        format!("devices/{name}/{}", self.as_str())
    }

    /// Takes a topic apart: `devices/kitchen/status` is the status of `kitchen`. `None` for every other topic.
    pub fn parse(topic: &str) -> Option<(&str, Self)> {
        let (name, channel) = topic.strip_prefix("devices/")?.split_once('/')?;
        let channel = match channel {
            "telemetry" => Self::Telemetry,
            "status" => Self::Status,
            "cert" => Self::Certificate,
            _ => return None,
        };
        (!name.is_empty()).then_some((name, channel))
    }
}

/// The topic of command `verb` for device `name`.
pub fn command(name: &str, verb: &str) -> String {
    format!("cmd/{name}/{verb}")
}

/// The filter by which device `name` hears its commands.
pub fn commands(name: &str) -> String {
    format!("cmd/{name}/#")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_topic_says_which_device_and_what() {
        for channel in [Channel::Telemetry, Channel::Status, Channel::Certificate] {
            assert_eq!(Channel::parse(&channel.topic("device001")), Some(("device001", channel)));
        }
    }

    #[test]
    fn other_topics_are_nobodys() {
        for topic in
            ["", "devices", "devices/", "devices//status", "devices/a", "devices/a/b", "cmd/a/status"]
        {
            assert_eq!(Channel::parse(topic), None, "{topic}");
        }
        assert_eq!(Channel::parse("devices/a/status/more"), None);
    }

    proptest! {
        #[test]
        fn no_topic_upsets_the_parser(topic in ".{0,80}") {
            let _ = Channel::parse(&topic);
        }
    }
}
