//! The runner itself, on folders of its own.

use std::process;

use super::*;

struct Fixture(Folder);

impl Fixture {
    fn new(name: &str, files: &[(&str, &str)]) -> Fixture {
        let path = env::temp_dir().join(format!("osm-golden-{}-{name}", process::id()));
        fs::create_dir_all(&path).unwrap();
        for (file, text) in files {
            fs::write(path.join(file), text).unwrap();
        }
        Fixture(Folder { path, package: "osm-x".to_owned(), output_suffix: ".out.yaml" })
    }

    fn failures(&self) -> Vec<String> {
        self.0.failures(false, |case| case.input.to_uppercase())
    }
}

impl Drop for Fixture {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0.path).ok();
    }
}

#[test]
fn an_equal_output_passes() {
    let fixture = Fixture::new("equal", &[("a.in.yaml", "# it pins\n"), ("a.out.yaml", "# IT PINS\n")]);
    assert_eq!(fixture.failures(), Vec::<String>::new());
}

#[test]
fn a_different_output_fails_with_the_difference() {
    let fixture = Fixture::new("different", &[("a.in.yaml", "# it pins\nb\n"), ("a.out.yaml", "# IT PINS\nA\n")]);
    let failures = fixture.failures();
    assert_eq!(failures.len(), 1);
    assert!(failures[0].contains("-A\n+B\n"), "{}", failures[0]);
}

#[test]
fn a_missing_output_an_orphan_and_a_missing_sentence_fail() {
    let fixture = Fixture::new("missing", &[("a.in.yaml", "a: b\n"), ("b.out.yaml", "B\n")]);
    let failures = fixture.failures().join("\n");
    for part in ["must be a comment", "a.out.yaml:\n", "b.out.yaml: an output without an input"] {
        assert!(failures.contains(part), "{part}: {failures}");
    }
}

#[test]
fn a_long_output_and_an_empty_folder_fail() {
    let long = format!("# it pins\n{}", "a\n".repeat(OUTPUT_LINE_LIMIT));
    let fixture = Fixture::new("long", &[("a.in.yaml", &long)]);
    assert!(fixture.failures()[0].contains("201 lines, 200 at most"));
    assert!(Fixture::new("empty", &[]).failures()[0].contains("no case"));
}

#[test]
fn an_update_writes_outputs_and_removes_orphans() {
    let fixture = Fixture::new("update", &[("a.in.yaml", "# it pins\n"), ("b.out.yaml", "B\n")]);
    assert_eq!(fixture.0.failures(true, |case| case.input.to_uppercase()), Vec::<String>::new());
    assert_eq!(fixture.failures(), Vec::<String>::new());
}

#[test]
fn options_are_read_from_the_head_alone() {
    let case = Case { name: "a".to_owned(), input: "# it pins\n# keep: route, cluster\na: b\n# late: x\n".to_owned() };
    assert_eq!(case.option("keep"), Some("route, cluster"));
    assert_eq!(case.option("late"), None);
}
