//! `covey audit verify`: whether the audit log is as it was written. A running server is asked for its rows; without one
//! they are read from its store.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use clap::Args;
use covey_core::audit::{
    AuditChain, AuditFlaw, AuditHash, AuditHead, AuditRow, AuditVerifier, FlawKind, Verified, hash_text,
};
use covey_core::id::{OrgId, UnixMs};
use covey_core::port::Store;
use serde_json::json;

use crate::command::connection::{Connection, DATA_DEFAULT, Target};
use crate::command::output::{Output, printable};
use crate::command::{moment, store};
use crate::fault;
use crate::serve::data_dir::DataDir;
use crate::settings::{Options, SQLITE, ServiceUrl, Settings};

/// How many rows are read at once.
const ROWS: u32 = 500;

/// `covey audit verify`.
#[derive(Args)]
pub struct VerifyArgs {
    /// A last hash that was printed earlier: it must still be there. Repeat for more chains
    #[arg(long = "head", value_name = "CHAIN:NUMBER:HASH")]
    heads: Vec<Head>,
    /// Read the store itself: all servers of it are stopped
    #[arg(long)]
    offline: bool,
    /// With --offline: where tasks are stored, as the server was told: sqlite (in the data directory) or
    /// postgres://USER:PASSWORD@HOST/DATABASE
    #[arg(long, env = "COVEY_STORE", value_name = "URL", hide_env_values = true)]
    store: Option<ServiceUrl>,
    /// With --offline: configuration file of the server in TOML
    #[arg(long, env = "COVEY_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
}

/// The end that a chain once had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Head(AuditHead);

impl FromStr for Head {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let read = || {
            let (chain, rest) = text.split_once(':')?;
            let (number, hash) = rest.split_once(':')?;
            let (chain, number) = (chain.parse().ok()?, number.parse().ok()?);
            Some(Self(AuditHead { chain, number, hash: hash_of(hash)? }))
        };
        read().ok_or("write CHAIN:NUMBER:HASH, as covey audit verify has printed it")
    }
}

/// A hash from its hexadecimal digits.
fn hash_of(text: &str) -> Option<AuditHash> {
    let mut hash = AuditHash::default();
    if text.len() != 2 * hash.len() || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    for (place, byte) in hash.iter_mut().enumerate() {
        *byte = u8::from_str_radix(text.get(2 * place..2 * place + 2)?, 16).ok()?;
    }
    Some(hash)
}

/// A hash out of an answer: one that is none stands for none that a row has.
fn hash_read(text: &str) -> AuditHash {
    hash_of(text).unwrap_or([u8::MAX; 32])
}

impl VerifyArgs {
    /// Whether the store is read, and not a server asked.
    pub fn is_offline(&self) -> bool {
        self.offline
    }
}

/// Where rows come from.
enum Source<'a> {
    Server(&'a Connection),
    Store(Arc<dyn Store>),
}

impl Source<'_> {
    async fn chains(&self) -> Result<Vec<AuditChain>> {
        match self {
            Self::Store(store) => Ok(store.audit_chains_of_every_org().await.map_err(fault::setup)?),
            Self::Server(connection) => {
                let chains = connection.client.audit_chains().await?;
                Ok(chains.into_iter().map(chain_read).collect())
            }
        }
    }

    async fn rows(&self, chain: i64, after: i64) -> Result<Vec<AuditRow>> {
        match self {
            Self::Store(store) => {
                Ok(store.audit_rows_of_every_org(chain, after, ROWS).await.map_err(fault::setup)?)
            }
            Self::Server(connection) => {
                let rows = connection.client.audit_rows(chain, after).await?;
                let row = |row: covey_client::AuditRow| AuditRow {
                    chain,
                    number: row.number,
                    org: OrgId(row.org),
                    at: UnixMs(row.at_ms),
                    entries: row.entries.into_owned(),
                    hash: hash_read(&row.hash),
                };
                Ok(rows.into_iter().map(row).collect())
            }
        }
    }
}

fn chain_read(chain: covey_client::AuditChain) -> AuditChain {
    AuditChain {
        server: chain.server.into_owned(),
        anchor: chain.anchor,
        anchor_hash: hash_read(&chain.anchor_hash),
        head: AuditHead { chain: chain.chain, number: chain.head, hash: hash_read(&chain.head_hash) },
    }
}

/// Runs it on a server.
pub async fn run(args: &VerifyArgs, connection: &Connection) -> Result<ExitCode> {
    verify(args, &Source::Server(connection), connection.output).await
}

/// Runs it on a store without a server.
pub async fn run_offline(args: &VerifyArgs, target: &Target) -> Result<ExitCode> {
    let data = Some(target.data.clone()).filter(|data| data != Path::new(DATA_DEFAULT));
    let options = Options { data, store: args.store.clone(), ..Options::default() };
    let settings = Settings::settle(options, args.config.as_deref())?;
    let shown = settings.data.display();
    let _held = match settings.data.is_dir() {
        true => Some(DataDir::hold(&settings.data)?.ok_or_else(|| {
            fault::setup(format!("a server runs on {shown}: ask it, without --offline, or stop it"))
        })?),
        // A server elsewhere may keep its data on a machine that this is not.
        false => None,
    };
    if settings.store.scheme() != SQLITE {
        store::refuse_servers(&settings).await?;
    }
    let opened = store::open(&settings).await?;
    verify(args, &Source::Store(opened), Output::new(target.json)).await
}

/// What became of a chain.
type Found = (AuditChain, Result<Verified, AuditFlaw>);

async fn verify(args: &VerifyArgs, source: &Source<'_>, output: Output) -> Result<ExitCode> {
    let mut found: Vec<Found> = Vec::new();
    let chains = source.chains().await?;
    for chain in &chains {
        found.push((chain.clone(), verify_chain(source, chain.clone(), &args.heads).await?));
    }
    let heads = args.heads.iter().map(|Head(head)| head.chain);
    let lost: BTreeSet<_> =
        heads.filter(|head| chains.iter().all(|chain| chain.head.chain != *head)).collect();
    let is_whole = lost.is_empty() && found.iter().all(|(_, outcome)| outcome.is_ok());
    for (chain, outcome) in &found {
        tell(chain, outcome, output)?;
    }
    for chain in &lost {
        let flaw = format!("chain {chain} is not there: all of it was removed");
        if output.json {
            output
                .json(&json!({"chain": chain, "server": null, "flaw": flaw, "number": null, "at": null}))?;
        } else {
            output.text(&flaw)?;
        }
    }
    // That a head proves nothing any more is nobody's change.
    let is_changed =
        |outcome: &Result<_, AuditFlaw>| outcome.as_ref().is_err_and(|flaw| flaw.kind != FlawKind::Forgotten);
    let is_changed = !lost.is_empty() || found.iter().any(|(_, outcome)| is_changed(outcome));
    if is_changed && !output.json {
        output.note(
            "the audit log was changed by hand: a copy of it that was kept elsewhere shows what it was",
        );
    }
    Ok(if is_whole { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn verify_chain(
    source: &Source<'_>,
    chain: AuditChain,
    heads: &[Head],
) -> Result<Result<Verified, AuditFlaw>> {
    let number = chain.head.chain;
    let (mut chain, now) = (chain, UnixMs(moment::after(Duration::ZERO).0));
    loop {
        let (anchor, mut verifier) =
            (chain.anchor, AuditVerifier::new(chain, heads.iter().map(|head| head.0), now));
        let outcome = loop {
            let rows = source.rows(number, verifier.after()).await?;
            if rows.is_empty() {
                break verifier.done();
            }
            if let Err(flaw) = rows.iter().try_for_each(|row| verifier.row(row)) {
                break Err(flaw);
            }
        };
        if outcome.is_ok() {
            return Ok(outcome);
        }
        // What was too old may have been forgotten meanwhile.
        let now = source.chains().await?.into_iter().find(|chain| chain.head.chain == number);
        match now.filter(|now| now.anchor > anchor) {
            Some(now) => chain = now,
            None => return Ok(outcome),
        }
    }
}

fn tell(chain: &AuditChain, outcome: &Result<Verified, AuditFlaw>, output: Output) -> Result<()> {
    let number = chain.head.chain;
    let server =
        if chain.server.is_empty() { String::new() } else { format!(" ({})", printable(&chain.server)) };
    match outcome {
        Ok(Verified { rows, head }) if output.json => output.json(&json!({
            "chain": number, "server": chain.server, "rows": rows, "anchor": chain.anchor,
            "head": {"number": head.number, "hash": hash_text(&head.hash)}, "flaw": null,
        }))?,
        Ok(Verified { rows, head }) => {
            let forgotten = match chain.anchor {
                0 => String::new(),
                anchor => format!(", rows up to {anchor} are forgotten"),
            };
            let head = format!("{number}:{}:{}", head.number, hash_text(&head.hash));
            output.text(&format!(
                "chain {number}{server}: {rows} rows are as they were written{forgotten}; head {head}"
            ))?;
        }
        Err(flaw) if output.json => output.json(&json!({
            "chain": number, "server": chain.server, "flaw": flaw.to_string(), "number": flaw.number,
            "at": flaw.at.map(|at| covey_client::Time(at.0)),
        }))?,
        Err(flaw) => {
            let at = flaw.at.map(|at| format!(", of {}", moment::local(covey_client::Time(at.0))));
            output.text(&format!("{flaw}{}{server}", at.unwrap_or_default()))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_head_is_read_as_it_was_printed() {
        let head = AuditHead { chain: 2, number: 17, hash: [0xab; 32] };
        let text = format!("2:17:{}", hash_text(&head.hash));
        assert_eq!(text.parse::<Head>().unwrap(), Head(head));
        for bad in ["", "2:17", "2:17:ab", &text.replace("ab", "zz"), "a:1:b"] {
            assert!(bad.parse::<Head>().is_err(), "{bad}");
        }
    }
}
