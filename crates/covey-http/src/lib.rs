//! The REST API of Covey.
