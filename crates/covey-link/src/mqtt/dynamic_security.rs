//! The commands of Mosquitto's plugin `mosquitto_dynamic_security`, which
//! keeps accounts and rights, and takes orders on `$CONTROL/dynamic-security/v1`.
//!
//! Mosquitto 2.0 knows no placeholders in these rights, so each device has an
//! account and a role of its own. That a role has the prefix below marks the
//! account as Covey's; others are never touched.

use covey_core::id::Sn;
use serde::Deserialize;
use serde_json::{Value, json};

/// Where commands go.
pub(super) const COMMANDS: &str = "$CONTROL/dynamic-security/v1";
/// Where answers come.
pub(super) const RESPONSES: &str = "$CONTROL/dynamic-security/v1/response";
/// How the name of a device's role begins.
const ROLE_PREFIX: &str = "covey.device.";

/// What the plugin has answered to a message of commands.
#[derive(Debug, Deserialize)]
pub(super) struct Responses {
    pub(super) responses: Vec<Response>,
}

/// The answer to one command.
#[derive(Debug, Deserialize)]
pub(super) struct Response {
    pub(super) command: String,
    pub(super) error: Option<String>,
    #[serde(rename = "correlationData")]
    pub(super) correlation: Option<String>,
    #[serde(default)]
    pub(super) data: Names,
}

/// What a list holds.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Names {
    pub(super) clients: Vec<String>,
    pub(super) roles: Vec<String>,
}

fn role(sn: &Sn) -> String {
    format!("{ROLE_PREFIX}{sn}")
}

/// The serial number of the device whose role this is.
pub(super) fn sn_of_role(role: &str) -> Option<Sn> {
    Sn::parse(role.strip_prefix(ROLE_PREFIX)?).ok()
}

/// Makes an account with the rights of a device (device-rpc "ACL"), or gives
/// them to one that is there without. Each command costs: Mosquitto writes its
/// whole list of accounts after it, and does nothing else meanwhile.
pub(super) fn admit(sn: &Sn, has_account: bool) -> Vec<Value> {
    let role = role(sn);
    let right = |kind: &str, topic: String| json!({"acltype": kind, "topic": topic, "allow": true});
    vec![
        json!({"command": "createRole", "rolename": role, "acls": [
            right("publishClientSend", format!("dev/{sn}/#")),
            right("publishClientReceive", format!("srv/{sn}/#")),
            right("subscribePattern", format!("srv/{sn}/#")),
        ]}),
        if has_account {
            json!({"command": "addClientRole", "username": sn.as_str(), "rolename": role})
        } else {
            json!({"command": "createClient", "username": sn.as_str(), "roles": [{"rolename": role}]})
        },
    ]
}

/// Takes the account away; the broker then closes the device's connection.
pub(super) fn revoke(sn: &Sn) -> Vec<Value> {
    vec![
        json!({"command": "deleteClient", "username": sn.as_str()}),
        json!({"command": "deleteRole", "rolename": role(sn)}),
    ]
}

/// Closes the connection of someone who has no account: only the account's
/// removal does that.
pub(super) fn expel(sn: &Sn) -> Vec<Value> {
    vec![
        json!({"command": "createClient", "username": sn.as_str()}),
        json!({"command": "deleteClient", "username": sn.as_str()}),
    ]
}

/// Asks for names; `what` is `listClients` or `listRoles`.
pub(super) fn list(what: &str, offset: usize, count: usize) -> Vec<Value> {
    vec![json!({"command": what, "verbose": false, "count": count, "offset": offset})]
}

/// A message of commands. Answers go to every server, so each command carries
/// who asked.
pub(super) fn message(mut commands: Vec<Value>, correlation: &str) -> String {
    for command in &mut commands {
        if let Some(fields) = command.as_object_mut() {
            fields.insert("correlationData".to_owned(), correlation.into());
        }
    }
    json!({ "commands": commands }).to_string()
}

impl Response {
    /// Whether the command failed in a way that matters: what is to be made may
    /// be there, what is to be removed may be gone.
    pub(super) fn failure(&self) -> Option<&str> {
        let error = self.error.as_deref()?;
        let is_made = self.command.starts_with("create") || self.command.starts_with("add");
        let is_removed = self.command.starts_with("delete");
        let is_so_already =
            (is_made && error.contains("already")) || (is_removed && error.contains("not found"));
        (!is_so_already).then_some(error)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn every_command_says_who_asked() {
        let sn = Sn::parse("dev-1").unwrap();
        let text = message([admit(&sn, false), revoke(&sn), expel(&sn)].concat(), "covey.a 7");
        let value: Value = serde_json::from_str(&text).unwrap();
        let commands = value["commands"].as_array().unwrap();
        assert_eq!(commands.len(), 6);
        assert!(commands.iter().all(|command| command["correlationData"] == "covey.a 7"));
        assert_eq!(commands[0]["acls"][0]["topic"], "dev/dev-1/#");
        assert_eq!(sn_of_role(commands[0]["rolename"].as_str().unwrap()), Some(sn));
        assert_eq!(sn_of_role("covey-server"), None);
        assert_eq!(sn_of_role("covey.device.a.b"), None);
    }

    #[test]
    fn what_is_so_already_is_no_failure() {
        // As Mosquitto 2.0.11 answers.
        let text = r#"{"responses":[
            {"command":"deleteClient","error":"Client not found"},
            {"command":"createClient","error":"Client already exists","correlationData":"q"},
            {"command":"createClient","error":"Role not found"},
            {"command":"listClients","data":{"totalCount":2,"clients":["a","b"]},"correlationData":"q"}]}"#;
        let answer: Responses = serde_json::from_str(text).unwrap();
        let failures: Vec<_> = answer.responses.iter().map(Response::failure).collect();
        assert_eq!(failures, [None, None, Some("Role not found"), None]);
        assert_eq!(answer.responses[3].data.clients, ["a", "b"]);
        assert_eq!(answer.responses[1].correlation.as_deref(), Some("q"));
    }
}
