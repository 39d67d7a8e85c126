//! `covey unit`: the TCP units that a server speaks with.

use std::net::{IpAddr, SocketAddr};
use std::process::ExitCode;
use std::str::FromStr;

use anyhow::{Result, anyhow};
use clap::{Args, Subcommand, ValueEnum};
use covey_client::{PageRequest, Unit, UnitChange, UnitFilter, UnitNew, Whole};

use crate::command::connection::{Connection, Target};
use crate::command::output::{cell, printable};

/// `covey unit`.
#[derive(Args)]
pub struct UnitArgs {
    #[command(flatten)]
    pub target: Target,
    #[command(subcommand)]
    command: UnitCommand,
}

#[derive(Subcommand)]
enum UnitCommand {
    /// List units
    #[command(after_help = "Example: covey unit list --json | jq -r .address")]
    List {
        /// Number of the page
        #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
        page: u32,
        /// Units per page
        #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1000))]
        size: u32,
    },
    /// List a unit: the server speaks with it from now on
    #[command(after_help = "Examples:\n  \
        covey unit add 192.168.1.20 --kind read --name scale --resource weight\n  \
        covey unit add 192.168.1.21:8888 --kind update --name lamp --resource color\n\n\
        Its device is unit-NAME: covey twin get unit-scale, covey node set unit/lamp color red.\n\
        A server speaks with units if it was started with --unit-gateway, at addresses that --units-allow names.")]
    Add {
        /// Where it listens; at port 8888 unless another is given
        #[arg(value_name = "ADDRESS[:PORT]")]
        address: Place,
        /// What it does: read sends a measurement a line, update waits for a line
        #[arg(long)]
        kind: Kind,
        /// What it is to be called [default: its address]
        #[arg(long)]
        name: Option<String>,
        /// What its value is called [default: value]
        #[arg(long)]
        resource: Option<String>,
    },
    /// Change where a unit is, or what it does; what is not given stays
    #[command(after_help = "Example: covey unit set lamp --address 192.168.1.22")]
    Set(SetArgs),
    /// Forget a unit: its connection is ended
    #[command(after_help = "Example: covey unit rm lamp\n\
        Its device stays, and is out; covey node rm unit/lamp forgets that, too.")]
    Rm {
        /// Its number or its name
        #[arg(value_name = "UNIT")]
        unit: UnitRef,
    },
}

#[derive(Args)]
struct SetArgs {
    /// Its number or its name
    #[arg(value_name = "UNIT")]
    unit: UnitRef,
    /// Where it listens; at port 8888 unless another is given
    #[arg(long, value_name = "ADDRESS[:PORT]", required_unless_present_any = ["kind", "resource"])]
    address: Option<Place>,
    /// What it does: read sends a measurement a line, update waits for a line
    #[arg(long)]
    kind: Option<Kind>,
    /// What its value is called
    #[arg(long)]
    resource: Option<String>,
}

/// What a unit does.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Kind {
    Read,
    Update,
}

impl Kind {
    const fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Update => "update",
        }
    }
}

/// An address, with a port or without.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    ip: IpAddr,
    port: Option<u16>,
}

impl FromStr for Place {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Ok(ip) = text.parse() {
            return Ok(Self { ip, port: None });
        }
        let address: Result<SocketAddr, _> = text.parse();
        address
            .map(|address| Self { ip: address.ip(), port: Some(address.port()) })
            .map_err(|_| "write an IP address, such as 192.168.1.20, 192.168.1.20:8888 or [fd00::20]:8888")
    }
}

/// A unit as a person names it.
#[derive(Clone, Debug, PartialEq, Eq)]
enum UnitRef {
    /// By its number.
    Id(i64),
    /// By its name.
    Name(String),
}

impl FromStr for UnitRef {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        // As nodes are named, which a name of digits needs.
        if let Some(name) = text.strip_prefix("unit/") {
            return Ok(Self::Name(name.to_owned()));
        }
        match text.parse() {
            _ if text.is_empty() => Err("name it by its number or its name"),
            Ok(id) if text.bytes().all(|byte| byte.is_ascii_digit()) => Ok(Self::Id(id)),
            _ => Ok(Self::Name(text.to_owned())),
        }
    }
}

impl UnitRef {
    async fn find(&self, connection: &Connection) -> Result<Unit> {
        let filter = match self.clone() {
            Self::Id(id) => UnitFilter { id: Some(id), name: None },
            Self::Name(name) => UnitFilter { id: None, name: Some(name) },
        };
        let page = connection.client.unit_list(&filter, PageRequest { page: 1, size: 1 }).await?;
        page.items.into_iter().next().ok_or_else(|| self.unknown(connection))
    }

    fn unknown(&self, connection: &Connection) -> anyhow::Error {
        let name = match self {
            Self::Id(id) => format!("with number {id}"),
            Self::Name(name) => printable(name),
        };
        anyhow!("there is no unit {name}: \"{}\" shows those that there are", connection.command("unit list"))
    }

    /// What a refusal means for this unit.
    fn explained(&self, error: covey_client::Error, connection: &Connection) -> anyhow::Error {
        if error.is_not_found() { self.unknown(connection) } else { error.into() }
    }
}

/// Runs `covey unit`.
pub async fn run(args: UnitArgs, connection: &Connection) -> Result<ExitCode> {
    match args.command {
        UnitCommand::List { page, size } => list(PageRequest { page, size }, connection).await?,
        UnitCommand::Add { address, kind, name, resource } => {
            let request = UnitNew {
                address: address.ip.to_string(),
                port: address.port.map(|port| Whole(port.into())),
                kind: kind.name().to_owned(),
                name,
                resource,
            };
            let unit = connection.client.unit_add(&request).await?;
            tell(connection, &unit, &format!("is listed; its device is {}", unit.sn))?;
            remark(connection, &unit);
        }
        UnitCommand::Set(SetArgs { unit, address, kind, resource }) => {
            let was = unit.find(connection).await?;
            let port = address.map_or(Some(was.port), |address| address.port);
            let request = UnitChange {
                address: address.map_or_else(|| was.address.to_string(), |address| address.ip.to_string()),
                port: port.map(|port| Whole(port.into())),
                kind: kind.map_or_else(|| was.kind.to_string(), |kind| kind.name().to_owned()),
                resource: Some(resource.unwrap_or_else(|| was.resource.to_string())),
            };
            let set = connection.client.unit_set(was.id, &request).await;
            let set = set.map_err(|error| unit.explained(error, connection))?;
            tell(
                connection,
                &set,
                &format!("is at {}, kind {}, resource {}", place_of(&set), set.kind, set.resource),
            )?;
            remark(connection, &set);
        }
        UnitCommand::Rm { unit } => {
            let id = match &unit {
                UnitRef::Id(id) => *id,
                UnitRef::Name(_) => unit.find(connection).await?.id,
            };
            let removed = connection.client.unit_remove(id).await;
            let removed = removed.map_err(|error| unit.explained(error, connection))?;
            tell(connection, &removed, &format!("is forgotten; its device {} stays", removed.sn))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn place_of(unit: &Unit) -> String {
    match unit.address.parse() {
        Ok(ip) => SocketAddr::new(ip, unit.port).to_string(),
        Err(_) => printable(&format!("{}:{}", unit.address, unit.port)),
    }
}

fn tell(connection: &Connection, unit: &Unit, what: &str) -> Result<()> {
    if connection.output.json {
        return Ok(connection.output.json(unit)?);
    }
    Ok(connection.output.text(&format!(
        "{} (number {}) {}",
        printable(&unit.name),
        unit.id,
        printable(what)
    ))?)
}

/// Says that nobody speaks with a unit.
fn remark(connection: &Connection, unit: &Unit) {
    if unit.server.is_none() && !connection.output.json {
        connection.output.note("no server speaks with units now: start one with covey up --unit-gateway");
    }
}

async fn list(page: PageRequest, connection: &Connection) -> Result<()> {
    let found = connection.client.unit_list(&UnitFilter::default(), page).await?;
    let output = connection.output;
    if found.items.is_empty() && !output.json {
        output.note(if found.total == 0 {
            "no units yet: covey unit add ADDRESS --kind KIND"
        } else {
            "no such units"
        });
        return Ok(());
    }
    let columns = ["ID", "UNIT", "ADDRESS", "KIND", "RESOURCE", "SN", "SERVER"];
    output.list(&columns, &found.items, |unit| {
        vec![
            cell(unit.id.to_string()),
            cell(&*unit.name),
            cell(place_of(unit)),
            cell(&*unit.kind),
            cell(&*unit.resource),
            cell(&*unit.sn),
            cell(unit.server.as_deref().unwrap_or_default()),
        ]
    })?;
    if let Some(unit) = found.items.first() {
        remark(connection, unit);
    }
    if found.total > found.items.len() as u64 && !output.json {
        let shown = found.items.len();
        output.note(&format!("{shown} of {} units; --page and --size show others", found.total));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_unit_is_named_by_its_number_or_its_name() {
        let name = |name: &str| UnitRef::Name(name.to_owned());
        for (text, named) in [
            ("7", UnitRef::Id(7)),
            ("lamp", name("lamp")),
            ("192.168.1.20", name("192.168.1.20")),
            ("unit/7", name("7")),
            ("-7", name("-7")),
        ] {
            assert_eq!(text.parse::<UnitRef>().unwrap(), named);
        }
        assert!("".parse::<UnitRef>().is_err());
    }

    #[test]
    fn an_address_has_a_port_or_not() {
        let place = |text: &str| text.parse::<Place>().map(|place| (place.ip.to_string(), place.port));
        assert_eq!(place("192.168.1.20"), Ok(("192.168.1.20".to_owned(), None)));
        assert_eq!(place("192.168.1.20:9000"), Ok(("192.168.1.20".to_owned(), Some(9000))));
        assert_eq!(place("fd00::20"), Ok(("fd00::20".to_owned(), None)));
        assert_eq!(place("[fd00::20]:9000"), Ok(("fd00::20".to_owned(), Some(9000))));
        assert!(place("lamp").is_err() && place("192.168.1.20:").is_err());
    }
}
