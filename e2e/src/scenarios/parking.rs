//! Parking: connections that Envoy cannot take yet, or not any more, are taken by the agent, at once.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use osm_testkit::Progress;

use super::chance::Chance;
use super::hold::number_after;
use super::manifests::{demo_pod, idle_pod, service, service_account, shop};
use super::open;
use super::outage::Outage;
use crate::Choice;
use crate::lab::{Background, Lab, LoadCounts, Pod, wait_for};

/// New connections a second.
const RATE: u32 = 500;

/// From one kill to the next, at most: Envoy is back in half of it on two busy cores.
const PACE: Duration = Duration::from_millis(1500);

/// The longest pause before a kill.
const PAUSE_MS: u64 = 700;

/// Kills, hangs or hand-overs of a run that is not asked for more.
const SAMPLE: u32 = 5;

/// How long a load goes on that is there to see one hand-over, which comes in the middle of it.
const HAND_OVER_SECONDS: u32 = 1;

/// From the moment that it hangs: the promise is half a second from the kill, and being sure takes 0.3 to 0.4 s before.
const HANG_LIMIT: Duration = Duration::from_millis(1500);

/// Two services of the same pod, each asked half as often: the kernel keeps the port of a closed connection for a minute,
/// and has no more than 28,000 for one destination.
const SERVICES: [&str; 2] = ["shop/server", "shop/second"];

/// New connections at the whole rate.
struct Load(Vec<Background>);

impl Load {
    fn start(client: &Pod<'_>, urls: &[String], seconds: u32) -> Result<Load> {
        let each = RATE / urls.len() as u32;
        Ok(Load(urls.iter().map(|url| client.load(url, each, seconds)).collect::<Result<_>>()?))
    }

    /// A load that has begun.
    fn begin(client: &Pod<'_>, urls: &[String], seconds: u32) -> Result<Load> {
        let before = client.requests()?;
        let load = Load::start(client, urls, seconds)?;
        client.wait_for_requests(before + 100)?;
        Ok(load)
    }

    /// What became of all of them; of times, those of the slower half.
    fn counts(self) -> Result<LoadCounts> {
        let halves: Vec<LoadCounts> = self.0.into_iter().map(LoadCounts::of).collect::<Result<_>>()?;
        let sum = |of: fn(&LoadCounts) -> u64| halves.iter().map(of).sum::<u64>();
        let longest = |of: fn(&LoadCounts) -> u64| halves.iter().map(of).max().unwrap_or_default();
        Ok(LoadCounts {
            tried: sum(|c| c.tried),
            ok: sum(|c| c.ok),
            other_status: sum(|c| c.other_status),
            refused: sum(|c| c.refused),
            reset: sum(|c| c.reset),
            timed_out: sum(|c| c.timed_out),
            failed: sum(|c| c.failed),
            slowest_ms: longest(|c| c.slowest_ms),
            p99_ms: longest(|c| c.p99_ms),
        })
    }
}

/// The shop, with the second service, and where the two are: by address, since to resolve a name each time would be a load
/// of its own.
fn open_busy_shop(choice: &Choice) -> Result<(Lab, Vec<String>)> {
    let second = service("shop", "second", "{name: http, port: 80, targetPort: 8080}");
    let lab = open(choice, &[shop(), second.replace("{app: second}", "{app: server}")].concat())?;
    let urls = SERVICES.iter().map(|service| lab.url(service)).collect::<Result<Vec<_>>>()?;
    for url in &urls {
        wait_for("the server answers", || lab.pod("shop/client").get(url))?;
    }
    Ok((lab, urls))
}

pub(super) fn connections_are_taken_at_once(choice: &Choice) -> Result<String> {
    let greeter = [
        service_account("shop", "greeter"),
        service("shop", "greeter", "{name: tcp-greeting, port: 3306}"),
        demo_pod("shop", "greeter", "greeter", "greet, --port, '3306'"),
    ];
    let lab = Lab::up(choice, &[shop(), greeter.concat()].concat())?;
    lab.wait_ready("shop/server")?;
    lab.wait_ready("shop/greeter")?;
    let Parked { connect_ms, total_ms, heard } = park_through_an_outage(&lab, "http://server.shop/")?;
    ensure!(connect_ms < 500, "connect() took {connect_ms} ms: the agent did not take the connection");
    ensure!(total_ms > connect_ms, "it was not parked: the answer took {total_ms} ms");
    Ok(format!("connect() took {connect_ms} ms, the answer {total_ms} ms; {}", heard.trim_end()))
}

/// How connections fared that were opened while the controller was down.
pub(super) struct Parked {
    pub(super) connect_ms: u64,
    pub(super) total_ms: u64,
    /// What the client of the server that speaks first said.
    pub(super) heard: String,
}

/// A pod comes while the controller is down, asks `url`, and listens to `shop/greeter`; then the controller comes back.
pub(super) fn park_through_an_outage(lab: &Lab, url: &str) -> Result<Parked> {
    let late = [service_account("shop", "late"), idle_pod("shop", "late")].concat();
    let outage = Outage::begin_with_pod(lab, "late", &late)?;
    let late = lab.pod("shop/late");
    wait_for("the late pod's agent is there", || late.startup())?;
    let asks = late.demo_in_background(&["once", url])?;
    let hears = late.demo_in_background(&["hear", "greeter.shop:3306"])?;
    wait_for("both connections are parked", || {
        let waiting = &late.startup()?["parked"]["outbound"]["waiting"];
        ensure!(waiting.as_u64() == Some(2), "{waiting} are");
        Ok(())
    })?;
    outage.end()?;
    let said = asks.finish()?.success().context("the connection that was parked")?;
    let heard = hears.finish()?.success().context("the server that speaks first")?;
    let connect_ms = number_after(&said, "connect_ms ").with_context(|| format!("it said {said}"))?;
    let total_ms = number_after(&said, "total_ms ").with_context(|| format!("it said {said}"))?;
    Ok(Parked { connect_ms, total_ms, heard })
}

pub(super) fn kills_under_load(choice: &Choice) -> Result<String> {
    let (lab, urls) = open_busy_shop(choice)?;
    let client = lab.pod("shop/client");
    let quiet = Load::start(&client, &urls, 5)?.counts()?;
    let kills = sample(choice);
    let mut chance = Chance(choice.seed);
    let load = Load::begin(&client, &urls, u32::try_from(PACE.as_millis())? * kills / 1000 + 4)?;
    let mut accepted = 0;
    let mut progress = Progress::new("kills", kills);
    for done in 0..kills {
        progress.done(done);
        let before = client.envoy_process()?;
        pause(chance.below(PAUSE_MS));
        accepted += client.signal_envoy("KILL")?;
        client.wait_for_another_envoy(&before)?;
    }
    let counts = load.counts()?;
    let figures = format!(
        "{kills} kills (seed {}), {} connections: {} refused, {} timed out, {} reset of {accepted} that were accepted at \
         those moments; p99 {} ms, {} ms without kills; slowest {} ms",
        choice.seed,
        counts.tried,
        counts.refused,
        counts.timed_out,
        counts.reset,
        counts.p99_ms,
        quiet.p99_ms,
        counts.slowest_ms
    );
    check(&counts, accepted).context(figures.clone())?;
    ensure!(
        client.agent_stat("osm_sidecar_envoy_restarts_total")? >= u64::from(kills),
        "{figures}; not all were kills"
    );
    ensure!(client.agent_stat("osm_sidecar_envoy_hangs_total")? == 0, "{figures}; some were taken for hangs");
    Ok(figures)
}

pub(super) fn hangs_under_load(choice: &Choice) -> Result<String> {
    let (lab, urls) = open_busy_shop(choice)?;
    let client = lab.pod("shop/client");
    let hangs = sample(choice);
    let mut chance = Chance(choice.seed);
    let load = Load::begin(&client, &urls, u32::try_from(PACE.as_millis())? * hangs / 1000 * 2 + 4)?;
    let (mut accepted, mut longest) = (0, Duration::ZERO);
    let mut progress = Progress::new("hangs", hangs);
    for done in 0..hangs {
        progress.done(done);
        let before = client.envoy_process()?;
        pause(chance.below(PAUSE_MS));
        accepted += client.signal_envoy("STOP")?;
        let stopped = Instant::now();
        client.wait_for_another_envoy(&before)?;
        longest = longest.max(stopped.elapsed());
    }
    let counts = load.counts()?;
    let figures = format!(
        "{hangs} hangs (seed {}), {} connections: {} refused, {} timed out, {} reset of {accepted} that were accepted at \
         those moments; programmed again {} ms after the stop at most; slowest {} ms",
        choice.seed,
        counts.tried,
        counts.refused,
        counts.timed_out,
        counts.reset,
        longest.as_millis(),
        counts.slowest_ms
    );
    check(&counts, accepted).context(figures.clone())?;
    ensure!(longest < HANG_LIMIT, "{figures}");
    ensure!(client.agent_stat("osm_sidecar_envoy_hangs_total")? == u64::from(hangs), "{figures}; not all were seen");
    let restarts: u32 = lab.wait_ready("shop/client")?.containers.iter().map(|container| container.restarts).sum();
    ensure!(restarts == 0, "containers of the pod were restarted {restarts} times for it");
    Ok(figures)
}

pub(super) fn hand_overs(choice: &Choice) -> Result<String> {
    let (lab, urls) = open_busy_shop(choice)?;
    let client = lab.pod("shop/client");
    let name = "osm_sidecar_hand_overs_total{direction=\"outbound\"}";
    let (mut tried, mut carried) = (0, 0);
    let rounds = sample(choice);
    let mut progress = Progress::new("hand-overs", rounds);
    for round in 1..=rounds {
        progress.done(round - 1);
        let (before, handed_over) = (client.envoy_process()?, client.agent_stat(name)?);
        wait_for("nobody is connected", || {
            let accepted = client.signal_envoy("CONT")?;
            ensure!(accepted == 0, "{accepted} are");
            Ok(())
        })?;
        client.signal_envoy("KILL")?;
        let load = Load::start(&client, &urls, HAND_OVER_SECONDS)?;
        client.wait_for_another_envoy(&before)?;
        let counts = load.counts()?;
        ensure!(counts.ok == counts.tried, "hand-over {round}: {counts:?}");
        ensure!(client.agent_stat(name)? > handed_over, "there was no hand-over {round} during the load");
        tried += counts.tried;
        carried = client.agent_stat("osm_sidecar_handed_over_connections_total{direction=\"outbound\"}")?;
    }
    ensure!(carried > 0, "the agent carried none of {tried} connections: nothing is proved");
    Ok(format!(
        "{rounds} hand-overs, {tried} connections, {carried} of them by way of the agent; none refused, none reset"
    ))
}

/// None is refused, none is lost, and no more are reset than Envoy had accepted.
fn check(counts: &LoadCounts, accepted: u64) -> Result<()> {
    counts.answered_or_reset(1_000)?;
    let reset = counts.reset;
    ensure!(reset <= accepted, "{reset} were reset, but only {accepted} had been accepted: the others were lost");
    Ok(())
}

/// All that are asked for, in a run for this scenario alone; a sample beside others.
fn sample(choice: &Choice) -> u32 {
    if choice.is_alone { choice.count } else { choice.count.min(SAMPLE) }
}

/// Between two faults, not for anything to happen.
fn pause(milliseconds: u64) {
    thread::park_timeout(Duration::from_millis(milliseconds));
}
