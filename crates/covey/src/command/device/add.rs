//! `covey device add`: registers a device and hands out what it needs.

use std::io::Read;
use std::path::Path;

use anyhow::{Context, Result, anyhow, bail};
use covey_client::{CertificateWanted, DeviceNew, DeviceTags, Error, Registered, Tag, Whole};
use serde_json::json;

use crate::command::connection::{Connection, shell_word};
use crate::command::device::bundle::Bundle;
use crate::command::device::identity_folder::{
    CA_FILE, CERTIFICATE_FILE, IdentityFolder, KEY_FILE, PKCS12_FILE,
};
use crate::command::device::{AddArgs, many};
use crate::fault;

/// Longest certificate signing request, in bytes.
const CSR_BYTES_MAX: u64 = 64 * 1024;

/// Runs `covey device add`.
pub async fn run(args: AddArgs, connection: &Connection) -> Result<()> {
    if args.no_certificate || args.ca.is_some() {
        return add_without(args, connection).await;
    }
    if let Some(count) = args.count {
        return many::run(args, count, connection).await;
    }
    let bundle = Bundle::of(args.bundle, args.password_file.as_deref())?;
    let csr = args.csr.as_deref().map(read_csr).transpose()?;
    let has_own_key = csr.is_some();
    let names = bundle.files(has_own_key);
    let folder = args.out.as_deref().map(|path| IdentityFolder::reserve(path, names, args.force));
    let folder = folder.transpose().map_err(fault::setup)?;

    let request = DeviceNew {
        sn: args.sn,
        device_id: args.device_id.map(Whole),
        tags: tags(args.tags),
        csr,
        ..DeviceNew::default()
    };
    let registered = register(connection, &request).await?;
    if !has_own_key && registered.private_key_pem.is_none() {
        bail!(
            "the server registered {} and sent no private key: retire it with \"{}\"",
            registered.device.sn,
            connection.command(&format!("device rm sn:{}", registered.device.sn))
        );
    }
    match (folder, args.out.as_deref()) {
        (Some(folder), Some(path)) => {
            let contents = bundle.contents(&registered);
            let written = contents.and_then(|contents| {
                let files: Vec<_> = contents.iter().map(|(name, bytes)| (*name, bytes.as_slice())).collect();
                Ok(folder.write(&files)?)
            });
            written.with_context(|| {
                format!(
                    "{} is registered, but its files could not be written: retire it with \"{}\" and add it again",
                    registered.device.sn,
                    connection.command(&format!("device rm sn:{}", registered.device.sn))
                )
            })?;
            match bundle {
                Bundle::Pem => tell_written(connection, &registered, path),
                bundle => tell_bundle(connection, &registered, path, &bundle, names),
            }
        }
        _ => print(connection, &registered),
    }
}

/// Tags by name; of equal names the last counts.
pub fn tags(given: Vec<Tag>) -> Option<DeviceTags> {
    let by_name = given.into_iter().map(|Tag { tag, value }| (tag.into_owned(), value.into_owned()));
    Some(DeviceTags(by_name.collect())).filter(|DeviceTags(tags)| !tags.is_empty())
}

async fn register(connection: &Connection, request: &DeviceNew) -> Result<Registered> {
    connection.client.device_register(request).await.map_err(|error| match &error {
        Error::Refused { status: 409, detail, .. } => {
            anyhow!("{detail}: choose another, or see \"{}\"", connection.command("device list"))
        }
        _ => error.into(),
    })
}

/// Registers a device that gets no certificate: a node, or one that has a certificate of a CA of others.
async fn add_without(args: AddArgs, connection: &Connection) -> Result<()> {
    let certificate_pem = args.certificate.as_deref().map(read_certificate).transpose()?;
    let request = DeviceNew {
        sn: args.sn,
        device_id: args.device_id.map(Whole),
        tags: tags(args.tags),
        certificate: certificate_pem.is_none().then_some(CertificateWanted::None),
        ca: args.ca,
        certificate_pem,
        ..DeviceNew::default()
    };
    let registered = register(connection, &request).await?;
    let output = connection.output;
    if output.json {
        return Ok(output.json(&registered)?);
    }
    let (sn, number) = (&registered.device.sn, registered.device.device_id);
    let how = match &request.ca {
        Some(ca) => format!("with its certificate of {ca}"),
        None => "without a certificate: a gateway speaks for it".to_owned(),
    };
    output.text(&format!("{sn} is registered as number {number}, {how}"))?;
    Ok(())
}

fn read_certificate(path: &Path) -> Result<String> {
    let mut text = String::new();
    let read = std::fs::File::open(path).and_then(|file| file.take(CSR_BYTES_MAX).read_to_string(&mut text));
    read.map_err(|error| fault::setup(format!("cannot read the certificate {}: {error}", path.display())))?;
    Ok(text)
}

fn read_csr(path: &Path) -> Result<String> {
    let mut text = String::new();
    let read = if path == Path::new("-") {
        std::io::stdin().lock().take(CSR_BYTES_MAX).read_to_string(&mut text)
    } else {
        std::fs::File::open(path).and_then(|file| file.take(CSR_BYTES_MAX).read_to_string(&mut text))
    };
    read.map_err(|error| fault::setup(format!("cannot read the request {}: {error}", path.display())))?;
    if !text.contains("-----BEGIN") {
        bail!(
            "{} holds no certificate signing request in PEM: make one with \"openssl req -new -key key.pem \
             -subj /CN=SN\"",
            path.display()
        );
    }
    Ok(text)
}

/// Prints the certificates, and the key if there is one.
fn print(connection: &Connection, registered: &Registered) -> Result<()> {
    let output = connection.output;
    if output.json {
        return Ok(output.json(registered)?);
    }
    let pems = [&registered.certificate_pem, &registered.ca_pem, &registered.private_key_pem];
    let pems = pems.into_iter().flatten();
    output.text(&pems.map(|pem| pem.trim_end()).collect::<Vec<_>>().join("\n"))?;
    let device = &registered.device;
    let key = if registered.private_key_pem.is_some() { ", private key (shown this once)" } else { "" };
    output.note(&format!(
        "{} is registered as number {}. Above: certificate, issuing CA, root CA{key}. --out DIR writes files.",
        device.sn, device.device_id
    ));
    output.note(&where_to_connect(connection, &device.sn));
    Ok(())
}

/// Says what was written, and what to type next.
fn tell_written(connection: &Connection, registered: &Registered, path: &Path) -> Result<()> {
    let output = connection.output;
    let device = &registered.device;
    let file = |name: &str| path.join(name).to_string_lossy().into_owned();
    let key = registered.private_key_pem.as_ref().map(|_| file(KEY_FILE));
    if output.json {
        let broker = connection.broker();
        return Ok(output.json(&json!({
            "device": device,
            "files": {"ca": file(CA_FILE), "certificate": file(CERTIFICATE_FILE), "key": key},
            "broker": {"host": broker.host, "port": broker.port, "is_known": broker.is_known},
        }))?);
    }
    let mut files = vec![CA_FILE, CERTIFICATE_FILE];
    files.extend(key.is_some().then_some(KEY_FILE));
    output.text(&format!(
        "{} is registered as number {}; in {}: {}",
        device.sn,
        device.device_id,
        path.display(),
        files.join(", ")
    ))?;
    let broker = connection.broker();
    let key = key.unwrap_or_else(|| "YOUR-KEY.pem".to_owned());
    output.note(&format!(
        "{}\nTo simulate it: {}\nTo see its tasks come in with a client of another make:\n  mosquitto_sub -V 5 -h {} -p {} --cafile {} --cert {} --key {} -i {sn} -q 1 \
         -t srv/{sn}/tsk",
        where_to_connect(connection, &device.sn),
        connection.command(&format!("sim --identity {}", shell_word(&path.to_string_lossy()))),
        broker.host,
        broker.port,
        shell_word(&file(CA_FILE)),
        shell_word(&file(CERTIFICATE_FILE)),
        shell_word(&key),
        sn = device.sn,
    ));
    let call = connection.command(&format!("call {} 51 '{{\"dt\":[{{\"cl\":5}}]}}'", device.sn));
    output.note(&format!("To call it, from another terminal: {call}"));
    Ok(())
}

/// Says which files were written in another form than PEM, and the password that was made: it is shown once.
fn tell_bundle(
    connection: &Connection,
    registered: &Registered,
    path: &Path,
    bundle: &Bundle,
    names: &[&str],
) -> Result<()> {
    let (device, output, password) = (&registered.device, connection.output, bundle.made_password());
    if output.json {
        let files: Vec<_> = names.iter().map(|name| path.join(name)).collect();
        return Ok(output.json(&json!({"device": device, "files": files, "password": password}))?);
    }
    output.text(&format!(
        "{} is registered as number {}; in {}: {}",
        device.sn,
        device.device_id,
        path.display(),
        names.join(", ")
    ))?;
    if let Some(password) = password {
        output.text(&format!("password of {PKCS12_FILE} (shown this once): {password}"))?;
    }
    output.note(&where_to_connect(connection, &device.sn));
    Ok(())
}

fn where_to_connect(connection: &Connection, sn: &str) -> String {
    let broker = connection.broker();
    let host = if broker.host.contains(':') { format!("[{}]", broker.host) } else { broker.host };
    let doubt = if broker.is_known { "" } else { " (the usual port; ask who runs the server)" };
    format!("It connects to mqtts://{host}:{}{doubt} with MQTT 5 and client id {sn}.", broker.port)
}
