//! Topics (device-rpc "Topics"): `dev/<SN>/…` from a device, `srv/<SN>/…` to it. On AMQP the
//! routing key is the topic with `.` for `/`.

/// What a device publishes to, below `dev/<SN>/`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Uplink {
    /// `ack`: announcement received.
    Ack,
    /// `req`: give me the task.
    Req,
    /// `res`: a result.
    Res,
    /// `evt`: an event.
    Evt,
}

impl Uplink {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Ack, Self::Req, Self::Res, Self::Evt];

    /// The last level of the topic.
    #[must_use]
    pub const fn level(self) -> &'static str {
        match self {
            Self::Ack => "ack",
            Self::Req => "req",
            Self::Res => "res",
            Self::Evt => "evt",
        }
    }

    /// The topic of a device.
    #[must_use]
    pub fn topic(self, sn: &str) -> String {
        format!("dev/{sn}/{}", self.level())
    }
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

/// Some of the topics that a device is sent on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DownlinkSet(u8);

impl DownlinkSet {
    /// Whether this topic is one of them.
    #[must_use]
    pub const fn contains(self, downlink: Downlink) -> bool {
        self.0 & (1 << downlink as u8) != 0
    }
}

impl FromIterator<Downlink> for DownlinkSet {
    fn from_iter<I: IntoIterator<Item = Downlink>>(downlinks: I) -> Self {
        Self(downlinks.into_iter().fold(0, |set, downlink| set | 1 << downlink as u8))
    }
}

/// The serial number and the kind of a topic that a device publishes to, or none if no device
/// may publish there. Below its own prefix a device may publish anything; of what is no
/// [`Uplink`], nothing listens.
#[must_use]
pub fn parse_uplink_topic(topic: &str) -> Option<(&str, Option<Uplink>)> {
    let (sn, level) = topic.strip_prefix("dev/")?.split_once('/')?;
    Some((sn, Uplink::ALL.into_iter().find(|uplink| uplink.level() == level)))
}

/// The serial number and the kind of a topic that a device is sent on, or none if no device is.
#[must_use]
pub fn parse_downlink_topic(topic: &str) -> Option<(&str, Option<Downlink>)> {
    let (sn, level) = topic.strip_prefix("srv/")?.split_once('/')?;
    Some((sn, Downlink::ALL.into_iter().find(|downlink| downlink.level() == level)))
}

/// Which messages a subscription of the device `sn` lets through; none at all
/// if the device may not subscribe there (device-rpc "Identity": only under
/// `srv/<SN>/`). Wildcards follow MQTT 5 §4.7.1.
#[must_use]
pub fn subscription_reaches(sn: &str, filter: &str) -> Option<DownlinkSet> {
    let rest = filter.strip_prefix("srv/")?.strip_prefix(sn)?.strip_prefix('/')?;
    let (level, below) = rest.split_once('/').map_or((rest, None), |(level, below)| (level, Some(below)));
    // `x/#` also matches `x`; any other second level does not.
    let reaches = matches!(below, None | Some("#"));
    let is_reached = |downlink: &Downlink| {
        reaches && (level == downlink.level() || level == "+" || (level == "#" && below.is_none()))
    };
    Some(Downlink::ALL.into_iter().filter(is_reached).collect())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_device_publishes_only_below_its_own_prefix() {
        assert_eq!(parse_uplink_topic("dev/a-1/res"), Some(("a-1", Some(Uplink::Res))));
        assert_eq!(parse_uplink_topic("dev/a-1/res/more"), Some(("a-1", None)));
        for elsewhere in ["srv/a-1/rsp", "dev/a-1", "dev", "/dev/a/res", "$SYS/x", ""] {
            assert_eq!(parse_uplink_topic(elsewhere), None, "{elsewhere}");
        }
    }

    #[test]
    fn a_topic_is_read_as_it_is_written() {
        for uplink in Uplink::ALL {
            assert_eq!(parse_uplink_topic(&uplink.topic("a_1")), Some(("a_1", Some(uplink))));
        }
        for downlink in Downlink::ALL {
            assert_eq!(parse_downlink_topic(&downlink.topic("a_1")), Some(("a_1", Some(downlink))));
        }
        assert_eq!(parse_downlink_topic("srv/a/xyz"), Some(("a", None)));
        assert_eq!(parse_downlink_topic("dev/a/req"), None);
    }

    #[test]
    fn a_device_subscribes_only_below_its_own_prefix() {
        let reached = |filter| {
            let set = subscription_reaches("a", filter).unwrap();
            Downlink::ALL.into_iter().filter(|downlink| set.contains(*downlink)).collect::<Vec<_>>()
        };
        for all in ["srv/a/#", "srv/a/+", "srv/a/+/#"] {
            assert_eq!(reached(all), Downlink::ALL, "{all}");
        }
        assert_eq!(reached("srv/a/rsp"), [Downlink::Rsp]);
        assert_eq!(reached("srv/a/eva"), [Downlink::Eva]);
        assert_eq!(reached("srv/a/tsk/#"), [Downlink::Tsk]);
        assert_eq!(reached("srv/a/tsk/x"), []);
        assert_eq!(reached("srv/a/#/tsk"), []);
        for elsewhere in
            ["srv/ab/tsk", "srv/+/tsk", "srv/#", "#", "+/a/tsk", "$share/g/srv/a/tsk", "dev/a/res"]
        {
            assert_eq!(subscription_reaches("a", elsewhere), None, "{elsewhere}");
        }
    }
}
