//! `conformance/mqtt/STATEMENTS.md` names the tests that hold each numbered statement of MQTT 5 and of 3.1.1: all
//! statements are there, the tests exist, and what holds a statement of 3.1.1 is tried in 3.1.1.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use std::path::Path;

const TABLE: &str = "../../conformance/mqtt/STATEMENTS.md";
const TESTS: &str = "tests/contract/mqtt";
/// Those of connections, which the table names with `net::` before them.
const TESTS_OF_CONNECTIONS: &str = "../covey-net/tests/all/mqtt";
/// What the second table begins with.
const IN_3: &str = "## MQTT 3.1.1";
/// Tests of these modules, and this one, run in 3.1.1 whatever stands in them.
const ALWAYS_IN_3: [&str; 3] =
    ["three::", "bytes::", "net::begin::what_is_no_connect_is_closed_without_a_word"];
/// One of these stands in every other that does.
const RUNS_IN_3: [&str; 7] =
    ["V311", "in_3", "in_each_version", "v311", "[5, 4]", "version in version()", "WAYS"];

/// The sections with numbered statements, and their numbers (MQTT 5, Appendix B).
const STATEMENTS_OF_5: &[(&str, RangeInclusive<u32>)] = &[
    ("1.5.4", 1..=3),
    ("1.5.5", 1..=1),
    ("1.5.7", 1..=1),
    ("2.1.3", 1..=1),
    ("2.2.1", 2..=6),
    ("2.2.2", 1..=1),
    ("3.1.0", 1..=2),
    ("3.1.2", 1..=30),
    ("3.1.3", 1..=12),
    ("3.1.4", 1..=6),
    ("3.2.0", 1..=2),
    ("3.2.2", 1..=22),
    ("3.3.1", 1..=13),
    ("3.3.2", 1..=20),
    ("3.3.4", 1..=10),
    ("3.4.2", 1..=3),
    ("3.5.2", 1..=3),
    ("3.6.1", 1..=1),
    ("3.6.2", 1..=3),
    ("3.7.2", 1..=3),
    ("3.8.1", 1..=1),
    ("3.8.3", 1..=5),
    ("3.8.4", 1..=8),
    ("3.9.2", 1..=2),
    ("3.9.3", 1..=2),
    ("3.10.1", 1..=1),
    ("3.10.3", 1..=2),
    ("3.10.4", 1..=6),
    ("3.11.2", 1..=2),
    ("3.11.3", 1..=2),
    ("3.12.4", 1..=1),
    ("3.14.0", 1..=1),
    ("3.14.1", 1..=1),
    ("3.14.2", 1..=4),
    ("3.14.4", 1..=3),
    ("3.15.1", 1..=1),
    ("3.15.2", 1..=3),
    ("4.1.0", 1..=2),
    ("4.2", 1..=1),
    ("4.3.1", 1..=1),
    ("4.3.2", 1..=5),
    ("4.3.3", 1..=13),
    ("4.4.0", 1..=2),
    ("4.5.0", 1..=2),
    ("4.6.0", 1..=6),
    ("4.7.0", 1..=1),
    ("4.7.1", 1..=2),
    ("4.7.2", 1..=1),
    ("4.7.3", 1..=4),
    ("4.8.2", 1..=6),
    ("4.9.0", 1..=3),
    ("4.12.0", 1..=7),
    ("4.12.1", 1..=2),
    ("4.13.1", 1..=1),
    ("4.13.2", 1..=1),
    ("6.0.0", 1..=4),
];

/// The same of 3.1.1.
const STATEMENTS_OF_3: &[(&str, RangeInclusive<u32>)] = &[
    ("1.5.3", 1..=3),
    ("2.2.2", 1..=2),
    ("2.3.1", 1..=7),
    ("3.1.0", 1..=2),
    ("3.1.2", 1..=24),
    ("3.1.3", 1..=11),
    ("3.1.4", 1..=5),
    ("3.2.0", 1..=1),
    ("3.2.2", 1..=6),
    ("3.3.1", 1..=12),
    ("3.3.2", 1..=3),
    ("3.3.4", 1..=1),
    ("3.3.5", 1..=2),
    ("3.6.1", 1..=1),
    ("3.8.1", 1..=1),
    ("3.8.3", 1..=4),
    ("3.8.4", 1..=6),
    ("3.9.3", 1..=2),
    ("3.10.1", 1..=1),
    ("3.10.3", 1..=2),
    ("3.10.4", 1..=6),
    ("3.12.4", 1..=1),
    ("3.14.1", 1..=1),
    ("3.14.4", 1..=3),
    ("4.1.0", 1..=2),
    ("4.3.1", 1..=1),
    ("4.3.2", 1..=2),
    ("4.3.3", 1..=2),
    ("4.4.0", 1..=1),
    ("4.5.0", 1..=2),
    ("4.6.0", 1..=6),
    ("4.7.1", 1..=3),
    ("4.7.2", 1..=1),
    ("4.7.3", 1..=4),
    ("4.8.0", 1..=2),
    ("6.0.0", 1..=4),
    ("7.0.0", 1..=2),
    ("7.1.1", 1..=1),
    ("7.1.2", 1..=1),
];

/// The table of MQTT 5 and that of 3.1.1.
fn tables() -> (String, String) {
    let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(TABLE)).unwrap();
    let (of_5, of_3) = text.split_once(IN_3).unwrap();
    (of_5.to_owned(), of_3.to_owned())
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

/// What stands behind a mark such as `MQTT-` in a text.
fn numbers<'a>(text: &'a str, mark: &str) -> impl Iterator<Item = &'a str> {
    text.split(mark).skip(1).filter_map(|rest| {
        let end = rest
            .find(|letter: char| !letter.is_ascii_digit() && !".-".contains(letter))
            .unwrap_or(rest.len());
        let number = rest[..end].trim_end_matches(['.', '-']);
        number.contains('-').then_some(number)
    })
}

/// The statements of the first column, in their order, with those between the ends of a range.
fn listed(table: &str) -> Vec<String> {
    let mut listed = Vec::new();
    let rows = table.lines().filter_map(|line| line.strip_prefix("| ")?.split(" | ").next());
    for first in rows.filter(|first| first.starts_with(|letter: char| letter.is_ascii_digit())) {
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

fn all_of(standard: &[(&str, RangeInclusive<u32>)]) -> Vec<String> {
    let of_section = |(section, numbers): &(&str, RangeInclusive<u32>)| {
        numbers.clone().map(|number| format!("{section}-{number}")).collect::<Vec<_>>()
    };
    standard.iter().flat_map(of_section).collect()
}

/// The tests that a table names.
fn named(table: &str) -> Vec<&str> {
    table.split('`').skip(1).step_by(2).filter(|quoted| quoted.contains("::")).collect()
}

/// The text of a test, to the beginning of the next.
fn text_of_test<'a>(test: &str, files: &'a [(String, String)]) -> Option<&'a str> {
    files.iter().find_map(|(module, text)| {
        let start = text.find(&format!("fn {}(", test.strip_prefix(&**module)?))?;
        let rest = &text[start..];
        Some(rest.split("test]\n").next().unwrap_or(rest))
    })
}

#[test]
fn each_statement_of_both_standards_is_in_its_table_once() {
    let (of_5, of_3) = tables();
    assert_eq!(listed(&of_5), all_of(STATEMENTS_OF_5));
    assert_eq!(listed(&of_3), all_of(STATEMENTS_OF_3));
    assert_eq!((listed(&of_5).len(), listed(&of_3).len()), (251, 141));
}

#[test]
fn the_tests_that_the_tables_name_exist() {
    let ((of_5, of_3), files) = (tables(), all_files());
    let (named_for_5, named_for_3) = (named(&of_5), named(&of_3));
    assert!(named_for_5.len() > 150, "{} tests are named", named_for_5.len());
    assert!(named_for_3.len() > 110, "{} tests are named", named_for_3.len());
    for test in named_for_5.into_iter().chain(named_for_3) {
        assert!(text_of_test(test, &files).is_some(), "{TABLE} names {test}, which does not exist");
    }
}

#[test]
fn what_holds_a_statement_of_3_is_tried_in_3() {
    let ((_, of_3), files) = (tables(), all_files());
    for row in of_3.lines().filter(|line| line.starts_with("| ")) {
        for test in named(row) {
            let runs_in_3 = ALWAYS_IN_3.iter().any(|prefix| test.starts_with(prefix))
                || text_of_test(test, &files)
                    .is_some_and(|text| RUNS_IN_3.iter().any(|mark| text.contains(mark)));
            assert!(runs_in_3, "{test} does not run in 3.1.1: {row}");
        }
    }
}

#[test]
fn every_statement_that_a_test_names_is_in_the_table() {
    let (of_5, of_3): (BTreeSet<_>, BTreeSet<_>) =
        (all_of(STATEMENTS_OF_5).into_iter().collect(), all_of(STATEMENTS_OF_3).into_iter().collect());
    // Statements of 3.1.1 have numbers of their own.
    let mark_of_3 = "3.1.1 MQTT-";
    for (module, text) in all_files() {
        for number in numbers(&text, mark_of_3) {
            assert!(of_3.contains(number), "{module} names 3.1.1 MQTT-{number}");
        }
        for number in numbers(&text.replace(mark_of_3, ""), "MQTT-") {
            assert!(of_5.contains(number), "{module} names MQTT-{number}");
        }
    }
}
