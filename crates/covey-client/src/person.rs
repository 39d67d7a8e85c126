//! People, and the sessions in which they have signed in.

use covey_api::{UserNew, UserRole};
use reqwest::Method;

use crate::client::Client;
use crate::error::Result;
use crate::task::PageRequest;

/// A person in an organisation.
pub type User = covey_api::User<'static>;
/// A page of people.
pub type UserPage = covey_api::UserPage<'static>;
/// A person, and a link with which it sets a password.
pub type UserLinked = covey_api::UserLinked<'static>;
/// A session of somebody who has signed in.
pub type Session = covey_api::Session<'static>;
/// A page of sessions.
pub type SessionPage = covey_api::SessionPage<'static>;

const USERS: [&str; 3] = ["api", "v1", "users"];
const SESSIONS: [&str; 3] = ["api", "v1", "sessions"];

impl Client {
    /// A page of the people of one's organisation, or of all.
    ///
    /// # Errors
    /// A refusal, or the transport's.
    pub async fn user_list(&self, is_of_all: bool, page: PageRequest) -> Result<UserPage> {
        let request = page.add_to(self.request(Method::GET, &USERS));
        request.query_if("all", is_of_all.then_some(true)).send().await?.json()
    }

    /// Makes a person.
    ///
    /// # Errors
    /// A refusal (409 if there is one of that name), or the transport's.
    pub async fn user_add(&self, request: &UserNew) -> Result<UserLinked> {
        self.request(Method::POST, &USERS).json(request).send().await?.json()
    }

    /// Says what a person may do from now on in one's organisation.
    ///
    /// # Errors
    /// A refusal (404 if there is none of that number), or the transport's.
    pub async fn user_role(&self, id: i64, request: &UserRole) -> Result<User> {
        let [api, version, users] = USERS;
        let id = id.to_string();
        self.request(Method::PATCH, &[api, version, users, &id]).json(request).send().await?.json()
    }

    /// Takes a person out of one's organisation, or out of all.
    ///
    /// # Errors
    /// A refusal (404 if there is none of that number), or the transport's.
    pub async fn user_remove(&self, id: i64, is_of_all: bool) -> Result<()> {
        let [api, version, users] = USERS;
        let id = id.to_string();
        let request = self.request(Method::DELETE, &[api, version, users, &id]);
        request.query_if("all", is_of_all.then_some(true)).send().await.map(drop)
    }

    /// Makes a link with which a person sets another password.
    ///
    /// # Errors
    /// A refusal (404 if there is none of that number), or the transport's.
    pub async fn user_link(&self, id: i64, is_of_all: bool) -> Result<UserLinked> {
        let [api, version, users] = USERS;
        let id = id.to_string();
        let request = self.request(Method::POST, &[api, version, users, &id, "link"]);
        request.query_if("all", is_of_all.then_some(true)).send().await?.json()
    }

    /// A page of sessions: of one person, or of the organisation, or of all.
    ///
    /// # Errors
    /// A refusal, or the transport's.
    pub async fn session_list(
        &self,
        user: Option<i64>,
        is_of_all: bool,
        page: PageRequest,
    ) -> Result<SessionPage> {
        let request = page.add_to(self.request(Method::GET, &SESSIONS));
        let request = request.query_if("user_id", user).query_if("all", is_of_all.then_some(true));
        request.send().await?.json()
    }

    /// Ends a session.
    ///
    /// # Errors
    /// A refusal (404 if there is none of that number), or the transport's.
    pub async fn session_end(&self, id: i64, is_of_all: bool) -> Result<()> {
        let [api, version, sessions] = SESSIONS;
        let id = id.to_string();
        let request = self.request(Method::DELETE, &[api, version, sessions, &id]);
        request.query_if("all", is_of_all.then_some(true)).send().await.map(drop)
    }
}
