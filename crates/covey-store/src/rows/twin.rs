//! Twins.

use std::sync::Arc;

use covey_core::twin::{DesiredValue, ReportedValue, TwinResource, TwinVersions};

use crate::rows::{Columns, Read, get};

/// The versions of a twin, from `reported_version, desired_version`.
pub(crate) fn twin_versions(row: &dyn Columns) -> Read<TwinVersions> {
    twin_versions_at(row, 0)
}

/// The same from a later column on.
pub(crate) fn twin_versions_at(row: &dyn Columns, at: usize) -> Read<TwinVersions> {
    Ok(TwinVersions { reported: get(row, at)?, desired: get(row, at + 1)? })
}

/// The columns of a resource, in the order that [`twin_resource`] reads them.
macro_rules! twin_resource_columns {
    () => {
        "r.name, r.reported, r.reported_version, r.reported_at, r.desired, r.desired_version, r.desired_at, \
         r.desired_task"
    };
}
pub(crate) use twin_resource_columns;

/// A resource of a twin, from `twin_resource_columns!`.
pub(crate) fn twin_resource(row: &dyn Columns) -> Read<TwinResource> {
    let reported = match get::<Option<Arc<str>>>(row, 1)? {
        None => None,
        value => Some(ReportedValue { value, version: get(row, 2)?, at: get(row, 3)? }),
    };
    let desired = match get(row, 4)? {
        None => None,
        Some(value) => {
            Some(DesiredValue { value, version: get(row, 5)?, at: get(row, 6)?, task: get(row, 7)? })
        }
    };
    Ok(TwinResource { name: get(row, 0)?, reported, desired })
}

/// What was reported of a resource, from `value, version, at`.
pub(crate) fn reported_value(row: &dyn Columns) -> Read<ReportedValue> {
    Ok(ReportedValue { value: get(row, 0)?, version: get(row, 1)?, at: get(row, 2)? })
}
