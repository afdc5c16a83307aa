//! A log on a file system that does not answer reads: its lines are missing, which is said; all
//! other logs are read, and verdicts come in time.

use anyhow::{Result, ensure};
use tests::client::dial;
use tests::faults::fuse::Stalling;
use tests::folder::Folder;
use tests::http2;
use tests::netns::Netns;
use tests::nginx::{Config, Nginx};
use tests::tracer::Tracer;

const ROUNDS: usize = 3;

#[test]
fn a_log_that_stalls_is_said_and_others_go_on() -> Result<()> {
    let stalling = Stalling::new()?;
    let folder = Folder::new()?;
    let netns = Netns::new()?;
    let config = Config {
        workers: 1,
        error_log: Some(format!("{} error", stalling.file().display())),
        server: format!(
            "listen 127.0.0.1:81 http2;\n\
             location /stalls {{ proxy_pass http://127.0.0.1:9; }}\n\
             location /goes-on {{ error_log {} error; proxy_pass http://127.0.0.1:9; }}\n",
            folder.join("other.log").display()
        ),
        ..Config::default()
    };
    let nginx = Nginx::start(&netns, &config, |_| Ok(()))?;
    let mut tracer = Tracer::follow(nginx.master)?;
    // Over HTTP/2 only the log has the request's line.
    let fail = |path: &str| {
        netns.enter(|| {
            let status = http2::get(&mut dial("127.0.0.1:81")?, "shop.test", path)?;
            ensure!(status == 502, "{path}: got {status}");
            Ok(())
        })
    };
    for round in 1..=ROUNDS {
        fail("/stalls")?;
        tracer.verdict_lines(2 * round - 1)?;
        fail("/goes-on")?;
        tracer.verdict_lines(2 * round)?;
    }
    ensure!(stalling.reads() > 0, "the log was not read");
    tracer.says("stall")?;
    // What still waits is let go: a thread in the kernel cannot end before.
    drop(nginx);
    drop(stalling);
    let ended = tracer.stop(libc::SIGINT)?;
    ensure!(ended.verdicts.len() == 2 * ROUNDS);
    for (at, verdict) in ended.verdicts.iter().enumerate() {
        ensure!(
            verdict["cause"] == "no-listener" && verdict["confidence"] == "proven",
            "{verdict}"
        );
        let line = &verdict["request"]["line"];
        if at % 2 == 0 {
            ensure!(line.is_null(), "it cannot have been read: {verdict}");
        } else {
            ensure!(*line == "GET /goes-on HTTP/2.0", "{verdict}");
        }
    }
    Ok(())
}
