//! The vocabulary: one term for one thing, the field's own. [`WORDS`] is the list of what is not
//! said, with what is said instead; [`EXCEPTIONS`] is where such a word means something else.

use anyhow::{Context as _, Result};
use regex_lite::Regex;

use super::markdown::{self, Kind};
use super::rust::{self, Doc};
use super::{Finding, Text};

/// What is not said (a regular expression; `(?i)` is added, whole words are meant), and what is.
const WORDS: [(&str, &str); 29] = [
    (
        "told|tells",
        "reported, reports, is classified as, are distinguished",
    ),
    ("tell(ing)?( \\w+)? apart", "distinguish"),
    (
        "stands?|stood|standing",
        "attached, not attached (a hook); is there, exists",
    ),
    (
        "(stands?|stood|standing) aside",
        "deferred, attached on demand",
    ),
    ("leaves? at once", "returns early"),
    ("by fallback", "`attached`, `fallback` or `missing`"),
    ("LESSER", "fallback"),
    ("beside", "with, next to, compared with"),
    ("aside", "deferred, set apart"),
    ("giv(e|es|ing|en) away|gave away", "drops, releases"),
    ("lets? go|letting go", "releases, detaches"),
    ("(is|are|was|were) over", "has ended, is closed"),
    ("(come|comes|came) to (its|their) end", "closed, finished"),
    ("mend(s|ed|ing)?", "fix"),
    ("the same by the same", "consistently"),
    ("(own|other) ends?", "local address, remote address, peer"),
    ("under way", "in flight"),
    ("that can be had", "lower bound, nearest available"),
    ("(can|could) be had", "is available"),
    ("looks? again|each look|every look|a look", "polls, rescans"),
    ("whatever way", "regardless of how"),
    ("(run|runs|ran|running) short", "is near its limit"),
    ("how manieth", "ordinal, nth"),
    (
        "client (had|has) left",
        "client closed the connection (499)",
    ),
    ("sight", "visibility, not visible from this host"),
    (
        "is asked (of|for|by)|are asked (of|for)",
        "is queried, reads",
    ),
    ("stood in for", "represented by"),
    ("spoken of|speaks of|spoke of", "mentioned, reported"),
    (
        "has no more|have no more|does no more",
        "removed, ended, recovered",
    ),
];

/// The first words of a doc comment that are not said.
const FIRST: [(&str, &str); 2] = [
    ("Gives", "Returns"),
    ("Is it|Has it|Belongs it", "Whether …, Returns …"),
];

/// Where such a word is right: the regular expression matches the line, and covers the word.
struct Exception {
    /// The beginning of the paths that it holds for.
    place: &'static str,
    phrase: &'static str,
    /// Why it is right there.
    _why: &'static str,
}

const EXCEPTIONS: [Exception; 3] = [
    Exception {
        place: "",
        phrase: "over \\d|over (the|a|an) \\w+|over [A-Z`]|over all|over its|over their",
        _why: "more than, or by way of: not finished",
    },
    Exception {
        place: "",
        phrase: "stands? for|standing orders?",
        _why: "an abbreviation stands for something",
    },
    Exception {
        place: "",
        phrase: "on sight|line of sight",
        _why: "idioms of the language",
    },
];

struct Rule {
    word: Regex,
    instead: &'static str,
}

fn rules(list: &[(&str, &'static str)], around: impl Fn(&str) -> String) -> Result<Vec<Rule>> {
    let rules = list.iter().map(|(word, instead)| {
        Ok(Rule {
            word: Regex::new(&around(word)).with_context(|| format!("the word {word}"))?,
            instead,
        })
    });
    rules.collect()
}

/// What reads texts for words.
struct Reader {
    words: Vec<Rule>,
    first: Vec<Rule>,
    exceptions: Vec<(&'static str, Regex)>,
}

impl Reader {
    fn new() -> Result<Self> {
        let exceptions = EXCEPTIONS.iter().map(|exception| {
            let phrase = Regex::new(&format!("(?i){}", exception.phrase));
            Ok((exception.place, phrase.context(exception.phrase)?))
        });
        Ok(Self {
            words: rules(&WORDS, |word| match word {
                // An acronym of a hook's state, not the adjective.
                "LESSER" => format!("\\b(?:{word})\\b"),
                _ => format!("(?i)\\b(?:{word})\\b"),
            })?,
            first: rules(&FIRST, |word| format!("^(?:{word})\\b"))?,
            exceptions: exceptions.collect::<Result<_>>()?,
        })
    }

    /// What a text says that is not said.
    fn read(&self, file: &str, line: usize, text: &str, is_doc: bool) -> Vec<Finding> {
        let first = self.first.iter().filter(|_| is_doc);
        let rules = self.words.iter().chain(first);
        let found = rules.filter_map(|rule| {
            let word = rule.word.find_iter(text).find(|word| {
                !self.exceptions.iter().any(|(place, phrase)| {
                    file.starts_with(place)
                        && phrase
                            .find_iter(text)
                            .any(|right| right.start() < word.end() && word.start() < right.end())
                })
            })?;
            Some(Finding {
                file: file.to_owned(),
                line,
                what: format!("`{}`: say {}", word.as_str(), rule.instead),
            })
        });
        found.collect()
    }

    fn documents(&self, documents: &[Text]) -> Vec<Finding> {
        let mut found = Vec::new();
        for Text { file, text } in documents {
            for part in markdown::parts(text) {
                if let Kind::Prose(prose) = part.kind {
                    found.extend(self.read(file, part.line, &prose, false));
                }
            }
        }
        found
    }

    fn docs(&self, sources: &[Text]) -> Result<Vec<Finding>> {
        self.lines(sources, true, rust::docs)
    }

    fn strings(&self, sources: &[Text]) -> Result<Vec<Finding>> {
        self.lines(sources, false, rust::strings)
    }

    fn lines(
        &self,
        sources: &[Text],
        is_doc: bool,
        of: impl Fn(proc_macro2::TokenStream) -> Vec<Doc>,
    ) -> Result<Vec<Finding>> {
        let mut found = Vec::new();
        for Text { file, text } in sources {
            let tokens = rust::tokens(text).with_context(|| format!("reading {file}"))?;
            for Doc { line, text } in of(tokens) {
                found.extend(self.read(file, line, &text, is_doc));
            }
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::super::links::DOCUMENTS;
    use super::super::{assert_none, files};
    use super::*;

    /// Without what is compiled for tests alone, by the names that such files have.
    fn sources(places: &[&str]) -> Result<Vec<Text>> {
        let mut sources = files(places, "rs")?;
        sources.retain(|source| !source.file.contains("/tests/"));
        Ok(sources)
    }

    /// Documents that a command writes of what the program says.
    const WRITTEN: [&str; 2] = ["docs/causes.md", "docs/notes/kernels.md"];

    #[test]
    fn documents_use_the_vocabulary() -> Result<()> {
        let mut documents = files(&DOCUMENTS, "md")?;
        documents.retain(|document| !WRITTEN.contains(&&*document.file));
        assert_none(&Reader::new()?.documents(&documents));
        Ok(())
    }

    #[test]
    fn written_documents_use_the_vocabulary() -> Result<()> {
        assert_none(&Reader::new()?.documents(&files(&WRITTEN, "md")?));
        Ok(())
    }

    #[test]
    fn help_uses_the_vocabulary() -> Result<()> {
        let reader = Reader::new()?;
        let sources = sources(&["tracer/src/cli", "tracer/src/cli.rs"])?;
        assert_none(&[reader.docs(&sources)?, reader.strings(&sources)?].concat());
        Ok(())
    }

    #[test]
    fn verdicts_use_the_vocabulary() -> Result<()> {
        let sources = sources(&[
            "tracer/src/causes",
            "tracer/src/cause.rs",
            "tracer/src/verdict",
            "tracer/src/verdict.rs",
            "tracer/src/render",
        ])?;
        assert_none(&Reader::new()?.strings(&sources)?);
        Ok(())
    }

    #[test]
    fn doc_comments_of_tracer_use_the_vocabulary() -> Result<()> {
        assert_none(&Reader::new()?.docs(&files(&["tracer"], "rs")?)?);
        Ok(())
    }

    #[test]
    fn doc_comments_of_the_bpf_side_use_the_vocabulary() -> Result<()> {
        assert_none(&Reader::new()?.docs(&files(&["tracer-ebpf"], "rs")?)?);
        Ok(())
    }

    #[test]
    fn doc_comments_of_the_tests_use_the_vocabulary() -> Result<()> {
        assert_none(&Reader::new()?.docs(&files(&["tests"], "rs")?)?);
        Ok(())
    }

    #[test]
    fn doc_comments_of_the_tasks_use_the_vocabulary() -> Result<()> {
        let mut sources = files(&["xtask"], "rs")?;
        // The list itself.
        sources.retain(|source| source.file != "xtask/src/house/words.rs");
        assert_none(&Reader::new()?.docs(&sources)?);
        Ok(())
    }

    fn said(text: &str, is_doc: bool) -> Result<Vec<String>> {
        let found = Reader::new()?.read("a.md", 1, text, is_doc).into_iter();
        Ok(found.map(|finding| finding.what).collect())
    }

    #[test]
    fn each_word_is_found_in_its_sentence() -> Result<()> {
        for text in [
            "It is told as such.",
            "The hook does not stand.",
            "figures beside the targets",
            "Giving away what is not needed",
            "The session is over.",
            "how manieth request",
            "why it did so is out of sight",
        ] {
            assert!(!said(text, false)?.is_empty(), "{text}");
        }
        assert!(!said("Gives the path.", true)?.is_empty());
        Ok(())
    }

    #[test]
    fn a_word_in_another_sense_passes_and_no_more_of_its_line() -> Result<()> {
        for text in [
            "BPF stands for a filter",
            "a latency is over 5 ms",
            "insight",
            "understanding",
        ] {
            assert_eq!(said(text, true)?, [""; 0], "{text}");
        }
        assert_eq!(said("it stands for one that stood", false)?.len(), 1);
        Ok(())
    }

    #[test]
    fn prose_is_read_and_code_is_not() -> Result<()> {
        let document = Text {
            file: "a.md".to_owned(),
            text: "# One\n\n`told`, **beside**\n\n```\nstood\n```\n".to_owned(),
        };
        let found = Reader::new()?.documents(&[document]);
        let lines: Vec<usize> = found.iter().map(|finding| finding.line).collect();
        assert_eq!(lines, [3]);
        Ok(())
    }
}
