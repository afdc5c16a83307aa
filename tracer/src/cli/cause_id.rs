//! A cause's id as an argument: unknown ones suggest the nearest, shells complete them.

use clap::{
    Arg, Command,
    builder::{PossibleValue, TypedValueParser},
};

use crate::causes::catalogue;

/// Reads the id of a cause.
#[derive(Debug, Clone, Copy)]
pub(super) enum CauseId {
    /// Nothing else.
    Alone,
    /// Or a line of a log: an id has no blank.
    OrLine,
}

impl TypedValueParser for CauseId {
    type Value = String;

    fn parse_ref(
        &self,
        command: &Command,
        arg: Option<&Arg>,
        value: &std::ffi::OsStr,
    ) -> Result<String, clap::Error> {
        let is_line = |c: char| c.is_whitespace();
        if matches!(self, Self::OrLine)
            && let value = value.to_string_lossy()
            && value.contains(is_line)
        {
            return Ok(value.into_owned());
        }
        TypedValueParser::parse_ref(&known, command, arg, value)
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        let causes = catalogue::all().iter();
        Some(Box::new(
            causes.map(|cause| PossibleValue::new(cause.id).help(cause.title)),
        ))
    }
}

fn known(id: &str) -> Result<String, String> {
    match catalogue::find(id) {
        Some(cause) => Ok(cause.id.to_owned()),
        None => Err(unknown(id)),
    }
}

/// Says which ids are near.
fn unknown(id: &str) -> String {
    let wanted = id.to_lowercase();
    let mut near: Vec<(usize, &str)> = catalogue::all()
        .iter()
        .filter(|cause| is_near(cause.id, &wanted))
        .map(|cause| (distance(cause.id, &wanted), cause.id))
        .collect();
    // Those that are equally near stay in the catalogue's order.
    near.sort_by_key(|(distance, _)| *distance);
    let near: Vec<&str> = near.into_iter().map(|(_, id)| id).take(4).collect();
    if near.is_empty() {
        "no such cause; `tracer causes` lists all".to_owned()
    } else {
        format!("no such cause; did you mean {}?", near.join(", "))
    }
}

/// A part in common, or few letters to change.
fn is_near(known: &str, wanted: &str) -> bool {
    let words = |id: &str| {
        id.split(['-', '_', ' '])
            .filter(|word| word.len() > 3)
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    let shared = words(wanted)
        .iter()
        .any(|word| known.contains(word.as_str()));
    shared || distance(known, wanted) <= 3
}

/// Levenshtein's distance, of what is typed: capped, as no id is long.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().take(64).collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let substituted = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mistyped_id_suggests_the_nearest() {
        assert_eq!(known("no-listener").as_deref(), Ok("no-listener"));
        assert_eq!(
            unknown("no-listner"),
            "no such cause; did you mean no-listener?"
        );
        assert_eq!(
            unknown("firewall"),
            "no such cause; did you mean firewall-drop, firewall-reject?"
        );
        assert_eq!(unknown("zzz"), "no such cause; `tracer causes` lists all");
    }

    #[test]
    fn shells_complete_every_id() {
        let values = CauseId::Alone.possible_values().expect("a fixed list");
        assert_eq!(values.count(), catalogue::all().len());
    }
}
