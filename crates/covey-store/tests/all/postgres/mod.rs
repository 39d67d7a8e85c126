//! What only the store on PostgreSQL promises: groups fetched and sent as one,
//! several servers on one database, and what becomes of it when connections,
//! processes or time fail.

mod audit;
mod crashes;
mod events;
mod groups;
mod late_months;
mod memory;
mod migrations;
mod months;
mod outbox;
mod peers;
mod plans;
mod quotas;
mod read_only;
mod scans;
mod servers;
mod settings;
mod tls;
