//! Claims, and the certificates of a device that asks for the next. A claim is held before it is used or changed, so that
//! no other server counts its devices meanwhile.

mod reads;
mod steps;

use crate::postgres::prepared::prepared;
use crate::rows;

prepared! {
    /// Those of the connection that writes.
    Writing {
        /// A claim by its certificate.
        claim_of_certificate: concat!("SELECT ", rows::claim_columns!(),
            " FROM claims c WHERE c.certificate = $1 FOR NO KEY UPDATE OF c");
        /// A claim by its number: organisation, number.
        claim: concat!("SELECT ", rows::claim_columns!(),
            " FROM claims c WHERE c.org_id = $1 AND c.id = $2 FOR NO KEY UPDATE OF c");
        /// Whether there are more than so many: organisation, number to skip.
        claims_reach: rows::CLAIMS_REACH;
        /// A new claim.
        claim_insert: rows::CLAIM_INSERT;
        /// Lists serial numbers.
        claim_serials_insert: "INSERT INTO claim_serials (claim_id, sn) SELECT $1::int8, n.sn FROM unnest($2::text[]) AS n (sn) \
             ON CONFLICT DO NOTHING";
        /// How many serial numbers are listed of a claim.
        claim_serials_count: rows::CLAIM_SERIALS_COUNT;
        /// What is stored of a serial number.
        claim_serial: rows::CLAIM_SERIAL;
        /// A serial number has enrolled.
        claim_serial_use: rows::CLAIM_SERIAL_USE;
        /// A certificate was issued.
        claim_use_insert: rows::CLAIM_USE_INSERT;
        /// Counts devices that have enrolled.
        claim_count: rows::CLAIM_COUNT;
        /// Releases a serial number.
        claim_serial_release: rows::CLAIM_SERIAL_RELEASE;
        /// Revokes a claim.
        claim_revoke: rows::CLAIM_REVOKE;
        /// When a certificate of a device ends.
        certificate_end: rows::CERTIFICATE_END;
        /// How many certificates a device has got.
        certificates_since: rows::CERTIFICATES_SINCE;
        /// Revokes certificates but for the newest.
        certificates_supersede: rows::CERTIFICATES_SUPERSEDE;
    }
}

prepared! {
    /// Those of a connection that reads.
    Reading {
        /// A claim by its certificate.
        claim_of_certificate: rows::CLAIM_OF_CERTIFICATE;
    }
}
