// SPDX-License-Identifier: MIT OR Apache-2.0
//! The C header is made from `src/ffi`, and the committed one is compared with what is made.
//!
//! cbindgen turns each file of `src/ffi` into declarations, in the order of the modules in
//! `mod.rs`. This file puts them together: one section for each file, headed by the file's
//! own `//!` comment; every struct is named at the top, and a type that is needed before its
//! section is moved up to where it is needed.

// A test says what went wrong by panicking, in its helpers too.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::{env, fs};

const WIDTH: usize = 100;

#[test]
fn the_committed_header_is_what_the_source_says() {
    let path = root().join("include/paluring.h");
    let made = header();
    if env::var_os("PALURING_WRITE_HEADER").is_some() {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        return fs::write(&path, made).unwrap();
    }
    let committed = fs::read_to_string(&path).unwrap_or_default();
    if let Some(line) = first_difference(&committed, &made) {
        panic!("include/paluring.h differs from src/ffi at line {line}: run `make header` and commit the result");
    }
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn first_difference(left: &str, right: &str) -> Option<usize> {
    let same = left.lines().zip(right.lines()).take_while(|(left, right)| left == right).count();
    (left != right).then_some(same + 1)
}

fn header() -> String {
    let ffi = root().join("src/ffi");
    let modules = fs::read_to_string(ffi.join("mod.rs")).unwrap();
    let names = modules.lines().filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';'));
    let sections: Vec<Section> = names.map(|name| Section::read(&ffi.join(format!("{name}.rs")))).collect();
    let version = env!("CARGO_PKG_VERSION");
    let number = version.split('.').fold(0, |number, part| number * 1000 + part.parse::<u32>().unwrap());
    let top = TOP.replace("@VERSION@", version).replace("@NUMBER@", &number.to_string());
    format!("{top}{}{}{BOTTOM}", names_of_structs(&sections), in_order(&sections))
}

/// One file of src/ffi: its `//!` comment and its declarations.
struct Section {
    heading: String,
    items: Vec<Item>,
}

/// One declaration with its comment.
struct Item {
    text: String,
    /// The type that it declares, if it declares one.
    declares: Option<String>,
    is_struct: bool,
}

impl Section {
    fn read(path: &Path) -> Self {
        let source = fs::read_to_string(path).unwrap();
        let heading: Vec<&str> = source.lines().filter_map(|line| line.strip_prefix("//!")).collect();
        let mut config = cbindgen::Config::from_file(root().join("cbindgen.toml")).unwrap();
        // Else a type that no function of its own file mentions would be left out.
        config.export.include = source.lines().filter_map(public_type).map(str::to_owned).collect();
        let mut text = Vec::new();
        cbindgen::Builder::new().with_config(config).with_src(path).generate().unwrap().write(&mut text);
        let text = String::from_utf8(text).unwrap();
        let items = text.split("\n\n").map(str::trim).filter(|item| !item.is_empty()).map(Item::new).collect();
        Self { heading: format!("/* {}\n *{}\n */", "-".repeat(WIDTH - 3), heading.join("\n *")), items }
    }
}

impl Item {
    fn new(text: &str) -> Self {
        let text = text
            .replace("size_t user_data", "uintptr_t user_data")
            .replace("size_t *out_user_data", "uintptr_t *out_user_data");
        let code = without_comments(&text);
        Self { text: tidy(&text), declares: declared_type(&code), is_struct: code.starts_with("typedef struct ") }
    }

    fn is_opaque(&self) -> bool {
        self.is_struct && !self.text.contains('{')
    }

    /// A struct's members without the typedef, which is at the top of the header.
    fn body(&self) -> String {
        match &self.declares {
            Some(name) if self.is_struct => {
                let text = self.text.replace("typedef struct {", &format!("struct {name} {{"));
                text.replace(&format!("}} {name};"), "};")
            }
            _ => self.text.clone(),
        }
    }
}

fn public_type(line: &str) -> Option<&str> {
    let rest = line.strip_prefix("pub struct ").or_else(|| line.strip_prefix("pub type "))?;
    rest.split(|c: char| !c.is_alphanumeric() && c != '_').next()
}

/// `typedef struct { ... } NAME;`, `typedef void (*NAME)(...);` or `typedef uint64_t NAME;`
fn declared_type(code: &str) -> Option<String> {
    let code = code.strip_prefix("typedef ")?.strip_suffix(';')?;
    let name = match code.split_once("(*") {
        Some((_, rest)) if !code.contains('{') => rest.split(')').next()?,
        _ => code.split_whitespace().last()?,
    };
    Some(name.to_owned())
}

/// The typedef of each struct, so that declarations can point to any of them.
fn names_of_structs(sections: &[Section]) -> String {
    let structs = || sections.iter().flat_map(|section| &section.items).filter(|item| item.is_struct);
    let opaque: Vec<String> = structs().filter(|item| item.is_opaque()).map(|item| item.text.clone()).collect();
    let public = structs().filter(|item| !item.is_opaque()).filter_map(|item| item.declares.as_deref());
    let public: Vec<String> = public.map(|name| format!("typedef struct {name} {name};")).collect();
    format!("{HANDLES}{}\n\n{STRUCTS}{}\n", opaque.join("\n\n"), public.join("\n"))
}

fn in_order(sections: &[Section]) -> String {
    let all: Vec<&Item> = sections.iter().flat_map(|section| &section.items).collect();
    let mut done = HashSet::new();
    let mut out = String::new();
    for section in sections {
        out.push_str(&format!("\n{}\n", section.heading));
        for item in section.items.iter().filter(|item| !item.is_opaque()) {
            place(item, &all, &mut done, &mut out);
        }
    }
    out
}

/// Writes an item after the types that it can't do without. Constants stand close together.
fn place(item: &Item, all: &[&Item], done: &mut HashSet<String>, out: &mut String) {
    if let Some(name) = &item.declares {
        if !done.insert(name.clone()) {
            return;
        }
    }
    let code = without_comments(&item.text);
    let words: HashSet<&str> = code.split(|c: char| !c.is_alphanumeric() && c != '_').collect();
    for needed in all
        .iter()
        .filter(|other| !other.is_struct && other.declares.as_deref().is_some_and(|name| words.contains(name)))
    {
        place(needed, all, done, out);
    }
    let constant = |text: &str| text.lines().last().is_some_and(|line| line.starts_with("#define "));
    if !(constant(&item.text) && constant(out)) {
        out.push('\n');
    }
    out.push_str(&item.body());
    out.push('\n');
}

fn without_comments(text: &str) -> String {
    let mut code = String::new();
    for part in text.split("/*") {
        code.push_str(part.split_once("*/").map_or(part, |(_, code)| code));
    }
    code.trim().to_owned()
}

/// Comments are wrapped, a short one is one line, and a negative constant stands in parentheses.
fn tidy(text: &str) -> String {
    let mut out = String::new();
    let mut comment: Option<Vec<&str>> = None;
    for line in text.lines() {
        let indent = &line[..line.len() - line.trim_start().len()];
        let trimmed = line.trim();
        if trimmed == "/**" {
            comment = Some(Vec::new());
        } else if trimmed == "*/" {
            out.push_str(&framed(indent.strip_suffix(' ').unwrap_or(indent), &comment.take().unwrap_or_default()));
        } else if let Some(lines) = &mut comment {
            lines.push(trimmed.trim_start_matches('*').strip_prefix(' ').unwrap_or_default());
        } else {
            let lines = wrap_at(&parenthesized(line), WIDTH, line.find('(').map_or(0, |at| at + 1), ", ");
            out.push_str(&format!("{}\n", lines.join("\n")));
        }
    }
    out.trim_end().to_owned()
}

fn parenthesized(line: &str) -> String {
    match line.rsplit_once(" -") {
        Some((define, number)) if define.starts_with("#define ") => format!("{define} (-{number})"),
        _ => line.to_owned(),
    }
}

fn framed(indent: &str, lines: &[&str]) -> String {
    let width = WIDTH - indent.len() - 3;
    let wrapped: Vec<String> =
        lines.iter().flat_map(|line| labels(line, width)).flat_map(|line| wrap(&line, width)).collect();
    match wrapped.as_slice() {
        [line] if line.len() + 4 <= width => format!("{indent}/** {line} */\n"),
        lines => {
            let body: String =
                lines.iter().map(|line| format!("{indent} * {line}").trim_end().to_owned() + "\n").collect();
            format!("{indent}/**\n{body}{indent} */\n")
        }
    }
}

/// "Ownership: ...   Threads: ..." is a line, or a line for each label where it would be too long.
fn labels(line: &str, width: usize) -> Vec<String> {
    if line.starts_with("Ownership:") && line.chars().count() > width {
        return line.split("   ").map(|label| label.trim().to_owned()).collect();
    }
    vec![line.to_owned()]
}

/// Wraps at words; what follows a @param's name is indented to the column of its description.
fn wrap(line: &str, width: usize) -> Vec<String> {
    let hanging = match line.strip_prefix("@param ") {
        Some(rest) => rest.find("  ").map_or(2, |end| line.len() - rest[end..].trim_start().len()),
        None if line.starts_with('@') || line.starts_with("Ownership:") => 2,
        None => 0,
    };
    wrap_at(line, width, hanging, " ")
}

/// Breaks a line after one of the given breaks; what follows is indented.
fn wrap_at(line: &str, width: usize, hanging: usize, at: &str) -> Vec<String> {
    let mut lines = vec![];
    let mut current = line.to_owned();
    while current.chars().count() > width {
        let limit = current.char_indices().nth(width + 1).map_or(current.len(), |(at, _)| at);
        let Some(space) = current[..limit].rfind(at).map(|found| found + at.len()) else { break };
        if space <= hanging + 1 {
            break;
        }
        let rest = format!("{}{}", " ".repeat(hanging), &current[space..]);
        lines.push(current[..space].trim_end().to_owned());
        current = rest;
    }
    lines.push(current);
    lines
}

const TOP: &str = r#"/* SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * libpaluring: io_uring without its memory hazards. Made from src/ffi by `make header`; don't edit.
 *
 * Open a ring (paluring_ring_open), get a buffer (paluring_buf_alloc), describe an operation
 * (paluring_op_read), start it (paluring_io_start), and run the ring (paluring_ring_run): the
 * operation's callback gets the result. Or leave the callback out, keep the handle, and take the
 * result with paluring_io_wait or paluring_io_poll.
 *
 * Rules that hold everywhere:
 * - A function that can fail returns int32_t: 0 or a count; below 0 a status (paluring_strerror).
 * - A call that is given a buffer adds a reference of its own; what you hold you release.
 * - Each accepted I/O gets exactly one terminal completion, whatever happens.
 * - NULL where a pointer is needed is -EINVAL; release and close of NULL do nothing.
 * - Functions of yours that the library calls must not throw, unwind or longjmp out.
 *
 * Each function's comment ends with who owns what (Ownership), who may call it (Threads), how long
 * it may take (Blocks) and the first version that has it (Since). docs/threads.md has all of them in
 * one table. What follows a semicolon is about that function alone.
 *
 * Threads, on a ring of each mode:
 *   any               any thread
 *   driver            OWNER: its owner; SHARED: any, one at a time; BACKGROUND: none
 *   driver or waiter  OWNER: its owner; others: any, which sleeps while another one drives
 *   owner             OWNER: its owner, any before there is one; others: any
 *   callback          the thread that runs it, within it
 * Blocks:
 *   never             nothing is waited for; waking a driver is a short system call
 *   may enter the kernel  for as long as it takes what is submitted; completions are not waited for
 *   until ...         sleeps until one of these
 */
#ifndef PALURING_H
#define PALURING_H

#include <stddef.h>
#include <stdint.h>

/** The version of this header; paluring_version tells the library's. */
#define PALURING_VERSION "@VERSION@"
/** major * 1000000 + minor * 1000 + patch */
#define PALURING_VERSION_NUMBER @NUMBER@

#ifdef __cplusplus
extern "C" {
#endif

"#;

const HANDLES: &str = "/* Handles: made and released by the library. */\n\n";

const STRUCTS: &str = "/* Structs that a host sees into. */\n\n";

const BOTTOM: &str = r#"
#ifdef __cplusplus
} /* extern "C" */
#endif

#endif /* PALURING_H */
"#;
