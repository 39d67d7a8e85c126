//! What organisations have used.

use covey_api::{Day, UsageReport};
use reqwest::Method;

use crate::client::Client;
use crate::error::Result;

impl Client {
    /// What an organisation has used between two days, both included; without its number, your own. Without a last day it is
    /// today, without a first one there are 30.
    ///
    /// # Errors
    /// A refusal (404 if there is no such organisation), or the transport's.
    pub async fn usage(
        &self,
        org_id: Option<i64>,
        from: Option<Day>,
        to: Option<Day>,
    ) -> Result<UsageReport> {
        let text = |day: Option<Day>| day.map(|day| day.to_string());
        self.request(Method::GET, &["api", "v1", "usage"])
            .query_if("org", org_id.map(|id| id.to_string()).as_ref())
            .query_if("from", text(from).as_ref())
            .query_if("to", text(to).as_ref())
            .send()
            .await?
            .json()
    }
}
