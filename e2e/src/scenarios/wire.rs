//! What is on the wire: a capture on the bridge, where everything passes that pods send.

use std::fs;

use anyhow::{Context, Result, ensure};

use crate::lab::{Lab, wait_for};

/// Ten requests and their answers are about this much, in plain text and encrypted.
const BYTES_MIN: usize = 10_000;

/// What of `filter` is on the bridge while requests are made: ten, and more as long as the capture is short.
pub(super) fn capture(lab: &Lab, name: &str, filter: &str, client: &str, url: &str) -> Result<Vec<u8>> {
    let file = lab.path(name);
    let path = file.to_str().context("paths of labs are made of ASCII")?;
    let words = ["tcpdump", "-i", lab.bridge(), "--immediate-mode", "-U", "-Z", "root", "-w", path, filter];
    let mut tcpdump = lab.node_in_background(&words)?;
    wait_for("the capture has begun", || {
        fs::metadata(&file).ok().filter(|m| m.len() > 0).context("its file is empty")
    })?;
    for _ in 0..10 {
        lab.pod(client).get(url)?;
    }
    // How many packets acknowledgements take, and so how long the capture is, is the kernel's to choose.
    wait_for("the packets are written", || {
        lab.pod(client).get(url)?;
        let length = fs::metadata(&file)?.len();
        ensure!(length > BYTES_MIN as u64, "the capture holds {length} bytes");
        Ok(())
    })?;
    lab.node(&["pkill", "-INT", "-x", "tcpdump"])?.success()?;
    tcpdump.child.wait()?;
    fs::read(&file).context("reading the capture")
}

/// An error if there is plain text of HTTP, or one of these words.
pub(super) fn is_encrypted(captured: &[u8], words: &[&[u8]]) -> Result<()> {
    let http: [&[u8]; 2] = [b"GET /", b"HTTP/1.1"];
    for word in words.iter().chain(&http) {
        ensure!(!holds(captured, word), "{:?} is on the wire in plain text", String::from_utf8_lossy(word));
    }
    Ok(())
}

/// Whether the bytes are in it.
pub(super) fn holds(haystack: &[u8], needle: &[u8]) -> bool {
    haystack.windows(needle.len()).any(|window| window == needle)
}
