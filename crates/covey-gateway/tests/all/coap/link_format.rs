//! What nodes say of their resources (RFC 6690).

use covey_gateway::coap::link_format::{LINKS_MAX, Link, Resource, parse, print, resources};
use proptest::prelude::*;

#[test]
fn the_examples_of_the_standard_are_read() {
    // RFC 6690 §5.
    let text = br#"</sensors>;ct=40;title="Sensor Index",
   </sensors/temp>;rt="temperature-c";if="sensor",
   </sensors/light>;rt="light-lux core.sen-light";if="sensor",
   <http://www.example.com/sensors/t123>;anchor="/sensors/temp"
   ;rel="describedby",
   </t>;anchor="/sensors/temp";rel="alternate",
   </firmware/v2.1>;rt="firmware";sz=262144;obs"#;
    let links = parse(text);
    assert_eq!((links.links.len(), links.left_out), (6, 0));
    assert_eq!(links.links[0].value("title"), Some("Sensor Index"));
    assert_eq!(links.links[0].content_formats().collect::<Vec<_>>(), [40]);
    assert_eq!(links.links[2].resource_types().collect::<Vec<_>>(), ["light-lux", "core.sen-light"]);
    assert_eq!(links.links[1].interfaces().collect::<Vec<_>>(), ["sensor"]);
    assert_eq!(links.links[3].path(), None);
    assert_eq!((links.links[5].size(), links.links[5].is_observable()), (Some(262_144), true));
    assert_eq!(links.links[5].path().as_deref(), Some("firmware/v2.1"));
}

fn paths(text: &str) -> Vec<String> {
    resources(text.as_bytes()).into_iter().map(|resource| resource.path).collect()
}

#[test]
fn resources_are_named_by_their_paths_and_come_once() {
    // RIOT, aiocoap with its link to its home page, libcoap with `ct=0`, node-coap with `ct="40"`.
    assert_eq!(paths("</.well-known/core>,</led>,</name>,</imu>;obs"), ["led", "name", "imu"]);
    let text = r#"</.well-known/core>; ct="40", </time>; obs, </other/block>, <https://christian.amsuess.com/tools/aiocoap/#version-0.4.17>; rel="impl-info""#;
    assert_eq!(paths(text), ["time", "other/block"]);
    assert_eq!(
        paths(
            r#"</>;title="General Info";ct=0,</time>;if="clock";rt="ticks";title="Internal Clock";ct=0;obs,</async>;ct=0"#
        ),
        ["time", "async"]
    );
    assert_eq!(
        resources(b"</a>;obs,</a>,<b>;obs=\"x\""),
        [
            Resource { path: "a".to_owned(), is_observable: true },
            Resource { path: "b".to_owned(), is_observable: true }
        ]
    );
}

#[test]
fn a_path_is_decoded_and_one_that_cannot_be_said_is_left_out() {
    for (target, path) in [
        ("/a%20b", Some("a b")),
        ("/%C3%BC/x", Some("ü/x")),
        ("a", Some("a")),
        ("/a/", Some("a/")),
        ("/100%", Some("100%")),
        ("/a#top", Some("a")),
        ("/a:b", Some("a:b")),
        ("/x/http://y", Some("x/http://y")),
        ("/", None),
        ("", None),
        ("//host/a", None),
        ("coap://host/a", None),
        ("coap:a", None),
        ("/a?b=c", None),
        ("/a%2Fb", None),
        ("/%FF", None),
        ("/a%00", None),
        ("/../a", None),
    ] {
        assert_eq!(Link::new(target).path().as_deref(), path, "{target}");
    }
}

#[test]
fn rubbish_is_left_out_and_what_follows_it_is_read() {
    for (text, targets, left_out) in [
        ("", &[][..], 0),
        ("  \n", &[], 0),
        ("rubbish", &[], 1),
        ("rubbish,</a>", &["/a"], 1),
        ("rub\"b,i\"sh,</a>", &["/a"], 1),
        (",,</a>,", &["/a"], 2),
        ("</a", &[], 1),
        ("</a>x,</b>", &["/a", "/b"], 0),
        ("</a>;", &["/a"], 0),
        ("</a>;;=x;=,</b>", &["/a", "/b"], 0),
        ("</a>;t=\"open,</b>", &["/a"], 0),
        ("</a>;t=\"x\\", &["/a"], 0),
        ("</a>;t=\"x\"y,</b>", &["/a", "/b"], 0),
        ("</a></b>,</c>", &["/a", "/c"], 0),
    ] {
        let links = parse(text.as_bytes());
        let found: Vec<_> = links.links.iter().map(|link| link.target.as_str()).collect();
        assert_eq!((&found[..], links.left_out), (targets, left_out), "{text}");
    }
    let many: String = (0..LINKS_MAX + 5).map(|number| format!("</{number}>,")).collect();
    let links = parse(many.as_bytes());
    assert_eq!((links.links.len(), links.left_out), (LINKS_MAX, 5));
}

#[test]
fn links_are_written_as_others_read_them() {
    let links = [
        Link::new("/alive").with("rt", Some("covey.alive")),
        Link::new("/a").with("obs", None).with("sz", Some("12")).with("title", Some("say \"x, y; z\" \\")),
    ];
    let text = r#"</alive>;rt="covey.alive",</a>;obs;sz=12;title="say \"x, y; z\" \\""#;
    assert_eq!(print(&links), text);
    assert_eq!(parse(text.as_bytes()).links, links);
}

proptest! {
    #[test]
    fn what_is_written_is_read_as_the_same(
        links in proptest::collection::vec(
            ("/[a-z0-9/,;\" ]{0,12}", proptest::collection::vec(("[a-z]{1,5}", proptest::option::of(".{0,12}")), 0..4)),
            0..6,
        )
    ) {
        let links: Vec<Link> = links
            .into_iter()
            .map(|(target, attributes)| Link { target, attributes })
            .collect();
        let text = print(&links);
        prop_assert_eq!(parse(text.as_bytes()).links, links);
    }

    #[test]
    fn whatever_comes_is_read_without_harm(text in ".{0,80}") {
        let links = parse(text.as_bytes()).links;
        for link in &links {
            _ = (link.path(), link.size(), link.is_observable(), link.content_formats().count());
        }
    }
}
