//! The bodies of requests. Clients write them and the server reads them, so what is left out is
//! neither written nor needed.

mod access;
mod certificate;
mod claim;
mod device;
mod node;
mod retention;
mod task;
mod twin;
mod unit;
mod webhook;

pub use access::ApiKeyNew;
pub use certificate::RevocationNew;
pub use claim::{ClaimNew, ClaimRelease, ClaimSerialsNew};
pub use device::{BundleWanted, CertificateWanted, DeviceNew, DeviceTags};
pub use node::{NodeNew, NodeRename};
pub use retention::RetentionChange;
pub use task::TaskNew;
#[cfg(feature = "openapi")]
pub use task::TaskNewSchema;
pub use twin::TwinPatch;
pub use unit::{UnitChange, UnitNew};
pub use webhook::{SecretRotation, WebhookChange, WebhookNew, WebhookSet};
