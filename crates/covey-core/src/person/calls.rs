//! What can be asked of people and their sessions.

use std::collections::HashSet;
use std::net::IpAddr;

use crate::access::{ApiKeyAdd, KeyDigest, LAST_USED_GRAIN_MS, Rights, Role, may_give_devices};
use crate::audit::AuditActor;
use crate::budget::Weight;
use crate::engine::{Engine, ForCaller, ForServer};
use crate::error::{Error, Result};
use crate::id::{PersonId, UnixMs};
use crate::person::session::LINK_UNKNOWN;
use crate::person::{
    Enrolled, FirstPersonAdd, INVITATION_MS_MAX, Identity, IdentitySignIn, IdentityTake, InvitationTake,
    LinkMaker, Membership, NewSession, OWN_LINK_MS_MAX, PeopleFilter, Person, PersonAdd, PersonCredential,
    PersonLink, PersonLinkMake, PersonRemove, PersonRoleSet, PersonSession, SESSION_IDLE_MS_MAX,
    SessionBegin, SessionEnd, SessionUse, agent,
};
use crate::port::{KeyHasher, Page, PageRequest, ReadKind};

/// The digest under which a link is kept: none that a key of the same text has.
#[must_use]
pub fn link_digest(hasher: KeyHasher, clear_text: &str) -> KeyDigest {
    hasher(&format!("link {clear_text}"))
}

/// The same of a session.
fn session_digest(hasher: KeyHasher, clear_text: &str) -> KeyDigest {
    hasher(&format!("session {clear_text}"))
}

/// How somebody signs in, beside what proves who it is.
#[derive(Clone, Copy, Debug)]
pub struct SignIn<'a> {
    /// The organisation, by its name; the first of the person's own without one.
    pub org: Option<&'a str>,
    /// From where, if that is known.
    pub from: Option<IpAddr>,
    /// What the browser calls itself.
    pub agent: &'a str,
    /// By what it has proved who it is.
    pub by: &'static str,
}

/// A link that was just made: the only time that its clear text is seen.
#[derive(Clone)]
pub struct MadeLink {
    /// For whom.
    pub person: Person,
    /// What is kept secret of it; none where somebody who is there needs none.
    pub clear_text: Option<String>,
    /// Until when it is good.
    pub until: UnixMs,
}

impl Engine {
    /// A secret of 256 bits, in letters and digits, that is not stored anywhere.
    #[must_use]
    pub fn secret_text(&self) -> String {
        self.parts.ids.secret()
    }

    /// A session to be begun, with what the browser will show.
    fn new_session(&self, sign_in: SignIn<'_>) -> (NewSession, String) {
        let clear_text = self.parts.ids.secret();
        let new = NewSession {
            digest: session_digest(self.parts.key_hasher, &clear_text),
            org_name: sign_in.org.map(ToOwned::to_owned),
            address: sign_in.from,
            agent: agent(sign_in.agent),
            by: sign_in.by,
        };
        (new, clear_text)
    }

    fn new_link(&self, ms: i64) -> ((KeyDigest, UnixMs), String) {
        let clear_text = self.parts.ids.secret();
        ((link_digest(self.parts.key_hasher, &clear_text), self.now().plus_ms(ms)), clear_text)
    }
}

impl ForCaller<'_> {
    /// People of the caller's organisation, or of all for whom that may be said and who asks for it.
    ///
    /// # Errors
    /// A missing right, a page out of range, or the store's.
    pub async fn person_list(
        self,
        person: Option<PersonId>,
        is_of_all: bool,
        page: PageRequest,
    ) -> Result<Page<Person>> {
        let filter = PeopleFilter { org: self.people_of(is_of_all)?, person };
        let page = page.validate()?;
        let _scan = self.begin_read(ReadKind::PeopleList)?;
        self.engine.parts.store.people_of_every_org(filter, page).await
    }

    /// A person of the caller's organisation.
    ///
    /// # Errors
    /// A missing right, [`Error::NotFound`], or the store's.
    pub async fn person_get(self, id: PersonId, is_of_all: bool) -> Result<Person> {
        let page = self.person_list(Some(id), is_of_all, PageRequest { page: 1, size: 1 }).await?;
        page.items.into_iter().next().ok_or(Error::not_found("user"))
    }

    /// Makes a person, who gets a link to set a password; whoever may act for every organisation may also name somebody
    /// who is there.
    ///
    /// # Errors
    /// A missing right, a field out of range, a name that is taken, too many people, or the store's.
    pub async fn person_add(self, name: &str, org: &str, membership: Membership) -> Result<MadeLink> {
        self.may_give(membership)?;
        if org != &*self.caller.org_name {
            self.caller.require(Rights::ORGS_ADMIN)?;
        }
        let name = Person::name_of(name)?;
        ApiKeyAdd::validate_named("org", org)?;
        self.charge(Weight::WRITE)?;
        // That a name is taken tells of other organisations.
        let asked = self.engine.taken_names.ask(self.caller.org, self.engine.now());
        let asked =
            asked.ok_or(Error::OverBudget { limit: "the organisation was told of too many names" })?;
        let (link, clear_text) = self.engine.new_link(INVITATION_MS_MAX);
        let until = link.1;
        let added = self
            .engine
            .execute(PersonAdd {
                by: AuditActor::of(self.caller),
                from: self.caller.from,
                name,
                org: self.own_org(org),
                org_name: org.to_owned(),
                membership,
                link,
                may_be_there: self.caller.rights.contains(Rights::ORGS_ADMIN),
                makes_org: false,
            })
            .await;
        if matches!(added, Err(Error::Conflict { .. })) {
            asked.told();
        }
        added.map(|(person, is_new)| MadeLink { person, clear_text: is_new.then_some(clear_text), until })
    }

    /// Says what a person may do in the caller's organisation from now on; its sessions there end.
    ///
    /// # Errors
    /// A missing right, [`Error::NotFound`], or the store's.
    pub async fn person_role_set(self, id: PersonId, membership: Membership) -> Result<Person> {
        self.may_give(membership)?;
        self.charge(Weight::WRITE)?;
        self.engine.execute(PersonRoleSet { caller: self.caller.clone(), id, membership }).await
    }

    /// Takes a person out of the caller's organisation, or out of all.
    ///
    /// # Errors
    /// A missing right, [`Error::NotFound`], or the store's.
    pub async fn person_remove(self, id: PersonId, is_of_all: bool) -> Result<()> {
        self.people_of(is_of_all)?;
        self.charge_relief(Weight::WRITE)?;
        self.engine.execute(PersonRemove { caller: self.caller.clone(), id, is_of_all }).await.map(drop)
    }

    /// Makes a link with which a person sets another password, in place of one that is there.
    ///
    /// # Errors
    /// A missing right, also one of those that the person has, [`Error::NotFound`], or the store's.
    pub async fn person_link(self, id: PersonId, is_of_all: bool) -> Result<MadeLink> {
        self.people_of(is_of_all)?;
        self.charge(Weight::WRITE)?;
        let (link, clear_text) = self.engine.new_link(INVITATION_MS_MAX);
        let until = link.1;
        let by = LinkMaker::Caller { caller: Box::new(self.caller.clone()), id, is_of_all };
        let person = self.engine.execute(PersonLinkMake { by, link }).await?;
        Ok(MadeLink { person, clear_text: Some(clear_text), until })
    }

    /// Sessions: one's own, and for whoever keeps the keys those of its organisation, or of all who may and asks for it.
    ///
    /// # Errors
    /// A missing right, a page out of range, or the store's.
    pub async fn person_session_list(
        self,
        person: Option<PersonId>,
        is_of_all: bool,
        page: PageRequest,
    ) -> Result<Page<PersonSession>> {
        let own = self.caller.signed_in.map(|signed_in| signed_in.person);
        let is_keeper = self.caller.rights.contains(Rights::KEYS_WRITE);
        let filter = match own {
            // In whichever organisation it has signed in.
            Some(own) if !is_of_all && (person == Some(own) || (person.is_none() && !is_keeper)) => {
                PeopleFilter { org: None, person: Some(own) }
            }
            _ => PeopleFilter { org: self.people_of(is_of_all)?, person },
        };
        let page = page.validate()?;
        let _scan = self.begin_read(ReadKind::PersonSessionList)?;
        let now = self.engine.now();
        let times = (now, now.plus_ms(-SESSION_IDLE_MS_MAX));
        self.engine.parts.store.person_sessions_of_every_org(filter, times, page).await
    }

    /// Ends a session: one's own, or that of somebody else.
    ///
    /// # Errors
    /// A missing right, [`Error::NotFound`], or the store's.
    pub async fn person_session_end(self, id: i64, is_of_all: bool) -> Result<PersonSession> {
        if is_of_all || self.caller.signed_in.is_none() {
            self.people_of(is_of_all)?;
        }
        self.charge_relief(Weight::WRITE)?;
        self.engine.execute(SessionEnd { caller: self.caller.clone(), id, is_of_all }).await
    }

    /// Of which organisation people are asked for.
    fn people_of(self, is_of_all: bool) -> Result<Option<crate::id::OrgId>> {
        self.caller.require(Rights::KEYS_WRITE)?;
        if is_of_all {
            self.caller.require(Rights::ORGS_ADMIN)?;
        }
        Ok((!is_of_all).then_some(self.caller.org))
    }

    /// Nobody gives what it has not.
    fn may_give(self, membership: Membership) -> Result<()> {
        self.caller.require(Rights::KEYS_WRITE)?;
        if !self.caller.rights.contains(membership.rights()) {
            return Err(Error::Forbidden { right: "of the role to be given" });
        }
        may_give_devices(self.caller, membership.rights())
    }
}

impl ForServer<'_> {
    /// What is known of a name with which somebody wants to sign in.
    ///
    /// # Errors
    /// The store's.
    pub async fn person_credential(self, name: &str) -> Result<Option<PersonCredential>> {
        // What is no name is nobody's.
        let Ok(name) = Person::name_of(name) else { return Ok(None) };
        self.engine.parts.store.person_credential_of_every_org(&name).await
    }

    /// Begins a session of a person who has proved who it is; answers what the browser shows from now on.
    ///
    /// # Errors
    /// An organisation that the person is not in, or the store's.
    pub async fn person_sign_in(self, id: PersonId, sign_in: SignIn<'_>) -> Result<(PersonSession, String)> {
        let (new, clear_text) = self.engine.new_session(sign_in);
        let session = self.engine.execute(SessionBegin { person: id, new }).await?;
        Ok((session, clear_text))
    }

    /// Whose a link is that is good now.
    ///
    /// # Errors
    /// [`Error::NotFound`], or the store's.
    pub async fn invitation(self, clear_text: &str) -> Result<PersonLink> {
        let digest = link_digest(self.engine.parts.key_hasher, clear_text);
        let link = self.engine.parts.store.person_link_of_every_org(digest).await?;
        link.filter(|link| link.until > self.engine.now()).ok_or(LINK_UNKNOWN)
    }

    /// Sets the password of whoever has a link, and begins a session. A link is good once.
    ///
    /// # Errors
    /// [`Error::NotFound`], or the store's.
    pub async fn invitation_take(
        self,
        clear_text: &str,
        password: String,
        sign_in: SignIn<'_>,
    ) -> Result<(PersonSession, String)> {
        let link = link_digest(self.engine.parts.key_hasher, clear_text);
        let (new, clear_text) = self.engine.new_session(sign_in);
        let session = self.engine.execute(InvitationTake { link, password, new }).await?;
        Ok((session, clear_text))
    }

    /// Takes an account of a provider of whoever has a link, in place of a password, and begins a session.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Conflict`] for an account that is another person's, or the store's.
    pub async fn identity_take(
        self,
        clear_text: &str,
        identity: Identity,
        sign_in: SignIn<'_>,
    ) -> Result<(PersonSession, String)> {
        let link = link_digest(self.engine.parts.key_hasher, clear_text);
        let (new, clear_text) = self.engine.new_session(sign_in);
        let session = self.engine.execute(IdentityTake { link, identity, new }).await?;
        Ok((session, clear_text))
    }

    /// Begins a session of whom a provider means; of somebody who is not known, if the provider may say as what.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Conflict`] for a name that somebody else has, or the store's.
    pub async fn identity_sign_in(
        self,
        identity: Identity,
        enrolled: Option<Enrolled>,
        sign_in: SignIn<'_>,
    ) -> Result<(PersonSession, String)> {
        let (new, clear_text) = self.engine.new_session(sign_in);
        let session = self.engine.execute(IdentitySignIn { identity, enrolled, new }).await?;
        Ok((session, clear_text))
    }

    /// The session of what a browser shows, if it is not over.
    ///
    /// # Errors
    /// The store's.
    pub async fn person_session_check(self, clear_text: &str) -> Result<Option<PersonSession>> {
        let digest = session_digest(self.engine.parts.key_hasher, clear_text);
        let session = self.engine.parts.store.person_session_of_every_org(digest).await?;
        Ok(session.filter(|session| !session.is_over_at(self.engine.now())))
    }

    /// The session of a number, if it is not over.
    ///
    /// # Errors
    /// The store's.
    pub async fn person_session_of_number(self, id: i64) -> Result<Option<PersonSession>> {
        let session = self.engine.parts.store.person_session_of_number_of_every_org(id).await?;
        Ok(session.filter(|session| !session.is_over_at(self.engine.now())))
    }

    /// Remembers that a session let somebody in. Nobody waits for it, and a request does not fail with it.
    pub fn person_session_used(self, session: &PersonSession) {
        let is_due = self.engine.now().since_ms(session.last_used_at) >= LAST_USED_GRAIN_MS;
        if is_due && self.engine.parts.store.write_fault().is_none() {
            // A store that takes no jobs now is asked again when the session is used next.
            let _ = self.engine.submit(SessionUse { org: session.org, id: session.id }, |_, ()| ());
        }
    }

    /// The numbers of all sessions that are not over.
    ///
    /// # Errors
    /// The store's.
    pub async fn person_sessions_valid(self) -> Result<HashSet<i64>> {
        let now = self.engine.now();
        let times = (now, now.plus_ms(-SESSION_IDLE_MS_MAX));
        let numbers = self.engine.parts.store.person_session_numbers_valid_of_every_org(times).await?;
        Ok(numbers.into_iter().collect())
    }

    /// Makes the first person of a deployment that has none: an admin for every organisation. Answers its link.
    ///
    /// # Errors
    /// The store's.
    pub async fn person_first(self, org_name: &str, name: &str) -> Result<Option<String>> {
        let (link, clear_text) = self.engine.new_link(OWN_LINK_MS_MAX);
        let first = FirstPersonAdd(PersonAdd {
            by: AuditActor::server("first start"),
            from: None,
            name: name.to_owned(),
            org: None,
            org_name: org_name.to_owned(),
            membership: Membership { role: Role::Admin, is_for_every_org: true },
            link,
            may_be_there: false,
            makes_org: true,
        });
        Ok(self.engine.execute(first).await?.map(|_| clear_text))
    }
}
