//! Rights that go together.

use crate::access::Rights;
use crate::named::named;

named! {
    /// Rights that go together, under a name. A role is what somebody is given; what is kept of it are its rights.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
    pub enum Role {
        /// Everything in an organisation.
        Admin => "admin",
        /// Looking after devices: calling them, adding and retiring them.
        Operator => "operator",
        /// A program that calls devices and hears from them.
        Integrator => "integrator",
        /// Looking on.
        Viewer => "viewer",
    }
}

impl Role {
    /// What it may do.
    #[must_use]
    pub const fn rights(self) -> Rights {
        const VIEWER: u32 =
            Rights::TASKS_READ.0 | Rights::DEVICES_READ.0 | Rights::EVENTS_READ.0 | Rights::GATEWAYS_READ.0;
        Rights(match self {
            Self::Viewer => VIEWER,
            Self::Integrator => VIEWER | Rights::TASKS_WRITE.0 | Rights::WEBHOOKS_WRITE.0,
            Self::Operator => {
                VIEWER | Rights::TASKS_WRITE.0 | Rights::DEVICES_WRITE.0 | Rights::GATEWAYS_WRITE.0
            }
            Self::Admin => Rights::ALL.0 & !Rights::ORGS_ADMIN.0,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_role_but_that_of_an_admin_is_within_it_and_none_is_of_every_organisation() {
        for role in Role::ALL {
            assert!(Role::Admin.rights().contains(role.rights()), "{role:?}");
            assert!(!role.rights().contains(Rights::ORGS_ADMIN), "{role:?}");
            assert!(role.rights().contains(Role::Viewer.rights()), "{role:?}");
        }
        assert!(!Role::Operator.rights().contains(Rights::KEYS_WRITE));
    }
}
