//! People who sign in over HTTP: what a browser gets, what others must not do with it, and how it ends.

use std::time::Duration;

use covey_http::PublicUrl;
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};

use crate::stage::{Answer, Stage, answer};

const PASSWORD: &str = "correct horse battery";
const OWN_PAGE: (&str, &str) = ("sec-fetch-site", "same-origin");

/// Makes a person who has set a password; the session of that.
async fn person(stage: &Stage, name: &str, role: &str) -> Answer {
    let user = json!({"name": name, "role": role}).to_string();
    let linked = answer(stage.post("/api/v1/users", &user)).await;
    assert_eq!(linked.status, 201, "{}", linked.text);
    let (_, token) = linked.body["link"].as_str().unwrap().split_once('#').unwrap();
    let body = json!({"token": token, "password": PASSWORD}).to_string();
    let taken = answer(stage.bare(Method::POST, "/api/v1/auth/invitation").body(body)).await;
    assert_eq!(taken.status, 200, "{}", taken.text);
    taken
}

fn cookie(found: &Answer) -> String {
    found.header("set-cookie").split(';').next().unwrap().to_owned()
}

fn login(stage: &Stage, name: &str, password: &str) -> RequestBuilder {
    let body = json!({"name": name, "password": password}).to_string();
    stage.bare(Method::POST, "/api/v1/auth/login").body(body)
}

#[tokio::test]
async fn a_session_is_a_credential_for_pages_of_the_server_alone() {
    let stage = Stage::new().await;
    let taken = person(&stage, "ada", "operator").await;
    let set = taken.header("set-cookie");
    assert!(
        set.starts_with("coveySession=") && set.ends_with("; Path=/; Max-Age=604800; HttpOnly; SameSite=Lax")
    );
    assert_eq!(taken.header("cache-control"), "no-store");
    let session = cookie(&taken);
    let as_ada = |method: Method, path: &str| stage.bare(method, path).header("cookie", &session);
    let who = answer(as_ada(Method::GET, "/api/v1/whoami")).await;
    assert_eq!(
        (
            &who.body["kind"],
            &who.body["name"],
            &who.body["org"],
            &who.body["user_id"],
            &who.body["session_id"]
        ),
        (&json!("person"), &json!("ada"), &json!("acme"), &json!(1), &json!(1)),
    );
    let device = r#"{"sn":"lamp-1"}"#;
    let make = || as_ada(Method::POST, "/api/v1/devices").body(device);
    answer(make()).await.assert_problem(403, "nothing says that a page of the server asks");
    answer(make().header("origin", "https://evil.example")).await.assert_problem(403, "another page");
    answer(make().header("sec-fetch-site", "cross-site")).await.assert_problem(403, "another site");
    answer(as_ada(Method::GET, "/api/v1/whoami").header("sec-fetch-site", "cross-site"))
        .await
        .assert_problem(403, "");
    let made = answer(make().header(OWN_PAGE.0, OWN_PAGE.1)).await;
    assert_eq!(made.status, 201, "{}", made.text);
    let log = answer(stage.get("/api/v1/audit?action=device.register")).await;
    assert_eq!(log.body["items"][0]["by"], json!({"kind": "person", "id": 1, "name": "ada"}), "{}", log.text);
    let keys = answer(as_ada(Method::GET, "/api/v1/api-keys")).await;
    keys.assert_problem(403, "an operator keeps no keys");
    // Nor is it one in another place.
    let (_, text) = session.split_once('=').unwrap();
    for prefix in ["/api/key/v1", "/api/jwt/v1"] {
        answer(as_ada(Method::GET, &format!("{prefix}/whoami"))).await.assert_problem(401, prefix);
    }
    answer(stage.bare(Method::GET, "/api/v1/whoami").header("x-api-key", text)).await.assert_problem(401, "");
    answer(stage.bare(Method::GET, "/api/v1/whoami").bearer_auth(text)).await.assert_problem(401, "");
    let of_key = answer(as_ada(Method::GET, "/api/v1/whoami").header("x-api-key", "wrong")).await;
    of_key.assert_problem(401, "who names a key means that one");
    // And it ends.
    let out = answer(as_ada(Method::POST, "/api/v1/auth/logout").header(OWN_PAGE.0, OWN_PAGE.1)).await;
    assert!(
        out.status.is_success() && out.header("set-cookie").starts_with("coveySession=; Path=/; Max-Age=0")
    );
    answer(as_ada(Method::GET, "/api/v1/whoami")).await.assert_problem(401, "it has ended");
    stage.shutdown.cancel();
}

#[tokio::test]
async fn who_does_not_know_the_password_learns_nothing_and_waits() {
    let stage = Stage::new().await;
    person(&stage, "ada", "viewer").await;
    let wrong = async |name: &str| answer(login(&stage, name, "wrong wrong wrong")).await;
    let (of_ada, of_nobody) = (wrong("ada").await, wrong("nobody").await);
    of_ada.assert_problem(401, "");
    let told = |found: &Answer| (found.body["detail"].clone(), found.body["type"].clone());
    assert_eq!(told(&of_ada), told(&of_nobody));
    for name in ["nobody", "ada"] {
        for _ in 0..4 {
            wrong(name).await.assert_problem(401, name);
        }
        let waits = wrong(name).await;
        waits.assert_problem(429, name);
        assert_eq!(waits.header("retry-after"), "1", "{name}");
    }
    answer(login(&stage, "Ada", PASSWORD)).await.assert_problem(429, "the right one waits, too");
    tokio::time::sleep(Duration::from_millis(1_050)).await;
    let right = answer(login(&stage, "Ada", PASSWORD)).await;
    assert_eq!(right.status, 200, "{}", right.text);
    for _ in 0..5 {
        wrong("ada").await.assert_problem(401, "it begins anew");
    }
    let foreign = login(&stage, "bob", PASSWORD).header("origin", "https://evil.example");
    answer(foreign).await.assert_problem(403, "nobody is signed in by a page of another site");
    stage.engine.server().audit_refusals_write().await.unwrap();
    let log = answer(stage.get("/api/v1/audit?outcome=refused&all=true")).await;
    assert!(log.text.contains("sign-in") && !log.text.contains("wrong wrong"), "{}", log.text);
    stage.shutdown.cancel();
}

#[tokio::test]
async fn a_stream_and_a_token_end_with_the_session() {
    let stage = Stage::new().await;
    let taken = person(&stage, "ada", "viewer").await;
    let session = cookie(&taken);
    let asks = |method: Method, path: &str| {
        stage.bare(method, path).header("cookie", &session).header(OWN_PAGE.0, OWN_PAGE.1)
    };
    let token = answer(asks(Method::POST, "/api/v1/auth/token").body("{}")).await;
    let token = token.body["access_token"].as_str().unwrap().to_owned();
    let bearer = || stage.bare(Method::GET, "/api/v1/whoami").bearer_auth(&token);
    let who = answer(bearer()).await;
    assert_eq!((&who.body["kind"], &who.body["user_id"]), (&json!("token"), &json!(1)), "{}", who.text);
    answer(stage.bare(Method::POST, "/api/v1/auth/token").bearer_auth(&token).body("{}"))
        .await
        .assert_problem(409, "none is made from a token");
    let mut stream = asks(Method::GET, "/api/v1/stream").send().await.unwrap();
    assert_eq!(stream.status(), 200);
    let sessions = answer(stage.get("/api/v1/sessions")).await;
    assert_eq!((&sessions.body["total"], &sessions.body["items"][0]["user"]), (&json!(1), &json!("ada")));
    let id = sessions.body["items"][0]["id"].to_string();
    let ended = answer(
        stage.bare(Method::DELETE, &format!("/api/v1/sessions/{id}")).header("x-api-key", crate::stage::KEY),
    )
    .await;
    assert_eq!(ended.status, 200, "{}", ended.text);
    let refused = answer(bearer()).await;
    refused.assert_problem(401, "the session has ended");
    assert!(refused.text.contains("session"), "{}", refused.text);
    let read = async {
        let mut text = String::new();
        while let Some(chunk) = stream.chunk().await.unwrap() {
            text.push_str(&String::from_utf8_lossy(&chunk));
        }
        text
    };
    let text = tokio::time::timeout(Duration::from_secs(30), read).await.unwrap();
    assert!(text.contains("unauthorized"), "{text}");
    stage.shutdown.cancel();
}

#[tokio::test]
async fn the_pages_sign_in_without_scripts_and_show_nothing_of_elsewhere() {
    let stage = Stage::with(|api| api.reached_at(PublicUrl::read("https://covey.example").unwrap())).await;
    let user = json!({"name": "<ada>", "role": "viewer"}).to_string();
    let linked = answer(stage.post("/api/v1/users", &user)).await;
    let link = linked.body["link"].as_str().unwrap();
    let token = link.strip_prefix("https://covey.example/invite#").unwrap();
    let client =
        reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none()).build().unwrap();
    let at = |path: &str| format!("http://{}{path}", stage.address);
    for path in ["/login", "/invite"] {
        let page = answer(client.get(at(path))).await;
        let policy = page.header("content-security-policy");
        assert!(
            policy.starts_with("default-src 'none'") && policy.contains("frame-ancestors 'none'"),
            "{policy}"
        );
        assert_eq!((page.header("cache-control"), page.header("x-frame-options")), ("no-store", "DENY"));
        assert!(page.text.contains("<form method=\"post\""), "{}", page.text);
    }
    let post = |path: &str, form: &[(&str, &str)]| {
        let body = form_urlencoded::Serializer::new(String::new()).extend_pairs(form).finish();
        client.post(at(path)).header("content-type", "application/x-www-form-urlencoded").body(body)
    };
    let unlike = [("token", token), ("password", PASSWORD), ("again", "another password")];
    let refused = answer(post("/invite", &unlike)).await;
    assert!(refused.status == 422 && refused.text.contains("not the same"), "{}", refused.text);
    let set = [("token", link), ("password", PASSWORD), ("again", PASSWORD)];
    let foreign = answer(post("/invite", &set).header("origin", "https://evil.example")).await;
    assert_eq!(foreign.status, 403);
    // Behind a proxy that names another host, the page is one of the public URL.
    let taken = answer(post("/invite", &set).header("origin", "https://covey.example")).await;
    assert_eq!((taken.status.as_u16(), taken.header("location")), (303, "/account"), "{}", taken.text);
    assert!(taken.header("set-cookie").ends_with("; Secure"), "as browsers reach it over TLS");
    let again = answer(post("/invite", &set)).await;
    assert!(again.status == 404 && again.text.contains("This link is not good"), "{}", again.text);
    let session = cookie(&taken);
    let account = answer(client.get(at("/account")).header("cookie", &session)).await;
    assert!(account.text.contains("&#60;ada&#62;") && !account.text.contains("<ada>"), "{}", account.text);
    let refused = answer(post("/login", &[("name", "<ada>"), ("password", "wrong wrong")])).await;
    assert!(refused.status == 401 && refused.text.contains("role=\"alert\""), "{}", refused.text);
    let out = answer(post("/logout", &[]).header("cookie", &session)).await;
    assert_eq!(out.status, 403, "a page of another site signs nobody out");
    let out =
        answer(post("/logout", &[]).header("cookie", &session).header("origin", "https://covey.example"))
            .await;
    assert_eq!((out.status.as_u16(), out.header("location")), (303, "/login"));
    let account = answer(client.get(at("/account")).header("cookie", &session)).await;
    assert_eq!((account.status.as_u16(), account.header("location")), (303, "/login"));
    let signed_in = answer(post("/login", &[("name", "<ADA>"), ("password", PASSWORD), ("org", "")])).await;
    assert_eq!(signed_in.status, 303, "{}", signed_in.text);
    assert_eq!(Value::Null, signed_in.body);
    stage.shutdown.cancel();
}
