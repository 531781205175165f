//! The real kernel, with both of its iptables: what the rules do to connections.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use osm_redirect::{Family, Jump, Redirect, jumps, rules_for};
use osm_testkit::eventually;

use super::namespace::{run, with_neighbour, within, written};

/// Far more than the second after which a dropped handshake is repeated.
const DEADLINE: Duration = Duration::from_secs(20);

/// Longer than a refusal takes, shorter than a repeated handshake.
const SHORT: Duration = Duration::from_millis(400);

/// The two implementations of iptables.
const BACKENDS: [&str; 2] = ["nft", "legacy"];

/// An address that nobody has: only the redirection can lead from there to a listener.
const ELSEWHERE: &str = "10.96.3.4:80";
/// The same in IPv6.
const ELSEWHERE_V6: &str = "[fd99::9]:80";

#[test]
fn a_second_run_changes_nothing() {
    for backend in BACKENDS {
        within("a_second_run_changes_nothing", move || {
            let redirect = busy();
            install(backend, &redirect);
            let once = saved(backend);
            for jump in jumps(&redirect) {
                let line = format!("-A {} -p tcp -j {}\n", jump.from, jump.to);
                assert_eq!(once.matches(&line).count(), 1, "{line}: {once}");
            }
            install(backend, &redirect);
            assert_eq!(saved(backend), once, "{backend}");
            assert!(jumps(&redirect).iter().all(|jump| is_installed(backend, jump)), "{backend}");
        });
    }
}

#[test]
fn rules_of_others_stay() {
    for backend in BACKENDS {
        within("rules_of_others_stay", move || {
            run(&format!("iptables-{backend}"), "-t nat -A OUTPUT -p tcp --dport 7 -j RETURN");
            run(&format!("iptables-{backend}"), "-A INPUT -j ACCEPT");
            install(backend, &Redirect::default());
            let saved = saved(backend);
            assert!(saved.contains("-A OUTPUT -p tcp -m tcp --dport 7 -j RETURN"), "{saved}");
            let hold = saved.find("-A INPUT -p tcp -j OSM_PROXY_HOLD").unwrap();
            assert!(hold < saved.find("-A INPUT -j ACCEPT").unwrap(), "the hold comes first: {saved}");
        });
    }
}

#[test]
fn ipv6_rules_load() {
    for backend in BACKENDS {
        within("ipv6_rules_load", move || {
            let text = rules_for(&busy(), Family::V6, &[]);
            restore(&format!("ip6tables-{backend}-restore"), &text);
            let saved = run(&format!("ip6tables-{backend}-save"), "");
            assert!(saved.contains("-A OSM_PROXY_HOLD") && saved.contains("fd01::/16"), "{saved}");
        });
    }
}

#[test]
fn without_the_hold_a_connection_before_the_proxy_is_refused() {
    for backend in BACKENDS {
        within("without_the_hold_a_connection_before_the_proxy_is_refused", move || {
            route_to_nowhere();
            install(backend, &Redirect { hold: false, ..Redirect::default() });
            let refused = TcpStream::connect_timeout(&address(ELSEWHERE), SHORT).unwrap_err();
            assert_eq!(refused.kind(), ErrorKind::ConnectionRefused, "{backend}: {refused}");
        });
    }
}

#[test]
fn with_the_hold_a_connection_waits_for_the_proxy() {
    for backend in BACKENDS {
        within("with_the_hold_a_connection_waits_for_the_proxy", move || {
            route_to_nowhere();
            install(backend, &Redirect::default());
            let early = TcpStream::connect_timeout(&address(ELSEWHERE), SHORT).unwrap_err();
            assert_eq!(early.kind(), ErrorKind::TimedOut, "{backend}: {early}");

            let dropped = dropped_packets("iptables", backend);
            let waiting = thread::spawn(|| greeting(ELSEWHERE));
            eventually(DEADLINE, || dropped_packets("iptables", backend) > dropped);
            serve("0.0.0.0:15001", "from the proxy");
            assert_eq!(waiting.join().unwrap(), "from the proxy", "{backend}");
        });
    }
}

#[test]
fn over_ipv6_a_connection_waits_for_the_proxy_as_well() {
    for backend in BACKENDS {
        within("over_ipv6_a_connection_waits_for_the_proxy_as_well", move || {
            route_to_nowhere();
            run("ip", "-6 addr add fd99::1/64 dev osm-a nodad");
            restore(&format!("ip6tables-{backend}-restore"), &rules_for(&Redirect::default(), Family::V6, &[]));
            // Somebody who listens on the port in IPv4 alone is nobody here.
            serve("0.0.0.0:15001", "from the proxy in IPv4");
            let early = TcpStream::connect_timeout(&address(ELSEWHERE_V6), SHORT).unwrap_err();
            assert_eq!(early.kind(), ErrorKind::TimedOut, "{backend}: {early}");

            let dropped = dropped_packets("ip6tables", backend);
            let waiting = thread::spawn(|| greeting(ELSEWHERE_V6));
            eventually(DEADLINE, || dropped_packets("ip6tables", backend) > dropped);
            serve("[::1]:15001", "from the proxy");
            assert_eq!(waiting.join().unwrap(), "from the proxy", "{backend}");
            // What the pod calls in itself needs no proxy.
            serve("[::1]:8080", "from the application");
            assert_eq!(greeting("[::1]:8080"), "from the application", "{backend}");
        });
    }
}

#[test]
fn with_the_hold_a_caller_from_outside_waits_for_the_proxy() {
    for backend in BACKENDS {
        within("with_the_hold_a_caller_from_outside_waits_for_the_proxy", move || {
            let (call, called) = mpsc::channel::<()>();
            let (heard, hear) = mpsc::channel();
            install(backend, &Redirect::default());
            serve("0.0.0.0:8080", "from the application, in plain text");
            with_neighbour(move || {
                called.recv().unwrap();
                heard.send(greeting("10.99.0.1:8080")).unwrap();
            });
            call.send(()).unwrap();
            eventually(DEADLINE, || dropped_packets("iptables", backend) > 0);
            serve("0.0.0.0:15003", "from the proxy");
            assert_eq!(hear.recv_timeout(DEADLINE).unwrap(), "from the proxy", "{backend}");
        });
    }
}

#[test]
fn each_connection_goes_where_it_should() {
    for backend in BACKENDS {
        within("each_connection_goes_where_it_should", move || {
            install(backend, &Redirect { excluded_outbound_ports: "9000".parse().unwrap(), ..Redirect::default() });
            let (end, ended) = mpsc::channel::<()>();
            with_neighbour(move || {
                serve("0.0.0.0:80", "from the neighbour");
                serve("0.0.0.0:9000", "from the neighbour");
                ended.recv().ok();
            });
            serve("0.0.0.0:15001", "outbound");
            serve("0.0.0.0:15003", "inbound");
            serve("0.0.0.0:15904", "from the agent");
            serve("0.0.0.0:8080", "from the application");

            for (uid, to, answer, why) in [
                (0, "10.99.0.2/80", "outbound", "the application's calls go through the proxy"),
                (1500, "10.99.0.2/80", "from the neighbour", "the proxy's own calls do not"),
                (0, "10.99.0.2/9000", "from the neighbour", "nor those to an excluded port"),
                (0, "127.0.0.1/8080", "from the application", "the application may call itself"),
                (0, "10.99.0.1/8080", "from the application", "by its pod's address, too"),
                (1500, "127.0.0.1/8080", "from the application", "the proxy reaches the application"),
                (1500, "10.99.0.1/8080", "inbound", "but calls its own pod as others do"),
                (1500, "10.99.0.1/15904", "from the agent", "probes are not redirected"),
            ] {
                assert_eq!(greeting_as(uid, to), answer, "{backend}: {why}");
            }
            drop(end);
        });
    }
}

#[test]
fn the_pods_own_address_can_stand_for_the_loopback_address() {
    for backend in BACKENDS {
        within("the_pods_own_address_can_stand_for_the_loopback_address", move || {
            let args = ["--local-proxy-mode=pod-ip", "--pod-ip=10.99.0.1"];
            let line = <super::CommandLine as clap::Parser>::try_parse_from(args).unwrap();
            route_to_nowhere();
            install(backend, &line.redirect);
            serve("10.99.0.1:8080", "from the application");
            assert_eq!(greeting_as(1500, "127.0.0.1/8080"), "from the application", "{backend}");
        });
    }
}

/// A redirection with something in every list.
fn busy() -> Redirect {
    Redirect {
        excluded_inbound_ports: "22,2222".parse().unwrap(),
        excluded_outbound_ports: (1..=16).map(|port| port.to_string()).collect::<Vec<_>>().join(",").parse().unwrap(),
        excluded_outbound_ranges: "10.1.0.0/16,fd01::/16".parse().unwrap(),
        included_outbound_ranges: "10.0.0.0/8,fd00::/8".parse().unwrap(),
        excluded_interfaces: "eth1,docker+".parse().unwrap(),
        ..Redirect::default()
    }
}

/// Installs as `osm-init` does: asks which jumps are there, and loads the rest in one text.
fn install(backend: &str, redirect: &Redirect) {
    let installed: Vec<Jump> = jumps(redirect).into_iter().filter(|jump| is_installed(backend, jump)).collect();
    restore(&format!("iptables-{backend}-restore"), &rules_for(redirect, Family::V4, &installed));
}

fn is_installed(backend: &str, jump: &Jump) -> bool {
    let check = Command::new(format!("iptables-{backend}")).args(jump.check_args()).output().unwrap();
    check.status.success()
}

fn restore(program: &str, text: &str) {
    let mut command = Command::new(program);
    command.arg("--noflush").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut restore = command.spawn().unwrap();
    restore.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    written(&format!("{program} of\n{text}"), restore.wait_with_output().unwrap());
}

/// All rules, without times and counters.
fn saved(backend: &str) -> String {
    let all = run(&format!("iptables-{backend}-save"), "");
    let is_rule = |line: &&str| !line.starts_with('#') && !line.starts_with(':') || line.contains("OSM_PROXY");
    let lines: Vec<&str> = all.lines().filter(is_rule).collect();
    lines.join("\n").replace("[0:0]", "")
}

fn dropped_packets(iptables: &str, backend: &str) -> u64 {
    let list = run(&format!("{iptables}-{backend}"), "-t filter -L OSM_PROXY_HOLD -v -n -x");
    let drops = list.lines().filter(|line| line.contains(" DROP "));
    drops.map(|line| line.split_whitespace().next().unwrap().parse::<u64>().unwrap()).sum()
}

/// A way out that leads nowhere.
fn route_to_nowhere() {
    run("ip", "link add osm-a type veth peer name osm-b");
    run("ip", "addr add 10.99.0.1/24 dev osm-a");
    run("ip", "link set osm-a up");
    run("ip", "route add default dev osm-a");
}

/// Listens, and greets whoever comes with `line`, for as long as the test runs.
fn serve(listen: &str, line: &'static str) {
    let listener = TcpListener::bind(listen).unwrap();
    thread::spawn(move || {
        for connection in listener.incoming() {
            connection.unwrap().write_all(line.as_bytes()).ok();
        }
    });
}

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn greeting(to: &str) -> String {
    let mut connection = TcpStream::connect_timeout(&address(to), DEADLINE).unwrap();
    connection.set_read_timeout(Some(DEADLINE)).unwrap();
    let mut line = String::new();
    connection.read_to_string(&mut line).unwrap();
    line
}

/// The same as another user, who needs a process: `to` is `address/port`.
fn greeting_as(uid: u32, to: &str) -> String {
    let script = format!("exec 3<>/dev/tcp/{to} && timeout 10 cat <&3");
    written(to, Command::new("bash").arg("-c").arg(script).uid(uid).output().unwrap())
}
