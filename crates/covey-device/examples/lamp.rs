//! A lamp: sets its level by method 51, and blinks by name, reporting each blink.
//!
//! `cargo run -p covey-device --example lamp -- mqtts://localhost:8883 ./lamp-1`

use std::time::Duration;

use covey_device::{Answer, Call, CallError, CancellationToken, Device};
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
        .build()?;

    let stop = CancellationToken::new();
    let on_signal = stop.clone();
    tokio::spawn(async move {
        let _ = tokio::signal::ctrl_c().await;
        on_signal.cancel();
    });
    Ok(lamp.run(stop).await?)
}
