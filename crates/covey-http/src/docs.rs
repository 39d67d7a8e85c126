//! The OpenAPI document beside the operations (introduction, key, problems,
//! headers), and where it is served: `/openapi.json`, and Swagger UI at
//! `/docs`, which needs nothing from the Internet.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use axum::Router;
use axum::http::header::{CONTENT_TYPE, HeaderName, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::routing::get;
use bytes::Bytes;
use utoipa::openapi::header::{Header, HeaderBuilder};
use utoipa::openapi::path::{Operation, Parameter, ParameterBuilder, ParameterIn, PathItem};
use utoipa::openapi::schema::{ArrayBuilder, ComponentsBuilder, ObjectBuilder, Schema, SchemaType, Type};
use utoipa::openapi::security::{
    ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme,
};
use utoipa::openapi::{
    ContentBuilder, InfoBuilder, LicenseBuilder, OpenApi, OpenApiBuilder, Ref, RefOr, Required, Response,
    ResponseBuilder, ServerBuilder,
};
use utoipa::{IntoResponses, ToSchema};
use utoipa_swagger_ui::{Config, SwaggerUi};

use crate::api::Api;
use crate::auth::cookie::COOKIE_DEFAULT;
use crate::auth::credential::API_KEY_HEADER;
use crate::people::SESSION_COOKIE;
use crate::problem::PROBLEM_JSON;
use crate::request_id::REQUEST_ID;
use crate::unknown_names::STRICT;

/// Where the document is.
const OPENAPI_PATH: &str = "/openapi.json";
/// The names of the security schemes. Each alone is enough.
const SCHEMES: [&str; 5] = ["api_key", "bearer", "cookie", "client_certificate", "session"];

const INTRODUCTION: &str = "\
Call any device of a swarm, and hear from it.

* Send an API key in the header `x-api-key` or as `Authorization: Bearer KEY`, a token (JWT) as `Authorization: Bearer TOKEN` \
or in the cookie `accessToken`, sign in (`POST /api/v1/auth/login`), or use a registered client \
certificate over HTTPS. Your organisation comes from that alone; what belongs to another organisation answers 404.
* Every path under `/api/v1` is also there under `/api/key/v1`, which takes API keys and certificates alone, and under \
`/api/jwt/v1`, which takes tokens alone.
* A slash at the end of a path makes no difference.
* Members of a body and parameters of a query that are not known are passed over: a header `Covey-Warning` names \
each, and so does the member `warnings` of an answer that is an object. With `Prefer: handling=strict` (RFC 7240) they \
are refused with 422. Answers may get new fields.
* Everything that is refused is an RFC 9457 problem document: 400 what is not JSON, 422 what is out of its \
range or of a wrong type, 413 a body of more than 256 KiB, 429, 503 and 507 with `Retry-After`, 504 what would read \
for longer than 10 seconds.
* Every answer carries `x-request-id`: yours, if you sent one, or a new one.
* `/healthz` and `/readyz` need no key, and neither do `/pki/crl` (RFC 5280) and `/pki/ocsp` (RFC 6960). `/metrics` needs none over plain HTTP, and one with the right `metrics:read` over HTTPS.";

/// The problems that operations share, each with its status and meaning.
const PROBLEMS: [(&str, &str, &str); 14] = [
    (
        "NotJson",
        "400",
        "The body is not JSON; of a webhook, also a URL that did not pass its probe; of a stream, an upgrade that is \
            not one to WebSocket.",
    ),
    (
        "Unauthenticated",
        "401",
        "There is no API key, token or registered client certificate, or it is not valid (type `invalid-token` for a token, with \
            the reason).",
    ),
    (
        "Forbidden",
        "403",
        "The credential lacks a right; or a page of another site makes a browser show its cookie or certificate.",
    ),
    ("NotFound", "404", "There is no such thing for this caller."),
    (
        "Conflict",
        "409",
        "The request contradicts what is stored (type `conflict`); the serial number is taken (`sn_taken`); it is the \
            last key that may make keys for every organisation (`last_key`).",
    ),
    ("Gone", "410", "It was there and is not kept any more."),
    ("Precondition", "412", "What is stored is not as `If-Match` demands."),
    ("TooLarge", "413", "The body has more than 256 KiB."),
    (
        "Invalid",
        "422",
        "A field, parameter or header is out of its range or form (type `invalid`), of a wrong type (`wrong-type`), \
            missing (`missing`), not known (`unknown`), or does not go with another (`contradictory`).",
    ),
    ("LimitReached", "429", "A limit was reached; try again later."),
    ("Internal", "500", "The server made a mistake."),
    ("Unavailable", "503", "The server or its store cannot do this now; try again later."),
    (
        "TookTooLong",
        "504",
        "It took longer than 10 seconds to read; ask for less: a shorter time, one device, one type, an earlier page.",
    ),
    (
        "NoRoom",
        "507",
        "The server's disk is nearly full, and nothing new is taken; or it is full, and only deletions and \
            revocations are.",
    ),
];

/// Makes a type that stands for some of [`PROBLEMS`] in an operation's answers.
macro_rules! problems {
    ($($(#[$doc:meta])* $name:ident = $($status:literal)+;)+) => {
        $(
            $(#[$doc])*
            pub(crate) struct $name;

            impl IntoResponses for $name {
                fn responses() -> BTreeMap<String, RefOr<Response>> {
                    [$($status),+].into_iter().filter_map(problem_ref).collect()
                }
            }
        )+
    };
}

problems! {
    /// What every operation with a key may answer.
    GuardProblems = "401" "403" "429" "500" "503";
    /// A body that cannot be read.
    BodyProblems = "400" "413" "422";
    /// An upgrade to something else.
    UpgradeProblem = "400";
    /// A value out of its range.
    InvalidProblem = "422";
    /// Something that is not there.
    NotFoundProblem = "404";
    /// A contradiction to what is stored.
    ConflictProblem = "409";
    /// Something that is not kept any more.
    GoneProblem = "410";
    /// A condition that does not hold.
    PreconditionProblem = "412";
    /// A read that may cost much; that it is bounded, each operation may answer anyway.
    ScanProblems = "504";
    /// A mistake of the server.
    InternalProblem = "500";
    /// A store that does not answer.
    UnavailableProblem = "503";
    /// A disk without room. Whatever may write has it anyway, see [`complete`].
    RoomProblem = "507";
}

fn problem_ref(status: &str) -> Option<(String, RefOr<Response>)> {
    let (name, ..) = PROBLEMS.into_iter().find(|(_, known, _)| *known == status)?;
    Some((status.to_owned(), RefOr::Ref(Ref::from_response_name(name))))
}

/// The document before the operations are added.
pub(crate) fn frame() -> OpenApi {
    let key = ApiKeyValue::with_description(API_KEY_HEADER, "`KEY` or `ApiKey KEY`.");
    let bearer = HttpBuilder::new()
        .scheme(HttpAuthScheme::Bearer)
        .description(Some(
            "The same API key, or a token (JWT) of an issuer that the server trusts or of the server itself \
                (`POST /api/v1/auth/token`). `x-api-key` counts if both are sent.",
        ))
        .build();
    let cookie = ApiKeyValue::with_description(
        COOKIE_DEFAULT,
        "A token (JWT), for browsers; the operator may give the cookie another name. Requests of pages of other origins are \
            refused (403), and so is what changes something without `Origin` or `Sec-Fetch-Site`.",
    );
    let session = ApiKeyValue::with_description(
        SESSION_COOKIE,
        "The session of a person who has signed in (`POST /api/v1/auth/login`). As for the cookie of a token, requests of pages of \
            other origins are refused.",
    );
    let certificate = SecurityScheme::MutualTls {
        description: Some("A client certificate that is registered in place of a key.".to_owned()),
        deprecated: None,
        extensions: None,
    };
    let mut schemas = Vec::new();
    <covey_api::Problem<'_> as ToSchema>::schemas(&mut schemas);
    let components = ComponentsBuilder::new()
        .schema("Problem", <covey_api::Problem<'_> as utoipa::PartialSchema>::schema())
        .schemas_from_iter(schemas)
        .responses_from_iter(PROBLEMS.map(|(name, status, meaning)| (name, problem(status, meaning))))
        .schema("UnknownName", <covey_api::UnknownName<'_> as utoipa::PartialSchema>::schema())
        .parameter(PREFER_NAME, prefer())
        .header(WARNING_NAME, warning())
        .header(PREFERENCE_APPLIED_NAME, header(Type::String, "`handling=strict`, if that was preferred."))
        .security_scheme(SCHEMES[0], SecurityScheme::ApiKey(ApiKey::Header(key)))
        .security_scheme(SCHEMES[1], SecurityScheme::Http(bearer))
        .security_scheme(SCHEMES[2], SecurityScheme::ApiKey(ApiKey::Cookie(cookie)))
        .security_scheme(SCHEMES[3], certificate)
        .security_scheme(SCHEMES[4], SecurityScheme::ApiKey(ApiKey::Cookie(session)))
        .build();
    let license = LicenseBuilder::new().name("Apache-2.0").identifier(Some("Apache-2.0")).build();
    let info = InfoBuilder::new()
        .title("Covey")
        .version(env!("CARGO_PKG_VERSION"))
        .description(Some(INTRODUCTION))
        .license(Some(license))
        .build();
    // Relative to where the document was read (OpenAPI 3.1 §4.8.5): a server has several addresses.
    let server =
        ServerBuilder::new().url("/").description(Some("The server that this document is from.")).build();
    OpenApiBuilder::new()
        .info(info)
        .servers(Some([server]))
        .components(Some(components))
        .security(Some(SCHEMES.map(|scheme| SecurityRequirement::new::<_, [&str; 0], &str>(scheme, []))))
        .build()
}

fn problem(status: &str, meaning: &str) -> Response {
    let content = ContentBuilder::new().schema(Some(Ref::from_schema_name("Problem"))).build();
    let response = ResponseBuilder::new().description(meaning).content(PROBLEM_JSON, content);
    let response = match status {
        "401" => response
            .header(WWW_AUTHENTICATE.as_str(), header(Type::String, "How a caller may say who it is.")),
        "429" | "503" | "507" => response
            .header(RETRY_AFTER.as_str(), header(Type::Integer, "Seconds to wait before another try.")),
        _ => response,
    };
    let mut response = response.build();
    response.headers.extend(headers_of_answers());
    response
}

fn header(of: Type, description: &str) -> Header {
    let schema = ObjectBuilder::new().schema_type(SchemaType::Type(of));
    HeaderBuilder::new().schema(Some(schema)).description(Some(description)).build()
}

fn request_id() -> Header {
    header(Type::String, "The id of the request, as in the server's log.")
}

/// The headers that every answer has or may have.
fn headers_of_answers() -> [(String, RefOr<Header>); 3] {
    let shared = |name: &str| (name.to_owned(), RefOr::Ref(Ref::new(format!("#/components/headers/{name}"))));
    [(REQUEST_ID.to_string(), RefOr::T(request_id())), shared(WARNING_NAME), shared(PREFERENCE_APPLIED_NAME)]
}

fn warning() -> Header {
    let about = "A name in the request that is not known and was passed over, such as \
        `unknown-member;pointer=\"#/payloda\"` or `unknown-parameter;name=\"siez\"` (RFC 9651); one header each, at \
        most 10, then `more;count=3`.";
    header(Type::String, about)
}

/// The headers about names that are not known.
const WARNING_NAME: &str = "Covey-Warning";
const PREFERENCE_APPLIED_NAME: &str = "Preference-Applied";
/// The name of the parameter that every operation takes.
const PREFER_NAME: &str = "Prefer";

fn prefer() -> Parameter {
    let about =
        "`handling=strict`: names that are not known are refused with 422 and not passed over (RFC 7240).";
    let text = ObjectBuilder::new().schema_type(SchemaType::Type(Type::String));
    ParameterBuilder::new()
        .name(PREFER_NAME)
        .parameter_in(ParameterIn::Header)
        .required(Required::False)
        .description(Some(about))
        .schema(Some(text))
        .example(Some(STRICT.into()))
        .build()
}

/// Adds what holds for every operation.
pub(crate) fn complete(mut document: OpenApi) -> OpenApi {
    let mut answers = BTreeSet::new();
    for operation in document.paths.paths.values_mut().flat_map(writing) {
        operation.responses.responses.extend(problem_ref("507"));
    }
    for operation in document.paths.paths.values_mut().flat_map(operations) {
        operation
            .parameters
            .get_or_insert_default()
            .push(RefOr::Ref(Ref::new(format!("#/components/parameters/{PREFER_NAME}"))));
        for response in operation.responses.responses.values_mut() {
            if let RefOr::T(response) = response {
                response.headers.extend(headers_of_answers());
                if let Some(RefOr::T(content)) = response.content.get("application/json") {
                    answers.extend(content.schema.iter().flat_map(names));
                }
            }
        }
    }
    let schemas = document.components.iter_mut().flat_map(|components| &mut components.schemas);
    for (_, schema) in schemas.filter(|(name, _)| answers.contains(*name)) {
        if let RefOr::T(Schema::Object(object)) = schema {
            object.properties.insert("warnings".to_owned(), warnings());
        }
    }
    document
}

/// The schemas that an answer has, one of several where there is a choice.
fn names(schema: &RefOr<Schema>) -> Vec<String> {
    match schema {
        RefOr::Ref(Ref { ref_location, .. }) => {
            ref_location.rsplit_once('/').map(|(_, name)| name.to_owned()).into_iter().collect()
        }
        RefOr::T(Schema::OneOf(choice)) => choice.items.iter().flat_map(names).collect(),
        RefOr::T(_) => Vec::new(),
    }
}

/// The member that an answer gets if the request had names that are not known.
fn warnings() -> RefOr<Schema> {
    let list = ArrayBuilder::new().items(Ref::from_schema_name("UnknownName")).description(Some(
        "The names in the request that are not known and were passed over. Usually left out.",
    ));
    RefOr::T(list.build().into())
}

fn writing(item: &mut PathItem) -> impl Iterator<Item = &mut Operation> {
    let PathItem { put, post, delete, patch, .. } = item;
    [put, post, delete, patch].into_iter().flatten()
}

fn operations(item: &mut PathItem) -> impl Iterator<Item = &mut Operation> {
    let PathItem { get, put, post, delete, patch, .. } = item;
    [get, put, post, delete, patch].into_iter().flatten()
}

/// The routes of the document.
pub(crate) fn router(document: &OpenApi) -> Router<Arc<Api>> {
    let text = Bytes::from(document.to_json().unwrap_or_default());
    let answer = move || {
        let text = text.clone();
        async move { ([(CONTENT_TYPE, "application/json"), NO_SNIFF], text) }
    };
    let config = Config::from(OPENAPI_PATH).try_it_out_enabled(true).persist_authorization(true);
    let swagger = SwaggerUi::new("/docs").config(config);
    Router::from(swagger).route(OPENAPI_PATH, get(answer))
}

const NO_SNIFF: (HeaderName, &str) = (HeaderName::from_static("x-content-type-options"), "nosniff");
