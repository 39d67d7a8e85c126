//! What is around a server, as its settings name it: looked at by the server while it runs, and by `covey doctor`.

use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use covey_core::finding::{Finding, Measures};
use covey_doctor::backup::{Backups, Trace};
use covey_doctor::certificate::{self, Certificate, Dates, Kind};
use covey_doctor::{clock, files};
use covey_pki::{CaFiles, CertificateDates, certificate_dates, imported_ca_files};
use covey_store::sqlite::DiskRoom;

use crate::serve::data_dir::PKI;
use crate::settings::{EMBEDDED, SQLITE, Settings};

/// Files, certificates and backups of a server.
#[derive(Clone)]
pub struct Surroundings {
    data: PathBuf,
    pki: PathBuf,
    /// The configuration, if a password is in it.
    secret_file: Option<PathBuf>,
    /// Secrets that are elsewhere.
    secrets: Vec<PathBuf>,
    certificates: Vec<(Kind, PathBuf)>,
    is_sqlite: bool,
    backup_days_max: u32,
}

/// Whether there was a CA: that there is none is a fault then, and no first start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HadCa {
    /// A server runs with it.
    Yes,
    /// Its database says so, or nobody does.
    NotKnown,
}

impl Surroundings {
    /// Those that the settings name.
    pub fn of(settings: &Settings) -> Self {
        let data = whole(&settings.data);
        let pki = data.join(PKI);
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
            pki,
            secret_file: settings.secret_file.as_deref().map(whole),
            secrets: secrets.collect(),
            certificates,
            is_sqlite: settings.store.scheme() == SQLITE,
            backup_days_max: settings.backup_days_max,
        }
    }

    /// Looks at all of it. Waits for the disk.
    pub fn look(&self, now_s: i64, had_ca: HadCa) -> (Vec<Finding>, Measures) {
        let mut found = files::findings(&self.data, &self.secrets);
        found.extend(self.configuration());
        found.extend(self.missing_keys(had_ca));
        // A folder that cannot be read is told of above.
        let imported = imported_ca_files(&self.pki).unwrap_or_default();
        let imported = imported.into_iter().map(|path| (Kind::Imported, path));
        let all = self.certificates.iter().cloned().chain(imported);
        let certificates: Vec<_> = all.filter_map(read).collect();
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

    /// What is wrong with the configuration file.
    pub fn configuration(&self) -> Option<Finding> {
        self.secret_file.as_deref().and_then(files::of_configuration)
    }

    fn missing_keys(&self, had_ca: HadCa) -> Option<Finding> {
        match CaFiles::in_folder(&self.pki).ok()? {
            CaFiles::Missing(missing) => Some(files::keys_missing(&self.pki, &missing)),
            CaFiles::Waiting(request) => Some(files::keys_waiting(&self.pki, &request)),
            CaFiles::None if had_ca == HadCa::Yes => Some(files::keys_missing(&self.pki, &[])),
            CaFiles::Complete | CaFiles::None => None,
        }
    }
}

/// A path that means the same in every folder, so that a remedy can be typed anywhere.
pub fn whole(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

/// A certificate with its dates; none where there is none.
fn read((kind, path): (Kind, PathBuf)) -> Option<Certificate> {
    let dates = certificate_dates(&path).map_err(|error| error.to_string()).transpose()?;
    let dates = dates.map(|CertificateDates { not_before, not_after }| Dates {
        not_before_s: not_before.unix_timestamp(),
        not_after_s: not_after.unix_timestamp(),
    });
    Some(Certificate { kind, path, dates })
}

/// When a file was written, in Unix seconds.
fn made_at(path: &Path) -> Option<i64> {
    let at = std::fs::metadata(path).ok()?.modified().ok()?;
    i64::try_from(at.duration_since(UNIX_EPOCH).ok()?.as_secs()).ok()
}
