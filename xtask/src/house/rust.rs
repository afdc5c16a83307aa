//! What Rust sources say, read by the compiler's own lexer: paths and doc comments, not strings.

use anyhow::{Result, anyhow};
use proc_macro2::{Delimiter, Group, Spacing, TokenStream, TokenTree};

/// A file's tokens.
pub(super) fn tokens(text: &str) -> Result<TokenStream> {
    text.parse().map_err(|error| anyhow!("{error}"))
}

/// A path as written (`use` groups spelt out), without what is compiled for tests alone.
#[derive(Debug, PartialEq)]
pub(super) struct Written {
    pub(super) line: usize,
    pub(super) path: Vec<String>,
    /// The inline modules that it is written in.
    pub(super) within: Vec<String>,
}

/// The paths of a file.
pub(super) fn paths(tokens: TokenStream) -> Vec<Written> {
    let mut found = Vec::new();
    walk(tokens, &[], &mut found);
    found
}

fn walk(tokens: TokenStream, within: &[String], found: &mut Vec<Written>) {
    let tokens: Vec<TokenTree> = tokens.into_iter().collect();
    let mut at = 0;
    while at < tokens.len() {
        if is_test_attribute(&tokens[at..]) {
            at = after_item(&tokens, at + 2);
            continue;
        }
        match &tokens[at] {
            TokenTree::Ident(word) if *word == "mod" => {
                if let [_, TokenTree::Ident(name), TokenTree::Group(body), ..] = &tokens[at..] {
                    let within = [within, &[name.to_string()]].concat();
                    walk(body.stream(), &within, found);
                    at += 3;
                    continue;
                }
            }
            TokenTree::Ident(word) if *word == "use" => {
                let end = at + position(&tokens[at..], ';').unwrap_or(tokens.len() - at);
                tree(&tokens[at + 1..end], &[], within, found);
                at = end;
                continue;
            }
            TokenTree::Ident(_) if is_separator(&tokens[at + 1..]) => {
                let mut path = Vec::new();
                let line = line(&tokens[at]);
                while let Some(TokenTree::Ident(word)) = tokens.get(at) {
                    path.push(word.to_string());
                    at += 1;
                    if !is_separator(&tokens[at..]) {
                        break;
                    }
                    at += 2;
                }
                found.push(Written {
                    line,
                    path,
                    within: within.to_vec(),
                });
                continue;
            }
            TokenTree::Group(group) => walk(group.stream(), within, found),
            _ => {}
        }
        at += 1;
    }
}

/// Spells out the tree of a `use`.
fn tree(tokens: &[TokenTree], before: &[String], within: &[String], found: &mut Vec<Written>) {
    let comma =
        |token: &TokenTree| matches!(token, TokenTree::Punct(mark) if mark.as_char() == ',');
    for branch in tokens.split(comma) {
        let mut path = before.to_vec();
        let mut rest = branch;
        loop {
            match rest {
                [TokenTree::Ident(word), ..] => {
                    path.push(word.to_string());
                    rest = &rest[1..];
                }
                [TokenTree::Group(group), ..] => {
                    let tokens: Vec<TokenTree> = group.stream().into_iter().collect();
                    tree(&tokens, &path, within, found);
                    break;
                }
                _ => {}
            }
            // `as name` and `*` end a branch as the end itself does.
            if !is_separator(rest) {
                if let Some(first) = branch.first() {
                    found.push(Written {
                        line: line(first),
                        path,
                        within: within.to_vec(),
                    });
                }
                break;
            }
            rest = &rest[2..];
        }
    }
}

/// The modules that are compiled for tests alone: `#[cfg(test)] mod name;`.
pub(super) fn test_modules(tokens: TokenStream) -> Vec<String> {
    let tokens: Vec<TokenTree> = tokens.into_iter().collect();
    let mut found = Vec::new();
    for at in 0..tokens.len() {
        if is_test_attribute(&tokens[at..]) {
            let item = &tokens[at + 2..after_item(&tokens, at + 2)];
            if let [
                TokenTree::Ident(word),
                TokenTree::Ident(name),
                TokenTree::Punct(_),
            ] = item
                && *word == "mod"
            {
                found.push(name.to_string());
            }
        }
    }
    found
}

/// A line of a doc comment.
#[derive(Debug, PartialEq)]
pub(super) struct Doc {
    pub(super) line: usize,
    pub(super) text: String,
}

/// The doc comments of a file, line by line.
pub(super) fn docs(tokens: TokenStream) -> Vec<Doc> {
    let mut found = Vec::new();
    let tokens: Vec<TokenTree> = tokens.into_iter().collect();
    for token in &tokens {
        let TokenTree::Group(group) = token else {
            continue;
        };
        let inner: Vec<TokenTree> = group.stream().into_iter().collect();
        match &inner[..] {
            [
                TokenTree::Ident(word),
                TokenTree::Punct(_),
                TokenTree::Literal(text),
            ] if group.delimiter() == Delimiter::Bracket && *word == "doc" => {
                let text = text.to_string();
                for (offset, text) in text.lines().enumerate() {
                    found.push(Doc {
                        line: group.span_open().start().line + offset,
                        text: text.trim_matches('"').trim().to_owned(),
                    });
                }
            }
            _ => found.extend(docs(group.stream())),
        }
    }
    found
}

/// A string of the code.
pub(super) fn strings(tokens: TokenStream) -> Vec<Doc> {
    let mut found = Vec::new();
    let tokens: Vec<TokenTree> = tokens.into_iter().collect();
    let mut at = 0;
    while at < tokens.len() {
        if is_test_attribute(&tokens[at..]) {
            at = after_item(&tokens, at + 2);
            continue;
        }
        match &tokens[at] {
            TokenTree::Group(group) if !is_doc(group) => found.extend(strings(group.stream())),
            TokenTree::Literal(text) => {
                let said = text.to_string();
                if said.contains('"') {
                    let first = line(&tokens[at]);
                    found.extend(said.lines().enumerate().map(|(offset, text)| Doc {
                        line: first + offset,
                        text: text.to_owned(),
                    }));
                }
            }
            _ => {}
        }
        at += 1;
    }
    found
}

fn is_doc(group: &Group) -> bool {
    let first = group.stream().into_iter().next();
    matches!(first, Some(TokenTree::Ident(word)) if word == "doc")
}

/// `#[cfg(test)]`.
fn is_test_attribute(tokens: &[TokenTree]) -> bool {
    matches!(
        tokens,
        [TokenTree::Punct(mark), TokenTree::Group(group), ..]
            if mark.as_char() == '#' && group.stream().to_string().replace(' ', "") == "cfg(test)"
    )
}

/// Where the item that begins here has ended: after its `;` or its body.
fn after_item(tokens: &[TokenTree], from: usize) -> usize {
    let is_end = |token: &TokenTree| match token {
        TokenTree::Punct(mark) => mark.as_char() == ';',
        TokenTree::Group(group) => group.delimiter() == Delimiter::Brace,
        _ => false,
    };
    let found = tokens.iter().skip(from).position(is_end);
    found.map_or(tokens.len(), |offset| from + offset + 1)
}

fn position(tokens: &[TokenTree], mark: char) -> Option<usize> {
    tokens
        .iter()
        .position(|token| matches!(token, TokenTree::Punct(own) if own.as_char() == mark))
}

/// `::`.
fn is_separator(tokens: &[TokenTree]) -> bool {
    matches!(
        tokens,
        [TokenTree::Punct(one), TokenTree::Punct(other), ..]
            if one.as_char() == ':' && one.spacing() == Spacing::Joint && other.as_char() == ':'
    )
}

fn line(token: &TokenTree) -> usize {
    token.span().start().line
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(text: &str) -> Result<Vec<(usize, String)>> {
        let found = paths(tokens(text)?);
        let found = found.into_iter();
        Ok(found.map(|one| (one.line, one.path.join("::"))).collect())
    }

    #[test]
    fn a_use_is_spelt_out() -> Result<()> {
        let text =
            "use crate::{\n    event::{Event, Time as When},\n    probe,\n};\nuse std::io::*;";
        let expected = [
            (2, "crate::event::Event"),
            (2, "crate::event::Time"),
            (3, "crate::probe"),
            (5, "std::io"),
        ]
        .map(|(line, path)| (line, path.to_owned()));
        assert_eq!(written(text)?, expected);
        Ok(())
    }

    #[test]
    fn paths_in_code_and_macros_are_found_and_none_in_strings_comments_or_tests() -> Result<()> {
        let text = r#"
            // crate::comment::One
            fn one(at: crate::event::Time) -> bool {
                matches!(at, crate::probe::Some { .. }) && "crate::text::Two".is_empty()
            }
            #[cfg(test)]
            mod tests { use crate::cli::Three; }
        "#;
        let expected = [(3, "crate::event::Time"), (4, "crate::probe::Some")]
            .map(|(line, path)| (line, path.to_owned()));
        assert_eq!(written(text)?, expected);
        Ok(())
    }

    #[test]
    fn what_is_compiled_for_tests_alone_is_known() -> Result<()> {
        let text = "#[cfg(test)]\nmod tests;\nmod other;\n#[cfg(test)]\nfn one() {}";
        assert_eq!(test_modules(tokens(text)?), ["tests"]);
        Ok(())
    }

    #[test]
    fn docs_and_strings_have_their_lines() -> Result<()> {
        let text = "//! Of all.\n\nmod a {\n    /// Of one.\n    fn one() { two(\"three\") }\n}";
        let doc = |line, text: &str| Doc {
            line,
            text: text.to_owned(),
        };
        assert_eq!(docs(tokens(text)?), [doc(1, "Of all."), doc(4, "Of one.")]);
        assert_eq!(strings(tokens(text)?), [doc(5, "\"three\"")]);
        Ok(())
    }
}
