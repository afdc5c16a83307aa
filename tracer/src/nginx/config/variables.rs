//! The values that a text with variables may have, as far as the configuration fixes them: by `set`
//! in the same server, `map`, `geo` and `split_clients`. Scripts may set any variable: where one is
//! at work, nothing is complete.

use super::{
    model::Scope,
    tree::{Directive, Tree},
};

/// Values of a text.
pub(super) const MOST: usize = 64;
/// Variables in the values of variables.
const DEPTH: usize = 4;

/// What a text may be.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Values {
    pub(crate) texts: Vec<String>,
    /// It can be nothing else.
    pub(crate) complete: bool,
}

/// The values of a text in a scope.
pub(super) fn expand(text: &str, scope: &Scope<'_>, tree: &Tree) -> Values {
    expanded(text, scope, tree, 0)
}

fn expanded(text: &str, scope: &Scope<'_>, tree: &Tree, depth: usize) -> Values {
    let Some((before, name, after)) = split(text) else {
        return Values {
            texts: vec![text.to_owned()],
            complete: true,
        };
    };
    if depth >= DEPTH {
        return Values::default();
    }
    let mut values = value(name, scope, tree, depth);
    let rest = expanded(after, scope, tree, depth + 1);
    values.complete &= rest.complete;
    let mut texts = Vec::new();
    for value in &values.texts {
        for rest in &rest.texts {
            if texts.len() < MOST {
                texts.push(format!("{before}{value}{rest}"));
            } else {
                values.complete = false;
            }
        }
    }
    Values { texts, ..values }
}

/// What is before the first variable, its name, and what is after it.
pub(crate) fn split(text: &str) -> Option<(&str, &str, &str)> {
    let mut from = 0;
    loop {
        let at = from + text.get(from..)?.find('$')?;
        let rest = &text[at + 1..];
        if let Some(braced) = rest.strip_prefix('{') {
            let (name, after) = braced.split_once('}')?;
            return Some((&text[..at], name, after));
        }
        let is_name = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
        let length = rest.bytes().take_while(is_name).count();
        if length > 0 {
            return Some((&text[..at], &rest[..length], &rest[length..]));
        }
        from = at + 1;
    }
}

fn value(name: &str, scope: &Scope<'_>, tree: &Tree, depth: usize) -> Values {
    let dollar = format!("${name}");
    let looks = || -> usize {
        let around = scope.blocks().flat_map(Directive::inside);
        let within = |one: &Directive| match one.name() {
            "if" => one.inside().len(),
            _ => 0,
        };
        around.map(|one| 1 + within(one)).sum()
    };
    // Each value may be made of another variable, with as many.
    if !tree.affords(0) || !tree.affords(looks()) {
        return Values::default();
    }
    // What sets it otherwise decides later.
    let is_other = |one: &Directive| one.name() != "set" && one.name().contains("set");
    let mut around = scope.blocks().flat_map(Directive::inside);
    if around.any(|one| is_other(one) && one.value() == dollar) {
        return Values::default();
    }
    if let Some(values) = set(&dollar, scope, tree, depth) {
        return values;
    }
    let http = tree.directives.iter().filter(|one| {
        let outer = if scope.is_stream() { "stream" } else { "http" };
        one.name() == outer
    });
    let mut maps = http.flat_map(Directive::inside).filter(|one| {
        matches!(one.name(), "map" | "geo" | "split_clients") && one.words.last() == Some(&dollar)
    });
    match maps.next() {
        Some(map) => of_map(map, scope, tree, depth),
        None => Values::default(),
    }
}

/// By `set`: the innermost block around that has one, with what `if` may put in its place.
fn set(dollar: &str, scope: &Scope<'_>, tree: &Tree, depth: usize) -> Option<Values> {
    let is_it = |one: &&Directive| one.name() == "set" && one.value() == dollar;
    for block in scope.blocks() {
        let directives = block.inside();
        let direct = directives.iter().filter(is_it);
        let conditional = directives.iter().filter(|one| one.name() == "if");
        let conditional = conditional.flat_map(Directive::inside).filter(is_it);
        let mut found = Values {
            texts: Vec::new(),
            complete: !scope.is_scripted(),
        };
        let mut has_direct = false;
        for (is_direct, one) in direct
            .map(|one| (true, one))
            .chain(conditional.map(|one| (false, one)))
        {
            has_direct |= is_direct;
            let text = one.words.get(2).map_or("", String::as_str);
            // A variable may be made of itself.
            let again = text.contains(dollar);
            let values = match again {
                true => Values::default(),
                false => expanded(text, scope, tree, depth + 1),
            };
            found.complete &= values.complete;
            found.texts.extend(values.texts);
            if found.texts.len() > MOST {
                found.texts.truncate(MOST);
                found.complete = false;
            }
        }
        if has_direct {
            return Some(found);
        }
        if !found.texts.is_empty() {
            found.complete = false;
            return Some(found);
        }
    }
    None
}

fn of_map(map: &Directive, scope: &Scope<'_>, tree: &Tree, depth: usize) -> Values {
    let mut values = Values {
        texts: Vec::new(),
        complete: false,
    };
    let mut all = true;
    for entry in map.inside() {
        let (key, value) = match (&entry.words[..], map.name()) {
            ([key, value], _) => (key.as_str(), value.as_str()),
            _ => continue,
        };
        if matches!(key, "include" | "ranges" | "delete" | "proxy") {
            continue;
        }
        // All requests are shared out, or some have no other value.
        values.complete |= key == "default" || key == "*";
        let found = expanded(value, scope, tree, depth + 1);
        all &= found.complete;
        values.texts.extend(found.texts);
        if values.texts.len() > MOST {
            values.texts.truncate(MOST);
            all = false;
        }
    }
    values.complete &= all;
    values
}

#[cfg(test)]
mod tests {
    use super::super::model::passes;
    use super::*;

    fn of(text: &str) -> (Vec<String>, bool) {
        let tree = Tree::of_text(text);
        let passes = passes(&tree);
        assert_eq!(passes.len(), 1);
        let values = passes[0].values();
        (values.texts, values.complete)
    }

    #[test]
    fn what_is_set_in_the_server_is_known() {
        let text = "http { server { set $a one; location / { set $b $a.test:80; proxy_pass http://$b; } } }";
        assert_eq!(of(text), (vec!["http://one.test:80".to_owned()], true));
        let text = "http { server { set $a one; if ($x) { set $a two; } location / { proxy_pass http://${a}$request_uri; } } }";
        let (texts, complete) = of(text);
        assert_eq!(
            (texts, complete),
            (vec!["http://one".to_owned(), "http://two".to_owned()], true)
        );
    }

    #[test]
    fn what_a_map_may_give_is_known() {
        let text = "http { map $host $pool { default blue; ~^g green; include more; }
                    server { location / { proxy_pass http://$pool; } } }";
        assert_eq!(
            of(text),
            (
                vec!["http://blue".to_owned(), "http://green".to_owned()],
                true
            )
        );
        let text = "stream { map $ssl_preread_server_name $to { a 10.0.0.1:1; } server { proxy_pass $to; } }";
        assert_eq!(of(text), (vec!["10.0.0.1:1".to_owned()], false));
    }

    #[test]
    fn what_comes_with_the_request_or_a_script_is_not() {
        assert_eq!(
            of("http { server { location / { proxy_pass http://$host; } } }"),
            (vec![], false)
        );
        let text = "http { server { set $a b; location / { access_by_lua_block { } proxy_pass http://$a; } } }";
        assert_eq!(of(text), (vec!["http://b".to_owned()], false));
        let text = "http { server { set $a b; location / { auth_request_set $a $upstream_http_x; proxy_pass http://$a; } } }";
        assert_eq!(of(text), (vec![], false));
        let text = "http { server { location / { proxy_pass http://a$uri_suffix; } } }";
        assert_eq!(of(text), (vec![], false));
        let text = "http { server { set $a $a; location / { proxy_pass http://$a; } } }";
        assert_eq!(of(text), (vec![], false));
    }
}
