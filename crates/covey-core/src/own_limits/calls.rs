//! What is asked of limits.

use std::collections::HashMap;
use std::sync::Arc;

use crate::Engine;
use crate::access::Rights;
use crate::budget::Weight;
use crate::engine::{ForCaller, ForServer};
use crate::error::{Error, Result};
use crate::id::{CallerId, OrgId};
use crate::limits::Limits;
use crate::own_limits::{KeyLimitsPut, LimitHolder, LimitName, OrgLimitsPut, OwnLimits};
use crate::token::OrgWanted;

impl Engine {
    /// The limits of the domain that hold for an organisation.
    pub(crate) fn limits_for(&self, org: OrgId) -> Limits {
        let open_tasks = self.own_limits.of(LimitHolder::Org(org)).of(LimitName::OpenTasks);
        let limits = self.parts.limits;
        let open_tasks =
            open_tasks.map_or(limits.live_tasks_per_device_max, |own| u32::try_from(own).unwrap_or(u32::MAX));
        Limits { live_tasks_per_device_max: open_tasks, ..limits }
    }
}

impl ForCaller<'_> {
    /// The limits of an organisation's own: the caller's, with the right orgs:admin any.
    ///
    /// # Errors
    /// A missing right, [`Error::NotFound`], or the store's.
    pub async fn org_limits(self, org: OrgId) -> Result<OwnLimits> {
        self.caller.require(Rights::KEYS_WRITE)?;
        self.demand_any_org(org).await?;
        self.engine.parts.store.limits_of_every_org(LimitHolder::Org(org)).await
    }

    /// Sets the limits of an organisation. They hold at once here, and within two seconds on all servers.
    ///
    /// # Errors
    /// A missing right, [`Error::NotFound`], a limit out of range, or the store's.
    pub async fn org_limits_put(self, org: OrgId, limits: OwnLimits) -> Result<()> {
        self.caller.require(Rights::ORGS_ADMIN)?;
        self.demand_any_org(org).await?;
        limits.validate()?;
        // Whose organisation may ask too little gives it back more.
        self.charge_relief(Weight::WRITE)?;
        self.engine.execute(OrgLimitsPut { caller: self.caller.clone(), org, limits }).await?;
        self.engine.server().limits_step().await
    }

    /// The limits of a key's own.
    ///
    /// # Errors
    /// A missing right, [`Error::NotFound`], or the store's.
    pub async fn key_limits(self, id: i64) -> Result<(OrgId, OwnLimits)> {
        self.caller.require(Rights::KEYS_WRITE)?;
        let store = &self.engine.parts.store;
        let may_all = self.caller.rights.contains(Rights::ORGS_ADMIN);
        let key = store.api_key_of_number_of_every_org(id).await?;
        let key = key.filter(|key| may_all || key.org == self.caller.org).ok_or(Error::not_found("key"))?;
        Ok((key.org, store.limits_of_every_org(LimitHolder::Key(CallerId(id))).await?))
    }

    /// Sets the limits of a key, none above that of its organisation. They hold at once here, and within two seconds on
    /// all servers.
    ///
    /// # Errors
    /// A missing right, [`Error::NotFound`], a limit out of range, or the store's.
    pub async fn key_limits_put(self, id: i64, limits: OwnLimits) -> Result<OrgId> {
        self.caller.require(Rights::KEYS_WRITE)?;
        limits.validate()?;
        self.charge(Weight::WRITE)?;
        let operation = KeyLimitsPut { caller: self.caller.clone(), id, limits };
        let key = self.engine.execute(operation).await?;
        self.engine.server().limits_step().await?;
        Ok(key.org)
    }

    /// An organisation that is there: those of others do not exist, but for whom runs the deployment.
    async fn demand_any_org(self, org: OrgId) -> Result<()> {
        let missing = Error::not_found("organisation");
        if org == self.caller.org {
            return Ok(());
        }
        if !self.caller.rights.contains(Rights::ORGS_ADMIN) {
            return Err(missing);
        }
        let found = self.engine.parts.store.org_of_every_org(OrgWanted::Number(org)).await?;
        found.map(drop).ok_or(missing)
    }
}

impl ForServer<'_> {
    /// What is another number after any change of limits.
    #[must_use]
    pub fn limits_version(self) -> u64 {
        self.engine.own_limits.version()
    }

    /// The limits of an organisation's or key's own, as this server knows them.
    #[must_use]
    pub fn limits_of(self, holder: LimitHolder) -> OwnLimits {
        self.engine.own_limits.of(holder)
    }

    /// What an organisation or a key may have that has no limits of its own: of what is weighed and kept. None where there
    /// is no limit.
    #[must_use]
    pub fn limits_of_all(self, holder: LimitHolder) -> OwnLimits {
        let parts = &self.engine.parts;
        let limit = |limit: u64| Some(limit).filter(|limit| *limit > 0);
        let (allowance, is_org) = match holder {
            LimitHolder::Org(_) => (parts.budgets.org, true),
            LimitHolder::Key(_) => (parts.budgets.key, false),
        };
        OwnLimits::default()
            .with(LimitName::WorkPerS, limit(allowance.units.per_second))
            .with(LimitName::BytesPerS, limit(allowance.bytes.per_second))
            .with(LimitName::KeptBytes, limit(parts.limits.org_bytes_max).filter(|_| is_org))
            .with(
                LimitName::OpenTasks,
                limit(parts.limits.live_tasks_per_device_max.into()).filter(|_| is_org),
            )
    }

    /// Looks whether limits have changed, and takes them in.
    ///
    /// # Errors
    /// The store's.
    pub async fn limits_step(self) -> Result<()> {
        let engine = self.engine;
        let stamp = engine.parts.store.limits_stamp_of_every_org().await?;
        if engine.own_limits.is_of(stamp) {
            return Ok(());
        }
        let all: HashMap<_, _> = engine.parts.store.limits_list_of_every_org().await?.into_iter().collect();
        let weighed = |is_org: bool| {
            let holders = all.iter().filter_map(move |(holder, limits)| match holder {
                LimitHolder::Org(org) if is_org => Some((org.0, limits)),
                LimitHolder::Key(key) if !is_org => Some((key.0, limits)),
                _ => None,
            });
            let rates =
                holders.map(|(id, own)| (id, own.of(LimitName::WorkPerS), own.of(LimitName::BytesPerS)));
            rates.filter(|(_, work, bytes)| work.is_some() || bytes.is_some()).collect::<Vec<_>>()
        };
        engine.meters.org.set_own(&engine.parts.budgets.org, &weighed(true));
        engine.meters.key.set_own(&engine.parts.budgets.key, &weighed(false));
        let kept = all.iter().filter_map(|(holder, limits)| match holder {
            LimitHolder::Org(org) => Some((*org, limits.of(LimitName::KeptBytes)?)),
            LimitHolder::Key(_) => None,
        });
        engine.after_commit.holdings.set_own(kept.collect());
        engine.own_limits.set(stamp, Arc::new(all));
        Ok(())
    }
}
