//! What runs, for people and for programs.

use serde_json::{Value, json};

use crate::state::State;

/// A table of the processes and the deployments.
pub fn table(state: &State) -> String {
    let mut rows = vec![["NAME", "STATE", "PID", "PORTS (127.0.0.1)"].map(str::to_owned)];
    for (name, process) in &state.processes {
        let is_running = process.is_running();
        let pid = process.id.filter(|_| is_running).map_or_else(|| "-".to_owned(), |id| id.pid.to_string());
        // 24 ports of one kind would fill the screen: their first and last.
        let (many, few): (Vec<_>, Vec<_>) =
            process.ports.iter().partition(|(name, _)| name.starts_with("mqtts-"));
        let mut ports: Vec<String> = few.iter().map(|(name, port)| format!("{name} {port}")).collect();
        if !many.is_empty() {
            ports.push(format!("mqtts: {} ports", many.len()));
        }
        let shown = if is_running { "up" } else { "down" };
        rows.push([name.clone(), shown.to_owned(), pid, ports.join(", ")]);
    }
    let mut text = aligned(&rows);
    for (name, deployment) in &state.deployments {
        let parts = [
            deployment.database.as_ref().map(|database| format!("database {}", database.name)),
            deployment.rabbitmq.as_ref().map(|tenancy| format!("vhost {} of rabbitmq", tenancy.vhost)),
            deployment
                .rabbitmq_cluster
                .as_ref()
                .map(|tenancy| format!("vhost {} of rabbitmq-cluster", tenancy.vhost)),
            deployment.mosquitto.clone(),
        ];
        let parts: Vec<String> = parts.into_iter().flatten().collect();
        text.push_str(&format!("deployment {name}: {}\n", parts.join(", ")));
    }
    text
}

/// The same for programs, without passwords; services.json has those.
pub fn json(state: &State) -> Value {
    let processes: serde_json::Map<String, Value> = state
        .processes
        .iter()
        .map(|(name, process)| {
            let is_running = process.is_running();
            let facts = json!({
                "running": is_running,
                "pid": process.id.filter(|_| is_running).map(|id| id.pid),
                "ports": process.ports,
                "log": process.log,
            });
            (name.clone(), facts)
        })
        .collect();
    let deployments: Vec<&String> = state.deployments.keys().collect();
    json!({"dir": state.dir, "processes": processes, "deployments": deployments})
}

fn aligned(rows: &[[String; 4]]) -> String {
    let width = |column: usize| rows.iter().map(|row| row[column].len()).max().unwrap_or(0);
    let widths = [width(0), width(1), width(2)];
    rows.iter()
        .map(|[name, state, pid, ports]| {
            format!("{name:0$}  {state:1$}  {pid:2$}  {ports}\n", widths[0], widths[1], widths[2])
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::aligned;

    #[test]
    fn columns_stand_below_each_other() {
        let row = |cells: [&str; 4]| cells.map(str::to_owned);
        let text = aligned(&[row(["NAME", "STATE", "PID", "PORTS"]), row(["postgresql", "up", "12", "x 1"])]);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0].find("PORTS"), lines[1].find("x 1"));
    }
}
