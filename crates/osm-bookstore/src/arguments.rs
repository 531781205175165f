//! Command line and environment, under the names that OSM's demo has.

use std::ffi::OsString;
use std::path::Path;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use crate::client::Peer;

/// What OSM's demo listens on, in every pod.
const PORT: u16 = 14001;

#[derive(Debug, Parser)]
#[command(name = "osm-bookstore", about, version)]
struct Arguments {
    #[command(subcommand)]
    program: Program,
}

/// Which of the programs to be.
#[derive(Debug, Subcommand)]
pub(crate) enum Program {
    /// Ask the bookstore how many books were bought and buy one, over and over.
    Bookbuyer(Shopping),
    /// The same, by somebody who should not.
    Bookthief(Shopping),
    /// Sell books, and order new ones from the bookwarehouse.
    Bookstore(Selling),
    /// Take orders for books.
    Bookwarehouse(Listening),
}

/// Where a program serves.
#[derive(Args, Debug)]
pub(crate) struct Listening {
    /// Port to serve HTTP on.
    #[arg(long, env = "PORT", default_value_t = PORT)]
    pub(crate) port: u16,
}

/// What buyer and thief need.
#[derive(Args, Debug)]
pub(crate) struct Shopping {
    #[command(flatten)]
    pub(crate) listening: Listening,
    /// Service of the bookstore; BOOKSTORE_SVC, as OSM's manifests have it, counts too.
    #[arg(long, env = "BOOKSTORE_SERVICE")]
    bookstore_service: Option<String>,
    #[arg(long, env = "BOOKSTORE_SVC", default_value = "bookstore", hide = true)]
    bookstore_svc: String,
    /// Namespace of the bookstore; empty for the program's own.
    #[arg(long, env = "BOOKSTORE_NAMESPACE", default_value = "bookstore")]
    bookstore_namespace: String,
    // Not from BOOKSTORE_PORT: Kubernetes sets that to a URL beside a service `bookstore`.
    /// Port of the bookstore's service.
    #[arg(long, default_value_t = PORT)]
    bookstore_port: u16,
    /// Seconds from one visit to the next, with a fraction if need be.
    #[arg(long, env = "CI_SLEEP_BETWEEN_REQUESTS_SECONDS", default_value = "1", value_parser = seconds)]
    pub(crate) pause: Duration,
}

/// What the bookstore needs.
#[derive(Args, Debug)]
pub(crate) struct Selling {
    #[command(flatten)]
    pub(crate) listening: Listening,
    /// Who answers, as in the header `identity`.
    #[arg(long, env = "IDENTITY", default_value = "unidentified")]
    pub(crate) identity: String,
    /// Service of the bookwarehouse.
    #[arg(long, env = "BOOKWAREHOUSE_SERVICE", default_value = "bookwarehouse")]
    bookwarehouse_service: String,
    /// Namespace of the bookwarehouse; empty for the program's own.
    #[arg(long, env = "BOOKWAREHOUSE_NAMESPACE", default_value = "bookwarehouse")]
    bookwarehouse_namespace: String,
    /// Port of the bookwarehouse's service.
    #[arg(long, default_value_t = PORT)]
    bookwarehouse_port: u16,
    /// Books to sell before new ones are ordered.
    #[arg(long, env = "RESTOCK_EVERY", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    pub(crate) restock_every: u64,
}

impl Shopping {
    /// Where the books are.
    pub(crate) fn bookstore(&self) -> Peer {
        let service = self.bookstore_service.as_ref().unwrap_or(&self.bookstore_svc);
        Peer::service(service, &self.bookstore_namespace, self.bookstore_port)
    }
}

impl Selling {
    /// Where new books come from.
    pub(crate) fn bookwarehouse(&self) -> Peer {
        Peer::service(&self.bookwarehouse_service, &self.bookwarehouse_namespace, self.bookwarehouse_port)
    }
}

/// The program that this process was called as; ends the process when the arguments cannot be understood.
pub(crate) fn parse() -> Program {
    Arguments::parse_from(with_program(std::env::args_os().collect())).program
}

/// A program's own name as that of the binary says which program it is.
fn with_program(mut arguments: Vec<OsString>) -> Vec<OsString> {
    let called = arguments.first().and_then(|path| Path::new(path).file_name()).map(OsString::from);
    let names = ["bookbuyer", "bookthief", "bookstore", "bookwarehouse"];
    if let Some(name) = called.filter(|called| names.iter().any(|name| called == name)) {
        arguments.insert(1, name);
    }
    arguments
}

fn seconds(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is not a number of seconds: write it like 1 or 0.25");
    Duration::try_from_secs_f64(text.parse().map_err(|_| wrong())?).map_err(|_| wrong())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(arguments: &[&str]) -> Result<Program, clap::Error> {
        let arguments = arguments.iter().map(OsString::from).collect();
        Arguments::try_parse_from(with_program(arguments)).map(|arguments| arguments.program)
    }

    fn bookstore_of(arguments: &[&str]) -> String {
        match parse(arguments).unwrap() {
            Program::Bookbuyer(shopping) | Program::Bookthief(shopping) => shopping.bookstore().to_string(),
            other @ (Program::Bookstore(_) | Program::Bookwarehouse(_)) => panic!("parsed as {other:?}"),
        }
    }

    #[test]
    fn the_name_of_the_binary_or_the_first_argument_says_which_program_it_is() {
        assert!(matches!(parse(&["osm-bookstore", "bookbuyer"]), Ok(Program::Bookbuyer(_))));
        assert!(matches!(parse(&["/bookthief"]), Ok(Program::Bookthief(_))));
        assert!(matches!(parse(&["/bookstore", "--port", "14001"]), Ok(Program::Bookstore(_))));
        let listening = match parse(&["bookwarehouse", "--port", "9"]) {
            Ok(Program::Bookwarehouse(listening)) => listening,
            other => panic!("parsed as {other:?}"),
        };
        assert_eq!(listening.port, 9);
        assert!(parse(&["osm-bookstore"]).is_err());
    }

    #[test]
    fn the_bookstore_is_found_as_in_osms_demo() {
        assert_eq!(bookstore_of(&["bookbuyer"]), "bookstore.bookstore:14001");
        assert_eq!(bookstore_of(&["bookthief", "--bookstore-svc", "bookstore-v1"]), "bookstore-v1.bookstore:14001");
        let both = ["bookbuyer", "--bookstore-svc", "bookstore-v1", "--bookstore-service", "bookstore-v2"];
        assert_eq!(bookstore_of(&both), "bookstore-v2.bookstore:14001");
        let own = ["bookbuyer", "--bookstore-namespace", "", "--bookstore-port", "80"];
        assert_eq!(bookstore_of(&own), "bookstore:80");
    }

    #[test]
    fn a_pause_may_be_a_fraction_of_a_second_and_nothing_else() {
        assert_eq!(seconds("0.25"), Ok(Duration::from_millis(250)));
        assert_eq!(seconds("0"), Ok(Duration::ZERO));
        for wrong in ["-1", "soon", "", "NaN", "inf", "1s"] {
            assert!(seconds(wrong).is_err_and(|message| message.contains("write it like 1 or 0.25")), "{wrong}");
        }
    }
}
