//! Reads of devices' sessions.

use covey_core::device_session::{Admission, SessionReader};
use covey_core::id::Sn;
use covey_core::port::{Found, ReadKind, Turn};

use crate::postgres::Postgres;
use crate::postgres::pipeline::values;
use crate::rows;

impl SessionReader for Postgres {
    fn session_of_certificate_of_every_org(
        &self,
        sn: Sn,
        serial_hex: String,
    ) -> Found<'_, Option<Admission>> {
        let values = values![serial_hex, sn.as_str().to_owned()];
        self.row(
            ReadKind::SessionOfCertificate,
            Turn::Server,
            |sql| &sql.device_session.session_of_certificate,
            values,
            rows::admission,
        )
    }
}
