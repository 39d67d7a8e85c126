//! The server's certificate, renewed while the server runs.

use std::sync::Arc;
use std::time::Duration;

use covey_pki::{Authority, ServerCertResolver, ServerNames};
use time::OffsetDateTime;
use tokio_util::sync::CancellationToken;

use crate::serve::link::RunningLink;

/// What a renewal touches.
pub struct Renewal {
    pub authority: Arc<Authority>,
    pub names: ServerNames,
    pub resolver: Arc<ServerCertResolver>,
    pub link: RunningLink,
    pub renew_at: OffsetDateTime,
}

/// How long to wait after a renewal that failed.
const RETRY_INTERVAL: Duration = Duration::from_secs(60);
/// The longest sleep: a clock that is set forward is noticed within it.
const SLEEP_MAX: Duration = Duration::from_secs(3600);

/// Renews until stopped; gives the link back.
pub async fn run(mut renewal: Renewal, stop: CancellationToken) -> RunningLink {
    stop.run_until_cancelled(renew_for_ever(&mut renewal)).await;
    renewal.link
}

async fn renew_for_ever(renewal: &mut Renewal) {
    loop {
        let left = renewal.renew_at - OffsetDateTime::now_utc();
        if left.is_positive() {
            tokio::time::sleep(left.unsigned_abs().min(SLEEP_MAX)).await;
            continue;
        }
        if let Err(problem) = renew(renewal) {
            tracing::error!(problem, "server certificate not renewed; retrying");
            tokio::time::sleep(RETRY_INTERVAL).await;
        }
    }
}

fn renew(renewal: &mut Renewal) -> Result<(), String> {
    let now = OffsetDateTime::now_utc();
    let certificate =
        renewal.authority.server_certificate(&renewal.names, now).map_err(|error| error.to_string())?;
    renewal.resolver.replace(&certificate).map_err(|error| error.to_string())?;
    renewal.link.renew()?;
    renewal.renew_at = certificate.renew_at();
    tracing::info!(until = %certificate.not_after(), "server certificate renewed");
    Ok(())
}
