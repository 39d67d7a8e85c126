//! Claims: what a production enrols its devices with.

use covey_api::{ClaimNew, ClaimRelease, ClaimSerialsAdded, ClaimSerialsNew};
use reqwest::Method;

use crate::client::Client;
use crate::error::Result;
use crate::task::PageRequest;

/// A claim.
pub type Claim = covey_api::Claim<'static>;
/// A claim that was just made, with its certificate and its key.
pub type ClaimMade = covey_api::ClaimMade<'static>;
/// A page of claims.
pub type ClaimPage = covey_api::ClaimPage<'static>;
/// A serial number of a claim.
pub type ClaimSerial = covey_api::ClaimSerial<'static>;
/// A page of serial numbers of a claim.
pub type ClaimSerialPage = covey_api::ClaimSerialPage<'static>;

const CLAIMS: [&str; 3] = ["api", "v1", "claims"];

impl Client {
    /// Makes a claim.
    ///
    /// # Errors
    /// A refusal, or the transport's.
    pub async fn claim_add(&self, request: &ClaimNew) -> Result<ClaimMade> {
        self.request(Method::POST, &CLAIMS).json(request).send().await?.json()
    }

    /// A page of claims, in the order of their numbers.
    ///
    /// # Errors
    /// A refusal, or the transport's.
    pub async fn claim_list(&self, page: PageRequest) -> Result<ClaimPage> {
        page.add_to(self.request(Method::GET, &CLAIMS)).send().await?.json()
    }

    /// A page of the serial numbers of a claim, in their order.
    ///
    /// # Errors
    /// A refusal (404 if there is no such claim), or the transport's.
    pub async fn claim_serial_list(&self, id: i64, page: PageRequest) -> Result<ClaimSerialPage> {
        page.add_to(self.of_claim(Method::GET, id, &["serials"])).send().await?.json()
    }

    /// Lists more serial numbers that may enrol; answers how many are new.
    ///
    /// # Errors
    /// A refusal (404 if there is no such claim), or the transport's.
    pub async fn claim_serials_add(&self, id: i64, request: &ClaimSerialsNew) -> Result<u32> {
        let answer = self.of_claim(Method::POST, id, &["serials"]).json(request).send().await?;
        answer.json::<ClaimSerialsAdded>().map(|added| added.added)
    }

    /// Lets a serial number enrol once more.
    ///
    /// # Errors
    /// A refusal (404 if there is no such claim or serial number), or the transport's.
    pub async fn claim_serial_release(&self, id: i64, sn: &str) -> Result<()> {
        let request = ClaimRelease { sn: sn.to_owned() };
        self.of_claim(Method::POST, id, &["release"]).json(&request).send().await.map(|_| ())
    }

    /// Revokes a claim: nobody enrols by it any more.
    ///
    /// # Errors
    /// A refusal (404 if there is no such claim), or the transport's.
    pub async fn claim_revoke(&self, id: i64) -> Result<Claim> {
        self.of_claim(Method::DELETE, id, &[]).send().await?.json()
    }

    fn of_claim(&self, method: Method, id: i64, rest: &[&str]) -> crate::client::Request<'_> {
        let id = id.to_string();
        let path: Vec<_> = CLAIMS.iter().copied().chain([id.as_str()]).chain(rest.iter().copied()).collect();
        self.request(method, &path)
    }
}
