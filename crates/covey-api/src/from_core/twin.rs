//! Twins.

use std::borrow::Cow;

use covey_core::twin::{self as core, DesiredValue, ReportedValue, TwinResource};

use super::verbatim;
use crate::{Twin, TwinDesired, TwinDesiredValue, TwinReported, TwinReportedValue};

impl<'a> Twin<'a> {
    /// How a twin looks.
    #[must_use]
    pub fn of(twin: &'a core::Twin) -> Self {
        let core::Twin { device, versions, resources } = twin;
        let reported = |resource: &'a TwinResource| {
            let value = resource.reported.as_ref()?;
            Some((Cow::Borrowed(resource.name.as_str()), TwinReportedValue::of(value)))
        };
        let desired = |resource: &'a TwinResource| {
            let value = resource.desired.as_ref()?;
            Some((Cow::Borrowed(resource.name.as_str()), TwinDesiredValue::of(value)))
        };
        Self {
            device_id: device.device_id.0,
            sn: Cow::Borrowed(device.sn.as_str()),
            reported: TwinReported {
                version: versions.reported,
                resources: resources.iter().filter_map(reported).collect(),
            },
            desired: TwinDesired {
                version: versions.desired,
                resources: resources.iter().filter_map(desired).collect(),
            },
        }
    }
}

impl<'a> TwinReportedValue<'a> {
    /// How a value that was reported looks.
    #[must_use]
    pub fn of(value: &'a ReportedValue) -> Self {
        let ReportedValue { value, version, at } = value;
        Self { value: value.as_deref().map(verbatim), version: *version, at: (*at).into() }
    }
}

impl<'a> TwinDesiredValue<'a> {
    fn of(value: &'a DesiredValue) -> Self {
        let DesiredValue { value, version, at, task } = value;
        Self { value: verbatim(value), version: *version, at: (*at).into(), task_id: task.0 }
    }
}
