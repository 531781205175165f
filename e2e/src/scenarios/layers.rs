//! The proof that scenarios can fail: each is run without the layer that it is about.

use anyhow::{Context, Result, bail, ensure};

use super::ALL;
use crate::Choice;
use crate::lab::{Layer, with_deadline};

/// What is waited for in vain.
const DEADLINE_SECONDS: u64 = 15;

/// Repetitions of a scenario that repeats.
const COUNT: u32 = 5;

/// A layer, a scenario that must fail without it, and words of which it must say one.
type Need = (Layer, &'static str, &'static [&'static str]);

/// So many of the first ones fail soon.
const SAMPLE: usize = 2;

const NEEDS: &[Need] = &[
    (Layer::Hold, "once-with-hold", &["Connection refused"]),
    (Layer::Hold, "envoy-killed-under-load", &["refused: "]),
    (Layer::Hold, "a-new-pod-waits-for-the-controller", &["its application did not wait"]),
    (Layer::Parking, "connections-are-taken-at-once", &["are parked"]),
    (Layer::Hold, "sidecar-killed-under-load", &["refused: "]),
    (Layer::Hold, "starts-with-random-faults", &["refused: "]),
    (Layer::Hold, "nothing-starts-half", &["its application did not wait"]),
    (Layer::Parking, "kills-under-load", &["the others were lost", "LoadCounts { "]),
    (Layer::LastGood, "sidecar-killed-without-controller", &["last-good.state: No such file"]),
    (Layer::Pulse, "hangs-under-load", &["another Envoy is programmed"]),
    (Layer::DrainLast, "rolling-updates-under-load", &["is finished", " failed ("]),
    (Layer::Quit, "jobs-complete-in-shape-init", &["the sidecar has quit before the work has ended"]),
    // Without their sidecar its connections are held for ever.
    (Layer::DrainLast, "the-network-outlives-the-application", &["was not answered", "leaves-init is gone"]),
];

pub(super) fn each_layer_is_needed(choice: &Choice) -> Result<String> {
    // Most fail by waiting in vain; beside other scenarios, those that fail soon are the sample.
    let needs = if choice.is_alone { NEEDS } else { &NEEDS[..SAMPLE] };
    let wrong: Vec<String> = needs.iter().filter_map(|need| fails_without(choice, need).err()).map(text).collect();
    ensure!(wrong.is_empty(), "{}", wrong.join("\n\n"));
    Ok(format!("{} scenarios without the layer that they are about: all fail", needs.len()))
}

/// An error if the scenario passes without the layer, or fails for another reason.
fn fails_without(choice: &Choice, (layer, name, words): &Need) -> Result<()> {
    let scenario = ALL.iter().find(|scenario| scenario.name == *name);
    let scenario = scenario.with_context(|| format!("there is no scenario {name}"))?;
    let without = Choice { without: Some(*layer), count: choice.count.min(COUNT), is_alone: false, ..*choice };
    let Err(error) = with_deadline(DEADLINE_SECONDS, || (scenario.run)(&without)) else {
        bail!("{name} passes without {layer:?}: it proves nothing about it");
    };
    let said = text(error);
    ensure!(
        words.iter().any(|words| said.contains(words)),
        "{name} fails without {layer:?}, but says nothing of {words:?}: {said}"
    );
    Ok(())
}

fn text(error: anyhow::Error) -> String {
    format!("{error:#}")
}
