//! Explanations as people read them.

use anstyle::Style;
use osm_model::Protocol;
use osm_resolve::{Answer, Explanation, Request, Verdict, describe};

use super::{GREEN, RED, YELLOW};

/// The verdict first, then for each port what decides, why, and what is missing.
pub(crate) fn explained(explanation: &Explanation) -> String {
    let Explanation { verdict, from, to, request, answers } = explanation;
    let mut text = format!("{}: {from} to {to}{}\n", word(*verdict), asked(request));
    for answer in answers {
        text.push('\n');
        if let Some(place) = &answer.at {
            let spoken = match place.protocol {
                Protocol::Http => "HTTP",
                Protocol::Grpc => "gRPC",
                Protocol::Tcp => "TCP",
                Protocol::TcpServerFirst => "TCP, the server speaks first",
            };
            text.push_str(&format!("{}, port {} ({spoken}): {}\n", place.service, place.port, word(answer.verdict)));
        }
        text.push_str(&details(answer));
    }
    text
}

/// The answer in OSM's words, to a question about two pods.
pub(super) fn pods_checked(source: &str, destination: &str, explanation: &Explanation) -> String {
    let by = |kind: &str| {
        let all = explanation.answers.iter().flat_map(|answer| &answer.by);
        let mut found: Vec<&str> = all.filter_map(|object| object.strip_prefix(kind)?.strip_prefix(' ')).collect();
        found.sort_unstable();
        found.dedup();
        found
    };
    let targets = by("TrafficTarget");
    let mut text = match explanation.verdict {
        Verdict::Denied => format!("[+] Pod '{source}' is not allowed to communicate to pod '{destination}'\n"),
        Verdict::Partly | Verdict::Allowed if targets.is_empty() => {
            format!("[+] Permissive mode enabled: pod '{source}' is allowed to communicate to pod '{destination}'\n")
        }
        Verdict::Partly | Verdict::Allowed => {
            let targets = targets.join(", ");
            format!(
                "[+] Pod '{source}' is allowed to communicate to pod '{destination}' via the SMI TrafficTarget \
                 {targets}\n"
            )
        }
    };
    text.push('\n');
    text.push_str(&explained(explanation));
    text
}

fn details(answer: &Answer) -> String {
    let mut text = String::new();
    let mut part = |title: &str, lines: Vec<String>| {
        for (index, line) in lines.iter().enumerate() {
            let title = if index == 0 { title } else { "" };
            text.push_str(&format!("  {title:<8} {line}\n"));
        }
    };
    part("by", answer.by.clone());
    part("why", answer.why.clone());
    part("granted", answer.granted.iter().map(describe).collect());
    let needs = answer.needs.iter().enumerate();
    part("needs", needs.map(|(index, need)| if index == 0 { need.clone() } else { format!("or {need}") }).collect());
    part("problem", answer.problems.iter().map(ToString::to_string).collect());
    text
}

fn asked(request: &Request) -> String {
    if *request == Request::default() {
        return String::new();
    }
    let method = request.method.as_deref().unwrap_or("any method");
    let path = request.path.as_deref().unwrap_or("any path");
    let headers: Vec<String> = request.headers.iter().map(|(name, value)| format!("{name}: {value}")).collect();
    let with = if headers.is_empty() { String::new() } else { format!(" with {}", headers.join(", ")) };
    format!(", {method} {path}{with}")
}

fn word(verdict: Verdict) -> String {
    let (style, word): (Style, &str) = match verdict {
        Verdict::Allowed => (GREEN, "allowed"),
        Verdict::Partly => (YELLOW, "partly allowed"),
        Verdict::Denied => (RED, "denied"),
    };
    format!("{style}{word}{style:#}")
}
