//! A start as a picture for a terminal, and many starts as a table.

use std::fmt::Write;

use osm_startup::Phase;

use super::{Startup, Step};

/// What a line has beside its bar.
const BESIDE: usize = 58;

/// Shorter bars show nothing, and longer ones nothing more.
const BAR_MIN: usize = 20;
const BAR_MAX: usize = 80;

impl Startup {
    /// The picture, in a terminal of so many columns: a line for each step, whose bar reaches from what it waited for
    /// to the step.
    pub(crate) fn waterfall(&self, columns: usize) -> String {
        let width = columns.saturating_sub(BESIDE).clamp(BAR_MIN, BAR_MAX);
        let shape = self.shape.as_deref().unwrap_or("not in the mesh");
        let mut text = format!("{} ({shape})\n", self.pod);
        let last = self.steps.last().map_or(1, |step| step.at_ms);
        let end = if self.missing.is_empty() { last } else { last.max(self.age_ms) }.max(1);
        if !self.steps.is_empty() {
            let _ = writeln!(text, "{:>9} {:>9}", "AT", "TOOK");
        }
        for step in &self.steps {
            let took = step.took_ms.map(length).unwrap_or_default();
            let bar = bar(step, end, width);
            let _ = writeln!(text, "{:>9} {took:>9}  {bar}  {}", length(step.at_ms), step.what);
        }
        for missing in &self.missing {
            let _ = writeln!(text, "waits for: {missing}");
        }
        for warning in &self.warnings {
            let _ = writeln!(text, "warning: {warning}");
        }
        if self.missing.is_empty() && self.is_programmed == Some(true) {
            text.push_str("waits for nothing\n");
        }
        text
    }
}

fn bar(step: &Step, end: i64, width: usize) -> String {
    let column = |ms: i64| {
        let share = ms.clamp(0, end) * (width as i64 - 1) / end;
        usize::try_from(share).unwrap_or_default()
    };
    let to = column(step.at_ms);
    let from = column(step.at_ms - step.took_ms.unwrap_or_default());
    let (mark, length) = if step.took_ms.is_some() { ('█', to - from + 1) } else { ('▏', 1) };
    let bar: String = std::iter::repeat_n(mark, length).collect();
    format!("{:from$}{bar}{:rest$}", "", "", rest = width - from - length)
}

/// A time that people can read at a glance.
fn length(ms: i64) -> String {
    match ms {
        ..10_000 => format!("{ms} ms"),
        10_000..600_000 => format!("{}.{} s", ms / 1000, ms % 1000 / 100),
        _ => format!("{} min", ms / 60_000),
    }
}

/// Header and rows: each pod with the length of each phase.
pub(crate) fn table(startups: &[Startup]) -> (Vec<&'static str>, Vec<Vec<String>>) {
    let mut header = vec!["POD", "STATE"];
    header.extend(Phase::ALL.iter().map(|phase| column(*phase)));
    header.push("WAITS FOR");
    let rows = startups.iter().map(|startup| {
        let held = startup.missing.first();
        let state = match (held, startup.is_programmed) {
            (Some(_), _) => "waits",
            (None, Some(true)) => "programmed",
            (None, Some(false) | None) => "-",
        };
        let mut row = vec![startup.pod.clone(), state.to_owned()];
        let phases = Phase::ALL.iter().map(|phase| startup.phase(phase.name()));
        row.extend(
            phases.map(|ms| ms.map_or_else(|| "-".to_owned(), |ms| length(i64::try_from(ms).unwrap_or(i64::MAX)))),
        );
        row.push(held.map(|missing| format!("{} ({})", missing.reason, missing.owner)).unwrap_or_default());
        row
    });
    (header, rows.collect())
}

fn column(phase: Phase) -> &'static str {
    match phase {
        Phase::Placed => "PLACED",
        Phase::Init => "INIT",
        Phase::Agent => "AGENT",
        Phase::Identity => "IDENTITY",
        Phase::Controller => "CONTROLLER",
        Phase::Configuration => "CONFIG",
        Phase::Envoy => "ENVOY",
        Phase::Acknowledged => "ACK",
        Phase::Gate => "GATE",
        Phase::Application => "APP",
        Phase::Ready => "READY",
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use osm_startup::{Missing, Reason, StepKind};

    use super::super::PhaseLength;
    use super::*;

    fn startup(steps: &[(i64, Option<i64>, &str)]) -> Startup {
        let step = |(at_ms, took_ms, what): &(i64, Option<i64>, &str)| Step {
            kind: StepKind::Other,
            at_ms: *at_ms,
            took_ms: *took_ms,
            what: (*what).to_owned(),
        };
        Startup {
            pod: "shop/once".into(),
            shape: Some("native: restartPolicy Never".into()),
            created: Timestamp::UNIX_EPOCH,
            is_programmed: Some(true),
            is_ready: true,
            steps: steps.iter().map(step).collect(),
            phases: Vec::new(),
            missing: Vec::new(),
            warnings: Vec::new(),
            age_ms: 100,
        }
    }

    #[test]
    fn bars_reach_from_what_a_step_waited_for_to_the_step_in_any_terminal() {
        let steps = [(0, None, "created"), (50, Some(50), "osm-init ended"), (100, Some(25), "gate open")];
        for (columns, width) in [(10, 20), (98, 40), (1000, 80)] {
            let picture = startup(&steps).waterfall(columns);
            let bars: Vec<(usize, usize)> = picture
                .lines()
                .filter_map(|line| {
                    let bar: Vec<char> = line.chars().skip(21).collect();
                    let first = bar.iter().position(|c| "█▏".contains(*c))?;
                    Some((first, bar.iter().filter(|c| "█▏".contains(**c)).count()))
                })
                .collect();
            let at = |ms: usize| ms * (width - 1) / 100;
            let expected = [(0, 1), (0, at(50) + 1), (at(75), at(100) - at(75) + 1)];
            assert_eq!(bars, expected, "{columns} columns\n{picture}");
        }
    }

    #[test]
    fn a_pod_that_waits_says_for_what_in_one_line() {
        let since = Timestamp::from_second(1_900_000_000).unwrap();
        let mut held = startup(&[(0, None, "created")]);
        held.missing = vec![Missing::new(Reason::ControllerRefused, "cannot reach c:1", since)];
        let picture = held.waterfall(100);
        let last = picture.lines().last().unwrap();
        assert_eq!(
            last,
            "waits for: cannot reach c:1 (controller-refused, from osm-controller, since 2030-03-17T17:46:40Z); see \
             whether the controller runs: kubectl -n osm-system get pods"
        );
    }

    #[test]
    fn those_that_wait_and_the_slowest_come_first() {
        let fast = Startup { phases: vec![PhaseLength { phase: "gate", ms: 5 }], ..startup(&[]) };
        let slow = Startup { phases: vec![PhaseLength { phase: "gate", ms: 50 }], ..startup(&[]) };
        let mut held = startup(&[]);
        held.missing = vec![Missing::new(Reason::EnvoyEnded, "x", Timestamp::UNIX_EPOCH)];
        assert!(held.rank() > slow.rank() && slow.rank() > fast.rank());
        let (header, rows) = table(&[held]);
        assert_eq!(header.len(), rows[0].len());
        assert_eq!(rows[0].last().unwrap(), "envoy-ended (envoy)");
    }

    #[test]
    fn lengths_are_short() {
        assert_eq!([length(5), length(12_340), length(600_000)], ["5 ms", "12.3 s", "10 min"]);
    }
}
