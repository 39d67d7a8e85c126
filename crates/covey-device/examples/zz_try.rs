//! throwaway
use covey_device::*;
use rumqttc::{
    AsyncClient, Event, MqttOptions, Packet, PublishOptions, PublishProperties, QoS, TlsConfiguration,
    Transport,
};
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};
use uuid::Uuid;

fn tls(dir: &str) -> Arc<rustls::ClientConfig> {
    use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(format!("{dir}/ca.pem")).unwrap()).unwrap();
    Arc::new(
        rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_client_auth_cert(
                vec![CertificateDer::from_pem_file(format!("{dir}/cert.pem")).unwrap()],
                PrivateKeyDer::from_pem_file(format!("{dir}/key.pem")).unwrap(),
            )
            .unwrap(),
    )
}
#[derive(Default)]
struct Book {
    results: HashMap<Uuid, Vec<(String, String)>>,
    cmts: u64,
    started: HashMap<Uuid, Instant>,
    lat: Vec<u128>,
}

/// The fake server: returns client and book. `dup`: send every rsp twice; `no_cmt`: never commits
async fn server(port: u16, dup: bool, no_cmt: bool) -> (AsyncClient, Arc<Mutex<Book>>) {
    let mut o = MqttOptions::new("server", ("localhost", port));
    o.set_transport(Transport::tls_with_config(TlsConfiguration::Rustls(tls("/tmp/covey-device-try/server"))));
    o.set_max_request_batch(64);
    let mut n = rumqttc::NetworkOptions::new();
    n.set_tcp_nodelay(true);
    o.set_network_options(n);
    let (c, mut ev) = AsyncClient::builder(o).unbounded().build();
    let book = Arc::new(Mutex::new(Book::default()));
    let (c2, b2) = (c.clone(), book.clone());
    let rid = AtomicU64::new(1);
    let (tx, rx) = tokio::sync::oneshot::channel();
    let mut tx = Some(tx);
    tokio::spawn(async move {
        let mut seen: HashMap<(Uuid, String, String), u64> = HashMap::new();
        loop {
            match ev.poll().await {
                Ok(Event::Incoming(Packet::ConnAck(_))) => {
                    c2.try_subscribe("dev/+/+", QoS::AtLeastOnce).unwrap()
                }
                Ok(Event::Incoming(Packet::SubAck(_))) => {
                    if let Some(tx) = tx.take() {
                        let _ = tx.send(());
                    }
                }
                Ok(Event::Incoming(Packet::Publish(p))) => {
                    let topic = String::from_utf8_lossy(&p.topic).to_string();
                    let mut it = topic.split('/');
                    it.next();
                    let sn = it.next().unwrap();
                    let kind = it.next().unwrap();
                    let props = p.properties.clone().unwrap_or_default();
                    let id = parse_correlation(&props.correlation_data.clone().unwrap()).unwrap();
                    match kind {
                        "req" => {
                            for _ in 0..(1 + dup as u8) {
                                rsp(&c2, sn, id);
                            }
                        }
                        "res" => {
                            let get =
                                |k: &str| props.user_properties.iter().find(|x| x.0 == k).unwrap().1.clone();
                            let (st, ext) = (get("status_code"), get("ext_id"));
                            let mut b = b2.lock().unwrap();
                            let key = (id, st.clone(), ext.clone());
                            let n = *seen.entry(key).or_insert_with(|| rid.fetch_add(1, Ordering::Relaxed));
                            b.results
                                .entry(id)
                                .or_default()
                                .push((st.clone(), String::from_utf8_lossy(&p.payload).to_string()));
                            if st != "206"
                                && let Some(s) = b.started.get(&id)
                            {
                                let l = s.elapsed().as_micros();
                                b.lat.push(l);
                            }
                            if no_cmt {
                                continue;
                            }
                            b.cmts += 1;
                            let pr = PublishProperties {
                                correlation_data: props.correlation_data.clone(),
                                user_properties: vec![
                                    ("result_id".into(), n.to_string()),
                                    ("ext_id".into(), ext),
                                    ("correlationData".into(), id.to_string()),
                                ],
                                ..Default::default()
                            };
                            c2.try_publish(
                                format!("srv/{sn}/cmt"),
                                &b"{\"message\":\"committed\"}"[..],
                                PublishOptions::new(QoS::AtLeastOnce).properties(pr),
                            )
                            .unwrap();
                        }
                        _ => {}
                    }
                }
                Ok(_) => {}
                Err(e) => {
                    eprintln!("server: {e}");
                    tokio::time::sleep(Duration::from_millis(200)).await;
                }
            }
        }
    });
    rx.await.unwrap();
    (c, book)
}
fn now() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs()
}
fn props(id: Uuid) -> PublishProperties {
    PublishProperties {
        correlation_data: Some(id.to_string().into_bytes().into()),
        message_expiry_interval: Some(60),
        user_properties: vec![
            ("method_code".into(), "51".into()),
            ("correlationData".into(), id.to_string()),
            ("expires_at".into(), (now() + 60).to_string()),
        ],
        ..Default::default()
    }
}
fn rsp(c: &AsyncClient, sn: &str, id: Uuid) {
    c.try_publish(
        format!("srv/{sn}/rsp"),
        &b"{\"dt\":[{\"cl\":5}]}"[..],
        PublishOptions::new(QoS::AtLeastOnce).properties(props(id)),
    )
    .unwrap();
}
fn tsk(c: &AsyncClient, sn: &str, id: Uuid) {
    c.try_publish(format!("srv/{sn}/tsk"), format!("{{\"id\":\"{id}\",\"created_at\":1,\"header\":{{\"ext_task_id\":\"x\",\"device_id\":1,\"method_code\":51,\"priority\":3,\"ttl\":1}}}}"), PublishOptions::new(QoS::AtLeastOnce).properties(props(id))).unwrap();
}
fn cpu() -> f64 {
    let s = std::fs::read_to_string("/proc/self/stat").unwrap();
    let f: Vec<_> = s.rsplit_once(") ").unwrap().1.split(' ').collect();
    (f[11].parse::<f64>().unwrap() + f[12].parse::<f64>().unwrap()) / 100.0
}
fn rss() -> u64 {
    std::fs::read_to_string("/proc/self/statm").unwrap().split(' ').nth(1).unwrap().parse::<u64>().unwrap()
        * 4
}

#[tokio::main(worker_threads = 2)]
async fn main() {
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
        .with_writer(std::io::stderr)
        .init();
    let a: Vec<String> = std::env::args().collect();
    let port: u16 = 18883;
    let url = "mqtts://localhost:18883";
    match a[1].as_str() {
        "load" => {
            let devices: usize = a[2].parse().unwrap();
            let rate: u64 = a[3].parse().unwrap();
            let secs: u64 = a[4].parse().unwrap();
            let dup = a.get(5).is_some_and(|x| x == "dup");
            let roots = TlsRoots::from_ca_pem(&std::fs::read("/tmp/covey-device-try/ca/ca.pem").unwrap()).unwrap();
            let runs = Arc::new(Mutex::new(HashMap::<Uuid, u32>::new()));
            let r2 = runs.clone();
            let h = Arc::new(Handlers::new().on(51, move |call: Call| {
                let r = r2.clone();
                async move {
                    *r.lock().unwrap().entry(call.task_id()).or_default() += 1;
                    Answer::ok(1)
                }
            }));
            let stop = CancellationToken::new();
            let mut set = tokio::task::JoinSet::new();
            let mut counters = vec![];
            let mut st = vec![];
            let m0 = rss();
            for i in 1..=devices {
                let n = (i - 1) % 200 + 1;
                let d = Device::builder()
                    .server(url)
                    .identity_dir(format!("/tmp/covey-device-try/dev/lamp-{n}"))
                    .tls_roots(&roots)
                    .handlers(h.clone())
                    .journal_entries_max(128)
                    .build()
                    .unwrap();
                counters.push(d.counters());
                st.push(d.status());
                set.spawn(d.run(stop.clone()));
            }
            for s in &mut st {
                s.wait_for(|s| *s == Status::Connected).await.unwrap();
            }
            println!("connected; rss per device {} KiB", (rss() - m0) / devices as u64);
            // The server side in another process if SPLIT
            let (c, book) = server(port, dup, false).await;
            let c0 = cpu();
            let t0 = Instant::now();
            let mut sent = 0u64;
            let mut tick = tokio::time::interval(Duration::from_millis(5));
            while t0.elapsed() < Duration::from_secs(secs) {
                tick.tick().await;
                let due = (t0.elapsed().as_secs_f64() * rate as f64) as u64;
                while sent < due {
                    let sn = format!("lamp-{}", sent as usize % devices + 1);
                    let id = Uuid::new_v4();
                    book.lock().unwrap().started.insert(id, Instant::now());
                    tsk(&c, &sn, id);
                    sent += 1;
                }
            }
            let t_end = Instant::now();
            while book.lock().unwrap().results.len() < sent as usize
                && t_end.elapsed() < Duration::from_secs(10)
            {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            let c1 = cpu();
            tokio::time::sleep(Duration::from_millis(500)).await;
            let b = book.lock().unwrap();
            let mut lat = b.lat.clone();
            lat.sort();
            let total = counters.iter().map(|c| c.snapshot()).fold((0, 0, 0, 0), |a, s| {
                (
                    a.0 + s.calls_executed,
                    a.1 + s.duplicates_suppressed,
                    a.2 + s.results_sent,
                    a.3 + s.results_committed,
                )
            });
            println!(
                "sent {sent} results {} after {:?}; executed/dups/sent/committed {total:?}; max runs {:?}; cpu s {:.2}; p50 {} p99 {} us",
                b.results.len(),
                t0.elapsed(),
                runs.lock().unwrap().values().max(),
                c1 - c0,
                lat[lat.len() / 2],
                lat[lat.len() * 99 / 100]
            );
            drop(b);
            let s0 = Instant::now();
            stop.cancel();
            while set.join_next().await.is_some() {}
            println!("stopped in {:?}", s0.elapsed());
        }
        "serve" => {
            // one call to lamp-1 each second, print results
            let (c, book) = server(port, false, a.get(2).is_some_and(|x| x == "nocmt")).await;
            let id = a.get(3).map(|x| Uuid::parse_str(x).unwrap()).unwrap_or(Uuid::new_v4());
            println!("task {id}");
            tsk(&c, "lamp-1", id);
            for _ in 0..a.get(4).map_or(8, |x| x.parse().unwrap()) {
                tokio::time::sleep(Duration::from_secs(1)).await;
                println!("{:?}", book.lock().unwrap().results.get(&id));
            }
        }
        "poll" => {
            let (_c, book) = server(port, false, false).await; // answers zero uuid w/ rsp of zero => nothing
            let d = Device::builder()
                .server(url)
                .identity_dir("/tmp/covey-device-try/dev/lamp-2")
                .poll_every(Duration::from_millis(300))
                .build()
                .unwrap();
            let stop = CancellationToken::new();
            let s2 = stop.clone();
            tokio::spawn(async move {
                tokio::time::sleep(Duration::from_secs(2)).await;
                s2.cancel();
            });
            d.run(stop).await.unwrap();
            println!("{:?}", book.lock().unwrap().results);
        }
        "device" => {
            let d = Device::builder()
                .server(url)
                .identity_dir(&a[2])
                .journal_dir(&a[3])
                .stop_when_refused(a.get(4).is_some_and(|x| x == "stop"))
                .on(51, |call: Call| async move {
                    println!("RUN {}", call.task_id());
                    for i in 0..3 {
                        tokio::time::sleep(Duration::from_millis(700)).await;
                        call.progress(0, i).await?;
                    }
                    println!("DONE {}", call.task_id());
                    Ok::<_, CallError>(Answer::ok("fine"))
                })
                .build()
                .unwrap();
            let mut s = d.status();
            let c = d.counters();
            tokio::spawn(async move {
                loop {
                    println!("status {:?} {:?}", *s.borrow_and_update(), c.snapshot());
                    if s.changed().await.is_err() {
                        break;
                    }
                }
            });
            let stop = CancellationToken::new();
            let s2 = stop.clone();
            tokio::spawn(async move {
                let _ = tokio::signal::ctrl_c().await;
                s2.cancel();
            });
            println!("{:?}", d.run(stop).await.map_err(|e| e.to_string()));
        }
        _ => {}
    }
}
