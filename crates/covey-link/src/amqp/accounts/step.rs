//! Makes, changes or deletes accounts by what is registered at that moment, not by what was asked.
//!
//! Several servers may do this for one serial number at the same time. Each reads the store before
//! and after it acts, and acts again if the store has changed. So the last to act has seen the
//! last state.

use std::collections::{BTreeSet, HashMap};

use covey_core::id::Sn;
use futures_util::{StreamExt, TryStreamExt, stream};

use crate::amqp::AmqpError;
use crate::amqp::accounts::registry::Registry;
use crate::amqp::accounts::rights;
use crate::amqp::management::{Definitions, Management, User};

/// How many requests are under way at a time.
const REQUESTS_MAX: usize = 8;
/// From how many accounts on a list of all users is cheaper than single looks.
const LIST_FROM: usize = 64;
/// How often it is done again because a device came or went meanwhile.
const ROUNDS_MAX: u32 = 5;

/// Brings these accounts in step; closes the connections of `cut_off` in any case.
pub(super) async fn bring_in_step(
    management: &Management,
    registry: &dyn Registry,
    sns: &[Sn],
    cut_off: &BTreeSet<Sn>,
) -> Result<(), AmqpError> {
    let mut todo = sns.to_vec();
    for _ in 0..ROUNDS_MAX {
        if todo.is_empty() {
            break;
        }
        let before = registered(registry, &todo).await?;
        let users = users(management, &todo).await?;
        let mut made = Definitions::default();
        let mut gone = Vec::new();
        for ((sn, is_registered), user) in todo.iter().zip(&before).zip(users) {
            match (is_registered, user) {
                (_, Some(user)) if !rights::is_of_a_device(&user) => {
                    if *is_registered {
                        tracing::error!(
                            %sn,
                            "RabbitMQ has an account of this name that is not a device's: the device gets none and \
                             would act as that user; retire it and give it another serial number"
                        );
                    }
                }
                (true, user) => {
                    let tags = user.map(|user| user.tags).unwrap_or_default();
                    rights::define(&mut made, sn, management.vhost(), &tags);
                }
                (false, Some(user)) => gone.push(user),
                (false, None) => {}
            }
        }
        if !made.users.is_empty() {
            management.define(&made).await?;
        }
        remove(management, gone).await?;
        let after = registered(registry, &todo).await?;
        let changed =
            todo.iter().zip(before.iter().zip(&after)).filter(|(_, (before, after))| before != after);
        todo = changed.map(|(sn, _)| sn.clone()).collect();
    }
    for sn in cut_off {
        management.close_connections(sn.as_str()).await?;
    }
    Ok(())
}

async fn registered(registry: &dyn Registry, sns: &[Sn]) -> Result<Vec<bool>, AmqpError> {
    let asking: Vec<_> = sns.iter().map(|sn| registry.is_registered(sn)).collect();
    Ok(stream::iter(asking).buffered(REQUESTS_MAX).try_collect().await?)
}

async fn users(management: &Management, sns: &[Sn]) -> Result<Vec<Option<User>>, AmqpError> {
    if sns.len() < LIST_FROM {
        let asking: Vec<_> = sns.iter().map(|sn| management.user(sn.as_str())).collect();
        return stream::iter(asking).buffered(REQUESTS_MAX).try_collect().await;
    }
    let all = management.users().await?;
    let mut all: HashMap<_, _> = all.into_iter().map(|user| (user.name.clone(), user)).collect();
    Ok(sns.iter().map(|sn| all.remove(sn.as_str())).collect())
}

/// Deletes accounts that are ours alone, and takes ours out of those that
/// another deployment has too. Accounts without our tag are left alone.
async fn remove(management: &Management, gone: Vec<User>) -> Result<(), AmqpError> {
    let tag = rights::tag(management.vhost());
    let (shared, own): (Vec<_>, Vec<_>) = gone
        .into_iter()
        .filter(|user| user.tags.contains(&tag))
        .partition(|user| user.tags.iter().any(|other| *other != tag));
    match own.as_slice() {
        [] => {}
        // The broker closes the connections of a user that it deletes.
        [one] => management.delete_user(&one.name).await?,
        several => {
            let names: Vec<_> = several.iter().map(|user| user.name.clone()).collect();
            management.delete_users(&names).await?;
        }
    }
    for user in shared {
        let others: Vec<_> = user.tags.into_iter().filter(|other| *other != tag).collect();
        management.delete_permissions(&user.name).await?;
        management.set_tags(&user.name, &others).await?;
        management.close_connections(&user.name).await?;
    }
    Ok(())
}
