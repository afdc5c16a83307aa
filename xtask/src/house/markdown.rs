//! Documents, read as CommonMark with GitHub's tables: prose, code, links, headings.

use pulldown_cmark::{CodeBlockKind, Event, Options, Parser, Tag, TagEnd};

/// A part of a document, with the line that it begins on.
#[derive(Debug, PartialEq)]
pub(super) struct Part {
    pub(super) line: usize,
    pub(super) kind: Kind,
}

#[derive(Debug, PartialEq)]
pub(super) enum Kind {
    /// A run of prose, also of headings, tables and links.
    Prose(String),
    /// A line of a fence, with the fence's info string.
    Code { info: String, text: String },
    /// Code within prose.
    Inline(String),
    /// Where a link or an image leads.
    Link(String),
    /// The anchor that a heading makes.
    Anchor(String),
}

pub(super) fn parts(text: &str) -> Vec<Part> {
    let mut found = Vec::new();
    let mut fence: Option<String> = None;
    let mut heading: Option<String> = None;
    let mut line = Lines::of(text);
    for (event, range) in Parser::new_ext(text, Options::ENABLE_TABLES).into_offset_iter() {
        let line = line.at(range.start);
        let mut say = |line, kind| found.push(Part { line, kind });
        match event {
            Event::Start(Tag::CodeBlock(kind)) => {
                fence = Some(match kind {
                    CodeBlockKind::Fenced(info) => info.to_string(),
                    CodeBlockKind::Indented => String::new(),
                });
            }
            Event::End(TagEnd::CodeBlock) => fence = None,
            Event::Start(Tag::Heading { .. }) => heading = Some(String::new()),
            Event::End(TagEnd::Heading(_)) => {
                say(
                    line,
                    Kind::Anchor(anchor(&heading.take().unwrap_or_default())),
                );
            }
            Event::Start(Tag::Link { dest_url, .. } | Tag::Image { dest_url, .. }) => {
                say(line, Kind::Link(dest_url.to_string()));
            }
            Event::Text(text) => match &fence {
                Some(info) => {
                    for (text, offset) in text.lines().zip(0..) {
                        let (info, text) = (info.clone(), text.to_owned());
                        say(line + offset, Kind::Code { info, text });
                    }
                }
                None => {
                    heading.iter_mut().for_each(|heading| *heading += &text);
                    say(line, Kind::Prose(text.to_string()));
                }
            },
            Event::Code(text) => {
                heading.iter_mut().for_each(|heading| *heading += &text);
                say(line, Kind::Inline(text.to_string()));
            }
            _ => {}
        }
    }
    found
}

/// A heading's anchor, as GitHub makes it.
fn anchor(heading: &str) -> String {
    let kept = heading.to_lowercase();
    let kept = kept.chars().filter_map(|one| match one {
        ' ' => Some('-'),
        '-' | '_' => Some(one),
        _ => one.is_alphanumeric().then_some(one),
    });
    kept.collect()
}

/// Lines of offsets that mostly grow.
struct Lines<'a> {
    text: &'a str,
    offset: usize,
    line: usize,
}

impl<'a> Lines<'a> {
    fn of(text: &'a str) -> Self {
        Self {
            text,
            offset: 0,
            line: 1,
        }
    }

    fn at(&mut self, offset: usize) -> usize {
        if offset < self.offset {
            *self = Self::of(self.text);
        }
        self.line += self.text[self.offset..offset].matches('\n').count();
        self.offset = offset;
        self.line
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_has_its_parts_with_their_lines() {
        let text = "# The `one` & other\n\nSee [it](a.md#b).\n\n```sh\nls\ncd\n```\n\n|a|b|\n|-|-|\n|c|`d`|\n";
        let code = |text: &str| Kind::Code {
            info: "sh".to_owned(),
            text: text.to_owned(),
        };
        let expected = [
            (1, Kind::Anchor("the-one--other".to_owned())),
            (3, Kind::Link("a.md#b".to_owned())),
            (6, code("ls")),
            (7, code("cd")),
        ];
        let found = parts(text).into_iter();
        let found: Vec<_> = found
            .filter(|part| !matches!(part.kind, Kind::Prose(_) | Kind::Inline(_)))
            .map(|part| (part.line, part.kind))
            .collect();
        assert_eq!(found, expected);
        let mut words = parts(text).into_iter().filter_map(|part| match part.kind {
            Kind::Prose(text) => Some((part.line, text)),
            _ => None,
        });
        let last = words.next_back();
        assert_eq!(last, Some((12, "c".to_owned())));
    }
}
