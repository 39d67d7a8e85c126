//! Compares all accounts of a deployment with its devices, and repairs them.

use std::collections::BTreeSet;

use covey_core::id::Sn;

use crate::amqp::accounts::difference::{Accounts, Difference, DifferenceKind};
use crate::amqp::accounts::registry::Registry;
use crate::amqp::accounts::step;
use crate::amqp::management::Management;
use crate::amqp::{AmqpError, Options};

/// How many devices are read from the store at a time.
const PAGE: u32 = 1_000;
/// How many accounts one request changes.
pub(super) const CHUNK: usize = 500;

/// What an audit has found, and what it has done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Audit {
    /// How many devices are registered.
    pub devices: usize,
    /// What differs, or differed, in the order of the names.
    pub differences: Vec<Difference>,
    /// Whether Covey's own accounts were repaired.
    pub is_repaired: bool,
}

/// Compares the accounts of the deployment with the devices that are
/// registered, and puts them right if asked to.
///
/// # Errors
/// [`AmqpError::NoManagement`], or what the management API or the store says.
pub async fn audit(options: &Options, registry: &dyn Registry, repair: bool) -> Result<Audit, AmqpError> {
    let management = Management::new(options).ok_or(AmqpError::NoManagement)?;
    compare(&management, registry, repair).await
}

pub(super) async fn compare(
    management: &Management,
    registry: &dyn Registry,
    repair: bool,
) -> Result<Audit, AmqpError> {
    let (registered, accounts) = look(management, registry).await?;
    let differences = accounts.differences(&registered, management.vhost());
    if repair {
        put_right(management, registry, &differences).await?;
    }
    Ok(Audit { devices: registered.len(), differences, is_repaired: repair })
}

/// The same, as a server does it by itself. One that has no devices at all may
/// have been started on the wrong store, and deletes nothing.
pub(super) async fn keep_in_step(
    management: &Management,
    registry: &dyn Registry,
) -> Result<Audit, AmqpError> {
    if registry.sns(None, 1).await?.is_empty() {
        let audit = compare(management, registry, false).await?;
        if !audit.differences.is_empty() {
            tracing::warn!(
                accounts = audit.differences.len(),
                "RabbitMQ has accounts of devices, this server's store has no device: is it the right store? No account \
                 deleted; `covey rabbitmq audit --repair` deletes them"
            );
        }
        return Ok(Audit { differences: Vec::new(), ..audit });
    }
    compare(management, registry, true).await
}

async fn look(
    management: &Management,
    registry: &dyn Registry,
) -> Result<(BTreeSet<Sn>, Accounts), AmqpError> {
    // Accounts first: a device that is registered meanwhile then counts as missing, which is
    // harmless to repair. The other way round its account would be deleted.
    let users = management.users().await?;
    let permissions = management.permissions().await?;
    let topic_permissions = management.topic_permissions().await?;
    let mut registered = BTreeSet::new();
    loop {
        let page = registry.sns(registered.last(), PAGE).await?;
        let is_last = page.len() < PAGE as usize;
        registered.extend(page);
        if is_last {
            return Ok((registered, Accounts::new(users, permissions, topic_permissions)));
        }
    }
}

/// Repairs all accounts that differ, by what the store holds now.
async fn put_right(
    management: &Management,
    registry: &dyn Registry,
    differences: &[Difference],
) -> Result<(), AmqpError> {
    let ours = differences.iter().filter(|difference| difference.kind != DifferenceKind::Foreign);
    let names: BTreeSet<Sn> = ours.filter_map(|difference| Sn::parse(&difference.account).ok()).collect();
    let names: Vec<_> = names.into_iter().collect();
    for chunk in names.chunks(CHUNK) {
        step::bring_in_step(management, registry, chunk, &BTreeSet::new()).await?;
    }
    Ok(())
}
