use super::*;

fn refused(written: &str, why: &str) {
    match read(written) {
        Ok(_) => panic!("{written:?} is let through"),
        Err(found) => assert!(found.contains(why), "{written:?}: {found}"),
    }
}

#[test]
fn what_users_of_osm_write_is_read() {
    for written in [
        "/books-bought",
        ".*a-book.*new",
        ".*-http-client/*.*",
        "/",
        ".*",
        r"/books/\d{1,5}",
        "^(.*?;)?(type=insider)(;.*)?$",
        r"/pkg\.Service/[A-Za-z_]+",
        r"(?i)firefox|chrome",
        r"(?P<version>v\d+)",
        r"[[:alpha:]]+[^/]*\/\x2e",
        "[-a]+[^]a][a-]",
    ] {
        assert_eq!(read(written), Ok(Pattern(written.to_owned())));
    }
}

#[test]
fn what_one_of_both_engines_does_not_know_is_refused_in_words() {
    refused("", "empty");
    refused("(", "unclosed group");
    refused("*", "repetition");
    refused("a**", "after a repetition");
    refused("a{2}{2}", "after a repetition");
    refused("a{ 5 }", "RE2 has no { 5 }");
    refused("a{1001}", "more than 1000 times");
    refused("(a{100}){11}", "more than 1000 times");
    refused("(abcdef){400}", "too large");
    refused("[a&&b]", "RE2 has no a&&b");
    refused("[a[b]]", "class in a class");
    refused("[--(]", "starts with - or ]");
    refused("[^---]", "starts with - or ]");
    refused("[]-a]", "starts with - or ]");
    refused(r"\pL", "not supported");
    refused(r"[\pL]", "not supported");
    refused("[é]", "not supported");
    refused(r"\u0041", "RE2 has no");
    refused(r"\x{e9}", "RE2 has no");
    refused(r"\b{start}", "RE2 has no");
    refused(r"\<a", "RE2 has no");
    refused("(?x) a", "RE2 has no");
    refused("(?-u:a)", "RE2 has no");
    refused("(?=a)", "look-around");
    refused(r"(a)\1", "backreferences");
    refused(&"a".repeat(3000), "longer");
}

#[test]
fn a_pattern_fits_the_whole_text() {
    let fits = |pattern: &str, text: &str| fits(&read(pattern).expect("a right pattern"), text);
    assert!(fits("/a|/b", "/b"));
    assert!(!fits("/a|/b", "/bc"));
    assert!(fits(r"/\d+", "/12") && !fits(r"/\d+", "/1x"));
    assert!(fits("(?i)get", "GET"));
    assert!(!fits("/a", "x/a"));
}
