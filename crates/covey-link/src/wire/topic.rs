//! Topics (device-rpc "Topics").

/// What a device publishes to, below `dev/<SN>/`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Channel {
    /// `ack`: announcement received.
    Ack,
    /// `req`: give me the task.
    Req,
    /// `res`: a result.
    Res,
    /// `evt`: an event.
    Evt,
    /// Anything else below the device's own prefix: allowed, and nobody listens.
    Other,
}

/// What a device is sent on, below `srv/<SN>/`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Downlink {
    /// `tsk`: a task is waiting.
    Tsk,
    /// `rsp`: a task's method and parameters.
    Rsp,
    /// `cmt`: a result is stored.
    Cmt,
    /// `eva`: an event is stored, or is not.
    Eva,
}

/// How many they are.
pub const DOWNLINKS: usize = Downlink::ALL.len();

impl Downlink {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Tsk, Self::Rsp, Self::Cmt, Self::Eva];

    /// The last level of the topic.
    #[must_use]
    pub const fn level(self) -> &'static str {
        match self {
            Self::Tsk => "tsk",
            Self::Rsp => "rsp",
            Self::Cmt => "cmt",
            Self::Eva => "eva",
        }
    }

    /// The topic for a device.
    #[must_use]
    pub fn topic(self, sn: &str) -> String {
        format!("srv/{sn}/{}", self.level())
    }
}

/// The serial number and the channel of a topic that a device publishes to, or
/// none if no device may publish there.
#[must_use]
pub fn parse_publish(topic: &str) -> Option<(&str, Channel)> {
    let (sn, level) = topic.strip_prefix("dev/")?.split_once('/')?;
    let channel = match level {
        "ack" => Channel::Ack,
        "req" => Channel::Req,
        "res" => Channel::Res,
        "evt" => Channel::Evt,
        _ => Channel::Other,
    };
    Some((sn, channel))
}

/// Which messages a subscription of the device `sn` lets through; none at all
/// if the device may not subscribe there (device-rpc "Identity": only under
/// `srv/<SN>/`). Wildcards follow MQTT 5 §4.7.1.
#[must_use]
pub fn subscription_matches(sn: &str, filter: &str) -> Option<[bool; DOWNLINKS]> {
    let rest = filter.strip_prefix("srv/")?.strip_prefix(sn)?.strip_prefix('/')?;
    let (level, below) = rest.split_once('/').map_or((rest, None), |(level, below)| (level, Some(below)));
    // `x/#` also matches `x`; any other second level does not.
    let reaches = matches!(below, None | Some("#"));
    Some(Downlink::ALL.map(|downlink| {
        reaches && (level == downlink.level() || level == "+" || (level == "#" && below.is_none()))
    }))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_device_publishes_only_below_its_own_prefix() {
        assert_eq!(parse_publish("dev/a-1/res"), Some(("a-1", Channel::Res)));
        assert_eq!(parse_publish("dev/a-1/res/more"), Some(("a-1", Channel::Other)));
        for elsewhere in ["srv/a-1/rsp", "dev/a-1", "dev", "/dev/a/res", "$SYS/x", ""] {
            assert_eq!(parse_publish(elsewhere), None, "{elsewhere}");
        }
    }

    #[test]
    fn a_device_subscribes_only_below_its_own_prefix() {
        let all = [true; DOWNLINKS];
        assert_eq!(subscription_matches("a", "srv/a/#").unwrap(), all);
        assert_eq!(subscription_matches("a", "srv/a/+").unwrap(), all);
        assert_eq!(subscription_matches("a", "srv/a/+/#").unwrap(), all);
        assert_eq!(subscription_matches("a", "srv/a/rsp").unwrap(), [false, true, false, false]);
        assert_eq!(subscription_matches("a", "srv/a/eva").unwrap(), [false, false, false, true]);
        assert_eq!(subscription_matches("a", "srv/a/tsk/#").unwrap(), [true, false, false, false]);
        assert_eq!(subscription_matches("a", "srv/a/tsk/x").unwrap(), [false; DOWNLINKS]);
        assert_eq!(subscription_matches("a", "srv/a/#/tsk").unwrap(), [false; DOWNLINKS]);
        for elsewhere in
            ["srv/ab/tsk", "srv/+/tsk", "srv/#", "#", "+/a/tsk", "$share/g/srv/a/tsk", "dev/a/res"]
        {
            assert_eq!(subscription_matches("a", elsewhere), None, "{elsewhere}");
        }
    }
}
