//! Steps on claims, and on the certificates of a device that asks for the next.

use covey_core::enrolment::{Claim, ClaimSerialState, EnrolmentSteps, NewClaim, NewUse};
use covey_core::id::{ClaimId, DeviceKey, OrgId, Sn, UnixMs};
use covey_core::port::TxResult;

use crate::postgres::pipeline::values;
use crate::postgres::write::transaction::PostgresTransaction;
use crate::rows;

fn count(number: i64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

impl EnrolmentSteps for PostgresTransaction<'_> {
    fn claim_of_certificate(&mut self, serial_hex: &str) -> TxResult<Option<Claim>> {
        let values = values![serial_hex.to_owned()];
        self.ask_first(|sql| &sql.enrolment.claim_of_certificate, values, rows::claim)
    }

    fn claim(&mut self, org: OrgId, id: ClaimId) -> TxResult<Option<Claim>> {
        self.ask_first(|sql| &sql.enrolment.claim, values![org.0, id.0], rows::claim)
    }

    fn claims_reach(&mut self, org: OrgId, count: u32) -> TxResult<bool> {
        let Some(skip) = count.checked_sub(1) else { return Ok(true) };
        let step = self.query(|sql| &sql.enrolment.claims_reach, values![org.0, i64::from(skip)]);
        Ok(!self.ask(step)?.is_empty())
    }

    fn claim_insert(&mut self, new: &NewClaim) -> TxResult<ClaimId> {
        let (name, certificate, pattern) = rows::claim_texts(new);
        let devices_max = i64::from(new.devices_max);
        let values = values![new.org.0, name, certificate, pattern, devices_max, new.at.0, new.not_after.0];
        self.write_only(|sql| &sql.enrolment.claim_insert, values, rows::first).map(ClaimId)
    }

    fn claim_serials_insert(&mut self, claim: ClaimId, serials: &[Sn]) -> TxResult<u32> {
        let serials: Vec<_> = serials.iter().map(|sn| sn.as_str().to_owned()).collect();
        let written = self.write(|sql| &sql.enrolment.claim_serials_insert, values![claim.0, serials])?;
        Ok(u32::try_from(written).unwrap_or(u32::MAX))
    }

    fn claim_serials_count(&mut self, claim: ClaimId) -> TxResult<u32> {
        self.ask_only(|sql| &sql.enrolment.claim_serials_count, values![claim.0], rows::first).map(count)
    }

    fn claim_serial(&mut self, claim: ClaimId, sn: &Sn) -> TxResult<Option<ClaimSerialState>> {
        let values = values![claim.0, sn.as_str().to_owned()];
        self.ask_first(|sql| &sql.enrolment.claim_serial, values, rows::claim_serial_state)
    }

    fn claim_use(&mut self, new: &NewUse, is_counted: bool) -> TxResult<()> {
        let (claim, sn, device, at) = (new.claim.0, new.sn.as_str().to_owned(), new.device.0, new.at.0);
        let key = new.key_sha256.to_vec();
        self.write(|sql| &sql.enrolment.claim_serial_use, values![claim, sn.clone(), device, key, at])?;
        let values = values![claim, sn, device, new.certificate_hex.clone(), new.address.clone(), at];
        self.write(|sql| &sql.enrolment.claim_use_insert, values)?;
        if is_counted {
            self.write(|sql| &sql.enrolment.claim_count, values![1_i64, claim])?;
        }
        Ok(())
    }

    fn claim_serial_release(&mut self, claim: ClaimId, sn: &Sn, at: UnixMs) -> TxResult<()> {
        let values = values![at.0, claim.0, sn.as_str().to_owned()];
        self.write(|sql| &sql.enrolment.claim_serial_release, values)?;
        self.write(|sql| &sql.enrolment.claim_count, values![-1_i64, claim.0]).map(drop)
    }

    fn claim_revoke(&mut self, claim: ClaimId, at: UnixMs) -> TxResult<()> {
        self.write(|sql| &sql.enrolment.claim_revoke, values![at.0, claim.0]).map(drop)
    }

    fn certificate_end(&mut self, device: DeviceKey, serial_hex: &str) -> TxResult<Option<UnixMs>> {
        let values = values![device.0, serial_hex.to_owned()];
        self.ask_first(|sql| &sql.enrolment.certificate_end, values, rows::first)
    }

    fn certificates_since(&mut self, device: DeviceKey, since: UnixMs) -> TxResult<u32> {
        let values = values![device.0, since.0];
        self.ask_only(|sql| &sql.enrolment.certificates_since, values, rows::first).map(count)
    }

    fn certificates_supersede(
        &mut self,
        device: DeviceKey,
        spared_hex: &str,
        keep: u32,
        at: UnixMs,
    ) -> TxResult<Vec<String>> {
        let values =
            values![at.0, device.0, spared_hex.to_owned(), device.0, spared_hex.to_owned(), i64::from(keep)];
        self.write_rows(|sql| &sql.enrolment.certificates_supersede, values, rows::first)
    }
}
