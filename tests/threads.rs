// SPDX-License-Identifier: MIT OR Apache-2.0
//! The table of docs/threads.md says of each function what the header says.

// A test says what went wrong by panicking, in its helpers too.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// The words of `Threads:`, and what they mean on an OWNER, a SHARED and a BACKGROUND ring.
const THREADS: [(&str, [&str; 3]); 6] = [
    ("any", ["any", "any", "any"]),
    ("any and signal handlers", ["any", "any", "any"]),
    ("driver", ["owner, binds", "one at a time", "none"]),
    ("driver or waiter", ["owner, binds", "any", "any"]),
    ("owner", ["owner, any before", "any", "any"]),
    ("callback", ["the callback's", "the callback's", "the callback's"]),
];

/// The words of `Blocks:`.
const BLOCKS: [&str; 5] = [
    "never",
    "may enter the kernel",
    "until min, the timeout, a wake or a signal",
    "until done, the timeout or a signal",
    "until done or the timeout",
];

#[test]
fn the_labels_are_words_of_the_house_and_at_most_a_clause() {
    let faults = header().into_iter().flat_map(|(name, labels)| {
        let known = [THREADS.iter().any(|row| row.0 == word(&labels.threads)), BLOCKS.contains(&word(&labels.blocks))];
        let said = [labels.threads, labels.blocks];
        let bad = (0..2).filter(move |at| !known[*at] || said[*at].matches(';').count() > 1);
        bad.map(move |at| format!("{name}: {} is no label", ["Threads:", "Blocks:"][at])).collect::<Vec<_>>()
    });
    none(faults);
}

#[test]
fn the_table_has_each_function_and_says_what_the_header_says() {
    let (mut table, header) = (table(), header());
    assert!(header.len() > 60, "the functions were not found");
    let mut faults = Vec::new();
    for (name, labels) in header {
        let wanted = labels.row(&name);
        match table.remove(&name) {
            None => faults.push(format!("is missing:\n{wanted} - |")),
            Some(row) if !row.starts_with(&wanted) => faults.push(format!("says\n{row}\nand not\n{wanted}")),
            Some(row) if row[wanted.len()..].trim_matches(['|', ' ']).is_empty() => {
                faults.push(format!("{name}: what does it coalesce?"));
            }
            Some(_) => {}
        }
    }
    faults.extend(table.into_keys().map(|name| format!("{name} is not in the header")));
    none(faults.into_iter());
}

struct Labels {
    threads: String,
    blocks: String,
}

impl Labels {
    /// The table's row, but for its last cell.
    fn row(&self, name: &str) -> String {
        let modes = THREADS.iter().find(|row| row.0 == word(&self.threads)).map_or(["?"; 3], |row| row.1);
        format!("| `{name}` | {} | {} | {} |", self.threads, modes.join(" | "), self.blocks)
    }
}

/// What stands before the clause.
fn word(label: &str) -> &str {
    label.split(';').next().unwrap_or(label)
}

/// The functions of the header, and the labels of their comments.
fn header() -> BTreeMap<String, Labels> {
    let text = read("include/paluring.h");
    let comments = text.split("/**").skip(1).filter_map(|part| part.split_once("*/"));
    comments.filter_map(|(comment, code)| Some((function(code)?, labels(comment)?))).collect()
}

/// The name that a declaration gives to a function; no type, no constant.
fn function(code: &str) -> Option<String> {
    let code = code.trim_start();
    let head = code.split_once('(')?.0;
    let name = head.rsplit([' ', '*', '\n']).next()?;
    let declares = !code.starts_with(['#', '}']) && !head.contains(['{', ';', '=']) && !code.starts_with("typedef");
    (declares && name.starts_with("paluring_")).then(|| name.to_owned())
}

fn labels(comment: &str) -> Option<Labels> {
    let words: Vec<&str> = comment.split_whitespace().filter(|word| *word != "*").collect();
    let text = words.join(" ");
    let between = |from: &str, to: &str| Some(text.split_once(from)?.1.split_once(to)?.0.trim().to_owned());
    Some(Labels { threads: between("Threads:", "Blocks:")?, blocks: between("Blocks:", "Since:")? })
}

/// The rows of docs/threads.md that begin with a function, by its name.
fn table() -> BTreeMap<String, String> {
    let mut rows = BTreeMap::new();
    for line in read("docs/threads.md").lines() {
        let Some(name) = line.strip_prefix("| `paluring_").and_then(|rest| rest.split('`').next()) else { continue };
        let twice = rows.insert(format!("paluring_{name}"), line.to_owned());
        assert!(twice.is_none(), "docs/threads.md has paluring_{name} twice");
    }
    rows
}

fn none(faults: impl Iterator<Item = String>) {
    let faults: Vec<String> = faults.map(|fault| format!("docs/threads.md: {fault}")).collect();
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

fn read(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}
