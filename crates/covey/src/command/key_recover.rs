//! `covey key recover`: a new key with all rights for whoever holds the store
//! and has lost every key that may make keys.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use covey_core::access::recovery;
use covey_core::access::{AdminKeyRecover, ApiKey, ApiKeyAdd, Rights};
use covey_core::audit::AuditActor;
use covey_core::port::Ids;
use serde_json::{Value, json};

use crate::command::connection::{DATA_DEFAULT, Target};
use crate::command::output::{Output, printable};
use crate::command::store;
use crate::fault;
use crate::serve::admin_key::{FIRST_NAME, FIRST_ORG};
use crate::serve::data_dir::DataDir;
use crate::serve::parts::RandomIds;
use crate::settings::{Options, SQLITE, ServiceUrl, Settings};

/// Shown below the options.
pub const EXAMPLES: &str = "Examples:\n  \
    covey key recover --data ./covey-data\n  \
    covey key recover --store postgres://covey:PASSWORD@db/covey\n\n\
    All servers of the store must be stopped: nobody makes another key meanwhile with one that is being revoked. \
    Use the covey that the servers run: an older one knows fewer rights.\n\
    Standard output gets the key and nothing else; a data directory that is there gets it as admin.key.";

/// `covey key recover`.
#[derive(Args)]
pub struct RecoverArgs {
    /// Revoke none of the other keys with keys:write or orgs:admin
    #[arg(long)]
    keep_others: bool,
    /// Where tasks are stored, as the server was told: sqlite (in the data directory) or
    /// postgres://USER:PASSWORD@HOST/DATABASE
    #[arg(long, env = "COVEY_STORE", value_name = "URL", hide_env_values = true)]
    store: Option<ServiceUrl>,
    /// Configuration file of the server in TOML
    #[arg(long, env = "COVEY_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
}

/// Runs `covey key recover`.
pub async fn run(args: &RecoverArgs, target: &Target) -> Result<ExitCode> {
    let settings = settle(args, target)?;
    // A server elsewhere may keep its data on a machine that this is not.
    let held = if settings.data.is_dir() { Some(hold(&settings.data)?) } else { None };
    if settings.store.scheme() != SQLITE {
        store::refuse_servers(&settings).await?;
    }
    let opened = store::open(&settings).await?;
    let others = recovery::admin_keys_of_every_org(&*opened).await?;
    let output = Output::new(target.json);
    output.note(&plan(&others, args.keep_others));

    let clear_text = RandomIds.api_key();
    let add = ApiKeyAdd {
        org: None,
        org_name: FIRST_ORG.to_owned(),
        name: FIRST_NAME.to_owned(),
        access: Rights::ALL.into(),
        digest: covey_http::key_digest(&clear_text),
        certificate: None,
        by: AuditActor::command("covey key recover"),
        from: None,
    };
    let revoke = if args.keep_others { Vec::new() } else { others.iter().map(|key| key.id).collect() };
    let made = recovery::admin_key_recover(&*opened, AdminKeyRecover { add, revoke }).await;
    let made = made.map_err(fault::setup)?;
    // The key is valid from here on, so it is shown even if it cannot be kept in the file.
    let written = held.as_ref().map(|data| data.write_admin_key(&clear_text)).transpose();
    let path = held.as_ref().map(DataDir::admin_key_path).filter(|_| written.is_ok());
    if output.json {
        output.json(&document(&made, &clear_text, path.as_deref(), &others, args.keep_others))?;
    } else {
        output.text(&clear_text)?;
    }
    let kept = path.map(|path| format!(", also as {}", path.display())).unwrap_or_default();
    output.note(&format!("key {} of {} has all rights; it is shown this once{kept}", made.id, made.org_name));
    written?;
    Ok(ExitCode::SUCCESS)
}

/// Takes hold of the data directory as a server does.
fn hold(folder: &Path) -> Result<DataDir> {
    let shown = folder.display();
    let runs = || fault::setup(format!("a server runs on {shown}; stop it and try again"));
    DataDir::hold(folder)?.ok_or_else(runs)
}

/// The settings of the server. A data directory that was named counts more than
/// that of its configuration file.
fn settle(args: &RecoverArgs, target: &Target) -> Result<Settings> {
    let data = Some(target.data.clone()).filter(|data| data != Path::new(DATA_DEFAULT));
    let options = Options { data, store: args.store.clone(), ..Options::default() };
    Settings::settle(options, args.config.as_deref())
}

/// What will be done, before it is.
fn plan(others: &[ApiKey], keep: bool) -> String {
    let number = match others.len() {
        0 => return "making a key with all rights; no other key has keys:write or orgs:admin".to_owned(),
        1 => "1 other key with keys:write or orgs:admin".to_owned(),
        number => format!("{number} other keys with keys:write or orgs:admin"),
    };
    let list: Vec<_> = others
        .iter()
        .map(|key| format!("{} {} of {}", key.id, printable(&key.name), printable(&key.org_name)))
        .collect();
    let verb = if keep { "keeping" } else { "revoking" };
    format!("making a key with all rights, and {verb} {number}: {}", list.join(", "))
}

fn document(made: &ApiKey, clear_text: &str, path: Option<&Path>, others: &[ApiKey], keep: bool) -> Value {
    let others: Vec<_> =
        others.iter().map(|key| json!({"id": key.id, "name": key.name, "org": key.org_name})).collect();
    let (revoked, kept) = if keep { (Vec::new(), others) } else { (others, Vec::new()) };
    json!({
        "id": made.id,
        "org": made.org_name,
        "name": made.name,
        "rights": made.rights.names().collect::<Vec<_>>(),
        "key": clear_text,
        "file": path,
        "revoked": revoked,
        "kept": kept,
    })
}

#[cfg(test)]
mod tests {
    use covey_core::access::{Grants, KeyBounds};
    use covey_core::id::{OrgId, UnixMs};

    use super::*;

    fn key(id: i64, name: &str) -> ApiKey {
        let (name, org_name) = (name.to_owned(), "default".to_owned());
        ApiKey {
            id,
            org: OrgId(1),
            org_name,
            name,
            rights: Rights::ALL,
            grants: Grants::default(),
            created_at: UnixMs(0),
            last_used_at: None,
            bounds: KeyBounds::default(),
        }
    }

    #[test]
    fn the_plan_names_every_key_that_is_revoked_or_kept() {
        assert_eq!(
            plan(&[], false),
            "making a key with all rights; no other key has keys:write or orgs:admin"
        );
        let one = plan(&[key(1, "admin")], false);
        assert_eq!(
            one,
            "making a key with all rights, and revoking 1 other key with keys:write or orgs:admin: 1 admin of default"
        );
        let two = plan(&[key(1, "admin"), key(4, "a\u{1b}b")], true);
        assert!(two.contains("keeping 2 other keys") && two.ends_with(r"4 a\u{1b}b of default"), "{two}");
    }
}
