//! The way back in for whoever holds the store and no API key that may make
//! keys. It has no caller to check: holding the store is the right to it, so no
//! server may offer it.

use crate::access::{AdminKeyRecover, ApiKey, Rights};
use crate::error::{Result, StorageFault};
use crate::operation::OperationJob;
use crate::port::Store;

/// The keys that may make keys, or act for every organisation, of every organisation.
///
/// # Errors
/// The store's.
pub async fn admin_keys_of_every_org(store: &dyn Store) -> Result<Vec<ApiKey>> {
    let mut keys = store.api_key_list_of_every_org().await?;
    keys.retain(|key| key.rights.0 & Rights::ALL_KEYS_WRITE.0 != 0);
    Ok(keys)
}

/// Makes a key and revokes others, in one transaction.
///
/// # Errors
/// [`crate::Error::Conflict`] in a store that never had a key, or the store's.
pub async fn admin_key_recover(store: &dyn Store, operation: AdminKeyRecover) -> Result<ApiKey> {
    let (job, answer) = OperationJob::new(operation, |_| ());
    store.submit(job)?;
    answer.await.unwrap_or(Err(StorageFault::Stopped.into())).map(|((added, _), ())| added.key)
}
