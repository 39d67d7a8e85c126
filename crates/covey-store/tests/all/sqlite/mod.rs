//! What only the store on SQLite promises: the plans of its statements, its
//! file, and what becomes of it when the disk or the process fails.

mod audit;
mod backups;
mod crashes;
mod disks;
mod files;
mod plans;
mod retention;
