//! A walk through the OpenAPI document: every operation is asked without a
//! credential, without rights, and by another organisation.

use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};

use crate::stage::{KEY, Stage, answer};

/// Operations that need no credential. This list may only become shorter.
const NEED_NO_CREDENTIAL: [&str; 6] =
    ["/healthz", "/readyz", "/metrics", "/.well-known/jwks.json", LOGIN, INVITATION];
/// What proves who somebody is stands in the body.
const LOGIN: &str = "/api/v1/auth/login";
const INVITATION: &str = "/api/v1/auth/invitation";
const LOGOUT: &str = "/api/v1/auth/logout";
/// Operations that need a credential and no right. This list may only become shorter.
const NEED_NO_RIGHT: [&str; 5] =
    ["/api/v1/access/explain", "/api/v1/accounts", "/api/v1/auth/token", LOGOUT, "/api/v1/whoami"];
/// Operations that also take the rights that they give away.
const GIVES_AWAY: [&str; 3] = ["POST /api/v1/api-keys", "POST /api/v1/users", "PATCH /api/v1/users/{id}"];
/// Operations that take one right or the other, as the body says.
const EITHER_RIGHT: [&str; 1] = ["PATCH /api/v1/devices/{device_id}/twin"];
/// Operations on what belongs to the deployment and not to an organisation: who
/// may manage keys manages those of all, and a chain of the audit log has rows of all. This list may only become shorter.
const OF_EVERY_ORGANISATION: [&str; 8] = [
    "/api/v1/api-keys",
    "/api/v1/api-keys/{id}",
    "/api/v1/api-keys/{id}/limits",
    "/api/v1/audit/chains",
    "/api/v1/audit/rows",
    "/api/v1/orgs",
    "/api/v1/orgs/{org_id}",
    "/api/v1/orgs/{org_id}/limits",
];
/// Operations that change nothing, though they are no GET. This list may only become shorter.
const CHANGE_NOTHING: [&str; 0] = [];

/// Operations that refuse a member that they do not know, whatever the caller prefers.
const ALWAYS_STRICT: [&str; 2] = ["PATCH /api/v1/devices/{device_id}/twin", "PUT /api/v1/retention"];

const SN: &str = "ours-1";
/// A number that the other organisation's first devices do not get.
const DEVICE: &str = "7001";
/// Of the certificate of our device, which is the first one.
const SERIAL: &str = "d000000000000000";
const URL: &str = "https://ours.example/hook";
const UID: &str = "our-node";
/// A person of ours, as the example of signing in has it.
const USER: &str = "ada@example.com";
const PASSWORD: &str = "correct horse battery";

/// What an operation of the document is asked with.
struct Call {
    method: Method,
    /// As the document has it.
    template: String,
    /// With what our organisation owns in the place of the parameters.
    path: String,
    body: Option<String>,
}

impl Call {
    fn request(&self, stage: &Stage, key: Option<&str>) -> RequestBuilder {
        let mut request = stage.bare(self.method.clone(), &self.path);
        if let Some(key) = key {
            request = request.header("x-api-key", key);
        }
        match &self.body {
            Some(body) => request.header("content-type", "application/json").body(body.clone()),
            None => request,
        }
    }

    fn name(&self) -> String {
        format!("{} {}", self.method, self.template)
    }
}

/// A stage on which our organisation owns a device, a task, and a webhook.
struct Walk {
    stage: Stage,
    calls: Vec<Call>,
    task: String,
}

impl Walk {
    async fn new() -> Self {
        let stage = Stage::new().await;
        let device = format!(r#"{{"sn":"{SN}","device_id":{DEVICE}}}"#);
        assert_eq!(answer(stage.post("/api/v1/devices", &device)).await.status, 201);
        let task = format!(r#"{{"ext_task_id":"ours","device_id":{DEVICE}}}"#);
        let task = answer(stage.post("/api/v1/device-tasks", &task)).await.body["id"].clone();
        let task = task.as_str().unwrap().to_owned();
        let webhook = json!({"event_type": "msg-event", "url": URL, "is_active": false}).to_string();
        let webhook = answer(stage.post("/api/v1/webhooks", &webhook)).await;
        assert_eq!(webhook.status, 201, "{}", webhook.text);
        let webhook = webhook.body["id"].to_string();
        // The first node, the first unit and the first claim of all, so their numbers are 1.
        let node = json!({"gateway": "coap", "uid": UID}).to_string();
        assert_eq!(answer(stage.post("/api/v1/nodes", &node)).await.status, 201);
        let unit = json!({"address": "192.168.7.7", "kind": "read", "name": UID}).to_string();
        assert_eq!(answer(stage.post("/api/v1/units", &unit)).await.status, 201);
        let claim =
            json!({"name": UID, "serials": ["LAMP-0001"], "expires_at": "2100-01-01T00:00:00Z"}).to_string();
        assert_eq!(answer(stage.post("/api/v1/claims", &claim)).await.status, 201);
        // And the first person, in the first session.
        let user = json!({"name": USER, "role": "viewer"}).to_string();
        let linked = answer(stage.post("/api/v1/users", &user)).await;
        assert_eq!(linked.status, 201, "{}", linked.text);
        let taken = answer(stage.bare(Method::POST, INVITATION).body(invitation(&linked.body))).await;
        assert_eq!((taken.status.as_u16(), &taken.body["id"]), (200, &json!(1)), "{}", taken.text);
        let document = answer(stage.bare(Method::GET, "/openapi.json")).await.body;
        let mut calls = Vec::new();
        for (template, item) in document["paths"].as_object().unwrap() {
            for (method, operation) in item.as_object().unwrap() {
                let path = template
                    .replace("/device-tasks/{id}", &format!("/device-tasks/{task}"))
                    .replace("/webhooks/{key}", &format!("/webhooks/{webhook}"))
                    .replace("{number}", "1")
                    .replace("{org_id}", "1")
                    .replace("{device_id}", DEVICE)
                    .replace("{serial}", SERIAL)
                    .replace("{id}", "1");
                assert!(!path.contains('{'), "{template} has a parameter that this walk does not know");
                calls.push(Call {
                    method: Method::from_bytes(method.to_uppercase().as_bytes()).unwrap(),
                    template: template.clone(),
                    path: path + &query(template, operation),
                    body: body(template, operation),
                });
            }
        }
        assert!(calls.len() >= 82, "the document has lost operations: {}", calls.len());
        Self { stage, calls, task }
    }
}

/// What is sent with the link of an answer.
fn invitation(linked: &Value) -> String {
    let (_, token) = linked["link"].as_str().unwrap().split_once('#').unwrap();
    json!({"token": token, "password": PASSWORD}).to_string()
}

/// Signs our person in: the number of the session, and the cookie.
async fn signed_in(stage: &Stage) -> (String, String) {
    let body = json!({"name": USER, "password": PASSWORD}).to_string();
    let found = answer(stage.bare(Method::POST, LOGIN).body(body)).await;
    assert_eq!(found.status, 200, "{}", found.text);
    let (cookie, _) = found.header("set-cookie").split_once(';').unwrap();
    (found.body["id"].to_string(), cookie.to_owned())
}

/// The parameters that must be there.
fn query(template: &str, operation: &Value) -> String {
    if template == "/api/v1/device-events/series" {
        // One of two must be there, which the document cannot say.
        return format!("?device_id={DEVICE}&tag=338");
    }
    let parameters = operation["parameters"].as_array().map_or(&[][..], Vec::as_slice);
    let required = parameters.iter().filter(|one| one["in"] == "query" && one["required"] == true);
    let pairs = required.map(|one| {
        let name = one["name"].as_str().unwrap();
        let value = match name {
            "device_id" => DEVICE,
            "resource" => "lamp",
            "tag" | "event_type_code" => "1",
            "from" => "0",
            "to" => "60",
            "bucket_s" => "60",
            "operation" => "GET%20/devices",
            _ => panic!("{name} is required, and this walk does not know it"),
        };
        format!("{name}={value}")
    });
    let query = pairs.collect::<Vec<_>>().join("&");
    if query.is_empty() { query } else { format!("?{query}") }
}

/// The body that the document shows as an example, or the least that is taken.
fn body(template: &str, operation: &Value) -> Option<String> {
    let content = &operation["requestBody"]["content"]["application/json"];
    match template {
        _ if content.is_null() => None,
        "/api/v1/device-tasks" => Some(format!(r#"{{"ext_task_id":"theirs","device_id":{DEVICE}}}"#)),
        "/api/v1/devices/{device_id}" => Some(r#"{"tag":"room","value":"hall"}"#.to_owned()),
        _ => Some(content.get("example").map_or_else(|| "{}".to_owned(), Value::to_string)),
    }
}

/// How many requests with faults each operation is asked with.
const MUTATIONS: u64 = 300;
/// What does not answer so soon waits for something, as it may: in milliseconds.
const MUTATION_WAIT_MS: u64 = 1_000;

/// All parameters of an operation in its query, each with some value.
fn whole_query(operation: &Value) -> String {
    let parameters = operation["parameters"].as_array().map_or(&[][..], Vec::as_slice);
    let pairs = parameters.iter().filter(|one| one["in"] == "query").map(|one| {
        let value = match &one["schema"] {
            schema if schema["example"].is_string() => schema["example"].as_str().unwrap().to_owned(),
            schema if schema["format"] == "date-time" => "2026-12-01T00:00:00Z".to_owned(),
            _ => "1".to_owned(),
        };
        format!("{}={value}", one["name"].as_str().unwrap())
    });
    pairs.collect::<Vec<_>>().join("&")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_request_with_faults_is_a_fault_of_the_server() {
    let Walk { stage, calls, .. } = Walk::new().await;
    let document = answer(stage.bare(Method::GET, "/openapi.json")).await.body;
    // Whoever takes the key away that is used asks nothing more.
    let takes_keys_away = |call: &Call| call.name().starts_with("DELETE /api/v1/api-keys");
    let mut requests = Vec::new();
    for (number, call) in calls.iter().enumerate().filter(|(_, call)| !takes_keys_away(call)) {
        let operation = &document["paths"][&call.template][call.method.as_str().to_lowercase()];
        let path = call.path.split('?').next().unwrap();
        let mut seeds = vec![format!("{path}?{}", whole_query(operation)), call.path.clone()];
        seeds.extend(call.body.iter().map(|body| format!("{path}\n{body}")));
        let seeds: Vec<_> = seeds.into_iter().map(String::into_bytes).collect();
        covey_fuzz::mutated(&seeds, MUTATIONS, number as u64, |input| {
            let text = String::from_utf8_lossy(input);
            let (path, body) = text.split_once('\n').unwrap_or((&text, ""));
            // Another host, or none, is no request to this server.
            let path = format!("/{}", path.trim_start_matches(['/', '\\']));
            requests.push((call.method.clone(), path, body.to_owned()));
        });
    }
    let mut statuses = std::collections::BTreeMap::<u16, usize>::new();
    for some in requests.chunks(8) {
        let asked = some.iter().map(|(method, path, body)| {
            let request = stage.bare(method.clone(), path).header("x-api-key", KEY);
            let request = request.header("content-type", "application/json").body(body.clone());
            request.timeout(std::time::Duration::from_millis(MUTATION_WAIT_MS)).send()
        });
        for (outcome, (method, path, body)) in
            futures_util::future::join_all(asked).await.into_iter().zip(some)
        {
            match outcome {
                Ok(answer) if answer.status().is_server_error() => {
                    panic!("{method} {path:?} {body:?}: {}", answer.status());
                }
                Ok(answer) => *statuses.entry(answer.status().as_u16()).or_default() += 1,
                Err(error) => {
                    assert!(error.is_timeout() || error.is_builder(), "{method} {path:?}: {error:?}")
                }
            }
        }
    }
    // A run in which nearly all came to nothing, or were too many, would prove little.
    let seen = |status: u16| statuses.get(&status).copied().unwrap_or_default();
    assert!(seen(200) > 500 && seen(422) > 500 && seen(429) < 500, "{statuses:?}");
    assert_eq!(answer(stage.get("/api/v1/whoami")).await.status, 200);
}

#[tokio::test]
async fn without_a_credential_every_operation_is_refused_with_401() {
    let Walk { stage, calls, .. } = Walk::new().await;
    for call in calls {
        if NEED_NO_CREDENTIAL.contains(&call.template.as_str()) {
            let found = answer(call.request(&stage, None)).await;
            // The link of the example is nobody's.
            let expected = if call.template == INVITATION { 404 } else { 200 };
            let name = call.name();
            assert_eq!(found.status, expected, "{name} is in the list of those that need no credential");
            continue;
        }
        for key in [None, Some("ApiKey wrong"), Some("")] {
            let found = answer(call.request(&stage, key)).await;
            found.assert_problem(401, &call.name());
            assert_eq!(found.header("www-authenticate"), "ApiKey, Bearer realm=\"covey\"");
        }
        let bearer = call.request(&stage, None).header("authorization", "Bearer wrong");
        answer(bearer).await.assert_problem(401, &call.name());
        let path = match call.path.split_once('?') {
            Some((path, query)) => format!("{path}/?{query}"),
            None => format!("{}/", call.path),
        };
        let with_slash = Call { path, ..call };
        answer(with_slash.request(&stage, None)).await.assert_problem(401, &with_slash.name());
    }
}

#[tokio::test]
async fn without_rights_every_operation_is_refused_with_403() {
    let Walk { stage, calls, .. } = Walk::new().await;
    let powerless = stage.key("acme", &[]).await;
    for call in calls.iter().filter(|call| !NEED_NO_CREDENTIAL.contains(&call.template.as_str())) {
        let found = answer(call.request(&stage, Some(&powerless))).await;
        if NEED_NO_RIGHT.contains(&call.template.as_str()) {
            // An API key has no session to end.
            let expected = if call.template == LOGOUT { 409 } else { 200 };
            assert_eq!(found.status, expected, "{} is in the list of those that need no right", call.name());
        } else {
            found.assert_problem(403, &call.name());
        }
    }
}

#[tokio::test]
async fn the_rights_that_an_operation_is_explained_to_take_are_those_that_it_takes() {
    let Walk { stage, calls, .. } = Walk::new().await;
    let exempt = |call: &Call| {
        let template = call.template.as_str();
        NEED_NO_CREDENTIAL.contains(&template) || NEED_NO_RIGHT.contains(&template)
    };
    let named = |explained: &Value| {
        let rights = explained["rights"].as_array().unwrap().iter();
        rights.map(|one| one["right"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    for call in calls.iter().filter(|call| !exempt(call)) {
        let path = format!("/api/v1/access/explain?operation={}", call.name().replace(' ', "%20"));
        let explained = answer(stage.get(&path)).await;
        assert_eq!(
            (explained.status.as_u16(), &explained.body["allowed"]),
            (200, &json!(true)),
            "{}",
            call.name()
        );
        let rights = named(&explained.body);
        assert!(!rights.is_empty(), "{}", call.name());
        // None of them can be missing.
        for right in &rights {
            let rest = covey_core::access::RIGHT_NAMES.into_iter().filter(|name| name != right);
            let key = stage.key("acme", &rest.collect::<Vec<_>>()).await;
            let explained = answer(stage.bare(Method::GET, &path).header("x-api-key", &key)).await;
            assert_eq!(explained.body["allowed"], json!(false), "{} without {right}", call.name());
            if !EITHER_RIGHT.contains(&call.name().as_str()) {
                answer(call.request(&stage, Some(&key))).await.assert_problem(403, &call.name());
            }
        }
        // And they are enough: of another organisation, so that nothing is changed that is asked about next.
        let only: Vec<_> = rights.iter().map(String::as_str).collect();
        if !GIVES_AWAY.contains(&call.name().as_str()) {
            let key = stage.key("rival", &only).await;
            // Its body is not read: that of a stream has no end.
            let status = call.request(&stage, Some(&key)).send().await.unwrap().status();
            assert_ne!(status, 403, "{} as {only:?}", call.name());
        }
    }
}

#[tokio::test]
async fn what_another_organisation_owns_is_404_and_in_no_answer() {
    let Walk { stage, calls, task } = Walk::new().await;
    let all = covey_core::access::RIGHT_NAMES;
    let rival = stage.key("rival", &all).await;
    for call in calls.iter().filter(|call| !NEED_NO_CREDENTIAL.contains(&call.template.as_str())) {
        if OF_EVERY_ORGANISATION.contains(&call.template.as_str()) {
            continue;
        }
        // A stream does not end; that it tells nothing of others is tested where streams are. An API key has no session.
        if ["/api/v1/stream", LOGOUT].contains(&call.template.as_str()) {
            continue;
        }
        let found = answer(call.request(&stage, Some(&rival)).header("orgId", "1")).await;
        if call.template.contains('{') || call.name() == "POST /api/v1/device-tasks" {
            found.assert_problem(404, &call.name());
        } else {
            assert!(found.status.is_success(), "{}: {}", call.name(), found.text);
            for ours in [SN, URL, UID, SERIAL, USER, task.as_str()] {
                assert!(!found.text.contains(ours), "{} shows {ours}: {}", call.name(), found.text);
            }
        }
    }
    let as_rival = |path: &str| stage.bare(Method::GET, path).header("x-api-key", &rival);
    let watched = answer(as_rival(&format!("/api/v1/device-tasks/{task}?wait=5"))).await;
    watched.assert_problem(404, "who waits for a task of others");
    let devices = answer(as_rival(&format!("/api/v1/devices?sn={SN}"))).await;
    assert_eq!((devices.body, devices.headers["x-total-count"].to_str().unwrap()), (json!([]), "0"));
    let ours = answer(stage.get(&format!("/api/v1/device-tasks/{task}"))).await;
    assert_eq!((ours.status.as_u16(), &ours.body["status_name"]), (200, &json!("READY")));
    let keys = answer(stage.bare(Method::GET, "/api/v1/api-keys").header("x-api-key", &rival)).await;
    assert!(keys.text.contains("acme"), "{OF_EVERY_ORGANISATION:?} are in the list for a reason");
    assert_eq!(answer(stage.get("/api/v1/whoami").header("x-api-key", KEY)).await.status, 200);
}

/// The same call with a parameter and, where it has a body, a member that nobody knows; and what
/// an answer says of each.
fn misspelt(call: &Call) -> Vec<(Call, Value, String)> {
    let (method, template) = (call.method.clone(), call.template.clone());
    let separator = if call.path.contains('?') { '&' } else { '?' };
    let path = format!("{}{separator}siez=1", call.path);
    let with_parameter = Call { method, template, path, body: call.body.clone() };
    let about = json!({
        "kind": "unknown-parameter", "detail": "this parameter is not known", "parameter": "siez",
    });
    let mut calls = vec![(with_parameter, about, "unknown-parameter;name=\"siez\"".to_owned())];
    if let Some(body) = &call.body {
        let mut body: Value = serde_json::from_str(body).unwrap();
        body["payloda"] = json!({"a": 1});
        let (method, template, path) = (call.method.clone(), call.template.clone(), call.path.clone());
        let with_member = Call { method, template, path, body: Some(body.to_string()) };
        let about = json!({
            "kind": "unknown-member", "detail": "this member is not known", "pointer": "#/payloda",
        });
        calls.push((with_member, about, "unknown-member;pointer=\"#/payloda\"".to_owned()));
    }
    calls
}

#[tokio::test]
async fn what_nobody_knows_is_named_by_every_operation_and_refused_where_that_is_preferred() {
    let Walk { stage, calls, .. } = Walk::new().await;
    let mut misspelt: Vec<_> = calls.iter().flat_map(misspelt).collect();
    assert!(misspelt.len() > calls.len() + 8, "the walk has lost its bodies: {}", misspelt.len());
    // First those that are refused: nothing may come of them.
    for (call, about, _) in &misspelt {
        let strict = call.request(&stage, Some(KEY)).header("Prefer", "handling=strict");
        let found = answer(strict).await;
        found.assert_problem(422, &call.name());
        assert_eq!(found.body["type"], "urn:covey:problem:unknown", "{}: {}", call.name(), found.text);
        assert_eq!(found.header("preference-applied"), "handling=strict", "{}", call.name());
        assert_eq!(found.header("covey-warning"), "", "{}: it is the refusal itself", call.name());
        if about.get("pointer").is_none() || !ALWAYS_STRICT.contains(&call.name().as_str()) {
            assert_eq!(found.body["errors"], json!([about]), "{}", call.name());
        }
        let field = if about.get("pointer").is_some() { "payloda" } else { "siez" };
        assert_eq!(found.body["field"], field, "{}", call.name());
    }
    let tasks = answer(stage.get("/api/v1/device-tasks")).await;
    assert_eq!(tasks.body["total"], 1, "what was refused has made nothing");
    // Whoever it is that asks comes first.
    let stranger = stage.bare(Method::GET, "/api/v1/devices?siez=1").header("Prefer", "handling=strict");
    answer(stranger).await.assert_problem(401, "a stranger with a misspelt parameter");
    // A request without such a name has neither.
    let found = answer(stage.get("/api/v1/devices?size=1").header("Prefer", "handling=strict")).await;
    assert_eq!((found.status.as_u16(), found.header("covey-warning")), (200, ""));
    assert_eq!(found.header("preference-applied"), "handling=strict");
    // A misspelt member may be why another one is missing.
    let found = answer(stage.post("/api/v1/device-tasks", r#"{"ext_task_id":"","device_idd":1}"#)).await;
    found.assert_problem(422, "device_id is missing");
    assert_eq!(found.body["warnings"][0]["pointer"], "#/device_idd");
    // Then those that are done, with what they need: deletions last, of the key last of all.
    misspelt.sort_by_key(|(call, ..)| (call.method == Method::DELETE, call.template.contains("api-keys")));
    for (call, about, header) in &misspelt {
        let name = call.name();
        let request = call.request(&stage, Some(KEY));
        if about.get("pointer").is_some() && ALWAYS_STRICT.contains(&name.as_str()) {
            answer(request).await.assert_problem(422, &name);
            continue;
        }
        if call.template == "/api/v1/stream" {
            // It does not end.
            let opened = request.send().await.unwrap();
            assert_eq!(
                (opened.status().as_u16(), &opened.headers()["covey-warning"]),
                (200, &header.parse().unwrap())
            );
            continue;
        }
        let found = answer(request).await;
        assert!(!matches!(found.status.as_u16(), 400 | 401 | 422), "{name}: {}", found.text);
        assert_eq!(found.header("covey-warning"), header, "{name}: {}", found.text);
        assert_eq!(found.header("preference-applied"), "", "{name}");
        if found.body.is_object() {
            assert_eq!(found.body["warnings"], json!([about]), "{name}");
        }
    }
    stage.shutdown.cancel();
}

/// How many entries the audit log has of what was done, and all of it as text.
async fn audited(stage: &Stage) -> (usize, String) {
    let found = answer(stage.get("/api/v1/audit?outcome=done&size=1000&all=true")).await;
    assert_eq!(found.status, 200, "{}", found.text);
    (found.body["items"].as_array().unwrap().len(), found.text)
}

#[tokio::test]
async fn every_operation_that_changes_something_leaves_an_entry_in_the_audit_log() {
    let Walk { stage, mut calls, .. } = Walk::new().await;
    calls.retain(|call| call.method != Method::GET && !CHANGE_NOTHING.contains(&call.name().as_str()));
    // Deletions last, of the key last of all; of a node after all else that is done with it.
    calls.sort_by_key(|call| (call.method == Method::DELETE, call.template.contains("api-keys")));
    assert!(calls.len() >= 34, "the document has lost operations: {}", calls.len());
    for call in calls {
        // A key of its own, so that the walk does not end with the one that it removes.
        let (before, _) = audited(&stage).await;
        let name = call.name();
        let call = match name.as_str() {
            "DELETE /api/v1/api-keys/{id}" => {
                let made = r#"{"name":"doomed","rights":["tasks:read"]}"#;
                let id = answer(stage.post("/api/v1/api-keys", made)).await.body["id"].to_string();
                Call { path: format!("/api/v1/api-keys/{id}"), ..call }
            }
            // A device that has a certificate which was not revoked.
            "POST /api/v1/devices/{device_id}/revoke" => {
                answer(stage.post("/api/v1/devices", r#"{"device_id":7777}"#)).await;
                Call { path: "/api/v1/devices/7777/revoke".to_owned(), ..call }
            }
            "POST /api/v1/auth/invitation" => {
                let linked = answer(stage.post("/api/v1/users/1/link", "{}")).await;
                Call { body: Some(invitation(&linked.body)), ..call }
            }
            "DELETE /api/v1/sessions/{id}" => {
                let (id, _) = signed_in(&stage).await;
                Call { path: format!("/api/v1/sessions/{id}"), ..call }
            }
            _ => call,
        };
        // What was done for it has an entry as well.
        let (mut before, mut request) = (before, call.request(&stage, Some(KEY)));
        if name.starts_with("DELETE /api/v1/api-keys")
            || name.ends_with("/devices/{device_id}/revoke")
            || [INVITATION, "/api/v1/sessions/{id}"].contains(&call.template.as_str())
        {
            before += 1;
        }
        if call.template == LOGOUT {
            let (_, cookie) = signed_in(&stage).await;
            before += 1;
            request =
                call.request(&stage, None).header("cookie", cookie).header("sec-fetch-site", "same-origin");
        }
        let found = answer(request).await;
        // There is no dead letter here; that resending one is told, the tests of the core see to.
        if name.ends_with("/dead-letters/{number}/resend") {
            found.assert_problem(404, &name);
            continue;
        }
        assert!(found.status.is_success(), "{name}: {} {}", found.status, found.text);
        let (after, told) = audited(&stage).await;
        // No device has enrolled, so none is released: that is no change.
        if name.ends_with("/release") {
            assert_eq!(after, before, "{name}: {told}");
            continue;
        }
        assert_eq!(after, before + 1, "{name}: {told}");
    }
    stage.shutdown.cancel();
}

#[tokio::test]
async fn what_is_refused_is_in_the_audit_log_and_no_key_is() {
    let Walk { stage, .. } = Walk::new().await;
    let wrong = format!("nobody-has-this-{}", "k".repeat(40));
    let path = format!("/api/v1/devices/{DEVICE}");
    let weak = stage.key("acme", &["tasks:read"]).await;
    for key in [wrong.as_str(), "short", &weak] {
        for _ in 0..3 {
            answer(stage.bare(Method::DELETE, &path).header("x-api-key", key)).await;
        }
    }
    answer(stage.bare(Method::GET, &path)).await;
    answer(stage.get("/api/v1/device-tasks/00000000-0000-0000-0000-000000000001"))
        .await
        .assert_problem(404, "");
    answer(stage.post("/api/v1/devices", r#"{"sn":"srv"}"#))
        .await
        .assert_problem(422, "no refusal of this kind");
    stage.engine.server().audit_refusals_write().await.unwrap();
    let found = answer(stage.get("/api/v1/audit?outcome=refused&all=true")).await;
    let told = |entry: &Value| {
        let of = |name: &str| entry["details"][name].as_str().unwrap_or_default().to_owned();
        (of("status"), entry["by"]["kind"].as_str().unwrap().to_owned(), entry["count"].as_u64().unwrap())
    };
    let mut refused: Vec<_> = found.body["items"].as_array().unwrap().iter().map(told).collect();
    refused.sort();
    let is = |status: &str, kind: &str, count| (status.to_owned(), kind.to_owned(), count);
    let expected = [
        is("401", "stranger", 1),
        is("401", "stranger", 3),
        is("401", "stranger", 3),
        is("403", "key", 3),
        is("404", "key", 1),
    ];
    assert_eq!(refused, expected, "{}", found.text);
    assert!(found.text.contains("nobo…") && found.text.contains("127.0.0.1"), "{}", found.text);
    for secret in ["nobody-has", "short", &weak, KEY] {
        assert!(!found.text.contains(secret), "{secret}: {}", found.text);
    }
    stage.shutdown.cancel();
}

#[tokio::test]
async fn nested_members_are_named_by_their_place() {
    let Walk { stage, .. } = Walk::new().await;
    let tags = r#"{"tags":[{"tag":"a","value":"b","valeu":1}],"tag/s~":{}}"#;
    let found = answer(stage.post("/api/v1/devices", tags)).await;
    assert_eq!(found.status, 201, "{}", found.text);
    let pointers: Vec<_> =
        found.body["warnings"].as_array().unwrap().iter().map(|one| &one["pointer"]).collect();
    assert_eq!(pointers, ["#/tags/0/valeu", "#/tag~1s~0"]);
    // A payload is the device's: nobody looks into it.
    let task = format!(r#"{{"ext_task_id":"","device_id":{DEVICE},"payload":{{"anything":1}}}}"#);
    let found = answer(stage.post("/api/v1/device-tasks", &task).header("Prefer", "handling=strict")).await;
    assert_eq!((found.status.as_u16(), found.body.get("warnings")), (200, None));
    for (body, field) in [
        (json!({"filter": {"device_idd": [1]}}), "filter.device_idd"),
        (json!({"filter": {"device_id": [true]}}), "filter.device_id[0]"),
        (json!({"filter": [[1]]}), "filter"),
        (json!({"concurrency": "8"}), "concurrency"),
    ] {
        let mut webhook = json!({"event_type": "msg-event", "url": URL, "is_active": false});
        webhook.as_object_mut().unwrap().extend(body.as_object().unwrap().clone());
        let found = answer(stage.post("/api/v1/webhooks", &webhook.to_string())).await;
        found.assert_problem(422, field);
        assert_eq!(found.body["field"], field, "{}", found.text);
    }
    stage.shutdown.cancel();
}
