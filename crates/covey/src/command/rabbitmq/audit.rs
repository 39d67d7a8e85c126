//! `covey rabbitmq audit`: accounts compared with devices.

use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use covey_link::amqp::{self, Difference, DifferenceKind};

use crate::command::output::{Output, cell};
use crate::command::rabbitmq::source::{self, Source};
use crate::command::store;

#[derive(Args)]
pub struct AuditArgs {
    #[command(flatten)]
    source: Source,
    /// Repair differences; accounts of other deployments are not touched
    #[arg(long)]
    repair: bool,
    /// Print one line of JSON for each difference
    #[arg(long)]
    json: bool,
}

/// Runs `covey rabbitmq audit`.
pub async fn run(args: AuditArgs) -> Result<ExitCode> {
    let (repair, output) = (args.repair, Output::new(args.json));
    let settings = args.source.settle()?;
    let broker = source::broker(&settings)?;
    let registry = amqp::StoreRegistry(store::open(&settings).await?);
    let audit = amqp::audit(&broker, &registry, repair).await?;
    let is_left = |kind| !repair || kind == DifferenceKind::Foreign;
    if output.json {
        for one in &audit.differences {
            output.json(&serde_json::json!({
                "account": one.account,
                "difference": one.kind.name(),
                "repaired": !is_left(one.kind),
            }))?;
        }
    } else if !audit.differences.is_empty() {
        let row =
            |one: &Difference| vec![cell(&one.account), cell(one.kind.name()), cell(one.kind.meaning())];
        let rows = audit.differences.iter().map(row);
        output.text(&output.table(&["ACCOUNT", "DIFFERENCE", "MEANING"], rows))?;
    }
    let left = audit.differences.iter().filter(|one| is_left(one.kind)).count();
    output.note(&format!(
        "{} devices are registered in {}; {} differences, {} repaired",
        audit.devices,
        settings.store,
        audit.differences.len(),
        audit.differences.len() - left
    ));
    Ok(if left == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
