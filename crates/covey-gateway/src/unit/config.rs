//! Which units there are: a list of ours, or the `config.json` of a base unit in the field.

use std::net::{IpAddr, SocketAddr};

use covey_core::unit as core;
use covey_core::unit::{
    UNIT_PORT, UNIT_RESOURCE, UnitKind, UnitPlace, unit_address, unit_name, unit_name_of,
};
use serde::Deserialize;

/// What a unit does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// It sends a measurement a line, as long as a connection is open.
    Read,
    /// It waits for a line.
    Update,
}

/// A unit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unit {
    /// Its uid: its name, else its address.
    pub uid: String,
    /// Where it listens.
    pub address: SocketAddr,
    /// What it does.
    pub kind: Kind,
    /// Its one resource.
    pub resource: String,
}

impl From<core::Unit> for Unit {
    fn from(unit: core::Unit) -> Self {
        let core::Unit { name, address, kind, resource, .. } = unit;
        Self { uid: name.uid().to_owned(), address, kind: kind.into(), resource }
    }
}

impl From<UnitKind> for Kind {
    fn from(kind: UnitKind) -> Self {
        match kind {
            UnitKind::Read => Self::Read,
            UnitKind::Update => Self::Update,
        }
    }
}

impl From<Kind> for UnitKind {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Read => Self::Read,
            Kind::Update => Self::Update,
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Ours {
    units: Vec<Listed>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Listed {
    address: IpAddr,
    port: Option<u16>,
    kind: Kind,
    name: Option<String>,
    resource: Option<String>,
}

/// The file of a base unit: its clients are read units. What it says of the dashboard is not about units.
#[derive(Deserialize)]
struct BaseUnit {
    clients: Vec<IpAddr>,
}

/// Reads a list of units: ours, or the `config.json` of a base unit.
///
/// # Errors
/// What is wrong, for the operator.
pub fn read(text: &str) -> Result<Vec<Unit>, String> {
    let file: serde_json::Value = serde_json::from_str(text).map_err(|error| error.to_string())?;
    if file.get("clients").is_some() {
        return of_base_unit(file);
    }
    let Ours { units } = serde_json::from_value(file).map_err(|error| error.to_string())?;
    listed(units)
}

/// Reads the `config.json` of a base unit.
///
/// # Errors
/// What is wrong, for the operator.
pub fn read_base_unit(text: &str) -> Result<Vec<Unit>, String> {
    of_base_unit(serde_json::from_str(text).map_err(|error| error.to_string())?)
}

fn of_base_unit(file: serde_json::Value) -> Result<Vec<Unit>, String> {
    let BaseUnit { clients } = serde_json::from_value(file).map_err(|error| error.to_string())?;
    let read = |address| Listed { address, port: None, kind: Kind::Read, name: None, resource: None };
    listed(clients.into_iter().map(read).collect())
}

fn listed(listed: Vec<Listed>) -> Result<Vec<Unit>, String> {
    if listed.len() > core::UNITS_MAX as usize {
        return Err(format!("there are more than {} units", core::UNITS_MAX));
    }
    let mut units: Vec<Unit> = Vec::with_capacity(listed.len());
    for Listed { address, port, kind, name, resource } in listed {
        let address = unit_address(address, port.unwrap_or(UNIT_PORT));
        let uid = name.unwrap_or_else(|| unit_name_of(address));
        let resource = resource.unwrap_or_else(|| UNIT_RESOURCE.to_owned());
        let place = UnitPlace { address, kind: kind.into(), resource: resource.clone() };
        place.validate().and_then(|()| unit_name(&uid)).map_err(|error| format!("{uid:?}: {error}"))?;
        units.push(Unit { uid, address, kind, resource });
    }
    let mut uids: Vec<_> = units.iter().map(|unit| &unit.uid).collect();
    uids.sort_unstable();
    if let Some(twice) = uids.windows(2).find(|pair| pair[0] == pair[1]) {
        return Err(format!("two units are called {}", twice[0]));
    }
    // A unit holds one connection: two names for one address would take it from each other.
    let mut addresses: Vec<_> = units.iter().map(|unit| unit.address).collect();
    addresses.sort_unstable();
    if let Some(twice) = addresses.windows(2).find(|pair| pair[0] == pair[1]) {
        return Err(format!("two units have the address {}", twice[0]));
    }
    Ok(units)
}

/// A unit that has announced itself: its kind and its resource are what it says, its uid is its address, which is what
/// somebody says yes to.
///
/// # Errors
/// What is wrong, for the operator.
pub fn announced(address: SocketAddr, kind: Option<&str>, resource: Option<&str>) -> Result<Unit, String> {
    let kind = match kind {
        Some("read") => Kind::Read,
        Some("update") => Kind::Update,
        _ => return Err("its kind is neither read nor update".to_owned()),
    };
    let address = unit_address(address.ip(), address.port());
    let resource = resource.filter(|resource| !resource.is_empty()).unwrap_or(UNIT_RESOURCE).to_owned();
    let place = UnitPlace { address, kind: kind.into(), resource: resource.clone() };
    place.validate().map_err(|error| error.to_string())?;
    Ok(Unit { uid: unit_name_of(address), address, kind, resource })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn units_are_listed_by_us_or_by_a_base_unit() {
        let units = read(
            r#"{"units": [{"address": "192.0.2.7", "kind": "update", "name": "lamp", "resource": "color"},
                {"address": "192.0.2.8", "port": 9000, "kind": "read"}]}"#,
        )
        .unwrap();
        assert_eq!((&*units[0].uid, &*units[0].resource), ("lamp", "color"));
        assert_eq!((&*units[1].uid, units[1].kind), ("192.0.2.8:9000", Kind::Read));
        let units = read(
            r#"{"clients": ["192.0.2.1", "192.0.2.2"], "api": {"url": "https://a.example", "token": "t"},
                "pusher": {"app-key": "k", "cluster": "eu", "auth": "/api/broadcasting/auth"}}"#,
        )
        .unwrap();
        assert_eq!(units.len(), 2);
        assert_eq!((&*units[0].uid, units[0].address.port(), units[0].kind), ("192.0.2.1", 8888, Kind::Read));
    }

    #[test]
    fn what_is_imported_is_the_file_of_a_base_unit() {
        let file = r#"{"clients": ["192.0.2.1"], "api": {"url": "https://a.example", "token": "t"}}"#;
        assert_eq!(read_base_unit(file), read(file));
        assert!(read_base_unit(r#"{"units": []}"#).unwrap_err().contains("clients"));
    }

    #[test]
    fn a_unit_that_announces_itself_is_known_by_its_address() {
        let at = |text: &str| text.parse::<SocketAddr>().unwrap();
        let unit = announced(at("192.0.2.7:8888"), Some("update"), Some("color")).unwrap();
        assert_eq!((&*unit.uid, &*unit.resource, unit.kind), ("192.0.2.7", "color", Kind::Update));
        let unit = announced(at("192.0.2.7:9000"), Some("read"), None).unwrap();
        assert_eq!((&*unit.uid, &*unit.resource, unit.kind), ("192.0.2.7:9000", "value", Kind::Read));
        assert!(announced(at("192.0.2.7:1"), None, None).unwrap_err().contains("neither"));
        assert!(announced(at("192.0.2.7:1"), Some("read"), Some("a b")).is_err());
    }

    #[test]
    fn a_list_that_is_wrong_is_refused_with_the_reason() {
        for (text, expected) in [
            ("", "EOF"),
            ("{}", "units"),
            (r#"{"units": [{"address": "lamp", "kind": "read"}]}"#, "IP address"),
            (r#"{"units": [{"address": "192.0.2.1"}]}"#, "kind"),
            (r#"{"units": [{"address": "192.0.2.1", "kind": "read", "prot": 1}]}"#, "prot"),
            (r#"{"clients": ["192.0.2.1", "192.0.2.1"]}"#, "192.0.2.1"),
            (r#"{"units": [{"address": "192.0.2.1", "kind": "read", "name": ""}]}"#, "1 to 64"),
            (r#"{"units": [{"address": "192.0.2.1", "kind": "read", "resource": "a b"}]}"#, "resource"),
            (r#"{"units": [{"address": "0.0.0.0", "kind": "read"}]}"#, "one machine"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }
}
