//! Steps on certificates.

use covey_core::access::EndedKey;
use covey_core::certificate::{Certificate, CertificateSteps, RevocationReason};
use covey_core::id::{DeviceKey, OrgId};
use covey_core::port::TxResult;

use crate::postgres::pipeline::values;
use crate::postgres::write::transaction::PostgresTransaction;
use crate::rows;

impl CertificateSteps for PostgresTransaction<'_> {
    fn certificate(&mut self, org: OrgId, serial_hex: &str) -> TxResult<Option<Certificate>> {
        let values = values![org.0, serial_hex.to_owned()];
        self.ask_first(|sql| &sql.certificate.certificate, values, rows::certificate)
    }

    fn certificate_revoke(
        &mut self,
        device: DeviceKey,
        serial_hex: &str,
        reason: RevocationReason,
    ) -> TxResult<Vec<EndedKey>> {
        let values = values![serial_hex.to_owned(), self.now.0];
        let ended =
            self.write_rows(|sql| &sql.certificate.api_keys_revoke_of_certificate, values, rows::ended_key)?;
        let values = values![self.now.0, reason as i64, serial_hex.to_owned(), device.0];
        self.write(|sql| &sql.certificate.certificate_revoke, values)?;
        Ok(ended)
    }

    fn certificate_renewed_from(
        &mut self,
        device: DeviceKey,
        serial_hex: &str,
        shown_hex: &str,
    ) -> TxResult<()> {
        let values = values![shown_hex.to_owned(), device.0, serial_hex.to_owned()];
        self.write(|sql| &sql.certificate.certificate_renewed_from, values).map(drop)
    }

    fn certificates_renewed_from(
        &mut self,
        device: DeviceKey,
        shown_hex: &str,
        limit: u32,
    ) -> TxResult<Vec<String>> {
        let shown = || shown_hex.to_owned();
        let values = values![shown(), device.0, device.0, device.0, shown(), i64::from(limit)];
        let step = self.query(|sql| &sql.certificate.certificates_renewed_from, values);
        let found = self.ask(step)?;
        self.read(rows::each(&found, rows::first))
    }

    fn certificates_unrevoked(&mut self, device: DeviceKey, limit: u32) -> TxResult<Vec<String>> {
        let values = values![device.0, i64::from(limit)];
        let step = self.query(|sql| &sql.certificate.certificates_unrevoked, values);
        let found = self.ask(step)?;
        self.read(rows::each(&found, rows::first))
    }
}
