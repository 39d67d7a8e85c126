//! What the account of a device is: its name, its tag, and exactly what it may
//! do. Serial numbers hold no character that means anything to the broker's
//! regular expressions or topics.

use covey_core::id::Sn;

use crate::amqp::management::{Definitions, NewUser, Permission, TopicPermission, User};
use crate::amqp::topology::TOPIC_EXCHANGE;

/// How the tags of devices' accounts begin, whatever the deployment.
const TAG_PREFIX: &str = "covey-";

/// The tag by which a deployment knows its accounts: the name of its virtual
/// host, as far as a tag can hold it.
pub(super) fn tag(vhost: &str) -> String {
    let name = vhost.chars().map(|c| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '-' });
    TAG_PREFIX.chars().chain(name).collect()
}

/// Whether an account may be made the device's: it is one of a device, of this
/// deployment or another, or one that nobody can log in to but by certificate.
pub(super) fn is_of_a_device(user: &User) -> bool {
    user.tags.iter().all(|tag| tag.starts_with(TAG_PREFIX))
        && (!user.tags.is_empty() || user.password_hash.is_empty())
}

/// What a device may do in the virtual host: keep its own session, and use the
/// exchange of MQTT.
pub(super) fn permission(sn: &Sn, vhost: &str) -> Permission {
    let queue = format!("mqtt-subscription-{sn}qos[01]");
    let with_exchange = format!("^(amq\\.topic|{queue})$");
    Permission {
        user: sn.to_string(),
        vhost: vhost.to_owned(),
        configure: format!("^{queue}$"),
        write: with_exchange.clone(),
        read: with_exchange,
    }
}

/// On which topics: its own, by the name of the user, which is the CommonName
/// of its certificate. The client id would be what the client says it is.
pub(super) fn topic_permission(sn: &Sn, vhost: &str) -> TopicPermission {
    TopicPermission {
        user: sn.to_string(),
        vhost: vhost.to_owned(),
        exchange: TOPIC_EXCHANGE.to_owned(),
        write: "^dev\\.{username}\\.".to_owned(),
        read: "^srv\\.{username}\\.".to_owned(),
    }
}

/// Adds the account of a device, with what tags it has besides ours.
pub(super) fn define(definitions: &mut Definitions, sn: &Sn, vhost: &str, other_tags: &[String]) {
    let mut tags = other_tags.to_vec();
    let own = tag(vhost);
    if !tags.contains(&own) {
        tags.push(own);
    }
    definitions.users.push(NewUser {
        name: sn.to_string(),
        password_hash: "",
        hashing_algorithm: "rabbit_password_hashing_sha256",
        tags,
    });
    definitions.permissions.push(permission(sn, vhost));
    definitions.topic_permissions.push(topic_permission(sn, vhost));
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn user(tags: &[&str], password_hash: &str) -> User {
        let tags = tags.iter().map(|tag| (*tag).to_owned()).collect();
        User { name: "d1".to_owned(), tags, password_hash: password_hash.to_owned() }
    }

    #[test]
    fn a_device_may_do_this_and_nothing_else() {
        let sn = Sn::parse("a_b-9").unwrap();
        let permission = permission(&sn, "site");
        assert_eq!(permission.configure, "^mqtt-subscription-a_b-9qos[01]$");
        assert_eq!(permission.write, "^(amq\\.topic|mqtt-subscription-a_b-9qos[01])$");
        assert_eq!(permission.read, permission.write);
        let topics = topic_permission(&sn, "site");
        assert_eq!(
            (topics.write.as_str(), topics.read.as_str()),
            ("^dev\\.{username}\\.", "^srv\\.{username}\\.")
        );
    }

    #[test]
    fn the_tag_names_the_deployment() {
        assert_eq!(tag("site"), "covey-site");
        assert_eq!(tag("/"), "covey--");
        assert_eq!(tag("a,b c"), "covey-a-b-c");
    }

    #[test]
    fn accounts_of_people_and_services_are_not_of_a_device() {
        assert!(is_of_a_device(&user(&["covey-site"], "")));
        assert!(is_of_a_device(&user(&["covey-other"], "")));
        assert!(is_of_a_device(&user(&[], "")));
        assert!(!is_of_a_device(&user(&[], "hash")));
        assert!(!is_of_a_device(&user(&["administrator"], "")));
        assert!(!is_of_a_device(&user(&["covey-site", "monitoring"], "")));
    }
}
