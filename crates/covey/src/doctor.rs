//! What is around a server, as its settings name it: looked at by the server while it runs, and by `covey doctor`.

use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use covey_core::finding::{Finding, Measures};
use covey_doctor::backup::{Backups, Trace};
use covey_doctor::certificate::{self, Certificate, Dates, Kind};
use covey_doctor::{clock, files};
use covey_pki::{CertificateDates, certificate_dates};
use covey_store::sqlite::DiskRoom;

use crate::settings::{EMBEDDED, SQLITE, Settings};

/// Files, certificates and backups of a server.
#[derive(Clone)]
pub struct Surroundings {
    data: PathBuf,
    /// Secrets that are elsewhere.
    secrets: Vec<PathBuf>,
    certificates: Vec<(Kind, PathBuf)>,
    is_sqlite: bool,
    backup_days_max: u32,
}

impl Surroundings {
    /// Those that the settings name.
    pub fn of(settings: &Settings) -> Self {
        let data = whole(&settings.data);
        let pki = data.join("pki");
        let named = [
            &settings.link_key,
            &settings.coap_psk,
            &settings.mqtt_nodes_password_file,
            &settings.mcu_http_key_file,
            &settings.pusher,
        ];
        let secrets = named.into_iter().flatten().cloned();
        let secrets = secrets.chain(settings.node_keys.iter().map(|keys| keys.file.clone()));
        let mut certificates = vec![
            (Kind::Root, pki.join("ca.pem")),
            (Kind::Issuing, pki.join("issuing.pem")),
            (Kind::Server, pki.join("server.pem")),
        ];
        if settings.link.scheme() != EMBEDDED {
            let link = settings.link_certificate.clone().unwrap_or_else(|| pki.join("link.pem"));
            certificates.push((Kind::Link, link));
        }
        Self {
            data,
            secrets: secrets.collect(),
            certificates,
            is_sqlite: settings.store.scheme() == SQLITE,
            backup_days_max: settings.backup_days_max,
        }
    }

    /// Looks at all of it. Waits for the disk.
    pub fn look(&self, now_s: i64) -> (Vec<Finding>, Measures) {
        let mut found = files::findings(&self.data, &self.secrets);
        let certificates: Vec<_> = self.certificates.iter().filter_map(read).collect();
        found.extend(certificate::findings(&certificates, now_s));
        let last = Trace::read(&self.data);
        let backup_age_s = last.as_ref().map(|last| last.age_s(now_s));
        let since_s = if self.is_sqlite { made_at(&self.data.join("pki/ca.pem")) } else { None };
        let backups = Backups { data: &self.data, last, since_s, days_max: self.backup_days_max };
        found.extend(backups.finding(now_s));
        found.extend(clock::finding_of_state(clock::is_synchronised()));
        let measures = Measures {
            certificates_left_s: certificate::left_s(&certificates, now_s),
            backup_age_s,
            disk_free_bytes: DiskRoom::of(&self.data, None).ok().map(|room| room.free_bytes),
            ..Measures::default()
        };
        (found, measures)
    }
}

/// A path that means the same in every folder, so that a remedy can be typed anywhere.
pub fn whole(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

/// A certificate with its dates; none where there is none.
fn read((kind, path): &(Kind, PathBuf)) -> Option<Certificate> {
    let dates = certificate_dates(path).map_err(|error| error.to_string()).transpose()?;
    let dates = dates.map(|CertificateDates { not_before, not_after }| Dates {
        not_before_s: not_before.unix_timestamp(),
        not_after_s: not_after.unix_timestamp(),
    });
    Some(Certificate { kind: *kind, path: path.clone(), dates })
}

/// When a file was written, in Unix seconds.
fn made_at(path: &Path) -> Option<i64> {
    let at = std::fs::metadata(path).ok()?.modified().ok()?;
    i64::try_from(at.duration_since(UNIX_EPOCH).ok()?.as_secs()).ok()
}
