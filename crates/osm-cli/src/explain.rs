//! `osm explain` and `osm policy check-pods`: who may reach what, and by which objects.

use std::process::ExitCode;

use osm_local::{Failure, Local, preview};
use osm_model::{Identity, PodName, ServiceName};
use osm_resolve::{Caller, Destination, Explanation, Question, Request, ResolveOptions, Verdict, explain};

use crate::arguments::{Asked, CheckPods, Explain};
use crate::{manifests, meaning, render};

/// A part of what was asked for is allowed.
const PARTLY: u8 = 3;

/// Nothing of it is.
const DENIED: u8 = 4;

/// Answers a question.
pub(crate) async fn run(arguments: Explain) -> anyhow::Result<ExitCode> {
    let output = arguments.output;
    let explanation = ask(&arguments.asked, &question(&arguments)?).await?;
    render::explanation(&explanation, output)?;
    Ok(code(explanation.verdict))
}

/// OSM's way to ask the same of two pods.
pub(crate) async fn check_pods(arguments: CheckPods) -> anyhow::Result<ExitCode> {
    let (source, destination) = (pod(&arguments.source, "default")?, pod(&arguments.destination, "default")?);
    let question = Question {
        from: Caller::Pod(source),
        to: Destination::Pod(destination),
        port: None,
        request: Request::default(),
    };
    let explanation = ask(&arguments.asked, &question).await?;
    render::pods_checked(&arguments.source, &arguments.destination, &explanation);
    Ok(code(explanation.verdict))
}

fn code(verdict: Verdict) -> ExitCode {
    match verdict {
        Verdict::Allowed => ExitCode::SUCCESS,
        Verdict::Partly => ExitCode::from(PARTLY),
        Verdict::Denied => ExitCode::from(DENIED),
    }
}

async fn ask(asked: &Asked, question: &Question) -> anyhow::Result<Explanation> {
    let (world, unread) = if asked.files.is_empty() {
        meaning::running(&Local::named(&asked.runner.name)?).await?
    } else {
        let (written, unread) = meaning::read(&manifests::read(&asked.files)?);
        (preview(&written, &mut rand::rng()), unread)
    };
    Ok(explain(&world, &ResolveOptions::default(), question, &unread))
}

fn question(arguments: &Explain) -> anyhow::Result<Question> {
    let (to, port) = destination(&arguments.to, &arguments.namespace)?;
    let request = Request {
        method: arguments.method.as_ref().map(|method| method.to_ascii_uppercase()),
        path: arguments.path.clone(),
        headers: arguments.header.iter().cloned().collect(),
    };
    Ok(Question { from: caller(&arguments.from, &arguments.namespace)?, to, port, request })
}

fn caller(text: &str, namespace: &str) -> anyhow::Result<Caller> {
    match text.strip_prefix("sa:").or_else(|| text.strip_prefix("serviceaccount:")) {
        Some(account) => {
            let PodName { namespace, name } = pod(account, namespace)?;
            Ok(Caller::Identity(Identity { namespace, service_account: name }))
        }
        None => Ok(Caller::Pod(pod(text, namespace)?)),
    }
}

/// What is reached, and the port if only one is meant.
fn destination(text: &str, namespace: &str) -> anyhow::Result<(Destination, Option<u16>)> {
    let (is_pod, name) = text.strip_prefix("pod:").map_or((false, text), |name| (true, name));
    let name = if is_pod { name } else { name.strip_prefix("service:").unwrap_or(name) };
    let (name, port) = match name.split_once(':') {
        None => (name, None),
        Some((name, port)) => {
            let number = port.parse().map_err(|_| Failure {
                message: format!("{text:?} names no port: {port:?} is not a number from 1 to 65535"),
                hint: "write NAMESPACE/NAME:PORT, as in shop/server:80".into(),
            })?;
            (name, Some(number))
        }
    };
    let name = pod(name, namespace)?;
    let to = match is_pod {
        true => Destination::Pod(name),
        false => Destination::Service(ServiceName { namespace: name.namespace, name: name.name }),
    };
    Ok((to, port))
}

fn pod(text: &str, namespace: &str) -> anyhow::Result<PodName> {
    let text = text.strip_prefix("pod:").unwrap_or(text);
    let (namespace, name) = text.split_once('/').unwrap_or((namespace, text));
    if name.is_empty() || namespace.is_empty() || name.contains(['/', ':']) {
        let message = format!("{text:?} is no name");
        return Err(Failure { message, hint: "write NAME or NAMESPACE/NAME".into() }.into());
    }
    Ok(PodName { namespace: namespace.into(), name: name.into() })
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use osm_local::ManifestText;
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::*;
    use crate::arguments::{Arguments, Command, Output};

    /// `# ask:` has what is typed behind `osm explain`, with `|` between questions.
    #[test]
    fn questions_about_manifests_come_to_what_people_read() {
        osm_testkit::golden_text(env!("CARGO_MANIFEST_DIR"), "explain", |case| {
            let texts = [ManifestText { name: format!("{}.yaml", case.name), text: case.input.clone() }];
            let (written, unread) = meaning::read(&texts);
            let world = preview(&written, &mut StdRng::seed_from_u64(1));
            let answer = |typed: &str| {
                let words = ["osm", "explain"].into_iter().chain(typed.split_whitespace());
                let Command::Explain(arguments) = Arguments::try_parse_from(words).expect("it can be typed").command
                else {
                    panic!("{typed:?} is not a question")
                };
                let output = arguments.output;
                let question = question(&arguments).expect("a case asks what can be asked");
                let explanation = explain(&world, &ResolveOptions::default(), &question, &unread);
                let text = match output {
                    Output::Table => anstream::adapter::strip_str(&render::explained(&explanation)).to_string(),
                    Output::Json | Output::Yaml => {
                        serde_json::to_string_pretty(&explanation).expect("it is JSON") + "\n"
                    }
                };
                format!("$ osm explain {typed}\n{text}\n")
            };
            case.option("ask").expect("a case asks").split('|').map(str::trim).map(answer).collect::<String>()
        });
    }

    #[test]
    fn what_names_nothing_is_said() {
        for (from, to) in [("a/b/c", "x"), ("", "x"), ("a", "b:0x"), ("a", "b:70000"), ("sa:", "b"), ("a", "pod:/")] {
            let asked = caller(from, "default").and_then(|_| destination(to, "default"));
            assert!(asked.is_err(), "{from:?} {to:?}");
        }
    }
}
