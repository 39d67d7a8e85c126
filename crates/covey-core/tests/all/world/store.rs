//! A store around a store, which tells a test when the engine waits for a
//! look-up, and lets it act while one is under way.

use covey_core::access::{AccessReader, ApiKey, Caller, KeyDigest, Org};
use covey_core::audit::{AuditChain, AuditPage, AuditReader, AuditRequest, AuditRow};
use covey_core::certificate::{
    CertificateFilter, CertificatePage, CertificateReader, Revocation, RevokedCertificate, RevokedCount,
    RevokedOf,
};
use covey_core::device::{
    DeviceFilter, DeviceIdentity, DevicePage, DeviceReader, NamedDevice, TaggedDevice, TagsOf,
};
use covey_core::quota::{FirstDays, LeftBehind, OrgDay, QuotaReader};
use covey_core::retention::{OrgRetention, Prune, Pruned, RetentionReader};
use covey_core::task::{Lapse, Task, TaskCount, TaskDetail, TaskFilter, TaskPage, TaskReader};
use covey_core::token::{NamedOrg, OrgWanted, TokenKey, TokenReader};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use covey_core::device_session::{Admission, SessionReader};
use covey_core::enrolment::{Claim, ClaimSerial, EnrolmentReader};
use covey_core::error::{Result, StorageFault};
use covey_core::event::{
    Bucket, DeviceEvent, EventFilter, EventPage, EventReader, EventTypes, EventsFrom, Field, FieldQuery,
    Gauge, GaugeFilter, SeriesQuery,
};
use covey_core::id::{ClaimId, DeviceId, DeviceKey, OrgId, RecordNumber, ResultId, Sn, TaskId, UnixMs};
use covey_core::node::{KnownName, Node, NodeCount, NodeFilter, NodeName, NodeReader};
use covey_core::own_limits::{LimitHolder, LimitsReader, LimitsStamp, OwnLimits};
use covey_core::person::{PeopleFilter, Person, PersonCredential, PersonLink, PersonReader, PersonSession};
use covey_core::port::{Entries, Found, Job, Page, PageRequest, Reader, Room, Store};
use covey_core::presence::{OnlineDevice, PresenceReader};
use covey_core::record::{RecordPage, RecordReader, RecordRequest, RecordSpan};
use covey_core::twin::{ReportedValue, Twin, TwinReader};
use covey_core::unit::{Unit, UnitFilter, UnitReader};
use covey_core::usage::{UsageDay, UsageReader};

/// What a test does when a look-up has read and not yet answered.
type Meanwhile = Box<dyn FnOnce() + Send>;

pub struct WatchedStore {
    pub(super) inner: Arc<dyn Store>,
    looking: AtomicUsize,
    looked_together: AtomicUsize,
    meanwhile: Mutex<Option<Meanwhile>>,
}

impl WatchedStore {
    pub fn new(inner: Arc<dyn Store>) -> Self {
        Self {
            inner,
            looking: AtomicUsize::new(0),
            looked_together: AtomicUsize::new(0),
            meanwhile: Mutex::default(),
        }
    }

    /// Whether a look-up for tasks to announce is under way.
    pub fn is_looking(&self) -> bool {
        self.looking.load(Ordering::SeqCst) > 0
    }

    /// How many look-ups were under way at a time at most.
    pub fn looked_together(&self) -> usize {
        self.looked_together.load(Ordering::SeqCst)
    }

    /// Acts once, between what the next look-up reads and its answer.
    pub fn meanwhile(&self, act: impl FnOnce() + Send + 'static) {
        *self.meanwhile.lock().unwrap() = Some(Box::new(act));
    }
}

impl Reader for WatchedStore {}

impl Store for WatchedStore {
    fn submit(&self, job: Box<dyn Job>) -> Result<(), StorageFault> {
        self.inner.submit(job)
    }

    fn write_fault(&self) -> Option<StorageFault> {
        self.inner.write_fault()
    }

    fn room(&self) -> Room {
        self.inner.room()
    }

    fn prune(&self, what: Prune) -> Found<'_, Pruned> {
        self.inner.prune(what)
    }
}

impl TaskReader for WatchedStore {
    fn task_get(
        &self,
        caller: &Caller,
        id: TaskId,
        before: Option<ResultId>,
    ) -> Found<'_, Option<TaskDetail>> {
        self.inner.task_get(caller, id, before)
    }

    fn task_list(&self, caller: &Caller, filter: TaskFilter, page: PageRequest) -> Found<'_, TaskPage> {
        self.inner.task_list(caller, filter, page)
    }

    fn task_announceable(&self, device: DeviceKey, now: UnixMs, limit: u32) -> Found<'_, Vec<Task>> {
        Box::pin(async move {
            let looking = self.looking.fetch_add(1, Ordering::SeqCst) + 1;
            self.looked_together.fetch_max(looking, Ordering::SeqCst);
            let found = self.inner.task_announceable(device, now, limit).await;
            self.looking.fetch_sub(1, Ordering::SeqCst);
            let act = self.meanwhile.lock().unwrap().take();
            if let Some(act) = act {
                act();
            }
            found
        })
    }

    fn task_lapsed_of_every_org(
        &self,
        after: (UnixMs, i64),
        now: UnixMs,
        limit: u32,
    ) -> Found<'_, Vec<Lapse>> {
        self.inner.task_lapsed_of_every_org(after, now, limit)
    }

    fn task_overdue_of_every_org(&self, now: UnixMs) -> Found<'_, bool> {
        self.inner.task_overdue_of_every_org(now)
    }

    fn task_waiting_of_every_org(&self, devices: Vec<DeviceKey>, now: UnixMs) -> Found<'_, Vec<DeviceKey>> {
        self.inner.task_waiting_of_every_org(devices, now)
    }

    fn task_final_of_every_org(&self, ids: Vec<TaskId>) -> Found<'_, Vec<TaskDetail>> {
        self.inner.task_final_of_every_org(ids)
    }

    fn task_counts_of_every_org(&self) -> Found<'_, Vec<TaskCount>> {
        self.inner.task_counts_of_every_org()
    }
}

impl DeviceReader for WatchedStore {
    fn device_list(
        &self,
        caller: &Caller,
        filter: DeviceFilter,
        page: PageRequest,
        bytes_max: usize,
    ) -> Found<'_, DevicePage> {
        self.inner.device_list(caller, filter, page, bytes_max)
    }

    fn device_tags(&self, caller: &Caller, device: TagsOf) -> Found<'_, Option<TaggedDevice>> {
        self.inner.device_tags(caller, device)
    }

    fn device_of_name_of_every_org(&self, sn: Sn) -> Found<'_, Option<NamedDevice>> {
        self.inner.device_of_name_of_every_org(sn)
    }

    fn device_of_sn_of_every_org(&self, sn: Sn) -> Found<'_, Option<DeviceIdentity>> {
        self.inner.device_of_sn_of_every_org(sn)
    }

    fn device_sns_of_every_org(&self, after: Option<Sn>, limit: u32) -> Found<'_, Vec<Sn>> {
        self.inner.device_sns_of_every_org(after, limit)
    }

    fn device_of_certificate_of_every_org(
        &self,
        sn: Sn,
        serial_hex: String,
    ) -> Found<'_, Option<DeviceIdentity>> {
        self.inner.device_of_certificate_of_every_org(sn, serial_hex)
    }
}

impl CertificateReader for WatchedStore {
    fn certificate_list(
        &self,
        caller: &Caller,
        filter: CertificateFilter,
        now: UnixMs,
        page: PageRequest,
    ) -> Found<'_, CertificatePage> {
        self.inner.certificate_list(caller, filter, now, page)
    }

    fn certificates_known_of_every_org(
        &self,
        serials_hex: Vec<String>,
    ) -> Found<'_, Vec<(String, Option<Revocation>)>> {
        self.inner.certificates_known_of_every_org(serials_hex)
    }

    fn revoked_count_of_every_org(&self, ending_from: UnixMs) -> Found<'_, RevokedCount> {
        self.inner.revoked_count_of_every_org(ending_from)
    }

    fn revoked_of_every_org(
        &self,
        after: (UnixMs, String),
        ending_from: UnixMs,
        of: RevokedOf,
        limit: u32,
    ) -> Found<'_, Vec<RevokedCertificate>> {
        self.inner.revoked_of_every_org(after, ending_from, of, limit)
    }
}

impl SessionReader for WatchedStore {
    fn session_of_certificate_of_every_org(
        &self,
        sn: Sn,
        serial_hex: String,
    ) -> Found<'_, Option<Admission>> {
        self.inner.session_of_certificate_of_every_org(sn, serial_hex)
    }
}

impl AccessReader for WatchedStore {
    fn api_key_of_every_org(&self, digest: KeyDigest) -> Found<'_, Option<ApiKey>> {
        self.inner.api_key_of_every_org(digest)
    }

    fn api_key_numbers_valid_of_every_org(&self, now: UnixMs) -> Found<'_, Vec<i64>> {
        self.inner.api_key_numbers_valid_of_every_org(now)
    }

    fn org_list_of_every_org(&self, only: Option<OrgId>, page: PageRequest) -> Found<'_, Page<Org>> {
        self.inner.org_list_of_every_org(only, page)
    }

    fn api_key_list_of_every_org(&self) -> Found<'_, Vec<ApiKey>> {
        self.inner.api_key_list_of_every_org()
    }
}

impl TokenReader for WatchedStore {
    fn token_keys_of_every_org(&self) -> Found<'_, Vec<TokenKey>> {
        self.inner.token_keys_of_every_org()
    }

    fn org_of_every_org(&self, wanted: OrgWanted) -> Found<'_, Option<NamedOrg>> {
        self.inner.org_of_every_org(wanted)
    }

    fn api_key_of_number_of_every_org(&self, id: i64) -> Found<'_, Option<ApiKey>> {
        self.inner.api_key_of_number_of_every_org(id)
    }
}

impl PersonReader for WatchedStore {
    fn person_credential_of_every_org(&self, name: &str) -> Found<'_, Option<PersonCredential>> {
        self.inner.person_credential_of_every_org(name)
    }

    fn person_link_of_every_org(&self, digest: KeyDigest) -> Found<'_, Option<PersonLink>> {
        self.inner.person_link_of_every_org(digest)
    }

    fn people_of_every_org(&self, filter: PeopleFilter, page: PageRequest) -> Found<'_, Page<Person>> {
        self.inner.people_of_every_org(filter, page)
    }

    fn person_session_of_every_org(&self, digest: KeyDigest) -> Found<'_, Option<PersonSession>> {
        self.inner.person_session_of_every_org(digest)
    }

    fn person_session_of_number_of_every_org(&self, id: i64) -> Found<'_, Option<PersonSession>> {
        self.inner.person_session_of_number_of_every_org(id)
    }

    fn person_session_numbers_valid_of_every_org(&self, after: (UnixMs, UnixMs)) -> Found<'_, Vec<i64>> {
        self.inner.person_session_numbers_valid_of_every_org(after)
    }

    fn person_sessions_of_every_org(
        &self,
        filter: PeopleFilter,
        times: (UnixMs, UnixMs),
        page: PageRequest,
    ) -> Found<'_, Page<PersonSession>> {
        self.inner.person_sessions_of_every_org(filter, times, page)
    }
}

impl RetentionReader for WatchedStore {
    fn retention_of_every_org(&self) -> Found<'_, Vec<OrgRetention>> {
        self.inner.retention_of_every_org()
    }
}

impl QuotaReader for WatchedStore {
    fn kept_of_devices_of_every_org(&self, wanted: Vec<(DeviceKey, FirstDays)>) -> Found<'_, Vec<i64>> {
        self.inner.kept_of_devices_of_every_org(wanted)
    }

    fn kept_of_orgs_of_every_org(&self) -> Found<'_, Vec<OrgDay>> {
        self.inner.kept_of_orgs_of_every_org()
    }

    fn kept_left_of_every_org(&self) -> Found<'_, Vec<LeftBehind>> {
        self.inner.kept_left_of_every_org()
    }
}

impl UsageReader for WatchedStore {
    fn usage_of_every_org(&self, org: OrgId, from: i64, to: i64) -> Found<'_, Vec<UsageDay>> {
        self.inner.usage_of_every_org(org, from, to)
    }
}

impl LimitsReader for WatchedStore {
    fn limits_of_every_org(&self, holder: LimitHolder) -> Found<'_, OwnLimits> {
        self.inner.limits_of_every_org(holder)
    }

    fn limits_stamp_of_every_org(&self) -> Found<'_, LimitsStamp> {
        self.inner.limits_stamp_of_every_org()
    }

    fn limits_list_of_every_org(&self) -> Found<'_, Vec<(LimitHolder, OwnLimits)>> {
        self.inner.limits_list_of_every_org()
    }
}

impl AuditReader for WatchedStore {
    fn audit_list(&self, caller: &Caller, request: AuditRequest) -> Found<'_, AuditPage> {
        self.inner.audit_list(caller, request)
    }

    fn audit_list_of_every_org(&self, request: AuditRequest) -> Found<'_, AuditPage> {
        self.inner.audit_list_of_every_org(request)
    }

    fn audit_chains_of_every_org(&self) -> Found<'_, Vec<AuditChain>> {
        self.inner.audit_chains_of_every_org()
    }

    fn audit_rows_of_every_org(&self, chain: i64, after: i64, limit: u32) -> Found<'_, Vec<AuditRow>> {
        self.inner.audit_rows_of_every_org(chain, after, limit)
    }
}

impl RecordReader for WatchedStore {
    fn record_list_of_every_org(&self, request: RecordRequest) -> Found<'_, RecordPage> {
        self.inner.record_list_of_every_org(request)
    }

    fn record_span(&self, caller: &Caller) -> Found<'_, RecordSpan> {
        self.inner.record_span(caller)
    }

    fn record_span_of_every_org(&self) -> Found<'_, RecordSpan> {
        self.inner.record_span_of_every_org()
    }
}

impl EventReader for WatchedStore {
    fn event_list(&self, caller: &Caller, filter: EventFilter, from: EventsFrom) -> Found<'_, EventPage> {
        self.inner.event_list(caller, filter, from)
    }

    fn event_list_after(
        &self,
        caller: &Caller,
        device: Option<DeviceId>,
        types: EventTypes,
        after: RecordNumber,
        limit: u32,
    ) -> Found<'_, Vec<DeviceEvent>> {
        self.inner.event_list_after(caller, device, types, after, limit)
    }

    fn event_fields(&self, caller: &Caller, query: FieldQuery) -> Found<'_, Entries<Field>> {
        self.inner.event_fields(caller, query)
    }

    fn event_series(&self, caller: &Caller, query: SeriesQuery) -> Found<'_, Vec<Bucket>> {
        self.inner.event_series(caller, query)
    }

    fn gauge_list(&self, caller: &Caller, filter: GaugeFilter, page: PageRequest) -> Found<'_, Page<Gauge>> {
        self.inner.gauge_list(caller, filter, page)
    }

    fn gauges_of(
        &self,
        caller: &Caller,
        devices: Vec<DeviceKey>,
        bytes_max: usize,
    ) -> Found<'_, Entries<Gauge>> {
        self.inner.gauges_of(caller, devices, bytes_max)
    }
}

impl PresenceReader for WatchedStore {
    fn presence_online_of_every_org(&self, after: DeviceKey, limit: u32) -> Found<'_, Vec<OnlineDevice>> {
        self.inner.presence_online_of_every_org(after, limit)
    }

    fn presence_due_of_every_org(&self, now: UnixMs) -> Found<'_, bool> {
        self.inner.presence_due_of_every_org(now)
    }
}

impl NodeReader for WatchedStore {
    fn node_of_name(&self, org: OrgId, name: NodeName) -> Found<'_, KnownName> {
        self.inner.node_of_name(org, name)
    }

    fn node_list(&self, caller: &Caller, filter: NodeFilter, page: PageRequest) -> Found<'_, Page<Node>> {
        self.inner.node_list(caller, filter, page)
    }

    fn node_counts_of_every_org(&self) -> Found<'_, Vec<NodeCount>> {
        self.inner.node_counts_of_every_org()
    }

    fn servers_gone_of_every_org(&self, limit: u32) -> Found<'_, Vec<String>> {
        self.inner.servers_gone_of_every_org(limit)
    }
}

impl EnrolmentReader for WatchedStore {
    fn claim_of_certificate_of_every_org(&self, serial_hex: String) -> Found<'_, Option<Claim>> {
        self.inner.claim_of_certificate_of_every_org(serial_hex)
    }

    fn claim_list(&self, caller: &Caller, id: Option<ClaimId>, page: PageRequest) -> Found<'_, Page<Claim>> {
        self.inner.claim_list(caller, id, page)
    }

    fn claim_serial_list(
        &self,
        caller: &Caller,
        claim: ClaimId,
        sn: Option<Sn>,
        page: PageRequest,
    ) -> Found<'_, Page<ClaimSerial>> {
        self.inner.claim_serial_list(caller, claim, sn, page)
    }
}

impl UnitReader for WatchedStore {
    fn unit_list(&self, caller: &Caller, filter: UnitFilter, page: PageRequest) -> Found<'_, Page<Unit>> {
        self.inner.unit_list(caller, filter, page)
    }

    fn units_to_speak_with(&self, org: OrgId) -> Found<'_, Vec<Unit>> {
        self.inner.units_to_speak_with(org)
    }
}

impl TwinReader for WatchedStore {
    fn twin_get(&self, caller: &Caller, device: DeviceId) -> Found<'_, Option<Twin>> {
        self.inner.twin_get(caller, device)
    }

    fn twin_history(
        &self,
        caller: &Caller,
        device: DeviceId,
        resource: String,
        before: Option<i64>,
        limit: u32,
    ) -> Found<'_, Option<Vec<ReportedValue>>> {
        self.inner.twin_history(caller, device, resource, before, limit)
    }
}
