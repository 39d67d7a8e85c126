//! The shapes of a deployment: which store with which link.

use anyhow::{Context, Result, bail};

/// Where a deployment keeps its data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Store {
    /// In a file of each server.
    Sqlite,
    /// In a database of the deployment's own.
    Postgres,
}

/// By what a deployment reaches its devices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Link {
    /// The broker in the server's process.
    Embedded,
    /// A vhost of one node.
    Rabbitmq,
    /// A vhost of three nodes.
    RabbitmqCluster,
    /// With the plugin that keeps accounts, and a log that is published.
    Mosquitto,
    /// With rights in a file, as any MQTT 5 broker may have them; it tells nothing of its clients.
    MosquittoPlain,
}

/// A store with a link, written `postgres+rabbitmq`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Where it keeps its data.
    pub store: Store,
    /// By what it reaches its devices.
    pub link: Link,
}

const STORES: [(&str, Store); 2] = [("sqlite", Store::Sqlite), ("postgres", Store::Postgres)];
const LINKS: [(&str, Link); 5] = [
    ("embedded", Link::Embedded),
    ("rabbitmq", Link::Rabbitmq),
    ("rabbitmq-cluster", Link::RabbitmqCluster),
    ("mosquitto", Link::Mosquitto),
    ("mosquitto-plain", Link::MosquittoPlain),
];

impl std::str::FromStr for Shape {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let (store, link) = text
            .split_once('+')
            .with_context(|| format!("a shape is STORE+LINK, such as postgres+rabbitmq, not {text:?}"))?;
        Ok(Self { store: find(&STORES, "store", store)?, link: find(&LINKS, "link", link)? })
    }
}

impl std::fmt::Display for Shape {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{}+{}", name(&STORES, self.store), name(&LINKS, self.link))
    }
}

fn find<T: Copy>(table: &[(&str, T)], kind: &str, text: &str) -> Result<T> {
    let Some((_, found)) = table.iter().find(|(name, _)| *name == text) else {
        let names: Vec<&str> = table.iter().map(|(name, _)| *name).collect();
        bail!("there is no {kind} {text:?}; there are: {}", names.join(" "));
    };
    Ok(*found)
}

fn name<T: PartialEq>(table: &[(&'static str, T)], wanted: T) -> &'static str {
    table.iter().find(|(_, value)| *value == wanted).map_or("", |(name, _)| name)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn every_shape_is_read_as_it_is_written() {
        for (store_name, store) in STORES {
            for (link_name, link) in LINKS {
                let text = format!("{store_name}+{link_name}");
                assert_eq!(text.parse::<Shape>().unwrap(), Shape { store, link });
                assert_eq!(Shape { store, link }.to_string(), text);
            }
        }
    }

    #[test]
    fn unknown_shapes_are_refused_with_the_known_names() {
        for text in ["", "postgres", "rabbitmq+postgres", "postgres+rabbitmq+x", "postgres+", "+embedded"] {
            assert!(text.parse::<Shape>().is_err(), "{text}");
        }
        assert!("postgres+kafka".parse::<Shape>().unwrap_err().to_string().contains("mosquitto"));
    }
}
