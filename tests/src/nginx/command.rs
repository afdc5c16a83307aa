//! nginx's configuration as a file, and the command that starts it.

use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use anyhow::Result;

use super::{Config, Form};
use crate::folder::Folder;
use crate::netns::Netns;
use crate::programs;

/// Has `outer`, which becomes `inner`, find the libraries of `inner`.
pub(super) fn libraries(inner: &Command, outer: &mut Command) {
    let path = inner
        .get_envs()
        .find(|(name, _)| *name == "LD_LIBRARY_PATH");
    if let Some((name, Some(path))) = path {
        outer.env(name, path);
    }
}

/// Writes the configuration and gives the command that starts it.
pub(super) fn arranged(netns: &Netns, folder: &Folder, config: &Config) -> Result<Command> {
    let at = folder.path().display();
    let Config {
        workers,
        main,
        events,
        http,
        server,
        error_log,
        tree,
        program,
        form,
        single,
        owner,
    } = config;
    let error_log = error_log
        .clone()
        .unwrap_or_else(|| format!("{at}/error.log error"));
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|kind| format!("{kind}_temp_path {at}/{kind};\n"))
        .concat();
    let mut form_words = match form {
        // Both are given on the command line.
        Form::Unit => "",
        Form::Daemon => "daemon on;",
        Form::Foreground | Form::Boxed => "daemon off;",
    }
    .to_owned();
    if *single {
        form_words.push_str(" master_process off;");
    }
    if owner.is_none() {
        form_words.push_str(" user nobody nogroup;");
    }
    // A binary that takes over by USR2 gets no other environment.
    let text = format!(
        "{form_words} worker_processes {workers}; pid {at}/nginx.pid;\n\
         env LD_LIBRARY_PATH; error_log {error_log};\n{main}\n\
         events {{ {events} }}\n\
         http {{\n{temporary}access_log off;\n{http}\n\
         server {{\nlisten 127.0.0.1:80; listen [::1]:80;\n\
         location = /ready {{ return 200 ok; }}\n{server}\n}}\n}}\n"
    );
    let file = folder.join("nginx.conf");
    std::fs::write(&file, text)?;
    let inner = match (tree, program) {
        (Some(tree), _) => programs::rooted(tree, "/usr/sbin/nginx")?,
        (None, Some(program)) => {
            let mut command = Command::new(program);
            libraries(&programs::command("nginx")?, &mut command);
            command
        }
        (None, None) => programs::command("nginx")?,
    };
    let mut command = match form {
        Form::Boxed => {
            let mut command = programs::command("unshare")?;
            command
                .args(["--fork", "--kill-child", "--pid"])
                .arg(inner.get_program())
                .args(inner.get_args());
            libraries(&inner, &mut command);
            command
        }
        _ => inner,
    };
    netns.place(&mut command);
    if let Some(owner) = *owner {
        std::os::unix::fs::chown(folder.path(), Some(owner), Some(owner))?;
        // Any user may have the port in this namespace.
        netns.sysctl("ipv4/ip_unprivileged_port_start", "0")?;
        // After the namespace was entered, which is root's to do.
        // SAFETY: between fork and exec only system calls on plain integers are made.
        unsafe {
            command.pre_exec(move || {
                let is_done = libc::setgroups(0, std::ptr::null()) == 0
                    && libc::setgid(owner) == 0
                    && libc::setuid(owner) == 0;
                if is_done {
                    Ok(())
                } else {
                    Err(std::io::Error::last_os_error())
                }
            });
        }
    }
    command
        .arg("-p")
        .arg(folder.path())
        .arg("-c")
        .arg(file)
        .stdin(Stdio::null());
    Ok(command)
}
