//! Between dashboards and units: a dashboard's `update.request` becomes a task of the unit that is meant, and what a base
//! unit elsewhere says of its units becomes what they report here.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Mutex, PoisonError};

use covey_core::access::{Caller, Rights};
use covey_core::error::Error;
use covey_core::event::Reported;
use covey_core::id::Sn;
use covey_core::node::{Admission, Admitted, GatewayName, NODE_SET_METHOD, NodeAdmit, NodeName};
use covey_core::task::{DeviceRef, TaskSpec};
use covey_core::unit::{UNIT_GATEWAY, UNIT_PORT, UNIT_RESOURCE};
use serde::Deserialize;
use tokio::sync::watch;

use super::Pusher;
use crate::unit::{Kind, Unit};
use crate::value::json_of;

/// The event by which a dashboard asks for a write.
pub const UPDATE_REQUEST: &str = "update.request";
/// The method's number, for those who know methods by their numbers: that of a task which names none.
const SET_METHOD_CODE: i64 = 20;
/// As urgent as a task that does not say.
const SET_PRIORITY: i64 = 0;
/// Longest value that a base unit tells of a unit, in bytes.
/// Limit for each value: 400.
pub const VALUE_BYTES_MAX: usize = 1_024;

/// A unit of this server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnUnit {
    /// The serial number of its device.
    pub sn: Sn,
    /// Its name as a node.
    pub name: NodeName,
    /// Where it is.
    pub address: IpAddr,
    /// What it is called towards dashboards: its IP address, with its port where that is not 8888.
    pub shown: String,
    /// Its one resource.
    pub resource: String,
    /// Whether it reads; others are written.
    pub is_read: bool,
}

/// The units that a server speaks with.
pub trait Units: Send + Sync + 'static {
    /// The one that a dashboard calls so.
    fn called(&self, name: &str) -> Option<OwnUnit>;

    /// The one whose device has this serial number.
    fn of_sn(&self, sn: &Sn) -> Option<OwnUnit>;
}

/// The units of a list.
#[derive(Clone, Debug, Default)]
pub struct UnitList {
    by_sn: HashMap<Sn, OwnUnit>,
    by_name: HashMap<String, Sn>,
}

impl UnitList {
    /// Those of this list.
    ///
    /// # Errors
    /// A unit whose name is none of a node.
    pub fn new(units: &[Unit]) -> Result<Self, Error> {
        let mut list = Self::default();
        for unit in units {
            let name = name_of(&unit.uid)?;
            let (sn, address) = (name.sn(), unit.address.ip());
            let shown = shown(unit.address);
            list.by_name.insert(unit.uid.clone(), sn.clone());
            list.by_name.insert(shown.clone(), sn.clone());
            let (resource, is_read) = (unit.resource.clone(), unit.kind == Kind::Read);
            list.by_sn.insert(sn.clone(), OwnUnit { sn, name, address, shown, resource, is_read });
        }
        Ok(list)
    }
}

impl Units for UnitList {
    fn called(&self, name: &str) -> Option<OwnUnit> {
        // However an address is written.
        let canonical = name.parse::<IpAddr>().map(|address| address.to_canonical().to_string());
        let sn = self.by_name.get(name).or_else(|| self.by_name.get(canonical.as_ref().ok()?))?;
        self.of_sn(sn)
    }

    fn of_sn(&self, sn: &Sn) -> Option<OwnUnit> {
        self.by_sn.get(sn).cloned()
    }
}

/// The units of a list that changes.
pub struct LiveUnits(Mutex<Live>);

struct Live {
    listed: watch::Receiver<Vec<Unit>>,
    list: UnitList,
}

impl LiveUnits {
    /// Those that are listed at the time.
    #[must_use]
    pub fn new(mut listed: watch::Receiver<Vec<Unit>>) -> Self {
        listed.mark_changed();
        Self(Mutex::new(Live { listed, list: UnitList::default() }))
    }

    fn now<T>(&self, find: impl FnOnce(&UnitList) -> T) -> T {
        // What it guards is whole at every moment.
        let mut live = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if live.listed.has_changed().unwrap_or(false) {
            let listed = UnitList::new(&live.listed.borrow_and_update());
            match listed {
                Ok(list) => live.list = list,
                Err(error) => tracing::warn!(%error, "a unit has a name that cannot be kept"),
            }
        }
        find(&live.list)
    }
}

impl Units for LiveUnits {
    fn called(&self, name: &str) -> Option<OwnUnit> {
        self.now(|list| list.called(name))
    }

    fn of_sn(&self, sn: &Sn) -> Option<OwnUnit> {
        self.now(|list| list.of_sn(sn))
    }
}

fn shown(address: SocketAddr) -> String {
    let ip = address.ip().to_canonical();
    match address.port() {
        UNIT_PORT => ip.to_string(),
        port => SocketAddr::new(ip, port).to_string(),
    }
}

fn name_of(uid: &str) -> Result<NodeName, Error> {
    NodeName::parse(GatewayName::parse(UNIT_GATEWAY)?, uid)
}

/// What a dashboard asks for.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct UpdateRequest {
    /// What it calls the unit.
    pub ip: String,
    /// What the unit is sent.
    pub payload: String,
}

impl UpdateRequest {
    /// Reads the data of an event; none if it is something else.
    #[must_use]
    pub fn parse(data: &str) -> Option<Self> {
        serde_json::from_str(data).ok()
    }
}

/// Whose units a request is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whose {
    /// Those that this server speaks with: each server of a deployment hears the request.
    Ours,
    /// Those of any server of the deployment: no other hears it.
    Anybodys,
}

impl Pusher {
    /// Carries out what a dashboard asks for, all of it or nothing, as far as there are such units: the writes are stored
    /// when this is answered. Answers how many there are.
    ///
    /// # Errors
    /// A missing right, a limit, or the store's.
    pub(super) async fn request(
        &self,
        caller: &Caller,
        requests: &[UpdateRequest],
        whose: Whose,
    ) -> Result<usize, Error> {
        let mut specs = Vec::new();
        for request in requests {
            specs.extend(self.write(caller, request, whose).await?);
        }
        if specs.is_empty() {
            return Ok(0);
        }
        Ok(self.parts.engine.for_caller(caller).task_create_all(specs).await?.len())
    }

    /// The task that a request asks for, if there is such a unit.
    async fn write(
        &self,
        caller: &Caller,
        request: &UpdateRequest,
        whose: Whose,
    ) -> Result<Option<TaskSpec>, Error> {
        if caller.org != self.parts.org {
            return Ok(None);
        }
        let unit = match self.parts.units.called(&request.ip) {
            None if whose == Whose::Anybodys => self.stored_unit(&request.ip).await?,
            unit => unit,
        };
        let Some(unit) = unit else { return Ok(None) };
        let (resource, value) = (json_of(&unit.resource), json_of(&request.payload));
        Ok(Some(TaskSpec {
            device: DeviceRef::Sn(unit.sn),
            ext_task_id: String::new(),
            method_code: SET_METHOD_CODE,
            method: Some(NODE_SET_METHOD.to_owned()),
            priority: SET_PRIORITY,
            ttl_minutes: self.parts.ttl_minutes,
            payload: Some(format!("{{{resource}:{value}}}").into()),
        }))
    }

    /// A unit with which another server may speak.
    async fn stored_unit(&self, name: &str) -> Result<Option<OwnUnit>, Error> {
        let stored = self.parts.engine.server().units_of(self.parts.org).await?;
        let units: Vec<Unit> = stored.into_iter().map(Unit::from).collect();
        Ok(UnitList::new(&units)?.called(name))
    }

    /// Stores what somebody says that a unit has read. A unit that is not known becomes a device.
    ///
    /// # Errors
    /// A missing right, a name or a value out of range, a limit, or the store's.
    pub(super) async fn reading(&self, caller: &Caller, unit: &str, value: &str) -> Result<(), Error> {
        caller.require(Rights::DEVICES_WRITE)?;
        if value.len() > VALUE_BYTES_MAX {
            return Err(Error::invalid("value", "must be at most 1024 bytes"));
        }
        let own = self.parts.units.called(unit).filter(|_| caller.org == self.parts.org);
        let (name, address, resource) = match own {
            // As its gateway has it.
            Some(OwnUnit { name, address, resource, .. }) => (name, address.to_string(), resource),
            None => (name_of(unit)?, unit.to_owned(), UNIT_RESOURCE.to_owned()),
        };
        let asked = NodeAdmit {
            org: caller.org,
            name,
            address,
            is_passing: false,
            // Whoever may register devices has said yes to it.
            admission: Admission::Open,
            server: self.parts.server.clone(),
        };
        let device = match self.parts.engine.server().node_admit(asked).await? {
            Admitted::Yes(device) => device,
            Admitted::SnTaken => return Err(Error::SnTaken),
            Admitted::Blocked => return Err(Error::Conflict { problem: "this unit is blocked" }),
            Admitted::Waiting | Admitted::Unknown => return Err(Error::NotFound { what: "unit" }),
        };
        let reported = vec![Reported { resource, value: json_of(value) }];
        self.parts.engine.for_device(&device).twin_report(reported).await
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::unit::read;

    #[test]
    fn dashboards_call_units_by_their_addresses() {
        let units = read(
            r#"{"units": [{"address": "192.0.2.7", "kind": "update", "name": "lamp", "resource": "color"},
                {"address": "127.0.0.1", "port": 9000, "kind": "read"}]}"#,
        );
        let list = UnitList::new(&units.unwrap()).unwrap();
        let lamp = list.called("192.0.2.7").unwrap();
        assert_eq!((lamp.sn.as_str(), &*lamp.shown, &*lamp.resource), ("unit-lamp", "192.0.2.7", "color"));
        assert_eq!(list.called("::ffff:192.0.2.7"), Some(lamp.clone()));
        assert_eq!(list.called("lamp"), Some(lamp.clone()));
        assert_eq!(list.of_sn(&lamp.sn), Some(lamp));
        let other = list.called("127.0.0.1:9000").unwrap();
        assert_eq!((other.sn.as_str(), &*other.shown), ("unit-127_2e0_2e0_2e1_3a9000", "127.0.0.1:9000"));
        assert_eq!(list.called("127.0.0.1"), None);
        assert_eq!(list.called("192.0.2.8"), None);
    }

    #[test]
    fn a_request_is_an_object_with_two_texts() {
        let request = UpdateRequest::parse(r#"{"ip": "192.0.2.7", "payload": "red", "more": 1}"#).unwrap();
        assert_eq!((&*request.ip, &*request.payload), ("192.0.2.7", "red"));
        for bad in ["", "{}", r#"{"ip": "a"}"#, r#"{"ip": 1, "payload": "a"}"#, r#""text""#] {
            assert_eq!(UpdateRequest::parse(bad), None, "{bad}");
        }
    }
}
