//! A lamp: sets its level by method 51, blinks by name, reporting each blink, and keeps a twin:
//! its colour is what an application wants it to be. It tells of its health every half minute,
//! also of the time it was offline.
//!
//! `cargo run -p covey-device --example lamp -- mqtts://localhost:8883 ./lamp-1`

use std::time::Duration;

use covey_device::{Answer, Call, CallError, CancellationToken, Desired, Device, HEALTH_CHECK};
use serde_json::{Value, json};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    tracing_subscriber::fmt::init();
    let mut arguments = std::env::args().skip(1);
    let server = arguments.next().unwrap_or("mqtts://localhost:8883".into());
    let folder = arguments.next().unwrap_or("./lamp-1".into());

    let lamp = Device::builder()
        .server(server)
        .identity_dir(&folder)
        .journal_dir(&folder)
        .on(51, |call: Call| async move {
            let parameters: Value = call.json()?;
            println!("the lamp is set to {parameters}");
            Ok::<_, CallError>(Answer::ok(json!({ "set": parameters })))
        })
        .on_method("blink", |call: Call| async move {
            for blink in 1..=3 {
                tokio::time::sleep(Duration::from_millis(500)).await;
                call.progress(blink, json!({ "blink": blink })).await?;
            }
            Ok::<_, CallError>(Answer::text("blinked"))
        })
        .on_desired("colour", |desired: Desired| async move {
            let colour: String = desired.json()?;
            println!("the lamp is {colour} now");
            Ok::<_, CallError>(())
        })
        .build()?;

    lamp.report("level", 0).send().await?;
    let events = lamp.events();
    tokio::spawn(async move {
        for half_minutes in 0_u64.. {
            let health = json!({ "uptime_s": half_minutes * 30 });
            if let Err(error) = events.event(HEALTH_CHECK).payload(health).send().await {
                eprintln!("the lamp tells no more of its health: {error}");
                return;
            }
            tokio::time::sleep(Duration::from_secs(30)).await;
        }
    });

    let stop = CancellationToken::new();
    let on_signal = stop.clone();
    tokio::spawn(async move {
        let _ = tokio::signal::ctrl_c().await;
        on_signal.cancel();
    });
    Ok(lamp.run(stop).await?)
}
