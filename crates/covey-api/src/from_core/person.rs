//! People and their sessions.

use std::borrow::Cow;

use covey_core::person::{Person, PersonSession};
use covey_core::port::{Page, PageRequest};

use crate::{Session, SessionPage, User, UserPage};

impl<'a> User<'a> {
    /// How a person looks.
    #[must_use]
    pub fn of(person: &'a Person) -> Self {
        Self {
            id: person.id.0,
            name: Cow::Borrowed(&person.name),
            org_id: person.org.0,
            org: Cow::Borrowed(&person.org_name),
            role: Cow::Borrowed(person.role.name()),
            every_org: person.is_for_every_org,
            has_password: person.has_password,
            link_until: person.link_until.map(Into::into),
            created_at: person.created_at.into(),
            signed_in_at: person.signed_in_at.map(Into::into),
        }
    }
}

impl<'a> UserPage<'a> {
    /// How a page of people looks.
    #[must_use]
    pub fn of(found: &'a Page<Person>, asked: PageRequest) -> Self {
        Self {
            items: found.items.iter().map(User::of).collect(),
            total: found.total,
            page: asked.page,
            size: asked.size,
            pages: found.total.div_ceil(u64::from(asked.size.max(1))),
        }
    }
}

impl<'a> Session<'a> {
    /// How a session looks to who asks in another, or in this one.
    #[must_use]
    pub fn of(session: &'a PersonSession, this: Option<i64>) -> Self {
        Self {
            id: session.id,
            user_id: session.person.0,
            user: Cow::Borrowed(&session.name),
            org_id: session.org.0,
            org: Cow::Borrowed(&session.org_name),
            role: Cow::Borrowed(session.membership.role.name()),
            created_at: session.created_at.into(),
            last_used_at: session.last_used_at.into(),
            expires_at: session.expires_at.into(),
            address: session.address.map(|address| address.to_string()),
            agent: Cow::Borrowed(&session.agent),
            is_this: this == Some(session.id),
        }
    }
}

impl<'a> SessionPage<'a> {
    /// How a page of sessions looks.
    #[must_use]
    pub fn of(found: &'a Page<PersonSession>, asked: PageRequest, this: Option<i64>) -> Self {
        Self {
            items: found.items.iter().map(|session| Session::of(session, this)).collect(),
            total: found.total,
            page: asked.page,
            size: asked.size,
            pages: found.total.div_ceil(u64::from(asked.size.max(1))),
        }
    }
}
