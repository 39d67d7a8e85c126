//! How devices are shown.

use anyhow::Result;
use covey_client::{Device, DeviceFilter, PageRequest, Time};

use crate::command::connection::Connection;
use crate::command::output::{cell, printable};
use crate::command::{json_text, moment};

/// Prints a page of devices.
pub async fn list(connection: &Connection, filter: &DeviceFilter, page: PageRequest) -> Result<()> {
    let found = connection.client.device_list(filter, page).await?;
    let output = connection.output;
    if output.json {
        return Ok(found.items.iter().try_for_each(|device| output.json(device))?);
    }
    if found.items.is_empty() {
        let is_all = *filter == DeviceFilter::default() && page.page == 1;
        output.note(&if is_all {
            format!(
                "no devices yet; register one: {}",
                connection.command("device add lamp-1 --out ./lamp-1")
            )
        } else {
            "no such devices".to_owned()
        });
        return Ok(());
    }
    let rows = found.items.iter().map(|device| {
        let tags: Vec<_> = device.device_tags.iter().map(|tag| tag_text(&tag.tag, &tag.value)).collect();
        vec![
            cell(&*device.sn),
            cell(device.device_id.to_string()),
            cell(if device.is_online() { "online" } else { "offline" }),
            cell(since(device)),
            cell(tags.join(" ")),
        ]
    });
    output.text(&output.table(&["SN", "ID", "LINK", "SINCE", "TAGS"], rows))?;
    if let Some(total) = found.total
        && total > found.items.len() as u64
    {
        output.note(&format!("{} of {total} devices; --page and --size show others", found.items.len()));
    }
    Ok(())
}

/// How long ago a device connected or went.
fn since(device: &Device) -> String {
    let Some(connection) = &device.connection else { return "never seen".to_owned() };
    let at = if device.is_online() { connection.connected_at } else { connection.checked_at };
    at.map(moment::ago).unwrap_or_default()
}

/// Prints all that is known of a device.
pub fn show(connection: &Connection, device: &Device) -> Result<()> {
    let output = connection.output;
    if output.json {
        return Ok(output.json(device)?);
    }
    let mut rows =
        vec![("sn", device.sn.to_string()), ("number", device.device_id.to_string()), ("link", link(device))];
    if let Some(details) = device.connection.as_ref().and_then(|connection| connection.details.as_ref()) {
        let known = ["address", "protocol", "reason"].into_iter();
        rows.extend(known.filter_map(|name| Some((name, printable(details.get(name)?)))));
    }
    if let Some(node) = &device.node {
        rows.push(("node", printable(&format!("{}/{}", node.gateway, node.uid))));
    }
    rows.push(("registered", moment::of(device.created_at)));
    for (index, tag) in device.device_tags.iter().enumerate() {
        rows.push((if index == 0 { "tags" } else { "" }, tag_text(&tag.tag, &tag.value)));
    }
    for gauges in &device.device_gauges {
        rows.push(("gauges", json_text::in_lines(gauges.gauges.get())));
    }
    let lines: Vec<_> = rows
        .iter()
        .map(|(name, value)| format!("{name:<11} {}", value.replace('\n', "\n            ")))
        .collect();
    output.text(&lines.join("\n"))?;
    Ok(())
}

fn link(device: &Device) -> String {
    let Some(connection) = &device.connection else {
        return "never connected".to_owned();
    };
    let text = |at: Option<Time>| at.map(|at| format!(" since {} ({})", moment::of(at), moment::ago(at)));
    if device.is_online() {
        format!("online{}", text(connection.connected_at).unwrap_or_default())
    } else {
        format!("offline{}", text(connection.checked_at).unwrap_or_default())
    }
}

/// A tag as `name=value`.
pub fn tag_text(tag: &str, value: &str) -> String {
    printable(&format!("{tag}={value}"))
}
