//! What organisations have used.

use covey_core::usage as core;

use crate::{Day, UsageDay, UsageReport, UsageTotal};

impl UsageReport {
    /// How a report looks.
    #[must_use]
    pub fn of(report: &core::UsageReport) -> Self {
        let total = report.total();
        Self {
            org_id: report.org.0,
            days: report.days.iter().map(day).collect(),
            total: UsageTotal {
                tasks_created: total.tasks_created,
                tasks_finished: total.tasks_finished,
                events: total.events,
                bytes_in: total.bytes_in,
                device_days: total.active_devices,
            },
        }
    }
}

fn day(of: &core::UsageDay) -> UsageDay {
    let core::UsageDay { day, usage } = *of;
    UsageDay {
        day: Day(day),
        tasks_created: usage.tasks_created,
        tasks_finished: usage.tasks_finished,
        events: usage.events,
        bytes_in: usage.bytes_in,
        active_devices: usage.active_devices,
    }
}
