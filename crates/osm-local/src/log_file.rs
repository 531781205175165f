//! A container's output on its way into a file of limited size.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;

/// A container's log is cut in two at this size, and the older half goes when the next one is full. The state folder
/// is in memory on many machines.
const LIMIT_BYTES: u64 = 16 << 20;

/// Writes all that comes from `output` to `file` until the last writer is gone. What is there stays: a container that
/// starts again writes on.
pub(crate) async fn pump(mut output: pipe::Receiver, file: PathBuf) {
    let mut log = LogFile::open(&file, LIMIT_BYTES);
    let mut buffer = vec![0; 64 << 10];
    loop {
        let length = match output.read(&mut buffer).await {
            Ok(0) | Err(_) => return,
            Ok(length) => length,
        };
        // A full disk must not stop the container: its output is taken in any case.
        let written = log.as_mut().map_err(|error| io::Error::new(error.kind(), error.to_string()));
        if let Err(error) = written.and_then(|log| log.write(&buffer[..length])) {
            tracing::warn!(file = %file.display(), error = %error, "output of a container is lost");
        }
    }
}

struct LogFile {
    path: PathBuf,
    file: File,
    length: u64,
    limit: u64,
}

impl LogFile {
    fn open(path: &Path, limit: u64) -> io::Result<LogFile> {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        let file = OpenOptions::new().create(true).append(true).open(path)?;
        let length = file.metadata()?.len();
        Ok(LogFile { path: path.to_owned(), file, length, limit })
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.length + bytes.len() as u64 > self.limit {
            fs::rename(&self.path, self.path.with_extension("log.1"))?;
            *self = LogFile::open(&self.path, self.limit)?;
        }
        self.file.write_all(bytes)?;
        self.length += bytes.len() as u64;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_never_takes_more_than_twice_its_limit() {
        let folder = std::env::temp_dir().join(format!("osm-local-log-{}", std::process::id()));
        let path = folder.join("ns/pod/c.log");
        let mut log = LogFile::open(&path, 10).unwrap();
        for line in ["12345\n", "6\n", "789\n", "abc\n"] {
            log.write(line.as_bytes()).unwrap();
        }
        assert_eq!(fs::read_to_string(&path).unwrap(), "789\nabc\n");
        assert_eq!(fs::read_to_string(path.with_extension("log.1")).unwrap(), "12345\n6\n");
        fs::remove_dir_all(folder).unwrap();
    }
}
