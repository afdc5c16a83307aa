//! Real backends whose supervisor ends a worker that serves a request.

use anyhow::Result;
use tests::expected::Expected;
use tests::stage::{Fault, Stage};
use tests::upstream::{Listen, Upstream};

const APPLICATION: &str = "\
import time
def app(environ, start):
    time.sleep(30)
    start('200 OK', [('Content-Length', '2')])
    return [b'ok']
";

#[test]
fn gunicorn_ends_a_worker_that_exceeds_its_timeout() -> Result<()> {
    let stage = Stage::new()?;
    let address = "127.0.0.1:9001";
    let words = [
        "gunicorn",
        "-b",
        address,
        "-w",
        "2",
        "--timeout",
        "2",
        "app:app",
    ];
    let files = [("app.py", APPLICATION)];
    let _gunicorn = Upstream::start(&stage.netns, &words, &files, &Listen::Tcp(address.into()))?;
    let logged = "upstream prematurely closed connection while reading response header";
    let expected = Expected::connected("backend-died", address, logged).says("--timeout");
    stage.check(vec![Fault::proxy(expected, "")]).map(drop)
}
