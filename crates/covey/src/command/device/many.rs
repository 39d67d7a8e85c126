//! `covey device add --count`: registers devices in bulk, and writes what they need to one archive.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use covey_client::{Client, DeviceFilter, DeviceNew, DeviceTags, Error, PageRequest, Registered};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;
use sha2::{Digest, Sha256};
use tokio::task::JoinSet;

use crate::command::connection::Connection;
use crate::command::device::AddArgs;
use crate::command::device::add::tags;
use crate::command::device::many_archive::{Archive, Batch, Files, Row};
use crate::command::output::Output;
use crate::fault;

/// How many devices are registered at the same time.
const AT_ONCE: usize = 32;
/// The tag of the devices of a batch.
const BATCH_TAG: &str = "batch";
/// How often a server is asked again that can take no more now, and how long is waited before.
const ATTEMPTS_MAX: u32 = 60;
const PAUSE: Duration = Duration::from_secs(1);
/// How often it is told how far it is, with `--json`.
const TELL_EVERY: Duration = Duration::from_secs(1);
/// Longest serial number, in characters.
const SN_CHARS_MAX: usize = 64;

/// Runs `covey device add --count`.
pub async fn run(args: AddArgs, count: u32, connection: &Connection) -> Result<()> {
    let (Some(prefix), Some(out)) = (args.prefix, args.out) else {
        return Err(fault::setup("--count needs --prefix and --out"));
    };
    let names = names(&prefix, args.from, count)?;
    let mut archive = if args.resume {
        Archive::resume(&out, &prefix, args.from, count)?
    } else {
        let id = uuid::Uuid::now_v7().to_string();
        Archive::begin(&out, Batch { id, prefix, from: args.from, count })?
    };
    let known: HashSet<_> = archive.rows.iter().map(|row| row.sn.clone()).collect();
    let mut tags = tags(args.tags).unwrap_or_default();
    tags.0.insert(BATCH_TAG.to_owned(), archive.batch.id.clone());
    let (began, already) = (Instant::now(), known.len());
    let wanted = names.into_iter().filter(|sn| !known.contains(sn));
    let outcome = register_all(wanted, &tags, &mut archive, count, connection).await;
    if let Err(error) = outcome {
        archive.sync()?;
        let (have, shown) = (archive.rows.len(), archive.partial().display().to_string());
        return Err(error.context(format!(
            "{have} of {count} devices are registered and in {shown}; go on with the same command and --resume"
        )));
    }
    let (id, new) = (archive.batch.id.clone(), archive.rows.len() - already);
    archive.finish()?;
    let seconds = began.elapsed().as_secs_f64();
    if connection.output.json {
        let told = json!({"devices": count, "new": new, "batch": id, "out": out, "seconds": seconds});
        return Ok(connection.output.json(&told)?);
    }
    connection.output.text(&format!(
        "{count} devices are in {} ({new} registered in {seconds:.1} s); each has the tag {BATCH_TAG}={id}",
        out.display()
    ))?;
    Ok(())
}

/// The serial numbers: all of one length, so that they are in the order of their numbers.
fn names(prefix: &str, from: u32, count: u32) -> Result<Vec<String>> {
    let last = from.checked_add(count - 1).ok_or_else(|| fault::setup("--from is too high"))?;
    let digits = last.to_string().len();
    let is_good = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    if !prefix.bytes().all(is_good) || prefix.len() + digits > SN_CHARS_MAX {
        return Err(fault::setup(
            "--prefix must be of A-Z a-z 0-9 _ -, and short enough for 64 characters with the number",
        ));
    }
    Ok((from..=last).map(|number| format!("{prefix}{number:0digits$}")).collect())
}

async fn register_all(
    mut wanted: impl Iterator<Item = String>,
    tags: &DeviceTags,
    archive: &mut Archive,
    count: u32,
    connection: &Connection,
) -> Result<()> {
    let mut progress = Progress::new(connection.output, count)?;
    let mut running = JoinSet::new();
    let mut outcome = Ok(());
    let interrupted = tokio::signal::ctrl_c();
    tokio::pin!(interrupted);
    loop {
        while outcome.is_ok() && running.len() < AT_ONCE {
            let Some(sn) = wanted.next() else { break };
            running.spawn(register(connection.client.clone(), sn, tags.clone()));
        }
        // What runs is waited for also after a fault: the keys that come are shown once.
        let joined = tokio::select! {
            joined = running.join_next() => joined,
            _ = &mut interrupted, if outcome.is_ok() => {
                outcome = Err(anyhow!("interrupted"));
                continue;
            }
        };
        let Some(joined) = joined else { break };
        let registered = joined.map_err(anyhow::Error::from).and_then(|registered| registered);
        let added = registered.and_then(|registered| add(archive, &registered));
        progress.tell(archive.rows.len());
        if let Err(error) = added
            && outcome.is_ok()
        {
            outcome = Err(error);
        }
    }
    progress.end();
    outcome
}

fn add(archive: &mut Archive, registered: &Registered) -> Result<()> {
    let sn = registered.device.sn.to_string();
    let parts = (&registered.certificate_pem, &registered.ca_pem, &registered.private_key_pem);
    let (Some(certificate), Some(ca), Some(key)) = parts else {
        bail!("the server sent no certificate for {sn}")
    };
    let leaf = covey_pki::certificates_der(&[certificate]).context("the server sent no certificate")?;
    let digest = Sha256::digest(leaf.first().map_or(&[][..], Vec::as_slice));
    let certificate_sha256 = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    let row = Row { sn, device_id: registered.device.device_id, certificate_sha256 };
    archive.add(row, &Files { ca, certificate, key })
}

/// Registers one. Where an earlier run of the same batch has registered it and its key did not come to the archive, it is
/// retired and registered anew.
async fn register(client: Client, sn: String, tags: DeviceTags) -> Result<Registered> {
    let request = DeviceNew { sn: Some(sn.clone()), tags: Some(tags.clone()), ..DeviceNew::default() };
    let mut attempts = 0;
    loop {
        match client.device_register(&request).await {
            Ok(registered) => return Ok(registered),
            Err(Error::Refused { status: 429 | 503, .. }) if attempts < ATTEMPTS_MAX => {
                attempts += 1;
                tokio::time::sleep(PAUSE).await;
            }
            Err(error) if error.status() == Some(409) && attempts < ATTEMPTS_MAX => {
                attempts = ATTEMPTS_MAX;
                retire_own(&client, &sn, &tags).await?;
            }
            Err(error) => return Err(anyhow::Error::from(error).context(format!("{sn} is not registered"))),
        }
    }
}

async fn retire_own(client: &Client, sn: &str, tags: &DeviceTags) -> Result<()> {
    let filter = DeviceFilter { sn: Some(sn.to_owned()), ..DeviceFilter::default() };
    let found = client.device_list(&filter, PageRequest { page: 1, size: 1 }).await?;
    let batch = tags.0.get(BATCH_TAG);
    let own = found.items.into_iter().find(|device| {
        device
            .device_tags
            .iter()
            .any(|tag| tag.tag == BATCH_TAG && Some(tag.value.as_ref()) == batch.map(String::as_str))
    });
    let own = own.ok_or_else(|| {
        anyhow!("a device with the serial number {sn} is registered already: give another --prefix or --from")
    })?;
    Ok(client.device_retire(own.device_id).await?)
}

/// Says how far it is: by a bar on a terminal, with `--json` by lines on standard error.
struct Progress {
    bar: ProgressBar,
    is_json: bool,
    count: u32,
    told: Instant,
}

impl Progress {
    fn new(output: Output, count: u32) -> Result<Self> {
        let bar = if output.json { ProgressBar::hidden() } else { ProgressBar::new(count.into()) };
        let bar = bar.with_style(ProgressStyle::with_template("registering {bar:40} {pos}/{len} {per_sec}")?);
        Ok(Self { bar, is_json: output.json, count, told: Instant::now() })
    }

    fn tell(&mut self, done: usize) {
        self.bar.set_position(done as u64);
        if self.is_json && self.told.elapsed() >= TELL_EVERY {
            self.told = Instant::now();
            eprintln!("{}", json!({"done": done, "of": self.count}));
        }
    }

    fn end(&self) {
        self.bar.finish_and_clear();
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn serial_numbers_are_in_the_order_of_their_numbers() {
        let made = names("LAMP-", 9, 2).unwrap();
        assert_eq!(made, ["LAMP-09", "LAMP-10"]);
        assert!(names("a.b", 1, 1).is_err() && names(&"x".repeat(64), 1, 1).is_err());
        assert!(names("a", u32::MAX, 2).is_err());
    }
}
