//! A deployment's place in a broker: a vhost and two users, with no more rights than they need.

use anyhow::Result;
use serde_json::{Value, json};

use super::management::Management;
use crate::secret;
use crate::state::{Broker, Login, Tenancy};

/// The exchange that tells of connections; in vhost `/` for all vhosts.
const EVENTS: &str = "amq.rabbitmq.event";
/// What a server hears there: who connects, and who subscribes.
const EVENT_KEYS: &str = r"^(connection\.(created|closed)|binding\.(created|deleted))$";

/// Plans a deployment's place in the first vhost that is not among those in use, if there is one.
pub fn plan(broker: &Broker, in_use: &[usize]) -> Result<Option<Tenancy>> {
    let free = broker.vhosts.iter().enumerate().find(|(index, _)| !in_use.contains(index));
    let Some((vhost_index, vhost)) = free else { return Ok(None) };
    // A device's name has no dot: none of these can be a device's.
    let login = |kind: &str| {
        Ok(Login { user: format!("{vhost}.{kind}"), password: secret::password()? }) as Result<Login>
    };
    Ok(Some(Tenancy {
        vhost_index,
        vhost: vhost.clone(),
        server: login("server")?,
        management: login("management")?,
        is_made: false,
    }))
}

/// Makes a place that was planned.
pub fn create(broker: &Broker, tenancy: &Tenancy) -> Result<()> {
    let api = Management::of(broker)?;
    // What an unfinished call left there.
    clear(&api, &tenancy.vhost)?;
    api.post("definitions", &definitions(tenancy)).map(drop)
}

/// Removes the vhost with all that is in it, and the users who have no rights elsewhere.
pub fn remove(broker: &Broker, tenancy: &Tenancy) -> Result<()> {
    clear(&Management::of(broker)?, &tenancy.vhost)
}

fn clear(api: &Management, vhost: &str) -> Result<()> {
    let permissions = match api.get(&format!("vhosts/{vhost}/permissions")) {
        Ok(Value::Array(permissions)) => permissions,
        // There is no such vhost.
        _ => Vec::new(),
    };
    api.delete(&format!("vhosts/{vhost}"))?;
    for kind in ["server", "management"] {
        api.delete(&format!("users/{vhost}.{kind}"))?;
    }
    for user in permissions.iter().filter_map(|permission| permission["user"].as_str()) {
        // Users belong to the whole broker: another deployment may have a device of that name.
        let is_elsewhere = match api.get(&format!("users/{user}/permissions")) {
            Ok(Value::Array(permissions)) => !permissions.is_empty(),
            _ => true,
        };
        if !is_elsewhere {
            api.delete(&format!("users/{user}"))?;
        }
    }
    Ok(())
}

/// The vhost, the two users and their rights.
fn definitions(tenancy: &Tenancy) -> Value {
    let Tenancy { vhost, server, management, .. } = tenancy;
    let events_prefix = format!("{vhost}\\.");
    json!({
        "vhosts": [{"name": vhost}],
        "users": [
            {"name": server.user, "password": server.password, "tags": []},
            // Only administrators may make users, which devices are.
            {"name": management.user, "password": management.password, "tags": ["administrator"]},
        ],
        "permissions": [
            {
                "user": server.user, "vhost": vhost,
                "configure": "^covey\\.",
                "write": "^(amq\\.topic|covey\\..*)$",
                "read": "^(amq\\.topic|amq\\.rabbitmq\\.event|covey\\..*)$",
            },
            {
                "user": server.user, "vhost": "/",
                "configure": format!("^{events_prefix}"),
                "write": format!("^{events_prefix}"),
                "read": format!("^(amq\\.rabbitmq\\.event|{events_prefix}.*)$"),
            },
            {
                "user": management.user, "vhost": vhost,
                "configure": "^mqtt-subscription-", "write": "^mqtt-subscription-", "read": "^mqtt-subscription-",
            },
        ],
        "topic_permissions": [{
            "user": server.user, "vhost": "/", "exchange": EVENTS,
            "write": "^$", "read": EVENT_KEYS,
        }],
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_servers_user_is_no_administrator_and_reads_only_events_of_connections_and_bindings() {
        let login = |user: &str| Login { user: user.to_owned(), password: "word".to_owned() };
        let tenancy = Tenancy {
            vhost_index: 0,
            vhost: "covey-01".to_owned(),
            server: login("covey-01.server"),
            management: login("covey-01.management"),
            is_made: true,
        };
        let made = definitions(&tenancy);
        assert_eq!(made["users"][0]["tags"], json!([]));
        let in_root: Vec<&Value> =
            made["permissions"].as_array().unwrap().iter().filter(|given| given["vhost"] == "/").collect();
        assert_eq!(in_root.len(), 1);
        assert_eq!(in_root[0]["configure"], "^covey-01\\.");
        // Another deployment's messages, and who else fails to log in, are none of its business.
        assert!(!in_root[0]["read"].as_str().unwrap().contains("amq.topic"));
        let keys = made["topic_permissions"][0]["read"].as_str().unwrap();
        assert!(
            keys.starts_with('^') && keys.ends_with('$') && !keys.contains("user") && !keys.contains(".*")
        );
    }
}
