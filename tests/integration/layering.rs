//! Holds the source to its own law: who may name whom (the table of `src/lib.rs`), `unsafe` in `sys` alone, sizes of
//! files and functions, and a reason for each dependency. The scanner is tested on samples that break each rule.

mod tokens;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use tokens::Token;

/// Every top module, and the ones it may name.
const MAY_NAME: [(&str, &[&str]); 11] = [
    ("sys", &[]),
    ("stats", &[]),
    ("config", &[]),
    ("trust", &["config", "stats"]),
    ("tls", &["config", "stats", "trust"]),
    ("wire", &["config", "trust"]),
    ("relay", &["config", "stats", "trust", "tls", "wire", "sys"]),
    ("worker", &["config", "stats", "trust", "tls", "wire", "sys", "relay"]),
    ("control", &["config", "stats", "trust", "tls", "wire", "sys", "relay", "worker"]),
    ("cli", &["config", "stats", "trust", "tls", "wire", "sys", "relay", "worker", "control"]),
    ("load", &["stats"]),
];

/// What each program's file may name of the library.
const PROGRAMS: [(&str, &[&str]); 2] = [("countersign", &["cli"]), ("countersign-load", &["load"])];

const FILE_LINES_MAX: usize = 500;
const FUNCTION_LINES_MAX: usize = 70;

/// Files that may be longer, because they are tables and not logic.
const TABLES: [&str; 0] = [];

/// Files that are too long still, with the lines that they may have: they may shrink, and then leave this list.
const TOO_LONG: [(&str, usize); 0] = [];

fn lines_max(file: &Path) -> usize {
    if TABLES.iter().any(|table| Path::new(table) == file) {
        return usize::MAX;
    }
    TOO_LONG.iter().find(|(long, _)| Path::new(long) == file).map_or(FILE_LINES_MAX, |(_, lines)| *lines)
}

fn package() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every Rust file under `dir`, as a path relative to the package.
fn sources(dir: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![package().join(dir)];
    while let Some(dir) = open.pop() {
        for entry in std::fs::read_dir(&dir).unwrap().map(Result::unwrap) {
            let path = entry.path();
            if path.is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path.strip_prefix(package()).unwrap().to_owned());
            }
        }
    }
    found.sort();
    assert!(!found.is_empty(), "no source under {dir}");
    found
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(package().join(path)).unwrap()
}

/// The modules from the crate's root down to a file of `src/`: `src/tls/site.rs` is `["tls", "site"]`.
fn module_path(file: &Path) -> Vec<String> {
    let inner = file.strip_prefix("src").unwrap().with_extension("");
    let mut parts: Vec<String> = inner.iter().map(|part| part.to_str().unwrap().to_owned()).collect();
    if parts.last().is_some_and(|last| last == "mod" || last == "lib") {
        parts.pop();
    }
    parts
}

/// A top module named at a line.
type Named = (String, usize);

/// Every top module that `source` names by `crate::x`, `super::x` or (in programs) `countersign::x`. `depth` is how
/// many modules deep the file is.
fn names_of(source: &str, depth: usize) -> Vec<Named> {
    let tokens = tokens::split(source);
    let mut named = Vec::new();
    // For each open brace, whether it is that of an inline module.
    let mut braces: Vec<bool> = Vec::new();
    for at in 0..tokens.len() {
        match tokens[at].text.as_str() {
            "{" => braces.push(at >= 2 && tokens[at - 2].text == "mod"),
            "}" => drop(braces.pop()),
            "crate" | "countersign" if is(&tokens, at + 1, "::") => heads(&tokens, at + 2, &mut named),
            "super" if at < 2 || tokens[at - 2].text != "super" => {
                let mut supers = 1;
                while is(&tokens, at + 2 * supers, "super") {
                    supers += 1;
                }
                let here = depth + braces.iter().filter(|inline| **inline).count();
                if supers >= here && is(&tokens, at + 2 * supers - 1, "::") {
                    heads(&tokens, at + 2 * supers, &mut named);
                }
            }
            _ => {}
        }
    }
    named.retain(|(name, _)| MAY_NAME.iter().any(|(module, _)| module == name));
    named
}

fn is(tokens: &[Token], at: usize, text: &str) -> bool {
    tokens.get(at).is_some_and(|token| token.text == text)
}

/// The first words of the path or group of paths that begins at `at`.
fn heads(tokens: &[Token], at: usize, named: &mut Vec<Named>) {
    if !is(tokens, at, "{") {
        named.extend(tokens.get(at).map(|token| (token.text.clone(), token.line)));
        return;
    }
    let (mut depth, mut first) = (0, true);
    for token in &tokens[at..] {
        match token.text.as_str() {
            "{" => depth += 1,
            "}" => depth -= 1,
            "," if depth == 1 => first = true,
            _ if depth == 1 && first => {
                named.push((token.text.clone(), token.line));
                first = false;
            }
            _ => {}
        }
        if depth == 0 {
            return;
        }
    }
}

/// Arrows in `source` that the table does not have.
fn forbidden_arrows(module: &str, may: &[&str], source: &str, depth: usize) -> Vec<String> {
    let named = names_of(source, depth);
    let forbidden = named.iter().filter(|(name, _)| name != module && !may.contains(&name.as_str()));
    forbidden.map(|(name, line)| format!("line {line}: {module} may not name {name}")).collect()
}

fn unsafe_words(source: &str) -> Vec<String> {
    let tokens = tokens::split(source);
    let words = tokens.iter().filter(|token| token.text == "unsafe");
    words.map(|token| format!("line {}: unsafe outside of sys", token.line)).collect()
}

fn forbids_unsafe(source: &str) -> bool {
    let words: Vec<String> = tokens::split(source).into_iter().map(|token| token.text).collect();
    words.windows(8).any(|words| words.concat() == "#![forbid(unsafe_code)]")
}

/// Functions with more lines than allowed, from `fn` to the closing brace.
fn long_functions(source: &str) -> Vec<String> {
    let tokens = tokens::split(source);
    let mut long = Vec::new();
    for at in 0..tokens.len().saturating_sub(1) {
        let named = tokens[at + 1].text.starts_with(|c: char| c.is_alphabetic() || c == '_');
        if tokens[at].text != "fn" || !named {
            continue;
        }
        let Some(end) = body_end(&tokens, at) else { continue };
        let lines = tokens[end].line - tokens[at].line + 1;
        if lines > FUNCTION_LINES_MAX {
            long.push(format!("line {}: {} has {lines} lines", tokens[at].line, tokens[at + 1].text));
        }
    }
    long
}

/// The closing brace of the function at `at`; `None` where it has no body.
fn body_end(tokens: &[Token], at: usize) -> Option<usize> {
    let (mut round, mut curly) = (0, 0);
    for (index, token) in tokens.iter().enumerate().skip(at) {
        match token.text.as_str() {
            "(" | "[" => round += 1,
            ")" | "]" => round -= 1,
            ";" if round == 0 && curly == 0 => return None,
            "{" => curly += 1,
            "}" => {
                curly -= 1;
                if curly == 0 {
                    return Some(index);
                }
            }
            _ => {}
        }
    }
    None
}

/// Dependencies of a Cargo.toml whose line gives no reason.
fn unexplained_dependencies(manifest: &str) -> Vec<String> {
    let mut inside = false;
    let mut unexplained = Vec::new();
    for line in manifest.lines() {
        if line.starts_with('[') {
            inside = line.contains("dependencies");
        } else if inside && line.starts_with(|c: char| c.is_alphanumeric()) {
            let reason = line.rsplit_once(" # ").map_or("", |(_, reason)| reason);
            if reason.trim().is_empty() {
                unexplained.push(line.to_owned());
            }
        }
    }
    unexplained
}

/// Runs a check over files and fails with every finding at once.
fn hold(files: &[PathBuf], check: impl Fn(&Path, &str) -> Vec<String>) {
    let mut findings = Vec::new();
    for file in files {
        findings.extend(check(file, &read(file)).into_iter().map(|finding| format!("{}: {finding}", file.display())));
    }
    assert!(findings.is_empty(), "\n{}", findings.join("\n"));
}

#[test]
fn no_module_names_one_that_the_table_does_not_let_it_name() {
    let table: BTreeMap<&str, &[&str]> = MAY_NAME.into_iter().collect();
    hold(&sources("src"), |file, source| {
        let path = module_path(file);
        match path.first().map(String::as_str) {
            None => Vec::new(),
            Some("bin") => {
                let (program, may) = PROGRAMS.iter().find(|(name, _)| *name == path[1]).expect("an unknown program");
                forbidden_arrows(program, may, source, 0)
            }
            Some(module) => match table.get(module) {
                Some(may) => forbidden_arrows(module, may, source, path.len()),
                None => vec![format!("the table has no module {module}")],
            },
        }
    });
}

#[test]
fn the_table_here_is_the_one_that_the_crate_documents() {
    let documented = read(Path::new("src/lib.rs"));
    let mut above: Vec<&str> = Vec::new();
    for (module, may) in MAY_NAME {
        let row = documented.lines().find(|line| line.starts_with(&format!("//! | [`{module}`]")));
        let row = row.unwrap_or_else(|| panic!("src/lib.rs has no row for {module}"));
        let last = row.trim_end_matches([' ', '|']).rsplit('|').next().unwrap();
        let mut names: Vec<&str> = last.split('`').skip(1).step_by(2).collect();
        if last.contains("all above") {
            names.clone_from(&above);
        }
        names.sort_unstable();
        let mut may = may.to_vec();
        may.sort_unstable();
        assert_eq!(names, may, "what {module} may name");
        above.push(module);
    }
}

#[test]
fn unsafe_stands_in_sys_alone() {
    let outside: Vec<PathBuf> = sources("src").into_iter().filter(|file| !file.starts_with("src/sys")).collect();
    hold(&outside, |_, source| unsafe_words(source));
    hold(&sources("tests"), |_, source| unsafe_words(source));
    for (module, _) in MAY_NAME.iter().filter(|(module, _)| *module != "sys") {
        let files = [format!("src/{module}/mod.rs"), format!("src/{module}.rs")];
        let file = files.iter().find(|file| package().join(file).exists()).expect("a file of the module");
        let source = read(Path::new(file));
        // A file with nothing but comments holds nothing to forbid.
        let empty = tokens::split(&source).is_empty();
        assert!(empty || forbids_unsafe(&source), "{file} lacks #![forbid(unsafe_code)]");
    }
}

#[test]
fn files_and_functions_stay_short_and_say_what_they_are() {
    let mut files = sources("src");
    files.extend(sources("tests"));
    hold(&files, |file, source| {
        let mut findings = long_functions(source);
        let lines = source.lines().count();
        if lines > lines_max(file) {
            findings.push(format!("{lines} lines"));
        }
        // The name of a `tests.rs` says enough.
        if !source.starts_with("//!") && !file.ends_with("tests.rs") {
            findings.push("does not open with //!".to_owned());
        }
        findings
    });
}

#[test]
fn every_dependency_says_why_it_is_there() {
    assert_eq!(unexplained_dependencies(&read(Path::new("Cargo.toml"))), Vec::<String>::new());
}

#[test]
fn the_scanner_finds_each_fault_in_a_bad_sample() {
    let arrows = |source, depth| forbidden_arrows("config", &[], source, depth).len();
    assert_eq!(arrows("use crate::tls::Site;", 1), 1);
    assert_eq!(arrows("use crate::{config::Config, tls, trust::{Leaf, Reason}};", 1), 2);
    assert_eq!(arrows("use crate::{\n    tls::Site, // why\n};", 1), 1);
    assert_eq!(arrows("fn f() { let x: crate::tls::Site = y; }", 2), 1);
    assert_eq!(arrows("use super::super::tls;", 2), 1);
    assert_eq!(arrows("mod tests { use super::super::tls; }", 1), 1);
    assert_eq!(arrows("macro_rules! m { () => { $crate::tls::f() } }", 1), 1);
    assert_eq!(unsafe_words("fn f() {\n unsafe { g() } }"), ["line 2: unsafe outside of sys"]);
    assert!(!forbids_unsafe("//! #![forbid(unsafe_code)]\n#![deny(unsafe_code)]"));
    let long =
        format!("fn short() {{}}\nimpl X {{ fn long(a: [u8; 4]) {{\n{}}} }}", "x();\n".repeat(FUNCTION_LINES_MAX));
    assert_eq!(long_functions(&long), ["line 2: long has 72 lines"]);
    let manifest = "[dependencies]\na = \"1\" # why\nb = \"1\"\n[dev-dependencies]\nc = \"1\" # \n[features]\nd = []\n";
    assert_eq!(unexplained_dependencies(manifest), ["b = \"1\"", "c = \"1\" # "]);
}

#[test]
fn the_scanner_lets_a_good_sample_pass() {
    let arrows = |source, depth| forbidden_arrows("tls", &["config", "trust"], source, depth);
    let source = "//! [`crate::worker`]\nuse crate::config::X; use crate::{trust::Y, tls::Z}; use super::site; \
                  const S: &str = \"crate::worker\"; // crate::worker\nmod tests { use super::*; use super::worker; }";
    assert_eq!(arrows(source, 2), Vec::<String>::new());
    assert_eq!(arrows("mod tests { use super::*; use super::worker; }", 1), Vec::<String>::new());
    assert!(forbids_unsafe("//! x\n\n#![forbid(unsafe_code)]\nmod a;"));
    assert_eq!(long_functions("trait T { fn f(&self) -> [u8; 2]; }\nfn g(f: fn(u8) -> u8) {}"), Vec::<String>::new());
}
