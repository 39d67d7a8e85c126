//! People, and the sessions in which they have signed in.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use crate::Time;

/// A person in an organisation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct User<'a> {
    /// Its number, which is the same in each of its organisations.
    pub id: i64,
    /// The name with which it signs in, which no other has.
    #[cfg_attr(feature = "openapi", schema(example = "ada@example.com"))]
    pub name: Cow<'a, str>,
    /// The organisation's number.
    pub org_id: i64,
    /// The organisation's name.
    pub org: Cow<'a, str>,
    /// What it may do there.
    #[cfg_attr(feature = "openapi", schema(value_type = crate::schema::RoleName))]
    pub role: Cow<'a, str>,
    /// Whether it may also do for every organisation what it may do here (orgs:admin).
    pub every_org: bool,
    /// Whether it has set a password.
    pub has_password: bool,
    /// Until when its link is good; none if it has none.
    #[cfg_attr(feature = "openapi", schema(required = true))]
    pub link_until: Option<Time>,
    /// When it was made.
    pub created_at: Time,
    /// When it has last signed in; none if it never did.
    #[cfg_attr(feature = "openapi", schema(required = true))]
    pub signed_in_at: Option<Time>,
}

/// A page of people.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct UserPage<'a> {
    #[allow(missing_docs)] // its type says what it is, and the OpenAPI document refers to that
    pub items: Vec<User<'a>>,
    /// How many there are.
    pub total: u64,
    /// The number of this page.
    pub page: u32,
    /// How many a page has.
    pub size: u32,
    /// How many pages there are.
    pub pages: u64,
}

/// A link with which a person sets a password, or none if it has one.
#[derive(Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct UserLinked<'a> {
    /// The person.
    pub user: User<'a>,
    /// The link, good once: for a browser, absolute if the server knows its public URL, else from its root. Shown once and never
    /// again. Not there for somebody who is there already and only is in one more organisation.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false, example = "/invite#4f1c"))]
    pub link: Option<Cow<'a, str>>,
}

/// A person to be made.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct UserNew {
    /// The name with which it signs in, such as an address of e-mail; large letters become small ones.
    #[cfg_attr(
        feature = "openapi",
        schema(min_length = 1, max_length = 128, pattern = r"^[^\s\x00-\x1F\x7F-\x9F]+$")
    )]
    pub name: String,
    /// What it may do.
    #[cfg_attr(feature = "openapi", schema(value_type = crate::schema::RoleName))]
    pub role: String,
    /// The organisation, by name; your own without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false, max_length = 128))]
    pub org: Option<String>,
    /// Whether it may also do for every organisation what it may do here (orgs:admin).
    #[serde(default)]
    pub every_org: bool,
}

/// What a person may do from now on.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct UserRole {
    /// The role.
    #[cfg_attr(feature = "openapi", schema(value_type = crate::schema::RoleName))]
    pub role: String,
    /// Whether it may also do for every organisation what it may do here (orgs:admin).
    #[serde(default)]
    pub every_org: bool,
}

/// A person who was removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct UserRemoved {
    /// Its number.
    pub id: i64,
}

/// With what somebody signs in.
#[derive(Clone, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Login {
    /// The name.
    #[cfg_attr(feature = "openapi", schema(max_length = 128))]
    pub name: String,
    /// The password.
    #[cfg_attr(feature = "openapi", schema(max_length = 256))]
    pub password: String,
    /// For which organisation, by name; the first of one's own without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false, max_length = 128))]
    pub org: Option<String>,
}

/// What somebody who has a link sets.
#[derive(Clone, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct InvitationTaken {
    /// What stands behind `#` in the link.
    #[cfg_attr(feature = "openapi", schema(max_length = 128))]
    pub token: String,
    /// The password from now on.
    #[cfg_attr(feature = "openapi", schema(min_length = 10, max_length = 256))]
    pub password: String,
}

/// A session of somebody who has signed in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Session<'a> {
    /// Its number.
    pub id: i64,
    /// The person's number.
    pub user_id: i64,
    /// The person's name.
    pub user: Cow<'a, str>,
    /// The number of the organisation for which it has signed in.
    pub org_id: i64,
    /// The organisation's name.
    pub org: Cow<'a, str>,
    /// What it may do there.
    #[cfg_attr(feature = "openapi", schema(value_type = crate::schema::RoleName))]
    pub role: Cow<'a, str>,
    /// When it began.
    pub created_at: Time,
    /// When it was last used, to about a minute.
    pub last_used_at: Time,
    /// When it ends, however much it is used.
    pub expires_at: Time,
    /// From where it began, if that is known.
    #[cfg_attr(feature = "openapi", schema(required = true))]
    pub address: Option<String>,
    /// What the browser calls itself.
    pub agent: Cow<'a, str>,
    /// Whether it is that of this request.
    pub is_this: bool,
}

/// A page of sessions.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct SessionPage<'a> {
    #[allow(missing_docs)] // its type says what it is, and the OpenAPI document refers to that
    pub items: Vec<Session<'a>>,
    /// How many there are.
    pub total: u64,
    /// The number of this page.
    pub page: u32,
    /// How many a page has.
    pub size: u32,
    /// How many pages there are.
    pub pages: u64,
}

/// A session that was ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct SessionEnded {
    /// Its number.
    pub id: i64,
}
