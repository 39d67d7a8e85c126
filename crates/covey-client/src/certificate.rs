//! Certificates of devices: finding and revoking them.

use covey_api::{RevocationNew, Time};
use reqwest::Method;

use crate::client::Client;
use crate::error::Result;
use crate::task::PageRequest;

/// A certificate that was issued to a device.
pub type Certificate = covey_api::Certificate<'static>;
/// A device whose certificates were revoked.
pub type DeviceCertificatesRevoked = covey_api::DeviceCertificatesRevoked<'static>;

/// A page of certificates.
#[derive(Clone, Debug)]
pub struct CertificatePage {
    /// What is on it.
    pub items: Vec<Certificate>,
    /// How many there are in all, if the server says so.
    pub total: Option<u64>,
}

/// Which certificates are wanted; all, if nothing is set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CertificateFilter {
    /// Those of the device with this number.
    pub device_id: Option<i64>,
    /// Those of devices with this serial number.
    pub sn: Option<String>,
    /// The one with this serial number of its own.
    pub serial: Option<String>,
    /// Those in this state: `valid`, `expired` or `revoked`.
    pub state: Option<String>,
    /// Those that end before this instant.
    pub expires_before: Option<Time>,
}

const CERTIFICATES: [&str; 3] = ["api", "v1", "certificates"];

impl Client {
    /// A page of certificates, those that end first in front.
    ///
    /// # Errors
    /// A refusal, or the transport's.
    pub async fn certificate_list(
        &self,
        filter: &CertificateFilter,
        page: PageRequest,
    ) -> Result<CertificatePage> {
        let request = self
            .request(Method::GET, &CERTIFICATES)
            .query_if("device_id", filter.device_id)
            .query_if("sn", filter.sn.as_ref())
            .query_if("serial", filter.serial.as_ref())
            .query_if("state", filter.state.as_ref())
            .query_if("expires_before", filter.expires_before.map(|at| at.to_string()));
        let answer = page.add_to(request).send().await?;
        Ok(CertificatePage { items: answer.json()?, total: answer.total_count })
    }

    /// A certificate by its serial number.
    ///
    /// # Errors
    /// A refusal (404 if there is none of that number), or the transport's.
    pub async fn certificate(&self, serial: &str) -> Result<Certificate> {
        self.request(Method::GET, &["api", "v1", "certificates", serial]).send().await?.json()
    }

    /// Revokes a certificate. One that was revoked before stays as it is.
    ///
    /// # Errors
    /// A refusal (404 if there is none of that number), or the transport's.
    pub async fn certificate_revoke(&self, serial: &str, request: &RevocationNew) -> Result<Certificate> {
        let path = ["api", "v1", "certificates", serial, "revoke"];
        self.request(Method::POST, &path).json(request).send().await?.json()
    }

    /// Revokes all certificates of a device, which stays registered.
    ///
    /// # Errors
    /// A refusal (404 if there is no such device), or the transport's.
    pub async fn device_certificates_revoke(
        &self,
        device_id: i64,
        request: &RevocationNew,
    ) -> Result<DeviceCertificatesRevoked> {
        let id = device_id.to_string();
        let path = ["api", "v1", "devices", &id, "revoke"];
        self.request(Method::POST, &path).json(request).send().await?.json()
    }
}
