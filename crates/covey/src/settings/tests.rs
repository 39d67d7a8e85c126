//! Settings from all places, good and wrong.
#![allow(clippy::unwrap_used)]
use super::*;

fn file(text: &str) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), text).unwrap();
    file
}

#[test]
fn what_is_given_wins_over_the_file_and_the_file_over_the_defaults() {
    let file =
        file("http = '127.0.0.1:1'\nhttps = '127.0.0.1:2'\ncors_origins = ['https://dashboard.example']\n");
    let given = Options { http: Some("127.0.0.1:3".parse().unwrap()), ..Options::default() };
    let settings = Settings::settle(given, Some(file.path())).unwrap();
    assert_eq!(settings.http.port(), 3);
    assert_eq!(settings.https.port(), 2);
    assert_eq!(settings.mqtts, DEFAULT_MQTTS);
    assert_eq!(settings.cors_origins, ["https://dashboard.example"]);
}

#[test]
fn a_file_with_faults_is_taken_or_refused() {
    let whole = toml::to_string(&Settings::settle(Options::default(), None).unwrap()).unwrap();
    let issuer = "[[token_issuers]]\nissuer = 'https://id.example'\naudience = ['covey']\nroles = { 'a' = 'viewer' }\n";
    let corpus =
        [whole.clone().into_bytes(), format!("{whole}\n{issuer}").into_bytes(), issuer.as_bytes().to_vec()];
    let (mut taken, mut refused) = (0, 0);
    covey_fuzz::mutated(&corpus, 20_000, 7, |input| {
        let text = String::from_utf8_lossy(input);
        match toml::from_str::<Options>(&text).map(|options| Settings::settle(options, None)) {
            Ok(Ok(_)) => taken += 1,
            _ => refused += 1,
        }
    });
    assert!(taken > 100 && refused > 1_000, "{taken} {refused}");
}

#[test]
fn a_wrong_file_is_refused_with_its_line() {
    for (text, expected) in [
        ("http = 'x'", "line 1"),
        ("\n\nhttp_port = 1", "line 3"),
        ("http = ", "line 1"),
        ("http = '0.0.0.0:80'", "loopback"),
        ("mcu_http = '0.0.0.0:443'", "mcu_http_key_file"),
        ("mcu_http_key_file = 'key'", "mcu_http"),
        ("mcu_http = '127.0.0.1:443'\nlink = 'mqtts://broker.example'", "link"),
        ("mcu_http = '127.0.0.1:443'\nmcu_topic_prefix = 'a/b'", "mcu_topic_prefix"),
        ("mcu_http = '127.0.0.1:443'\nmcu_topic_prefix = 'Server'", "mcu_topic_prefix"),
        ("lease_seconds = 0", "lease_seconds"),
        ("disk_free_min = '5%'", "such as 500MB"),
        ("stream_bytes_max = '8191KiB'", "at least 8MiB"),
        ("answer_bytes_max = 33554431", "at least 32MiB"),
        ("mqtt_nodes_tls = true", "mqtt_nodes"),
        ("mqtt_nodes_password_file = 'x'", "mqtt_nodes"),
        ("mqtt_nodes = '127.0.0.1:1'\nmqtt_nodes_client_ca = 'x'", "mqtt_nodes_tls"),
        ("crl_url = 'ldap://covey.example'", "crl_url"),
        ("ocsp_url = 'http://'", "ocsp_url"),
        ("token_keys = 'x.pem'", "token_issuer"),
        ("token_org = 7", "token_issuer"),
        ("token_issuer = 'https://login.example'", "audience"),
        ("token_issuer = 'http://login.example'\ntoken_audience = 'covey'", "https://"),
        (
            "token_issuer = 'a'\ntoken_audience = 'covey'\ntoken_keys = 'http://login.example/keys'",
            "https://",
        ),
        (
            "[[token_issuers]]\nissuer = 'a'\naudience = 'c'\nkeys = 'x.pem'\nleeway_seconds = 301",
            "leeway_seconds",
        ),
        (
            "[[token_issuers]]\nissuer = 'a'\naudience = 'c'\nkeys = 'x.pem'\nrights_max = ['root']",
            "rights_max",
        ),
        (
            "[[token_issuers]]\nissuer = 'a'\naudience = 'c'\nkeys = 'x.pem'\nroles = { boss = ['root'] }",
            "roles.boss",
        ),
        ("[[token_issuers]]\nissuer = 'a'\naudience = 'c'\nkeys = 'x.pem'\nkey = 'y'", "line 5"),
        ("cors_origins = ['*']", "cors_origins"),
        ("cors_origins = ['https://dashboard.example/app']", "cors_origins"),
    ] {
        let error = Settings::settle(Options::default(), Some(file(text).path())).unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
        assert!(error.downcast_ref::<fault::SetupFault>().is_some());
    }
}

#[test]
fn the_settled_settings_are_a_valid_file() {
    let given = Options {
        disk_free_min: Some(Bytes(5 << 30)),
        token_issuer: Some("https://login.example".to_owned()),
        token_audience: Some("covey".to_owned()),
        oidc_login: Some("https://login.example".to_owned()),
        oidc_client_id: Some("covey".to_owned()),
        token_org: "7".parse().ok(),
        ..Options::default()
    };
    let settings = Settings::settle(given, None).unwrap();
    let text = toml::to_string(&settings).unwrap();
    let again = Settings::settle(Options::default(), Some(file(&text).path())).unwrap();
    assert_eq!(toml::to_string(&again).unwrap(), text);
}
