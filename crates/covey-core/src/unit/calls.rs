//! What can be asked of units.

use crate::access::Rights;
use crate::budget::Weight;
use crate::engine::after_commit::AfterCommit;
use crate::engine::{ForCaller, ForServer};
use crate::error::{Error, Result};
use crate::id::{OrgId, UnitId};
use crate::port::{Page, PageRequest, ReadKind};
use crate::unit::{
    UNIT_LEASE_MS, Unit, UnitAdd, UnitFilter, UnitGatewayClaim, UnitPlace, UnitRemove, UnitSet, UnitSpec,
    unit_name, unit_name_of,
};

impl ForCaller<'_> {
    /// A page of units, in the order of their numbers.
    ///
    /// # Errors
    /// A missing right, a page out of range, or the store's.
    pub async fn unit_list(self, filter: UnitFilter, page: PageRequest) -> Result<Page<Unit>> {
        self.caller.require(Rights::GATEWAYS_READ)?;
        let page = page.validate()?;
        let _scan = self.begin_read(ReadKind::UnitList)?;
        let found = self.engine.parts.store.unit_list(self.caller, filter, page).await?;
        Ok(Page { items: found.items.into_iter().map(|unit| self.current(unit)).collect(), ..found })
    }

    /// Lists a unit: the server that has the units of the organisation speaks with it from now on.
    ///
    /// # Errors
    /// A missing right, a field out of range, [`Error::Conflict`] for a name or an address that is listed, a limit, or
    /// the store's.
    pub async fn unit_add(self, spec: UnitSpec) -> Result<Unit> {
        self.caller.require(Rights::GATEWAYS_WRITE)?;
        self.check_place(&spec.place)?;
        let name = spec.name.unwrap_or_else(|| unit_name_of(spec.place.address));
        let name = unit_name(&name)?;
        self.charge(Weight::WRITE)?;
        let operation = UnitAdd { caller: self.caller.clone(), name, place: spec.place };
        Ok(self.current(self.engine.execute_then(operation, changed(self.caller.org)).await?))
    }

    /// Sets where a unit is, and what it does.
    ///
    /// # Errors
    /// A missing right, a field out of range, [`Error::NotFound`], [`Error::Conflict`] for an address that is listed, or
    /// the store's.
    pub async fn unit_set(self, id: UnitId, place: UnitPlace) -> Result<Unit> {
        self.caller.require(Rights::GATEWAYS_WRITE)?;
        place.validate()?;
        // A stranger learns nothing of the server's addresses from a unit that is not there.
        self.unit_known(id).await?;
        self.check_place(&place)?;
        self.charge(Weight::WRITE)?;
        let operation = UnitSet { caller: self.caller.clone(), id, place };
        Ok(self.current(self.engine.execute_then(operation, changed(self.caller.org)).await?))
    }

    /// Forgets a unit. Its device stays.
    ///
    /// # Errors
    /// A missing right, [`Error::NotFound`], or the store's.
    pub async fn unit_remove(self, id: UnitId) -> Result<Unit> {
        self.caller.require(Rights::GATEWAYS_WRITE)?;
        self.charge_relief(Weight::WRITE)?;
        let operation = UnitRemove { caller: self.caller.clone(), id };
        Ok(self.current(self.engine.execute_then(operation, changed(self.caller.org)).await?))
    }

    async fn unit_known(self, id: UnitId) -> Result<()> {
        let filter = UnitFilter { id: Some(id), ..UnitFilter::default() };
        let page = PageRequest { page: 1, size: 1 };
        let found = self.engine.parts.store.unit_list(self.caller, filter, page).await?;
        if found.items.is_empty() { Err(Error::not_found("unit")) } else { Ok(()) }
    }

    fn check_place(self, place: &UnitPlace) -> Result<()> {
        place.validate()?;
        (self.engine.parts.unit_rule)(place.address).map_err(|why| Error::invalid("address", why))
    }

    /// Without a server whose time is over.
    fn current(self, mut unit: Unit) -> Unit {
        let now = self.engine.now();
        unit.speaker = unit.speaker.filter(|(_, until)| *until > now);
        unit
    }
}

/// Tells gateways that there is another list of units.
fn changed(org: OrgId) -> impl FnOnce(&AfterCommit, &Unit) + Send + 'static {
    move |after, unit| after.node_changed(org, &unit.name)
}

impl ForServer<'_> {
    /// Takes the units of an organisation for this server, for a minute; answers whether it has them.
    ///
    /// # Errors
    /// The store's.
    pub async fn unit_gateway_claim(self, org: OrgId, server: &str) -> Result<bool> {
        let server = server.to_owned();
        self.engine.execute(UnitGatewayClaim { org, server, for_ms: UNIT_LEASE_MS }).await
    }

    /// Gives them back, so that another server need not wait.
    ///
    /// # Errors
    /// The store's.
    pub async fn unit_gateway_release(self, org: OrgId, server: &str) -> Result<()> {
        let server = server.to_owned();
        self.engine.execute(UnitGatewayClaim { org, server, for_ms: 0 }).await.map(drop)
    }

    /// The units of an organisation.
    ///
    /// # Errors
    /// The store's.
    pub async fn units_of(self, org: OrgId) -> Result<Vec<Unit>> {
        self.engine.parts.store.units_to_speak_with(org).await
    }
}
