//! A client that others wrote, in Python: `mqtt-sn-12` 1.0.9, if the interpreter that `COVEY_PYTHON` names (or `python3`)
//! has it. (`mqttsn` 0.0.4 can neither receive a message nor disconnect.)

use std::process::Stdio;
use std::time::Duration;

use covey_gateway::mqtt_sn::session::{Answer, Delivery, Event, Reason, Settings};
use covey_gateway::mqtt_sn::socket::Socket;
use tokio::process::Command;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/all/mqtt_sn/foreign.py");
const PATIENCE: Duration = Duration::from_secs(60);

fn python() -> String {
    std::env::var("COVEY_PYTHON").unwrap_or_else(|_| "python3".to_owned())
}

async fn is_installed() -> bool {
    let mut python = Command::new(python());
    python.args(["-c", "import mqttsn12.client.MqttSnClient"]).stdout(Stdio::null()).stderr(Stdio::null());
    python.status().await.is_ok_and(|status| status.success())
}

/// Runs the script, answers what it publishes and writes to what it subscribes. Gives what the client said it heard, and
/// what the owner was told.
async fn run() -> (String, Vec<String>) {
    let socket = Socket::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let port = socket.local_address().unwrap().port().to_string();
    let stop = CancellationToken::new();
    let (handle, mut events, running) = socket.start(Settings::default(), stop.clone());
    let running = tokio::spawn(running);
    let mut script = Command::new(python());
    script.args([SCRIPT, &port]).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let script = tokio::spawn(timeout(PATIENCE, script.spawn().unwrap().wait_with_output()));
    let owner = tokio::spawn(async move {
        let mut told = Vec::new();
        let mut token = 0;
        while let Some(event) = events.recv().await {
            match event {
                Event::Connected { id, .. } => told.push(format!("connected {id}")),
                Event::Published { topic, payload, receipt, .. } => {
                    let payload = String::from_utf8(payload.into()).unwrap();
                    let qos = if receipt.is_some() { "+" } else { "0" };
                    told.push(format!("{topic} {qos} {}", payload.get(..20).unwrap_or(&payload)));
                    if let Some(receipt) = receipt {
                        handle.accepted(receipt, Answer::Taken);
                    }
                }
                Event::PublishedUnconnected { topic, payload, .. } => {
                    told.push(format!("{topic} - {}", String::from_utf8(payload.into()).unwrap()));
                }
                Event::Subscribed { client, filter } => {
                    told.push(format!("subscribed {filter}"));
                    token += 1;
                    let topic = filter.replace('+', "led");
                    let body = format!("to {topic}").into_bytes();
                    assert!(handle.publish(client, token, topic.into(), body.into(), true));
                }
                Event::Delivered { delivery, .. } => {
                    assert!(
                        matches!(delivery, Delivery::Accepted | Delivery::Unacknowledged),
                        "{delivery:?}"
                    );
                }
                Event::Unsubscribed { filter, .. } => told.push(format!("unsubscribed {filter}")),
                Event::Asleep { for_s, .. } => told.push(format!("asleep {for_s}")),
                Event::Active { .. } => told.push("active".to_owned()),
                Event::Gone { reason, .. } => {
                    assert_eq!(reason, Reason::Left);
                    told.push("left".to_owned());
                }
            }
        }
        told
    });
    let output = script.await.unwrap().unwrap().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
    stop.cancel();
    running.await.unwrap();
    (text, owner.await.unwrap())
}

#[tokio::test]
async fn a_client_of_others_lives_its_life() {
    if !is_installed().await {
        return;
    }
    let (heard, told) = run().await;
    let expected = [
        "connected node-12",
        "node/check 0 {\"id\": \"node-12\"}",
        "node/check + {\"id\": \"node-12\"}",
        "node/node-12/led + {\"value\": \"0\"}",
        "ab + short",
        "node/check + predefined",
        "node/long + xxxxxxxxxxxxxxxxxxxx",
        "ab - nobody",
        "subscribed gateway/node-12/led/set",
        "subscribed gateway/+/set",
        "subscribed ab",
        "subscribed gateway/check",
        "unsubscribed gateway/+/set",
        "asleep 60",
        "active",
        "left",
    ];
    assert_eq!(told, expected, "{heard}");
    for topic in ["gateway/node-12/led/set", "gateway/led/set", "ab", "gateway/check"] {
        assert!(heard.contains(&format!("heard to {topic}\n")), "{heard}");
    }
}
