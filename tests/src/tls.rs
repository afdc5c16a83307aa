//! TLS to nginx.

use std::io::{Read, Write};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};

use anyhow::{Context, Result, bail};

use crate::programs;

/// A connection over TLS, by `openssl s_client`, which this project tests with rather than link a
/// TLS library. The child ends with it.
#[derive(Debug)]
pub struct Tls {
    child: Child,
    input: ChildStdin,
    output: ChildStdout,
}

impl Tls {
    /// Connects to 127.0.0.1:443 and offers this ALPN protocol.
    pub fn connect(protocol: &str) -> Result<Self> {
        let mut child = programs::command("openssl")?
            .args(["s_client", "-quiet", "-connect", "127.0.0.1:443", "-alpn"])
            .arg(protocol)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .context("cannot start openssl s_client")?;
        let (Some(input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
            bail!("openssl s_client without pipes");
        };
        Ok(Self {
            child,
            input,
            output,
        })
    }
}

impl Read for Tls {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        self.output.read(buffer)
    }
}

impl Write for Tls {
    fn write(&mut self, buffer: &[u8]) -> std::io::Result<usize> {
        self.input.write(buffer)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.input.flush()
    }
}

impl Drop for Tls {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
