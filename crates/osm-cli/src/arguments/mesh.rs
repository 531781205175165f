//! What is typed to look into a mesh that runs: `osm proxy`, `osm explain`.

use std::ffi::OsStr;
use std::path::PathBuf;

use clap::builder::{PossibleValue, TypedValueParser};
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, Args, Command, Error, Subcommand};

use super::{Name, Output};

#[derive(Debug, Subcommand)]
pub(crate) enum Proxy {
    /// Print what the proxy of a pod says about itself
    #[command(after_help = PROXY_GET_HELP)]
    Get(ProxyGet),
}

#[derive(Debug, Args)]
pub(crate) struct ProxyGet {
    /// What to ask Envoy's admin interface for; a query may follow, as in 'stats?filter=upstream_rq'
    #[arg(value_name = "QUERY", value_parser = QueryParser)]
    pub(crate) query: String,
    /// The pod: NAME or NAMESPACE/NAME
    pub(crate) pod: String,
    /// The pod's namespace
    #[arg(short, long, value_name = "NAMESPACE", default_value = "default")]
    pub(crate) namespace: String,
    /// Write it to this file instead of standard output
    #[arg(short, long, value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) runner: Name,
}

const PROXY_GET_HELP: &str = "\
Examples:
  osm proxy get config_dump client -n shop
  osm proxy get clusters shop/client
  osm proxy get 'config_dump?include_eds' shop/client -f client.json
  osm proxy get 'stats?filter=ssl.handshake' shop/client";

#[derive(Debug, Args)]
#[command(after_help = EXPLAIN_HELP)]
pub(crate) struct Explain {
    /// Who: a pod, NAME or NAMESPACE/NAME; or sa:NAMESPACE/NAME, every pod of a service account
    #[arg(value_name = "FROM")]
    pub(crate) from: String,
    /// What: a service, NAME or NAMESPACE/NAME, with :PORT for one port only; or pod:NAMESPACE/NAME
    #[arg(value_name = "TO")]
    pub(crate) to: String,
    /// The namespace of names that come without one
    #[arg(short, long, value_name = "NAMESPACE", default_value = "default")]
    pub(crate) namespace: String,
    /// The method of one HTTP request
    #[arg(long, value_name = "METHOD")]
    pub(crate) method: Option<String>,
    /// The path of one HTTP request
    #[arg(long, value_name = "PATH")]
    pub(crate) path: Option<String>,
    /// A header of one HTTP request; may be given more than once
    #[arg(long, value_name = "NAME=VALUE", value_parser = header)]
    pub(crate) header: Vec<(String, String)>,
    #[command(flatten)]
    pub(crate) asked: Asked,
    /// In which form
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    pub(crate) output: Output,
}

/// Whose objects a question is about.
#[derive(Debug, Args)]
pub(crate) struct Asked {
    /// Ask about these manifests instead of a runner: a file, a directory, or `-` for standard input
    #[arg(short, long = "file", value_name = "PATH")]
    pub(crate) files: Vec<PathBuf>,
    #[command(flatten)]
    pub(crate) runner: Name,
}

const EXPLAIN_HELP: &str = "\
Examples:
  osm explain shop/client shop/server
  osm explain shop/client shop/server:80 --method GET --path /books
  osm explain sa:bookthief/bookthief bookstore/bookstore -f examples/bookstore/
  osm explain shop/client pod:shop/server-1 -o json

The exit status is 0 when all of it is allowed, 3 when a part is, 4 when nothing is, and 1 when there is no answer.";

#[derive(Debug, Subcommand)]
pub(crate) enum Policy {
    /// Say whether one pod may send to another
    CheckPods(CheckPods),
}

#[derive(Debug, Args)]
pub(crate) struct CheckPods {
    /// The pod that sends: NAME or NAMESPACE/NAME
    pub(crate) source: String,
    /// The pod that is sent to: NAME or NAMESPACE/NAME
    pub(crate) destination: String,
    #[command(flatten)]
    pub(crate) asked: Asked,
}

fn header(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("write NAME=VALUE")?;
    Ok((name.trim().to_ascii_lowercase(), value.to_owned()))
}

/// What the agent passes on to Envoy, and what it is for.
const QUERIES: [(&str, &str); 8] = [
    ("config_dump", "The whole configuration, without private keys"),
    ("clusters", "Every cluster and its endpoints, with their health and counters"),
    ("listeners", "The addresses that Envoy listens on"),
    ("stats", "Every counter and gauge"),
    ("stats/prometheus", "The same, as Prometheus reads it"),
    ("certs", "The certificates, and how long they are valid"),
    ("ready", "Whether Envoy takes traffic"),
    ("server_info", "Version, uptime and command line"),
];

/// Takes one of [`QUERIES`], with or without a leading slash, and whatever follows a question mark.
#[derive(Clone)]
struct QueryParser;

impl TypedValueParser for QueryParser {
    type Value = String;

    fn parse_ref(&self, command: &Command, argument: Option<&Arg>, value: &OsStr) -> Result<String, Error> {
        let text = value.to_string_lossy();
        let query = text.strip_prefix('/').unwrap_or(&text);
        let page = query.split('?').next().unwrap_or_default();
        // What is not a part of a URI would break the request.
        let is_uri = query.bytes().all(|byte| byte.is_ascii_graphic());
        if is_uri && QUERIES.iter().any(|(known, _)| *known == page) {
            return Ok(query.to_owned());
        }
        let mut error = Error::new(ErrorKind::InvalidValue).with_cmd(command);
        let name = argument.map(ToString::to_string).unwrap_or_default();
        error.insert(ContextKind::InvalidArg, ContextValue::String(name));
        error.insert(ContextKind::InvalidValue, ContextValue::String(text.into_owned()));
        let known = QUERIES.iter().map(|(known, _)| (*known).to_owned()).collect();
        error.insert(ContextKind::ValidValue, ContextValue::Strings(known));
        Err(error)
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        Some(Box::new(QUERIES.iter().map(|(query, help)| PossibleValue::new(*query).help(*help))))
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use crate::arguments::{Arguments, Command, Proxy};

    #[test]
    fn a_query_is_a_page_that_the_agent_has_and_what_follows_a_question_mark() {
        let query = |text: &str| {
            let parsed = Arguments::try_parse_from(["osm", "proxy", "get", text, "shop/client"]);
            parsed.map_err(|error| error.to_string()).map(|parsed| match parsed.command {
                Command::Proxy(Proxy::Get(get)) => get.query,
                other => panic!("{other:?}"),
            })
        };
        assert_eq!(query("clusters").unwrap(), "clusters");
        assert_eq!(query("/stats?filter=a&x").unwrap(), "stats?filter=a&x");
        for wrong in ["", "quitquitquit", "clusters/", "stats?a b"] {
            let error = query(wrong).unwrap_err();
            assert!(error.contains("[possible values: config_dump, clusters,"), "{error}");
        }
    }
}
