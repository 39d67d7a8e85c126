//! TCP units: those that the server speaks with.

use covey_api::{UnitChange, UnitNew};
use reqwest::Method;

use crate::client::Client;
use crate::error::Result;
use crate::task::PageRequest;

/// A unit that is listed.
pub type Unit = covey_api::Unit<'static>;
/// A page of units.
pub type UnitPage = covey_api::UnitPage<'static>;

/// Which units are wanted; all, if nothing is set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UnitFilter {
    /// The one with this number.
    pub id: Option<i64>,
    /// The one with this name.
    pub name: Option<String>,
}

const UNITS: [&str; 3] = ["api", "v1", "units"];

impl Client {
    /// A page of units, in the order of their numbers.
    ///
    /// # Errors
    /// A refusal, or the transport's.
    pub async fn unit_list(&self, filter: &UnitFilter, page: PageRequest) -> Result<UnitPage> {
        let request = self
            .request(Method::GET, &UNITS)
            .query_if("id", filter.id)
            .query_if("name", filter.name.as_ref());
        page.add_to(request).send().await?.json()
    }

    /// Lists a unit: the server speaks with it from now on.
    ///
    /// # Errors
    /// A refusal (409 if its name or address is listed), or the transport's.
    pub async fn unit_add(&self, request: &UnitNew) -> Result<Unit> {
        self.request(Method::POST, &UNITS).json(request).send().await?.json()
    }

    /// Sets where a unit is, and what it does.
    ///
    /// # Errors
    /// A refusal (404 if there is none of that number), or the transport's.
    pub async fn unit_set(&self, id: i64, request: &UnitChange) -> Result<Unit> {
        self.of_unit(Method::PUT, id).json(request).send().await?.json()
    }

    /// Forgets a unit. Its device stays.
    ///
    /// # Errors
    /// A refusal (404 if there is none of that number), or the transport's.
    pub async fn unit_remove(&self, id: i64) -> Result<Unit> {
        self.of_unit(Method::DELETE, id).send().await?.json()
    }

    fn of_unit(&self, method: Method, id: i64) -> crate::client::Request<'_> {
        let id = id.to_string();
        let path: Vec<_> = UNITS.iter().copied().chain([id.as_str()]).collect();
        self.request(method, &path)
    }
}
