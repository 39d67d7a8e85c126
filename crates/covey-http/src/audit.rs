//! `/api/v1/audit`: who did what (docs/audit.md).

use std::str::FromStr;
use std::sync::Arc;

use axum::http::StatusCode;
use covey_api::{AuditChains, AuditPage, AuditRows};
use covey_core::audit::{AuditFilter, AuditOutcome, AuditPlace, AuditRequest};
use covey_core::id::UnixMs;
use serde::Deserialize;
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::api::{Api, with_slash};
use crate::auth::Asked;
use crate::docs::{GuardProblems, InvalidProblem, ScanProblems};
use crate::extract::Parameters;
use crate::problem::{Answer, Problem};
use crate::wire::{Moment, Whole, from_text, json};

/// How many entries a page has unless asked for otherwise.
const SIZE_DEFAULT: u32 = 50;

/// The routes of the audit log.
pub(crate) fn router() -> OpenApiRouter<Arc<Api>> {
    with_slash([routes!(audit_list), routes!(audit_chains), routes!(audit_rows)])
}

/// Which entries are wanted.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct AuditListQuery {
    /// Those from this instant on: Unix seconds, or RFC 3339.
    #[serde(default, deserialize_with = "from_text")]
    #[param(value_type = Moment, inline, required = false)]
    since: Option<Moment>,
    /// Those before this instant: Unix seconds, or RFC 3339.
    #[serde(default, deserialize_with = "from_text")]
    #[param(value_type = Moment, inline, required = false)]
    until: Option<Moment>,
    /// Those of a credential: its name, its kind and number (`key 7`), or all of a kind (`key`, `command`, `stranger`).
    #[serde(default)]
    #[param(nullable = false)]
    actor: Option<String>,
    /// Those of an action (`task.create`), or of all that begin so (`task`).
    #[serde(default)]
    #[param(nullable = false)]
    action: Option<String>,
    /// Those with a device: its serial number, or its number.
    #[serde(default)]
    #[param(nullable = false)]
    device: Option<String>,
    /// Those with a thing (`key 7`), or with all of a kind (`key`).
    #[serde(default)]
    #[param(nullable = false)]
    object: Option<String>,
    /// Those that were done, or those that were refused.
    #[serde(default, deserialize_with = "from_text")]
    #[param(value_type = covey_api::AuditOutcomeName, required = false)]
    outcome: Option<Outcome>,
    /// Those that have this text in a name, an object, a serial number or a detail. Parameters of tasks have no spaces
    /// between their parts: `"cell":5`.
    #[serde(default)]
    #[param(nullable = false)]
    text: Option<String>,
    /// Whether those of all organisations are wanted, which needs the right `orgs:admin`.
    #[serde(default, deserialize_with = "from_text")]
    #[param(value_type = bool, required = false, default = false)]
    all: Option<bool>,
    /// How many entries a page has.
    #[serde(default, deserialize_with = "from_text")]
    #[param(value_type = i64, required = false, minimum = 1, maximum = 1000, default = 50)]
    size: Option<Whole>,
    /// `next_cursor` of the page before.
    #[serde(default, deserialize_with = "from_text")]
    #[param(value_type = String, required = false, pattern = "^[0-9]{1,18}(-[0-9]{1,18}){3}$")]
    cursor: Option<Cursor>,
}

/// What came of it, in a query.
#[derive(Clone, Copy, Debug)]
struct Outcome(AuditOutcome);

impl FromStr for Outcome {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        AuditOutcome::from_name(text).map(Self).ok_or("must be done or refused")
    }
}

/// A place among the entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Cursor(AuditPlace);

impl FromStr for Cursor {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let numbers = text.split('-').map(|digits| {
            let is_number =
                (1..=18).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit());
            digits.parse::<i64>().ok().filter(|_| is_number)
        });
        let place = match numbers.collect::<Option<Vec<_>>>().as_deref() {
            Some([at, chain, number, line]) => usize::try_from(*line).ok().map(|line| AuditPlace {
                at: UnixMs(*at),
                chain: *chain,
                number: *number,
                line,
            }),
            _ => None,
        };
        place.map(Self).ok_or("was never issued; begin without it and go on with next_cursor")
    }
}

/// Who did what, newest first: a page of the audit log
///
/// Everything that a caller changes has an entry, and so has what was refused to somebody. Needs the right `audit:read`.
#[utoipa::path(
    get, path = "/api/v1/audit", tag = "audit",
    params(AuditListQuery),
    responses(
        (status = 200, description = "The page.", body = AuditPage),
        InvalidProblem, ScanProblems, GuardProblems,
    )
)]
async fn audit_list(asked: Asked, Parameters(query): Parameters<AuditListQuery>) -> Answer {
    let size = query.size.map_or(SIZE_DEFAULT, |Whole(size)| u32::try_from(size).unwrap_or(0));
    let filter = AuditFilter {
        org: None,
        since: query.since.map(|Moment(at)| at),
        until: query.until.map(|Moment(at)| at),
        actor: query.actor,
        action: query.action,
        device: query.device,
        object: query.object,
        outcome: query.outcome.map(|Outcome(outcome)| outcome),
        text: query.text,
    };
    let request = AuditRequest { filter, before: query.cursor.map(|Cursor(place)| place), size };
    let is_of_all = query.all.unwrap_or(false);
    let read = || async {
        let page = asked.engine().audit_list(request.clone(), is_of_all).await?;
        Ok(json(StatusCode::OK, &AuditPage::of(&page)))
    };
    asked.large(read).await
}

/// The chains of the audit log
///
/// Each row of a chain has the hash of the one before it, so that a change by hand is found by whoever reads all rows:
/// `covey audit verify` does. Needs the rights `audit:read` and `orgs:admin`.
#[utoipa::path(
    get, path = "/api/v1/audit/chains", tag = "audit",
    responses((status = 200, description = "The chains.", body = AuditChains), GuardProblems)
)]
async fn audit_chains(asked: Asked) -> Answer {
    let chains = asked.engine().audit_chains().await?;
    Ok(json(StatusCode::OK, &AuditChains::of(&chains)))
}

/// Which rows are wanted.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct AuditRowsQuery {
    /// Those of this chain.
    #[serde(default, deserialize_with = "from_text")]
    #[param(value_type = i64, required = false, minimum = 0, default = 0)]
    chain: Option<Whole>,
    /// Those behind the row of this number.
    #[serde(default, deserialize_with = "from_text")]
    #[param(value_type = i64, required = false, minimum = 0, default = 0)]
    after: Option<Whole>,
}

/// Rows of a chain of the audit log, as they are stored, in their order
///
/// Up to 500 rows, and 4 MiB; none if there are no more. Needs the rights `audit:read` and `orgs:admin`.
#[utoipa::path(
    get, path = "/api/v1/audit/rows", tag = "audit",
    params(AuditRowsQuery),
    responses(
        (status = 200, description = "The rows.", body = AuditRows),
        InvalidProblem, ScanProblems, GuardProblems,
    )
)]
async fn audit_rows(asked: Asked, Parameters(query): Parameters<AuditRowsQuery>) -> Answer {
    let number = |whole: Option<Whole>| whole.map_or(0, |Whole(number)| number);
    let (chain, after) = (number(query.chain), number(query.after));
    if let Some(field) = [("chain", chain), ("after", after)].into_iter().find(|(_, number)| *number < 0) {
        return Err(Problem::invalid(field.0, "must not be negative"));
    }
    let read = || async {
        let rows = asked.engine().audit_rows(chain, after).await?;
        Ok(json(StatusCode::OK, &AuditRows::of(&rows)))
    };
    asked.large(read).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_cursors_that_were_issued_are_read() {
        let place = AuditPlace { at: UnixMs(1_700_000_000_007), chain: 2, number: 17, line: 3 };
        assert_eq!("1700000000007-2-17-3".parse(), Ok(Cursor(place)));
        for bad in ["", "1-2-3", "1-2-3-4-5", "1--3-4", "1-2-3-+4", "1-2-3-4000000000000000000", "a-b-c-d"] {
            assert!(bad.parse::<Cursor>().is_err(), "{bad}");
        }
    }
}
