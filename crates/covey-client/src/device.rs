//! Devices: registering, finding, tagging and retiring them.

use covey_api::{DeviceNew, TagPut};
use reqwest::Method;

use crate::client::Client;
use crate::error::Result;
use crate::task::PageRequest;

/// A name with a value, given to a device by an application.
pub type Tag = covey_api::DeviceTag<'static>;
/// A device.
pub type Device = covey_api::Device<'static>;
/// A device's last known connection.
pub type Connection = covey_api::DeviceConnection<'static>;
/// A device that was just registered, with all that it needs to connect, or
/// without any of that if it was to get no certificate.
pub type Registered = covey_api::DeviceRegistered<'static>;

/// A page of devices.
#[derive(Clone, Debug)]
pub struct DevicePage {
    /// What is on it.
    pub items: Vec<Device>,
    /// How many there are in all, if the server says so.
    pub total: Option<u64>,
}

/// Which devices are wanted; all, if nothing is set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeviceFilter {
    /// The one with this number.
    pub device_id: Option<i64>,
    /// The one with this serial number.
    pub sn: Option<String>,
    /// Those with this tag: `name`, or `name:value`.
    pub tag: Option<String>,
    /// Those that are connected, or those that are not.
    pub online: Option<bool>,
}

impl Client {
    /// Registers a device and has a certificate issued for it.
    ///
    /// # Errors
    /// A refusal (409 if the serial number or the number is taken), or the
    /// transport's.
    pub async fn device_register(&self, request: &DeviceNew) -> Result<Registered> {
        self.request(Method::POST, &["api", "v1", "devices"]).json(request).send().await?.json()
    }

    /// A page of devices, in the order of their numbers.
    ///
    /// # Errors
    /// A refusal, or the transport's.
    pub async fn device_list(&self, filter: &DeviceFilter, page: PageRequest) -> Result<DevicePage> {
        let request = self
            .request(Method::GET, &["api", "v1", "devices"])
            .query_if("device_id", filter.device_id)
            .query_if("sn", filter.sn.as_ref())
            .query_if("tag", filter.tag.as_ref())
            .query_if("online", filter.online);
        let answer = page.add_to(request).send().await?;
        Ok(DevicePage { items: answer.json()?, total: answer.total_count })
    }

    /// Sets a tag of a device, and answers the tag's number.
    ///
    /// # Errors
    /// A refusal (404 if there is no such device), or the transport's.
    pub async fn device_tag(&self, device_id: i64, tag: &Tag) -> Result<i64> {
        let id = device_id.to_string();
        let answer = self.request(Method::PUT, &["api", "v1", "devices", &id]).json(tag).send().await?;
        answer.json::<TagPut>().map(|put| put.tag_id)
    }

    /// Retires a device: its certificates are revoked and it is disconnected.
    ///
    /// # Errors
    /// A refusal (404 if there is no such device), or the transport's.
    pub async fn device_retire(&self, device_id: i64) -> Result<()> {
        let id = device_id.to_string();
        self.request(Method::DELETE, &["api", "v1", "devices", &id]).send().await.map(|_| ())
    }
}
