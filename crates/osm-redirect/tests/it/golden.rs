//! Arguments in, rules out.

use clap::Parser;
use osm_redirect::rules;

use super::CommandLine;

#[test]
fn rules_are_as_written() {
    osm_testkit::golden_text(env!("CARGO_MANIFEST_DIR"), "rules", |case| {
        let args = case.option("args").unwrap_or_default().split_whitespace();
        match CommandLine::try_parse_from(args) {
            Ok(line) => {
                let families = line.redirect.families.each(|| false);
                families.iter().map(|family| format!("# {family:?}\n{}", rules(&line.redirect, *family))).collect()
            }
            Err(error) => {
                let message = error.to_string();
                message.lines().take_while(|line| !line.is_empty()).map(|line| format!("{line}\n")).collect()
            }
        }
    });
}
