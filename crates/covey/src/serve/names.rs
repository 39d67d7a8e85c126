//! The names and addresses by which this machine is reached: what the server's certificate has.

use std::io;
use std::net::IpAddr;

use covey_pki::ServerNames;

use crate::settings::Settings;

/// Those of them that stay while the server runs. The machine's addresses come and go.
pub struct Hosts(Vec<String>);

impl Hosts {
    /// What the machine and the settings say.
    pub fn of(settings: &Settings, mdns_host: Option<&String>) -> Self {
        let host = gethostname::gethostname().to_string_lossy().into_owned();
        let bound = [settings.https.ip(), settings.mqtts.ip()].into_iter();
        let bound = bound
            .chain(settings.mcu_http.map(|address| address.ip()))
            .filter(|ip| !ip.is_unspecified())
            .map(|ip| ip.to_string());
        let hosts = ["localhost", "127.0.0.1", "::1"]
            .map(str::to_owned)
            .into_iter()
            .chain([host])
            .chain(bound)
            .chain(settings.names.iter().cloned())
            .chain(mdns_host.cloned())
            .collect();
        Self(hosts)
    }

    #[cfg(test)]
    pub fn fixed(hosts: &[&str]) -> Self {
        Self(hosts.iter().map(ToString::to_string).collect())
    }

    /// All of them while the machine has these addresses.
    pub fn with(&self, addresses: &[IpAddr]) -> ServerNames {
        let mut names = ServerNames::from_hosts(self.0.iter().map(String::as_str));
        names.ip.extend(addresses);
        names
    }
}

/// The addresses that the machine has now.
pub fn own_addresses() -> io::Result<Vec<IpAddr>> {
    Ok(if_addrs::get_if_addrs()?.iter().map(|interface| interface.ip()).collect())
}

/// Which of the machine's addresses are none of `names` although others reach it there. One that holds for a link only
/// is no name that a client verifies, and comes and goes with each interface.
pub fn came(names: &ServerNames, addresses: &[IpAddr]) -> Vec<IpAddr> {
    let is_for_others = |ip: &IpAddr| match ip {
        IpAddr::V4(ip) => !ip.is_loopback(),
        IpAddr::V6(ip) => !ip.is_loopback() && !ip.is_unicast_link_local(),
    };
    addresses.iter().copied().filter(|ip| is_for_others(ip) && !names.ip.contains(ip)).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn addresses(texts: &[&str]) -> Vec<IpAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn the_machines_addresses_are_added_to_what_stays() {
        let hosts = Hosts::fixed(&["lab", "127.0.0.1", "lab.example"]);
        let names = hosts.with(&addresses(&["192.0.2.7", "fe80::7"]));
        assert_eq!(names.dns, ["lab", "lab.example"]);
        assert_eq!(names.ip, addresses(&["127.0.0.1", "192.0.2.7", "fe80::7"]));
    }

    #[test]
    fn an_address_has_come_that_is_no_name_and_that_others_reach() {
        let names = Hosts::fixed(&["127.0.0.1"]).with(&addresses(&["192.0.2.7", "2001:db8::7"]));
        let came = |texts: &[&str]| came(&names, &addresses(texts));
        let none: [IpAddr; 0] = [];
        assert_eq!(came(&["192.0.2.7", "2001:db8::7", "127.0.0.1"]), none);
        assert_eq!(came(&["192.0.2.7"]), none, "one has gone");
        assert_eq!(came(&["127.0.0.2", "::1", "fe80::7"]), none);
        let new = ["192.0.2.8", "169.254.3.4", "fd00::8"];
        assert_eq!(came(&[&["192.0.2.7"][..], &new[..]].concat()), addresses(&new));
    }
}
