//! `conformance/mqtt/STATEMENTS.md` names the tests that hold each numbered statement of MQTT 5: they exist, and
//! no statement that a test names is missing there.

use std::collections::BTreeSet;
use std::path::Path;

const TABLE: &str = "../../conformance/mqtt/STATEMENTS.md";
const TESTS: &str = "tests/contract/mqtt";
/// Those of connections, which the table names with `net::` before them.
const TESTS_OF_CONNECTIONS: &str = "../covey-net/tests/all/mqtt";

fn table() -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(TABLE)).unwrap()
}

/// The tests of a file, each as `module::name`, and its text.
fn files(folder: &Path, module: &str, found: &mut Vec<(String, String)>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        if path.is_dir() {
            files(&path, &format!("{module}{name}::"), found);
        } else {
            found.push((format!("{module}{name}::"), std::fs::read_to_string(&path).unwrap()));
        }
    }
}

fn all_files() -> Vec<(String, String)> {
    let (mut found, here) = (Vec::new(), Path::new(env!("CARGO_MANIFEST_DIR")));
    files(&here.join(TESTS), "", &mut found);
    files(&here.join(TESTS_OF_CONNECTIONS), "net::", &mut found);
    found
}

/// What stands behind `MQTT-` in a text.
fn numbers(text: &str) -> impl Iterator<Item = &str> {
    text.split("MQTT-").skip(1).filter_map(|rest| {
        let end = rest
            .find(|letter: char| !letter.is_ascii_digit() && !".-".contains(letter))
            .unwrap_or(rest.len());
        let number = rest[..end].trim_end_matches(['.', '-']);
        number.contains('-').then_some(number)
    })
}

/// The statements of the first column, with those between the ends of a range.
fn listed(table: &str) -> BTreeSet<String> {
    let mut listed = BTreeSet::new();
    for first in table.lines().filter_map(|line| line.strip_prefix("| ")?.split(" | ").next()) {
        if let Some((from, to)) = first.split_once(" to ") {
            let (section, from) = from.rsplit_once('-').unwrap();
            let to = to.rsplit_once('-').unwrap().1.parse().unwrap();
            listed.extend((from.parse::<u32>().unwrap()..=to).map(|number| format!("{section}-{number}")));
        } else {
            listed.extend(first.split(", ").map(str::to_owned));
        }
    }
    listed
}

#[test]
fn the_tests_that_the_table_names_exist() {
    let (table, files) = (table(), all_files());
    let named: Vec<_> = table.split('`').skip(1).step_by(2).filter(|quoted| quoted.contains("::")).collect();
    assert!(named.len() > 150, "{} tests are named", named.len());
    for test in named {
        let exists = files.iter().any(|(module, text)| {
            test.strip_prefix(&**module).is_some_and(|name| text.contains(&format!("fn {name}(")))
        });
        assert!(exists, "{TABLE} names {test}, which does not exist");
    }
}

#[test]
fn every_statement_that_a_test_names_is_in_the_table() {
    let listed = listed(&table());
    assert!(listed.len() > 230, "{} statements", listed.len());
    // Statements of 3.1.1 have numbers of their own.
    let texts = all_files().into_iter().map(|(_, text)| text.replace("3.1.1 MQTT-", ""));
    for text in texts {
        for number in numbers(&text) {
            assert!(listed.contains(number), "MQTT-{number} is not in {TABLE}");
        }
    }
}
