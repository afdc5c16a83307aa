//! A self-signed certificate for `shop.test`, made by openssl.

use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::folder::Folder;
use crate::programs;

/// A key and its certificate; they go away with their value.
#[derive(Debug)]
pub struct Certificate {
    folder: Folder,
}

impl Certificate {
    /// Makes one for `name`.
    pub fn new(name: &str) -> Result<Self> {
        let certificate = Self {
            folder: Folder::new()?,
        };
        let config = certificate.folder.join("openssl.cnf");
        std::fs::write(&config, "[req]\ndistinguished_name=name\n[name]\n")?;
        programs::output(
            programs::command("openssl")?
                .args("req -x509 -nodes -days 2 -newkey rsa:2048".split(' '))
                .arg("-subj")
                .arg(format!("/CN={name}"))
                .arg("-config")
                .arg(config)
                .arg("-keyout")
                .arg(certificate.key())
                .arg("-out")
                .arg(certificate.file()),
        )?;
        Ok(certificate)
    }

    /// The key's file.
    pub fn key(&self) -> PathBuf {
        self.folder.join("key.pem")
    }

    /// The certificate's file.
    pub fn file(&self) -> PathBuf {
        self.folder.join("certificate.pem")
    }

    /// A server's directives: HTTP/2 on 81, TLS and HTTP/2 on 443.
    pub fn fronts(&self) -> String {
        let show = |path: &Path| path.display().to_string();
        format!(
            "listen 127.0.0.1:81 http2; listen 127.0.0.1:443 ssl http2;\n\
             ssl_certificate {}; ssl_certificate_key {};\n",
            show(&self.file()),
            show(&self.key())
        )
    }
}
