//! nginx's configuration, as its files say it: read as nginx reads them (src/core/ngx_conf_file.c),
//! in order, with what they include. nginx itself is never run.
//!
//! [`reader`] finds the files, [`lexer`] cuts them into words, and [`answers`] reads them line by
//! line. [`tree`] holds all directives with their blocks; [`model`] finds in it what nginx connects
//! to, [`variables`] the values of variables as far as they are static.

mod address;
mod answers;
mod lexer;
mod lua;
mod model;
mod reader;
mod tree;
mod values;
mod variables;

#[cfg(test)]
pub(super) use self::reader::TICKS;
pub(super) use self::reader::{Line, PATIENCE, Reader, ask};
pub(crate) use self::{
    address::{Host, Target},
    answers::{block, returns},
    model::{Pass, Protocol, Scope, Server, Upstream, passes, upstreams, walk},
    tree::{At, Directive, Tree},
    values::{milliseconds, number},
};

/// For the fuzz targets: reads a configuration file, whatever it is.
pub fn read_configuration(text: &[u8]) {
    let _ = lexer::directives(text, |words, end, _| {
        let length: usize = words.iter().map(|word| word.len()).sum();
        assert!(
            length <= text.len() && (!words.is_empty() || end == b'}'),
            "more than there was"
        );
        Some(())
    });
    let tree = Tree::of_text(&String::from_utf8_lossy(text));
    let upstreams = upstreams(&tree);
    for pass in passes(&tree) {
        let values = pass.values();
        assert!(values.texts.len() <= variables::MOST, "bounded");
        for value in &values.texts {
            let target = Target::parse(pass.protocol, value);
            let _ = target.map(|target| upstreams.iter().any(|one| one.is(&pass, &target)));
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::read_configuration;

    proptest! {
        /// Whatever nginx's words are put together to.
        #[test]
        fn any_words_are_read(words in prop::collection::vec(prop::sample::select(&[
            "http", "stream", "server", "location /", "upstream a", "{", "{", "}", ";", ";", "\n",
            " ", "\"", "'", "\\", "#", "$a", "${", "set $a", "set $b $a$a", "map $a $b",
            "default", "proxy_pass http://", "proxy_pass $b", "a", "127.0.0.1:80", "[::1]",
            "unix:/a", ":", "include x", "access_by_lua_block", "--", "[[", "]]", "resolver",
        ][..]), 0..200)) {
            read_configuration(words.concat().as_bytes());
            read_configuration(words.join(" ").as_bytes());
        }
    }
}
