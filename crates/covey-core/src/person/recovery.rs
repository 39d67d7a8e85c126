//! The way back in for a person who is locked out, by whoever holds the store. It has no caller to check: holding the store
//! is the right to it, so no server may offer it.

use crate::access::KeyDigest;
use crate::error::{Result, StorageFault};
use crate::id::UnixMs;
use crate::operation::OperationJob;
use crate::person::{LinkMaker, Person, PersonLinkMake};
use crate::port::Store;

/// Makes a link with which the person of this name sets another password.
///
/// # Errors
/// [`crate::Error::NotFound`], or the store's.
pub async fn person_link(store: &dyn Store, name: &str, link: (KeyDigest, UnixMs)) -> Result<Person> {
    let name = Person::name_of(name)?;
    let (job, answer) = OperationJob::new(PersonLinkMake { by: LinkMaker::Store { name }, link }, |_| ());
    store.submit(job)?;
    answer.await.unwrap_or(Err(StorageFault::Stopped.into())).map(|(person, ())| person)
}
