//! TensorBoard's server, asked as a browser asks it.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread::{sleep, spawn};
use std::time::{Duration, Instant};

use crate::failure::{Failure, Result};

/// It starts in seconds, and reads what is there soon after.
const PATIENCE: Duration = Duration::from_secs(120);

/// What each plugin must have: the spectrum, as the README and the page on TensorBoard say.
const TAGS: [(&str, &[&str]); 3] = [
    (
        "scalars",
        &["curvature/lambda_max", "curvature/lambda_min", "curvature/trace", "curvature_error/trace"],
    ),
    ("histograms", &["spectrum/density", "spectrum/log_density"]),
    ("images", &["spectrum/heat_map", "spectrum/density_plot"]),
];

/// A server, ended with this.
pub struct Board {
    child: Child,
    address: String,
}

impl Board {
    pub fn start(mut command: Command) -> Result<Self> {
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn();
        let child =
            child.map_err(|error| Failure::Task(format!("TensorBoard could not be started: {error}")))?;
        let mut board = Self { child, address: String::new() };
        let lines = board.lines();
        let mut said = String::new();
        let end = Instant::now() + PATIENCE;
        while let Ok(line) = lines.recv_timeout(end.saturating_duration_since(Instant::now())) {
            if let Some(address) = address(&line) {
                eprintln!("{line}");
                address.clone_into(&mut board.address);
                return Ok(board);
            }
            said = said + &line + "\n";
        }
        Err(Failure::Task(format!("TensorBoard prints no address; it says\n{said}")))
    }

    /// What it says, read to the end so that it never waits for a reader.
    fn lines(&mut self) -> Receiver<String> {
        let (sender, receiver) = channel();
        if let Some(said) = self.child.stderr.take() {
            spawn(move || {
                for line in BufReader::new(said).lines().map_while(std::result::Result::ok) {
                    let _ = sender.send(line);
                }
            });
        }
        receiver
    }

    /// The spectrum is in the tabs that the README names, and its images are images.
    pub fn shows_the_spectrum(&self) -> Result<()> {
        for (plugin, tags) in TAGS {
            let all = |answer: &str| tags.iter().all(|tag| answer.contains(&format!("\"{tag}\"")));
            self.ask_until(&format!("{plugin}/tags"), all)?;
            eprintln!("{plugin}: {}", tags.join(", "));
        }
        let charts =
            self.ask_until("custom_scalars/layout", |answer| answer.contains("curvature/lambda_max"))?;
        eprintln!("custom scalars: {} charts", charts.matches("\"margin\"").count());
        let tags = self.ask_until("images/tags", |_| true)?;
        let run = first_key(&tags).ok_or_else(|| Failure::Task(format!("no run has an image: {tags}")))?;
        for tag in TAGS[2].1 {
            let list =
                self.ask_until(&format!("images/images?run={run}&tag={tag}"), |list| list.contains("query"))?;
            let query = list.rsplit("\"query\": \"").next().and_then(|rest| rest.split('"').next());
            let image = self.get(&format!("images/individualImage?{}", query.unwrap_or_default()))?;
            if !image.starts_with(b"\x89PNG\r\n\x1a\n") || image.len() < 1000 {
                return Err(Failure::Task(format!("{tag} is no image, but {} bytes", image.len())));
            }
            eprintln!("{tag}: a PNG of {} bytes", image.len());
        }
        Ok(())
    }

    /// Asks until the answer is as it should be: the server answers before it has read everything.
    fn ask_until(&self, path: &str, is_whole: impl Fn(&str) -> bool) -> Result<String> {
        let end = Instant::now() + PATIENCE;
        loop {
            let answer = String::from_utf8_lossy(&self.get(path)?).into_owned();
            if is_whole(&answer) {
                return Ok(answer);
            }
            if Instant::now() > end {
                return Err(Failure::Task(format!("TensorBoard's {path} is\n{answer}")));
            }
            sleep(Duration::from_millis(500));
        }
    }

    fn get(&self, path: &str) -> Result<Vec<u8>> {
        let url = format!("{}data/plugin/{path}", self.address);
        let failed = |why: String| Failure::Task(format!("cannot get {url}: {why}"));
        let (host, path) = split(&url).ok_or_else(|| failed("what address is that?".into()))?;
        let answer = || -> std::io::Result<Vec<u8>> {
            let mut stream = TcpStream::connect(host)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            write!(stream, "GET {path} HTTP/1.0\r\nHost: {host}\r\n\r\n")?;
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer)?;
            Ok(answer)
        };
        let answer = answer().map_err(|error| failed(error.to_string()))?;
        body(&answer).map(<[u8]>::to_vec).ok_or_else(|| failed(String::from_utf8_lossy(&answer).into_owned()))
    }
}

impl Drop for Board {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// `TensorBoard 2.20.0 at http://localhost:6006/ (Press CTRL+C to quit)`
fn address(line: &str) -> Option<&str> {
    let at = line.strip_prefix("TensorBoard ")?.split_once(" at ")?.1;
    at.split_whitespace().next().filter(|address| address.starts_with("http://"))
}

/// Of `http://localhost:6006/data`: `localhost:6006`, `/data`.
fn split(url: &str) -> Option<(&str, &str)> {
    let rest = url.strip_prefix("http://")?;
    Some(rest.split_at(rest.find('/')?))
}

/// Of an answer that is all right.
fn body(answer: &[u8]) -> Option<&[u8]> {
    let end = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n")?;
    let head = String::from_utf8_lossy(&answer[..end]);
    (head.split(' ').nth(1) == Some("200")).then_some(&answer[end + 4..])
}

/// Of a JSON object.
fn first_key(json: &str) -> Option<&str> {
    json.trim_start().strip_prefix('{')?.trim_start().strip_prefix('"')?.split('"').next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_is_that_of_the_line_that_ends_the_start() {
        let line = "TensorBoard 2.20.0 at http://localhost:40985/ (Press CTRL+C to quit)";
        assert_eq!(address(line), Some("http://localhost:40985/"));
        assert_eq!(address("    https://github.com/tensorflow/tensorboard/issues/4784"), None);
        assert_eq!(split("http://localhost:40985/data/x"), Some(("localhost:40985", "/data/x")));
    }

    #[test]
    fn an_answer_is_its_body_if_all_is_well() {
        assert_eq!(body(b"HTTP/1.1 200 OK\r\nA: b\r\n\r\n{}\r\n\r\n"), Some(&b"{}\r\n\r\n"[..]));
        assert_eq!(body(b"HTTP/1.1 404 NOT FOUND\r\n\r\nno"), None);
        assert_eq!(body(b"HTTP/1.1 200 OK"), None);
        assert_eq!(first_key("{\"mine\": {\"a\": 1}}"), Some("mine"));
        assert_eq!(first_key("{}"), None);
    }
}
