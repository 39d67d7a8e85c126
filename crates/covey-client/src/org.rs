//! Organisations.

use covey_api::OrgNamed;
use reqwest::Method;

use crate::client::Client;
use crate::error::Result;
use crate::task::PageRequest;

/// An organisation.
pub type Org = covey_api::Org<'static>;
/// A page of organisations.
pub type OrgPage = covey_api::OrgPage<'static>;

const ORGS: [&str; 3] = ["api", "v1", "orgs"];

impl Client {
    /// A page of organisations, in the order of their numbers.
    ///
    /// # Errors
    /// A refusal, or the transport's.
    pub async fn org_list(&self, page: PageRequest) -> Result<OrgPage> {
        page.add_to(self.request(Method::GET, &ORGS)).send().await?.json()
    }

    /// Makes an organisation.
    ///
    /// # Errors
    /// A refusal (409 if there is one of that name), or the transport's.
    pub async fn org_add(&self, name: &str) -> Result<Org> {
        let request = OrgNamed { name: name.to_owned() };
        self.request(Method::POST, &ORGS).json(&request).send().await?.json()
    }

    /// Gives an organisation another name.
    ///
    /// # Errors
    /// A refusal (404 if there is none of that number), or the transport's.
    pub async fn org_rename(&self, id: i64, name: &str) -> Result<Org> {
        let request = OrgNamed { name: name.to_owned() };
        let id = id.to_string();
        let [api, version, orgs] = ORGS;
        self.request(Method::PATCH, &[api, version, orgs, &id]).json(&request).send().await?.json()
    }
}
