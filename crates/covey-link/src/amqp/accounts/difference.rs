//! What differs between the devices that are registered and the accounts that
//! the broker has.

use std::collections::{BTreeSet, HashMap};

use covey_core::id::Sn;

use crate::amqp::accounts::rights;
use crate::amqp::management::{Permission, TopicPermission, User};

/// One difference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The account, which bears the device's serial number.
    pub account: String,
    /// What is wrong with it.
    pub kind: DifferenceKind,
}

/// What is wrong with an account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DifferenceKind {
    /// The device is registered and has none, so that it cannot connect.
    Missing,
    /// It does not bear the deployment's tag.
    Tag,
    /// It has a password, which would be good in place of the certificate.
    Password,
    /// It may do more or less in the virtual host than it should.
    Permission,
    /// It may use more or fewer topics than it should.
    TopicPermission,
    /// It is ours and no device is registered for it.
    Extra,
    /// It bears the serial number of a device and belongs to somebody else; it
    /// is left alone, and the device must not have that name.
    Foreign,
}

impl DifferenceKind {
    /// Each kind with its name and what it means.
    pub const NAMES: [(Self, &'static str, &'static str); 7] = [
        (Self::Missing, "missing", "the device is registered and has no account: it cannot connect"),
        (Self::Tag, "tag", "the account does not bear the deployment's tag"),
        (Self::Password, "password", "the account has a password; a device has none"),
        (Self::Permission, "permission", "its rights in the virtual host are not those of a device"),
        (Self::TopicPermission, "topic_permission", "its rights on topics are not those of a device"),
        (Self::Extra, "extra", "no device is registered for this account"),
        (
            Self::Foreign,
            "foreign",
            "the account is somebody else's; retire the device, it would act as that user",
        ),
    ];

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.entry().0
    }

    /// What it means, for operators.
    #[must_use]
    pub fn meaning(self) -> &'static str {
        self.entry().1
    }

    fn entry(self) -> (&'static str, &'static str) {
        let entry = Self::NAMES.iter().find(|(kind, ..)| *kind == self);
        entry.map_or(("", ""), |(_, name, meaning)| (name, meaning))
    }
}

/// What the broker has.
#[derive(Clone, Debug, Default)]
pub(super) struct Accounts {
    pub(super) users: HashMap<String, User>,
    permissions: HashMap<String, Permission>,
    topic_permissions: HashMap<String, Vec<TopicPermission>>,
}

impl Accounts {
    /// Puts three lists together.
    pub(super) fn new(
        users: Vec<User>,
        permissions: Vec<Permission>,
        topic_permissions: Vec<TopicPermission>,
    ) -> Self {
        let mut by_user: HashMap<String, Vec<TopicPermission>> = HashMap::new();
        for one in topic_permissions {
            by_user.entry(one.user.clone()).or_default().push(one);
        }
        Self {
            users: users.into_iter().map(|user| (user.name.clone(), user)).collect(),
            permissions: permissions.into_iter().map(|one| (one.user.clone(), one)).collect(),
            topic_permissions: by_user,
        }
    }

    /// What differs, in the order of the names.
    pub(super) fn differences(&self, registered: &BTreeSet<Sn>, vhost: &str) -> Vec<Difference> {
        let tag = rights::tag(vhost);
        let mut found = Vec::new();
        let mut add = |account: &str, kind| found.push(Difference { account: account.to_owned(), kind });
        for sn in registered {
            let name = sn.as_str();
            match self.users.get(name) {
                None => add(name, DifferenceKind::Missing),
                Some(user) if !rights::is_of_a_device(user) => add(name, DifferenceKind::Foreign),
                Some(user) => {
                    if !user.tags.contains(&tag) {
                        add(name, DifferenceKind::Tag);
                    }
                    if !user.password_hash.is_empty() {
                        add(name, DifferenceKind::Password);
                    }
                    if self.permissions.get(name) != Some(&rights::permission(sn, vhost)) {
                        add(name, DifferenceKind::Permission);
                    }
                    let topics = self.topic_permissions.get(name).map(Vec::as_slice).unwrap_or_default();
                    if topics != [rights::topic_permission(sn, vhost)] {
                        add(name, DifferenceKind::TopicPermission);
                    }
                }
            }
        }
        let ours =
            self.users.values().filter(|user| user.tags.contains(&tag) && rights::is_of_a_device(user));
        let extra = ours.filter(|user| !Sn::parse(&user.name).is_ok_and(|sn| registered.contains(&sn)));
        extra.for_each(|user| add(&user.name, DifferenceKind::Extra));
        found.sort_by(|a, b| a.account.cmp(&b.account));
        found
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn sn(text: &str) -> Sn {
        Sn::parse(text).unwrap()
    }

    fn user(name: &str, tags: &[&str], password_hash: &str) -> User {
        let tags = tags.iter().map(|tag| (*tag).to_owned()).collect();
        User { name: name.to_owned(), tags, password_hash: password_hash.to_owned() }
    }

    fn right(names: &[&str]) -> (Vec<Permission>, Vec<TopicPermission>) {
        names
            .iter()
            .map(|name| (rights::permission(&sn(name), "v"), rights::topic_permission(&sn(name), "v")))
            .unzip()
    }

    fn differences(accounts: &Accounts, registered: &[&str]) -> Vec<(String, DifferenceKind)> {
        let registered = registered.iter().map(|name| sn(name)).collect();
        let found = accounts.differences(&registered, "v");
        found.into_iter().map(|difference| (difference.account, difference.kind)).collect()
    }

    #[test]
    fn accounts_in_step_do_not_differ() {
        let (permissions, topics) = right(&["a", "b"]);
        let users = vec![
            user("a", &["covey-v"], ""),
            user("b", &["covey-v", "covey-w"], ""),
            user("covey.server", &[], "hash"),
            user("c", &["covey-w"], ""),
        ];
        let accounts = Accounts::new(users, permissions, topics);
        assert_eq!(differences(&accounts, &["a", "b"]), []);
    }

    #[test]
    fn each_difference_is_found() {
        let (mut permissions, mut topics) = right(&["wide", "topic", "two", "password", "tag"]);
        permissions.first_mut().unwrap().read = ".*".to_owned();
        topics.get_mut(1).unwrap().read = "^srv\\..*".to_owned();
        let mut second = topics.get(2).unwrap().clone();
        second.exchange = "covey.dead".to_owned();
        topics.push(second);
        let users = vec![
            user("wide", &["covey-v"], ""),
            user("topic", &["covey-v"], ""),
            user("two", &["covey-v"], ""),
            user("password", &["covey-v"], "hash"),
            user("tag", &["covey-w"], ""),
            user("extra", &["covey-v"], ""),
            user("admin", &["administrator"], "hash"),
        ];
        let accounts = Accounts::new(users, permissions, topics);
        let found = differences(&accounts, &["wide", "topic", "two", "password", "tag", "missing", "admin"]);
        let expected = [
            ("admin", DifferenceKind::Foreign),
            ("extra", DifferenceKind::Extra),
            ("missing", DifferenceKind::Missing),
            ("password", DifferenceKind::Password),
            ("tag", DifferenceKind::Tag),
            ("topic", DifferenceKind::TopicPermission),
            ("two", DifferenceKind::TopicPermission),
            ("wide", DifferenceKind::Permission),
        ];
        assert_eq!(found, expected.map(|(name, kind)| (name.to_owned(), kind)));
    }

    #[test]
    fn somebody_elses_account_is_never_extra() {
        let users = vec![user("x", &["covey-v", "administrator"], ""), user("y", &[], "")];
        assert_eq!(differences(&Accounts::new(users, Vec::new(), Vec::new()), &[]), []);
    }
}
