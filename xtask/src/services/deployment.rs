//! A deployment of Covey: what it has in the services, and the environment that tells `covey up` so.

use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::{Map, Value, json};

use super::pki::{Identity, Pki};
use super::rabbitmq::{Size, tenancy};
use super::shape::{Link, Shape, Store};
use super::state::{Broker, Locked, Tenancy};
use super::{mosquitto, postgresql, quoted};

/// Mosquitto writes its sessions to disk when it ends.
const MOSQUITTO_END_SECONDS_MAX: u64 = 10;

/// What `env` tells.
pub struct Environment {
    /// COVEY_ variables with their values.
    variables: Vec<(&'static str, String)>,
    /// What tests want to know beside it.
    more: Map<String, Value>,
}

impl Environment {
    /// Lines for a shell.
    pub fn shell(&self) -> String {
        self.variables.iter().map(|(name, value)| format!("export {name}={}\n", quoted(value))).collect()
    }

    /// The same for programs, with more, and with `tls`: certificates for what
    /// stands around the servers.
    pub fn json(&self, tls: Value) -> Value {
        let variables: Map<String, Value> =
            self.variables.iter().map(|(name, value)| ((*name).to_owned(), json!(value))).collect();
        let mut all = self.more.clone();
        all.insert("environment".to_owned(), Value::Object(variables));
        all.insert("tls".to_owned(), tls);
        Value::Object(all)
    }
}

/// Makes what a deployment lacks for a shape, whose services run, and tells its environment.
pub fn environment(locked: &mut Locked, pki: &Pki, name: &str, shape: Shape) -> Result<Environment> {
    let mut variables = vec![("COVEY_PKI_FROM", pki.authority().display().to_string())];
    let mut more = Map::new();
    more.insert("name".to_owned(), json!(name));
    more.insert("shape".to_owned(), json!(shape.to_string()));
    locked.state.deployments.entry(name.to_owned()).or_default();
    if shape.store == Store::Postgres {
        variables.push(("COVEY_STORE", store(locked, name)?));
    }
    let ca = pki.server()?.ca.display().to_string();
    match shape.link {
        Link::Embedded => {}
        Link::Rabbitmq | Link::RabbitmqCluster => {
            let size = if shape.link == Link::Rabbitmq { Size::Single } else { Size::Cluster };
            let tenancy = tenancy(locked, name, size)?;
            let broker = size.facts(locked).context("RabbitMQ was never started")?;
            let nodes: Vec<Value> = broker.nodes.iter().map(|node| node_addresses(&tenancy, node)).collect();
            for (variable, key) in [
                ("COVEY_LINK", "link"),
                ("COVEY_RABBITMQ_MANAGEMENT", "management"),
                ("COVEY_DEVICES_URL", "devices_url"),
            ] {
                let value =
                    nodes.first().and_then(|node| node[key].as_str()).context("RabbitMQ has no nodes")?;
                variables.push((variable, value.to_owned()));
            }
            variables.push(("COVEY_LINK_CA", ca));
            more.insert("vhost".to_owned(), json!(tenancy.vhost));
            more.insert("rabbitmqctl".to_owned(), json!(broker.ctl));
            more.insert("nodes".to_owned(), Value::Array(nodes));
        }
        Link::Mosquitto => {
            let process = mosquitto::start(locked, name, &pki.server()?)?;
            if let Some(deployment) = locked.state.deployments.get_mut(name) {
                deployment.mosquitto = Some(process.clone());
            }
            let address = format!("mqtts://127.0.0.1:{}", mosquitto::port(locked.state.process(&process)?)?);
            let client = pki.client(mosquitto::SERVERS[0])?;
            variables.push(("COVEY_LINK", address));
            variables.push(("COVEY_LINK_CA", ca));
            variables.push(("COVEY_LINK_CERTIFICATE", client.certificate.display().to_string()));
            variables.push(("COVEY_LINK_KEY", client.key.display().to_string()));
            more.insert("mosquitto".to_owned(), json!(process));
        }
    }
    locked.save()?;
    Ok(Environment { variables, more })
}

/// Removes what a deployment has, everywhere.
pub fn remove(locked: &mut Locked, name: &str) -> Result<()> {
    let deployment = locked
        .state
        .deployments
        .get(name)
        .with_context(|| format!("there is no deployment {name}; see: cargo xtask services status"))?
        .clone();
    if let Some(database) = &deployment.database {
        postgresql::drop_database(locked, database)?;
    }
    for (size, tenancy) in
        [(Size::Single, &deployment.rabbitmq), (Size::Cluster, &deployment.rabbitmq_cluster)]
    {
        if let (Some(tenancy), Some(broker)) = (tenancy, size.facts(locked)) {
            tenancy::remove(broker, tenancy)?;
        }
    }
    if let Some(process) = &deployment.mosquitto {
        if let Some(mut process) = locked.state.processes.remove(process) {
            process.ask_to_end()?;
            process.wait_for_end(Duration::from_secs(MOSQUITTO_END_SECONDS_MAX))?;
        }
        mosquitto::remove(locked, process)?;
    }
    locked.state.deployments.remove(name);
    locked.save()
}

/// The address of a deployment's database, made if there is none.
fn store(locked: &mut Locked, name: &str) -> Result<String> {
    let known = locked.state.deployments.get(name).and_then(|deployment| deployment.database.clone());
    let database = match known {
        Some(database) => database,
        None => {
            let made = postgresql::create_database(locked, name)?;
            if let Some(deployment) = locked.state.deployments.get_mut(name) {
                deployment.database = Some(made.clone());
            }
            locked.save()?;
            made
        }
    };
    let server = locked.state.postgresql.as_ref().context("PostgreSQL was never started")?;
    Ok(postgresql::url(server, &database))
}

/// A deployment's place in a broker, made if there is none.
fn tenancy(locked: &mut Locked, name: &str, size: Size) -> Result<Tenancy> {
    let of = |deployment: &super::state::Deployment| match size {
        Size::Single => deployment.rabbitmq.clone(),
        Size::Cluster => deployment.rabbitmq_cluster.clone(),
    };
    if let Some(known) = locked.state.deployments.get(name).and_then(of) {
        return Ok(known);
    }
    let in_use: Vec<usize> =
        locked.state.deployments.values().filter_map(of).map(|tenancy| tenancy.vhost_index).collect();
    let broker: &Broker = size.facts(locked).context("RabbitMQ was never started")?;
    let made = tenancy::create(broker, &in_use)?;
    if let Some(deployment) = locked.state.deployments.get_mut(name) {
        match size {
            Size::Single => deployment.rabbitmq = Some(made.clone()),
            Size::Cluster => deployment.rabbitmq_cluster = Some(made.clone()),
        }
    }
    locked.save()?;
    Ok(made)
}

/// Certificates for what a test may put before or behind a server.
pub fn certificates(pki: &Pki) -> Result<Value> {
    let files = |identity: Identity| json!({"certificate": identity.certificate, "key": identity.key});
    let mut clients = Map::new();
    for name in mosquitto::SERVERS.into_iter().chain(["covey.proxy"]) {
        clients.insert(name.to_owned(), files(pki.client(name)?));
    }
    let server = pki.server()?;
    Ok(json!({"ca": server.ca, "server": files(server), "clients": clients}))
}

/// How a deployment reaches one node.
fn node_addresses(tenancy: &Tenancy, node: &super::state::Node) -> Value {
    let Tenancy { vhost, server, management, vhost_index } = tenancy;
    let login = |login: &super::state::Login| format!("{}:{}", login.user, login.password);
    json!({
        "name": node.name,
        "process": node.process,
        "link": format!("amqp://{}@127.0.0.1:{}/{vhost}", login(server), node.amqp),
        "link_tls": format!("amqps://{}@127.0.0.1:{}/{vhost}", login(server), node.amqps),
        "management": format!("http://{}@127.0.0.1:{}", login(management), node.management),
        "devices_url": node.mqtts.get(*vhost_index).map(|port| format!("mqtts://127.0.0.1:{port}")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::services::state::{Login, Node};

    #[test]
    fn a_deployment_reaches_its_vhost_by_its_own_port() {
        let login = |user: &str| Login { user: user.to_owned(), password: "ab".to_owned() };
        let tenancy = Tenancy {
            vhost_index: 1,
            vhost: "covey-02".to_owned(),
            server: login("covey-02.server"),
            management: login("covey-02.management"),
        };
        let node = Node {
            name: "rabbit@localhost".to_owned(),
            process: "rabbitmq".to_owned(),
            amqp: 1,
            amqps: 2,
            management: 3,
            mqtts: vec![10, 11, 12],
        };
        let addresses = node_addresses(&tenancy, &node);
        assert_eq!(addresses["link"], "amqp://covey-02.server:ab@127.0.0.1:1/covey-02");
        assert_eq!(addresses["management"], "http://covey-02.management:ab@127.0.0.1:3");
        assert_eq!(addresses["devices_url"], "mqtts://127.0.0.1:11");
    }

    #[test]
    fn a_shell_reads_back_what_was_meant() {
        let environment =
            Environment { variables: vec![("COVEY_STORE", "a'b $c".to_owned())], more: Map::new() };
        assert_eq!(environment.shell(), "export COVEY_STORE='a'\\''b $c'\n");
        assert_eq!(environment.json(Value::Null)["environment"]["COVEY_STORE"], "a'b $c");
    }
}
