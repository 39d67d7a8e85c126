//! A deployment of Covey: what it has in the services, and the environment that tells `covey up` so.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::{Map, Value, json};

use crate::mosquitto::Rights;
use crate::pki::{Identity, Pki};
use crate::process::{LOOK_EVERY, ProcessId};
use crate::rabbitmq::{Size, tenancy};
use crate::service::{self, Service};
use crate::shape::{Link, Shape, Store};
use crate::state::{self, Broker, Locked, Postgresql, Tenancy};
use crate::{mosquitto, postgresql, quoted};

/// Mosquitto writes its sessions to disk when it ends.
const MOSQUITTO_END_SECONDS_MAX: Duration = Duration::from_secs(10);
/// How long to wait until another test gives its vhost back.
const PLACE_SECONDS_MAX: Duration = Duration::from_secs(120);

/// What `env` tells.
#[derive(Debug, Default)]
pub struct Environment {
    /// COVEY_ variables with their values.
    variables: Vec<(&'static str, String)>,
    /// What tests want to know beside it.
    more: Map<String, Value>,
}

impl Environment {
    /// A variable of it.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.variables.iter().find(|(known, _)| *known == name).map(|(_, value)| value.as_str())
    }

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

/// Makes what a deployment lacks for a shape, and tells its environment. The folder is locked only
/// while something is looked up or noted, so that deployments are made side by side.
pub fn make(dir: &Path, name: &str, shape: Shape, owner: Option<ProcessId>) -> Result<Environment> {
    let began = Instant::now();
    let Planned { postgresql, broker, deployment } = loop {
        let mut locked = Locked::open(dir)?;
        service::up(&mut locked, &Service::of_shape(shape))?;
        if let Some(planned) = plan(&mut locked, name, shape, owner)? {
            break planned;
        }
        drop(locked);
        if began.elapsed() > PLACE_SECONDS_MAX {
            bail!("all vhosts of RabbitMQ are given out; give one back with: cargo xtask services drop NAME");
        }
        remove_ownerless(dir)?;
        std::thread::sleep(LOOK_EVERY);
    };
    if let (Some(server), Some(database)) =
        (&postgresql, deployment.database.filter(|database| !database.is_made))
    {
        postgresql::create_database(server, &database)?;
    }
    let tenancy = match shape.link {
        Link::RabbitmqCluster => deployment.rabbitmq_cluster,
        _ => deployment.rabbitmq,
    };
    if let (Some(broker), Some(tenancy)) = (&broker, tenancy.filter(|tenancy| !tenancy.is_made)) {
        tenancy::create(broker, &tenancy)?;
    }
    let mut locked = Locked::open(dir)?;
    let deployment =
        locked.state.deployments.get_mut(name).context("the deployment was removed meanwhile")?;
    deployment.database.iter_mut().for_each(|database| database.is_made = true);
    for tenancy in [&mut deployment.rabbitmq, &mut deployment.rabbitmq_cluster].into_iter().flatten() {
        tenancy.is_made = true;
    }
    locked.save()?;
    environment(&mut locked, name, shape)
}

/// What a deployment is to have, and where.
struct Planned {
    postgresql: Option<Postgresql>,
    broker: Option<Broker>,
    deployment: state::Deployment,
}

/// Notes what a deployment is to have, if there is a place for it.
fn plan(locked: &mut Locked, name: &str, shape: Shape, owner: Option<ProcessId>) -> Result<Option<Planned>> {
    let mut deployment = locked.state.deployments.get(name).cloned().unwrap_or_default();
    deployment.owner = owner;
    if shape.store == Store::Postgres && deployment.database.is_none() {
        deployment.database = Some(postgresql::plan_database(name)?);
    }
    if let Some(size) = Size::of_link(shape.link) {
        let of = |deployment: &mut state::Deployment| match size {
            Size::Single => deployment.rabbitmq.clone(),
            Size::Cluster => deployment.rabbitmq_cluster.clone(),
        };
        if of(&mut deployment).is_none() {
            let in_use: Vec<usize> = locked
                .state
                .deployments
                .values_mut()
                .filter_map(of)
                .map(|tenancy| tenancy.vhost_index)
                .collect();
            let broker = size.facts(locked).context("RabbitMQ was never started")?;
            let Some(planned) = tenancy::plan(broker, &in_use)? else { return Ok(None) };
            match size {
                Size::Single => deployment.rabbitmq = Some(planned),
                Size::Cluster => deployment.rabbitmq_cluster = Some(planned),
            }
        }
    }
    if let Some(rights) = Rights::of_link(shape.link) {
        let tls = Pki::open(&locked.state.dir)?.server()?;
        deployment.mosquitto = Some(mosquitto::start(locked, name, rights, &tls)?);
    }
    locked.state.deployments.insert(name.to_owned(), deployment.clone());
    locked.save()?;
    let broker = Size::of_link(shape.link).and_then(|size| size.facts(locked)).cloned();
    Ok(Some(Planned { postgresql: locked.state.postgresql.clone(), broker, deployment }))
}

/// What tells a server of its place.
fn environment(locked: &mut Locked, name: &str, shape: Shape) -> Result<Environment> {
    let pki = Pki::open(&locked.state.dir)?;
    let deployment = locked.state.deployments.get(name).cloned().unwrap_or_default();
    let mut variables = vec![("COVEY_PKI_FROM", pki.folder().display().to_string())];
    let mut more = Map::new();
    more.insert("name".to_owned(), json!(name));
    more.insert("shape".to_owned(), json!(shape.to_string()));
    if let (Store::Postgres, Some(database)) = (shape.store, &deployment.database) {
        variables.push(("COVEY_STORE", postgresql::url(&postgresql::facts(locked)?, database)));
    }
    let ca = pki.server()?.ca.display().to_string();
    match shape.link {
        Link::Embedded => {}
        Link::Rabbitmq | Link::RabbitmqCluster => {
            let (broker, tenancy) = match shape.link {
                Link::Rabbitmq => (locked.state.rabbitmq.as_ref(), deployment.rabbitmq),
                _ => (locked.state.rabbitmq_cluster.as_ref(), deployment.rabbitmq_cluster),
            };
            let (broker, tenancy) = broker.zip(tenancy).context("RabbitMQ was never started")?;
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
        Link::Mosquitto | Link::MosquittoPlain => {
            let process = mosquitto::process_name(name);
            let address = format!("mqtts://127.0.0.1:{}", mosquitto::port(locked.state.process(&process)?)?);
            let client = pki.client(mosquitto::SERVERS[0])?;
            variables.push(("COVEY_LINK", address));
            variables.push(("COVEY_LINK_CA", ca));
            variables.push(("COVEY_LINK_CERTIFICATE", client.certificate.display().to_string()));
            variables.push(("COVEY_LINK_KEY", client.key.display().to_string()));
            more.insert("mosquitto".to_owned(), json!(process));
        }
    }
    Ok(Environment { variables, more })
}

/// Removes what a deployment has, everywhere.
pub fn remove(dir: &Path, name: &str) -> Result<()> {
    let (postgresql, brokers, deployment) = {
        let locked = Locked::open(dir)?;
        let deployment = locked
            .state
            .deployments
            .get(name)
            .with_context(|| format!("there is no deployment {name}; see: cargo xtask services status"))?
            .clone();
        let brokers = [locked.state.rabbitmq.clone(), locked.state.rabbitmq_cluster.clone()];
        (locked.state.postgresql.clone(), brokers, deployment)
    };
    if let (Some(server), Some(database)) = (&postgresql, &deployment.database) {
        postgresql::drop_database(server, database)?;
    }
    for (broker, tenancy) in brokers.iter().zip([&deployment.rabbitmq, &deployment.rabbitmq_cluster]) {
        if let (Some(broker), Some(tenancy)) = (broker, tenancy) {
            tenancy::remove(broker, tenancy)?;
        }
    }
    let mut locked = Locked::open(dir)?;
    if let Some(process) = &deployment.mosquitto {
        if let Some(mut process) = locked.state.processes.remove(process) {
            process.ask_to_end()?;
            process.wait_for_end(MOSQUITTO_END_SECONDS_MAX)?;
        }
        mosquitto::remove(&locked, process)?;
    }
    locked.state.deployments.remove(name);
    locked.save()
}

/// Removes the deployments of tests that were killed.
fn remove_ownerless(dir: &Path) -> Result<()> {
    let ownerless: Vec<String> = {
        let locked = Locked::open(dir)?;
        let is_ownerless =
            |deployment: &state::Deployment| deployment.owner.is_some_and(|owner| !owner.is_running());
        let found = locked.state.deployments.iter().filter(|(_, deployment)| is_ownerless(deployment));
        found.map(|(name, _)| name.clone()).collect()
    };
    ownerless.iter().try_for_each(|name| remove(dir, name))
}

/// Certificates for what a test may put before or behind a server.
pub fn certificates(dir: &Path) -> Result<Value> {
    let pki = Pki::open(dir)?;
    let files = |identity: Identity| json!({"certificate": identity.certificate, "key": identity.key});
    let mut clients = Map::new();
    for name in mosquitto::SERVERS.into_iter().chain(["covey.proxy"]) {
        clients.insert(name.to_owned(), files(pki.client(name)?));
    }
    let server = pki.server()?;
    Ok(json!({"ca": server.ca, "server": files(server), "clients": clients}))
}

/// How a deployment reaches one node.
fn node_addresses(tenancy: &Tenancy, node: &crate::state::Node) -> Value {
    let Tenancy { vhost, server, management, vhost_index, .. } = tenancy;
    let login = |login: &crate::state::Login| format!("{}:{}", login.user, login.password);
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
    use crate::state::{Login, Node};

    #[test]
    fn a_deployment_reaches_its_vhost_by_its_own_port() {
        let login = |user: &str| Login { user: user.to_owned(), password: "ab".to_owned() };
        let tenancy = Tenancy {
            is_made: true,
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
