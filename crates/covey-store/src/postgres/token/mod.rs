//! The keys of servers for tokens, and what tokens name. Steps on them are rare, so each is a statement of its own.

mod reads;
mod steps;

use crate::postgres::prepared::prepared;
use crate::rows;

prepared! {
    /// Those of the connection that writes.
    Writing {
        /// How many keys there are.
        token_key_count: rows::TOKEN_KEY_COUNT;
        /// A new key.
        token_key_insert: rows::TOKEN_KEY_INSERT;
        /// Removes those that are over.
        token_keys_forget: rows::TOKEN_KEYS_FORGET;
    }
}

prepared! {
    /// Those of a connection that reads.
    Reading {
        /// All keys.
        token_keys: rows::TOKEN_KEYS;
        /// An organisation by its number.
        org_of_number: rows::ORG_OF_NUMBER;
        /// An organisation by its name.
        org_of_name: rows::ORG_OF_NAME;
        /// An API key by its number.
        api_key_of_number: rows::API_KEY_OF_ID;
    }
}
