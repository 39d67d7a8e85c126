//! What reads cost, so that what a call or a login needs never waits behind what reads much
//! (`docs/adr/0021-reads-in-lanes-writes-in-turns.md`).

use crate::certificate::CertificateFilter;
use crate::device::DeviceFilter;
use crate::event::{EventFilter, EventTypes, EventsFrom, GaugeFilter};
use crate::named::named;
use crate::port::PageRequest;
use crate::record::RecordRequest;
use crate::task::TaskFilter;

/// How long a read that may cost much may take once it has begun, in milliseconds.
/// Limit for each request: 504.
pub const READ_MS_MAX: u64 = 10_000;
/// How long a read may take that the server makes for itself and that may cost much, in milliseconds: nobody can ask
/// for less of it, and it would be asked for again.
/// Limit for each read of the server: it is ended and tried again.
const OWN_READ_MS_MAX: u64 = 60_000;
/// How many rows a page may lie behind before going there is a search of its own.
/// Limit for each page: it counts as a search.
const OFFSET_MAX: u64 = 10_000;

named! {
    /// Where a read waits for its turn. Each lane has readers of its own, which take from no other.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
    pub enum Lane {
        /// A few rows by their keys. What calls, logins, checks of keys, readiness and announcing need.
        Point => "point",
        /// A page of rows by an index, one after the other.
        Page => "page",
        /// As many rows as there happen to be.
        Scan => "scan",
    }
}

named! {
    /// Every kind of read that the store is asked for.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
    pub enum ReadKind {
        /// An API key by its digest.
        ApiKey => "api_key",
        /// An API key by its number.
        ApiKeyOfNumber => "api_key_of_number",
        /// All API keys, or the numbers of all sessions.
        ApiKeyList => "api_key_list",
        /// Organisations, counted.
        OrgList => "org_list",
        /// An organisation by its number or name.
        Org => "org",
        /// A person by its name or a link, or a session.
        Person => "person",
        /// People, counted.
        PeopleList => "people_list",
        /// Sessions of people, counted.
        PersonSessionList => "person_session_list",
        /// The keys of servers for tokens.
        TokenKeys => "token_keys",
        /// Whether a device may connect, and its session.
        SessionOfCertificate => "session_of_certificate",
        /// A device by its certificate.
        DeviceOfCertificate => "device_of_certificate",
        /// A device by its serial number.
        DeviceOfSn => "device_of_sn",
        /// Whoever is registered under a serial number.
        DeviceOfName => "device_of_name",
        /// Serial numbers, in their order.
        DeviceSns => "device_sns",
        /// A device as applications see it.
        Device => "device",
        /// The tags of a device.
        DeviceTags => "device_tags",
        /// Devices, counted.
        DeviceList => "device_list",
        /// Certificates by their serial numbers.
        CertificatesKnown => "certificates_known",
        /// A certificate by its serial number, or those of a device.
        Certificates => "certificates",
        /// Certificates, counted.
        CertificateList => "certificate_list",
        /// How many certificates are revoked.
        RevokedCount => "revoked_count",
        /// Revoked certificates.
        RevokedList => "revoked_list",
        /// A claim by its certificate.
        ClaimOfCertificate => "claim_of_certificate",
        /// Claims.
        ClaimList => "claim_list",
        /// Serial numbers of a claim.
        ClaimSerialList => "claim_serial_list",
        /// A task with its results.
        Task => "task",
        /// A page of tasks.
        TaskList => "task_list",
        /// Tasks by what they are, counted; or a page far behind the first.
        TaskSearch => "task_search",
        /// What can be announced to a device.
        TaskAnnounceable => "task_announceable",
        /// Tasks whose lease has ended.
        TaskLapsed => "task_lapsed",
        /// Whether a task is overdue.
        TaskOverdue => "task_overdue",
        /// Which devices have something waiting.
        TaskWaiting => "task_waiting",
        /// Tasks that somebody waits for, if they are final.
        TaskFinal => "task_final",
        /// How many tasks there are.
        TaskCounts => "task_counts",
        /// A page of events.
        EventList => "event_list",
        /// Events by what they are, perhaps counted; or a page far behind the first.
        EventSearch => "event_search",
        /// Values out of events.
        EventFields => "event_fields",
        /// Numbers out of events, gathered.
        EventSeries => "event_series",
        /// Gauges, counted.
        GaugeList => "gauge_list",
        /// Gauges of devices.
        Gauges => "gauges",
        /// What is known of a node's name.
        NodeOfName => "node_of_name",
        /// Nodes, counted.
        NodeList => "node_list",
        /// How many nodes there are.
        NodeCounts => "node_counts",
        /// Which servers have left passing nodes behind.
        ServersGone => "servers_gone",
        /// Units.
        UnitList => "unit_list",
        /// A twin.
        Twin => "twin",
        /// Earlier values of a resource.
        TwinHistory => "twin_history",
        /// Devices that were last seen connected.
        PresenceOnline => "presence_online",
        /// Whether presence is due to be told.
        PresenceDue => "presence_due",
        /// What the feed hands out.
        RecordFeed => "record_feed",
        /// What a follower has missed.
        RecordCatchUp => "record_catch_up",
        /// Which records there are.
        RecordSpan => "record_span",
        /// How long things are kept.
        Retention => "retention",
        /// How much devices keep.
        KeptOfDevices => "kept_of_devices",
        /// How much organisations keep.
        KeptOfOrgs => "kept_of_orgs",
        /// What an organisation has used.
        Usage => "usage",
        /// Limits of organisations and keys.
        Limits => "limits",
        /// Webhooks of an organisation.
        WebhookList => "webhook_list",
        /// Attempts of a webhook.
        WebhookLog => "webhook_log",
        /// Dead letters of a webhook.
        WebhookDead => "webhook_dead",
        /// Webhooks that a server may take on.
        WebhookClaimable => "webhook_claimable",
        /// Webhooks that a server has taken on.
        WebhookHeld => "webhook_held",
        /// What waits for delivery by a webhook.
        WebhookQueue => "webhook_queue",
        /// What a delivery tells.
        WebhookRecord => "webhook_record",
        /// How webhooks are.
        WebhookStates => "webhook_states",
        /// Entries of the audit log.
        AuditList => "audit_list",
        /// Chains of the audit log.
        AuditChains => "audit_chains",
        /// Rows of the audit log, in their order.
        AuditRows => "audit_rows",
    }
}

impl ReadKind {
    /// How long it may take, in milliseconds, where it also ends when nobody waits for it any more; none where it is
    /// so short that neither matters.
    #[must_use]
    pub const fn ms_max(self) -> Option<u64> {
        match (self.lane(), self) {
            (Lane::Point, _) => None,
            (
                _,
                Self::DeviceSns
                | Self::PresenceOnline
                | Self::RecordCatchUp
                | Self::WebhookQueue
                | Self::RevokedCount
                | Self::RevokedList,
            ) => Some(OWN_READ_MS_MAX),
            (Lane::Page | Lane::Scan, _) => Some(READ_MS_MAX),
        }
    }

    /// Where it waits for its turn.
    #[must_use]
    pub const fn lane(self) -> Lane {
        match self {
            Self::ApiKey
            | Self::ApiKeyOfNumber
            | Self::Org
            | Self::Person
            | Self::SessionOfCertificate
            | Self::DeviceOfCertificate
            | Self::DeviceOfSn
            | Self::DeviceOfName
            | Self::DeviceTags
            | Self::Device
            | Self::CertificatesKnown
            | Self::ClaimOfCertificate
            | Self::Task
            | Self::TaskAnnounceable
            | Self::TaskLapsed
            | Self::TaskOverdue
            | Self::TaskWaiting
            | Self::TaskFinal
            | Self::TaskCounts
            | Self::NodeOfName
            | Self::PresenceDue
            | Self::RecordFeed
            | Self::RecordSpan
            | Self::Retention
            | Self::WebhookClaimable
            | Self::WebhookHeld
            | Self::WebhookRecord
            | Self::WebhookStates => Lane::Point,
            Self::ApiKeyList
            | Self::TokenKeys
            | Self::DeviceSns
            | Self::Certificates
            | Self::TaskList
            | Self::EventList
            | Self::Gauges
            | Self::NodeCounts
            | Self::ServersGone
            | Self::Twin
            | Self::TwinHistory
            | Self::PresenceOnline
            | Self::RecordCatchUp
            | Self::KeptOfDevices
            | Self::KeptOfOrgs
            | Self::Limits
            | Self::AuditChains
            | Self::AuditRows
            | Self::WebhookList
            | Self::WebhookLog
            | Self::WebhookDead
            | Self::WebhookQueue
            | Self::RevokedCount
            | Self::RevokedList => Lane::Page,
            Self::DeviceList
            | Self::CertificateList
            | Self::NodeList
            | Self::OrgList
            | Self::PeopleList
            | Self::PersonSessionList
            | Self::UnitList
            | Self::ClaimList
            | Self::ClaimSerialList
            | Self::TaskSearch
            | Self::AuditList
            | Self::Usage
            | Self::EventSearch
            | Self::EventFields
            | Self::EventSeries
            | Self::GaugeList => Lane::Scan,
        }
    }

    /// The same for who may see some of the list alone: what is seen is sought, and counted.
    #[must_use]
    pub const fn within(self, is_bound: bool) -> Self {
        match self {
            Self::TaskList if is_bound => Self::TaskSearch,
            Self::EventList if is_bound => Self::EventSearch,
            Self::Device if is_bound => Self::DeviceList,
            Self::Gauges if is_bound => Self::GaugeList,
            other => other,
        }
    }

    /// A list of devices.
    #[must_use]
    pub fn of_devices(filter: &DeviceFilter) -> Self {
        if filter.device_id.is_some() || filter.sn.is_some() { Self::Device } else { Self::DeviceList }
    }

    /// A list of certificates. A device has few; by its serial number it is sought, since there may have been several.
    #[must_use]
    pub const fn of_certificates(filter: &CertificateFilter) -> Self {
        let is_near = filter.serial_hex.is_some() || filter.device_id.is_some();
        if is_near { Self::Certificates } else { Self::CertificateList }
    }

    /// A list of tasks. That of all knows its total without counting.
    #[must_use]
    pub fn of_tasks(filter: &TaskFilter, page: PageRequest) -> Self {
        let is_near = page.offset() <= OFFSET_MAX;
        if is_near && *filter == TaskFilter::default() { Self::TaskList } else { Self::TaskSearch }
    }

    /// A list of events. That of all knows its total without counting, and behind a cursor nothing is counted;
    /// one device's are found by an index.
    #[must_use]
    pub fn of_events(filter: &EventFilter, from: EventsFrom) -> Self {
        let EventFilter { device_ids, include, exclude, received_after, received_before } = filter;
        let is_plain = !matches!(include, EventTypes::These(_))
            && (exclude.is_empty() && received_after.is_none() && received_before.is_none());
        let is_near = match from {
            EventsFrom::Before(..) => is_plain && device_ids.len() <= 1,
            EventsFrom::Page(page) => page.offset() <= OFFSET_MAX && *filter == EventFilter::default(),
        };
        if is_near { Self::EventList } else { Self::EventSearch }
    }

    /// Events after one.
    #[must_use]
    pub fn of_events_after(types: &EventTypes) -> Self {
        match types {
            EventTypes::OfDevices | EventTypes::Any => Self::EventList,
            EventTypes::These(_) => Self::EventSearch,
        }
    }

    /// A list of gauges. A device has few.
    #[must_use]
    pub const fn of_gauges(filter: &GaugeFilter) -> Self {
        if filter.device_id.is_some() { Self::Gauges } else { Self::GaugeList }
    }

    /// Records: the feed's, which all follow, or those that one has missed.
    #[must_use]
    pub const fn of_records(request: &RecordRequest) -> Self {
        if request.org.is_some() { Self::RecordCatchUp } else { Self::RecordFeed }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::{DeviceId, RecordNumber};
    use crate::task::TaskStatus;

    #[test]
    fn what_counts_or_seeks_is_a_scan_and_what_an_index_gives_is_not() {
        let page = |page| PageRequest { page, size: 1_000 };
        let all = TaskFilter::default();
        assert_eq!(ReadKind::of_tasks(&all, page(1)).lane(), Lane::Page);
        assert_eq!(ReadKind::of_tasks(&all, page(1_000)).lane(), Lane::Scan);
        let done = TaskFilter { status: Some(TaskStatus::Done), ..TaskFilter::default() };
        assert_eq!(ReadKind::of_tasks(&done, page(1)).lane(), Lane::Scan);
        let of = |device_ids: &[i64], include| EventFilter {
            device_ids: device_ids.iter().copied().map(DeviceId).collect(),
            include,
            ..EventFilter::default()
        };
        let before = EventsFrom::Before(Some(RecordNumber(7)), 50);
        for (filter, from, lane) in [
            (of(&[], EventTypes::OfDevices), before, Lane::Page),
            (of(&[1], EventTypes::Any), before, Lane::Page),
            (of(&[1, 2], EventTypes::OfDevices), before, Lane::Scan),
            (of(&[1], EventTypes::These(vec![13])), before, Lane::Scan),
            (of(&[], EventTypes::OfDevices), EventsFrom::Page(page(1)), Lane::Page),
            (of(&[1], EventTypes::OfDevices), EventsFrom::Page(page(1)), Lane::Scan),
            (of(&[], EventTypes::OfDevices), EventsFrom::Page(page(1_000)), Lane::Scan),
        ] {
            assert_eq!(ReadKind::of_events(&filter, from).lane(), lane, "{filter:?} {from:?}");
        }
    }
}
