//! The shapes of a deployment: which store with which link.

use anyhow::{Context, Result, bail};

/// Where a deployment keeps its data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Store {
    Sqlite,
    Postgres,
}

/// By what a deployment reaches its devices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Link {
    Embedded,
    Rabbitmq,
    RabbitmqCluster,
    Mosquitto,
}

/// A store with a link, written `postgres+rabbitmq`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    pub store: Store,
    pub link: Link,
}

const STORES: [(&str, Store); 2] = [("sqlite", Store::Sqlite), ("postgres", Store::Postgres)];
const LINKS: [(&str, Link); 4] = [
    ("embedded", Link::Embedded),
    ("rabbitmq", Link::Rabbitmq),
    ("rabbitmq-cluster", Link::RabbitmqCluster),
    ("mosquitto", Link::Mosquitto),
];

impl Shape {
    pub fn parse(text: &str) -> Result<Self> {
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
                assert_eq!(Shape::parse(&text).unwrap(), Shape { store, link });
                assert_eq!(Shape { store, link }.to_string(), text);
            }
        }
    }

    #[test]
    fn unknown_shapes_are_refused_with_the_known_names() {
        for text in ["", "postgres", "rabbitmq+postgres", "postgres+rabbitmq+x", "postgres+", "+embedded"] {
            assert!(Shape::parse(text).is_err(), "{text}");
        }
        assert!(Shape::parse("postgres+kafka").unwrap_err().to_string().contains("mosquitto"));
    }
}
