// SPDX-License-Identifier: MIT OR Apache-2.0
//! The rules of the house that a compiler doesn't know.

// A test says what went wrong by panicking, in its helpers too.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use std::path::{Path, PathBuf};
use std::{env, fs};

/// A layer of the library, and the words that must not appear in its code.
const LAYERS: [(&str, &[&str]); 3] = [
    ("src/ffi", &["crate::sys"]),
    ("src/core", &["crate::ffi", "std::ffi", "c_int", "c_char", "c_void"]),
    ("src/sys", &["crate::ffi", "crate::core"]),
];

const LABELS: [&str; 4] = ["Ownership:", "Threads:", "Blocks:", "Since:"];

const MAX_LINES: usize = 400;

const SPDX: &str = concat!("SPDX-License-", "Identifier: MIT OR Apache-2.0");

#[test]
fn each_layer_looks_only_downwards() {
    each(LAYERS.iter().flat_map(|(layer, forbidden)| {
        code_lines(layer).into_iter().filter_map(move |(place, line)| {
            let word = forbidden.iter().find(|word| line.contains(**word))?;
            Some(format!("{place}: {layer} must not mention {word}"))
        })
    }));
}

#[test]
fn c_functions_are_defined_in_ffi_only() {
    each(code_lines("src").into_iter().filter_map(|(place, line)| {
        let outside = line.contains("extern \"C\"") && !place.starts_with("src/ffi/");
        outside.then(|| format!("{place}: extern \"C\" belongs into src/ffi"))
    }));
}

#[test]
fn each_exported_name_has_the_prefix() {
    assert!(exports().len() > 2, "the exported functions were not found");
    each(
        exports()
            .iter()
            .filter(|export| !export.name.starts_with("paluring_"))
            .map(|export| format!("{}: {} is exported without the prefix paluring_", export.place, export.name)),
    );
    each(code_lines("src").into_iter().filter_map(|(place, line)| {
        line.contains("export_name").then(|| format!("{place}: export by #[unsafe(no_mangle)], not by export_name"))
    }));
}

#[test]
fn each_exported_function_says_what_a_host_needs_to_know() {
    each(exports().iter().flat_map(|export| {
        export.faults().into_iter().map(|fault| format!("{}: {}: {fault}", export.place, export.name))
    }));
}

#[test]
fn no_file_of_the_library_is_too_long() {
    each(files("src", &["rs"]).into_iter().filter_map(|path| {
        let lines = read(&path).lines().count();
        (lines > MAX_LINES).then(|| format!("{}: {lines} lines, at most {MAX_LINES}", relative(&path)))
    }));
}

#[test]
fn each_source_file_names_its_license() {
    let kinds = ["rs", "c", "h", "cpp", "py", "sh", "toml", "in", "map", "Makefile", "run", "versioned-cc"];
    each(files(".", &kinds).into_iter().filter_map(|path| {
        let named = read(&path).lines().take(3).any(|line| line.contains(SPDX));
        (!named).then(|| format!("{}: the first lines lack {SPDX}", relative(&path)))
    }));
}

#[test]
fn each_hazard_is_guarded_by_a_test_that_is_run() {
    let text = read(&root().join("docs/safety.md"));
    let named: Vec<(&str, &str)> = text.split('`').filter_map(|word| word.split_once(".c:")).collect();
    assert!(named.len() > 100, "the tests were not found");
    each(named.into_iter().filter_map(|(file, test)| {
        let source = fs::read_to_string(root().join(format!("c-tests/{file}.c"))).unwrap_or_default();
        let runs = source.contains(&format!("RUN({test})"));
        (!runs).then(|| format!("docs/safety.md: c-tests/{file}.c runs no test {test}"))
    }));
}

#[test]
fn the_page_on_kernels_lists_each_operation() {
    let text = read(&root().join("docs/kernels.md"));
    let list = read(&root().join("c-tests/test_op_list.c"));
    let rows: Vec<&str> = list.lines().filter_map(|line| line.trim().strip_prefix('{')).collect();
    let known: Vec<(&str, &str)> = rows
        .into_iter()
        .filter_map(|row| row.split_once(", \"")?.1.trim_end_matches("},").split_once("\", "))
        .filter(|(_, what)| ["OFFERED", "PICKED", "INSIDE", "LEFT_OUT"].contains(what))
        .collect();
    assert!(known.len() > 60, "the list was not found");
    each(known.into_iter().filter_map(|(name, what)| {
        let Some(row) = text.lines().find(|line| line.starts_with(&format!("| {name} | "))) else {
            return Some(format!("docs/kernels.md has no line for {name}"));
        };
        (row.contains("*left out*") != (what != "OFFERED")).then(|| format!("{name} is {what}, docs/kernels.md: {row}"))
    }));
    let words: Vec<&str> = text.split(|c: char| !c.is_alphanumeric() && c != '_').collect();
    each(exports().iter().filter_map(|export| {
        let verb = export.name.strip_prefix("paluring_op_").filter(|verb| *verb != "raw")?;
        (!words.contains(&verb)).then(|| format!("docs/kernels.md doesn't name {}", export.name))
    }));
}

#[test]
fn each_mutation_is_told_of() {
    let (tool, text) = (read(&root().join("tools/mutations.py")), read(&root().join("docs/safety.md")));
    let lines: Vec<&str> = tool.lines().collect();
    let after = lines.windows(2).filter(|pair| pair[0].trim() == "Mutation(").map(|pair| pair[1]);
    let names: Vec<&str> = after.filter_map(|line| line.split('"').nth(1)).collect();
    assert!(names.len() > 20, "the mutations were not found");
    let untold = names.into_iter().filter(|name| !text.contains(&format!("| {name} |")));
    each(untold.map(|name| format!("docs/safety.md has no line for the mutation: {name}")));
}

#[test]
fn each_mistake_of_the_model_checks_is_found_by_one_and_told_of() {
    let (list, text) = (read(&root().join("src/sys/checked.rs")), read(&root().join("docs/safety.md")));
    let mistakes = list.split("enum Mistake {").nth(1).and_then(|rest| rest.split('}').next()).unwrap();
    let mistakes: Vec<&str> = mistakes.lines().filter_map(|line| line.trim().strip_suffix(',')).collect();
    assert!(mistakes.len() > 10, "the mistakes were not found");
    let checks: String = files("src/core/threads", &["rs"]).iter().map(|path| read(path)).collect();
    let code: String = files("src/core", &["rs"]).iter().map(|path| read(path)).collect();
    each(mistakes.into_iter().filter_map(|mistake| {
        let found = checks.contains(&format!("_found: {mistake},")) && code.contains(&format!("seeded!({mistake})"));
        let told = text.contains(&format!("`{mistake}`"));
        (!found || !told).then(|| format!("{mistake}: made, and found by a check: {found}, told of: {told}"))
    }));
}

/// An exported function: its comment, its parameters, and whether it returns something.
struct Export {
    place: String,
    name: String,
    comment: Vec<String>,
    parameters: Vec<String>,
    returns: bool,
}

impl Export {
    fn parse(path: &Path, lines: &[&str], attribute: usize) -> Option<Self> {
        let declaration: String =
            lines[attribute..].iter().skip_while(|line| line.starts_with("#[")).copied().collect();
        let declaration = declaration.split('{').next()?;
        let (head, rest) = declaration.split_once('(')?;
        let (inside, tail) = rest.rsplit_once(')')?;
        let above =
            lines[..attribute].iter().rev().take_while(|line| line.starts_with("///") || line.starts_with("#["));
        let mut comment: Vec<String> =
            above.filter_map(|line| Some(line.strip_prefix("///")?.trim().to_owned())).collect();
        comment.reverse();
        Some(Self {
            place: format!("{}:{}", relative(path), attribute + 1),
            name: head.split_whitespace().last()?.to_owned(),
            comment,
            parameters: inside.split(',').filter_map(|part| Some(part.split_once(':')?.0.trim().to_owned())).collect(),
            returns: tail.contains("->"),
        })
    }

    fn faults(&self) -> Vec<String> {
        let text = self.comment.join("\n");
        let described =
            |tag: &str| self.comment.iter().filter_map(move |line| line.strip_prefix(tag)).map(first_word).collect();
        let described: Vec<String> = described("@param ");
        let mut faults = Vec::new();
        if described != self.parameters {
            faults.push(format!("@param names {described:?}, the parameters are {:?}", self.parameters));
        }
        if text.contains("@return") != self.returns {
            faults.push(format!("{} @return", if self.returns { "lacks" } else { "returns nothing but has" }));
        }
        faults.extend(LABELS.iter().filter(|label| !text.contains(**label)).map(|label| format!("lacks {label}")));
        faults.extend(
            ["# Safety", "[`", "::"]
                .iter()
                .filter(|rust| text.contains(**rust))
                .map(|rust| format!("has Rust's {rust}")),
        );
        faults
    }
}

fn first_word(text: &str) -> String {
    text.split_whitespace().next().unwrap_or_default().to_owned()
}

fn exports() -> Vec<Export> {
    let mut found = Vec::new();
    for path in files("src", &["rs"]) {
        let text = read(&path);
        let lines: Vec<&str> = text.lines().map(str::trim).collect();
        let attributes = (0..lines.len()).filter(|at| lines[*at].starts_with("#[unsafe(no_mangle)"));
        found.extend(attributes.filter_map(|at| Export::parse(&path, &lines, at)));
    }
    found
}

/// Lines without comments, each with its place.
fn code_lines(under: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for path in files(under, &["rs"]) {
        for (number, line) in read(&path).lines().enumerate() {
            let code = line.split("//").next().unwrap_or_default();
            found.push((format!("{}:{}", relative(&path), number + 1), code.to_owned()));
        }
    }
    found
}

/// Files whose name or extension is one of `kinds`, outside of build results and hidden folders (but `.ci`).
fn files(under: &str, kinds: &[&str]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![root().join(under)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            let skipped = name == "target" || (name.starts_with('.') && name != ".ci") || path.is_symlink();
            if path.is_dir() && !skipped {
                folders.push(path);
            } else if !skipped && kinds.iter().any(|kind| name == *kind || name.ends_with(&format!(".{kind}"))) {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

fn each(faults: impl Iterator<Item = String>) {
    let faults: Vec<String> = faults.collect();
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn relative(path: &Path) -> String {
    let path = path.strip_prefix(root()).unwrap_or(path).to_string_lossy().into_owned();
    path.trim_start_matches("./").to_owned()
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap()
}
