//! People who sign in: users and their sessions over REST, and the pages in which a browser does so.

mod attempts;
mod cookie;
mod oidc;
mod pages;
mod passwords;
mod sessions;
mod sign_in;
mod users;

use std::sync::Arc;

use axum::Router;
use utoipa_axum::router::OpenApiRouter;

use crate::api::Api;
use attempts::Attempts;
pub(crate) use cookie::{SESSION_COOKIE, session_of};
pub use oidc::{LOGINS_MAX, OidcLogin, OidcLogins, OidcRoles};
use passwords::Passwords;
pub use public_url::PublicUrl;

mod public_url;

/// What signing in is made of.
#[derive(Default)]
pub(crate) struct People {
    passwords: Passwords,
    attempts: Attempts,
    /// The providers with which people sign in.
    pub(crate) oidc: OidcLogins,
    /// The address at which browsers reach the server, if its operator has said so.
    pub(crate) public_url: Option<PublicUrl>,
}

/// The operations.
pub(crate) fn router() -> OpenApiRouter<Arc<Api>> {
    OpenApiRouter::default().merge(sign_in::router()).merge(sessions::router()).merge(users::router())
}

/// The pages, which are no part of the OpenAPI document.
pub(crate) fn pages() -> Router<Arc<Api>> {
    pages::router().merge(oidc::router())
}
