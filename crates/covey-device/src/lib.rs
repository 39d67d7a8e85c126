//! The device SDK of Covey: register handlers, be called, answer once.
