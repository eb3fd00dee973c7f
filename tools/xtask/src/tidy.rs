//! The checks of the code's own shape: file lengths, banned words, head comments, where unsafe code lives.

use std::path::Path;

use anyhow::Result;

use crate::source;
use crate::workspace::Workspace;

/// Longer files are split, or listed below with a reason.
const LINES_MAX: usize = 600;

/// Files that are longer and why. A row whose file has become short fails, so the list only shrinks by itself.
const LONG_FILES: [(&str, &str); 1] = [(
    "engine/log/src/test_rig.rs",
    "the owner of a partition as tests need it, with every plan that can be carried out",
)];

/// The one crate that may hold unsafe code.
const UNSAFE_ROOM: &str = "engine/ring";

/// What the top level holds, besides dotfiles and what builds and runs leave behind.
const TOP_LEVEL: [&str; 14] = [
    "Cargo.toml",
    "Cargo.lock",
    "LICENSE",
    "README.md",
    "bench",
    "clippy.toml",
    "data",
    "deny.toml",
    "docs",
    "engine",
    "net",
    "rustfmt.toml",
    "scripts",
    "tools",
];

/// Words that mark unfinished work; the halves keep this list from finding itself.
const UNFINISHED: [(&str, &str); 5] =
    [("TO", "DO"), ("FIX", "ME"), ("XX", "X"), ("unimpl", "emented!"), ("to", "do!")];

/// Paths of one machine.
const MACHINE_PATHS: [(&str, &str); 3] = [("/wo", "rk/"), ("/ro", "ot/"), ("/ho", "me/")];

/// Everything untidy, in words.
pub(crate) fn check(workspace: &Workspace) -> Result<Vec<String>> {
    let mut findings = check_top_level(workspace)?;
    let files = workspace.files()?;
    for file in &files {
        if let Some(text) = workspace.read(file)? {
            findings.extend(check_file(file, &text));
        }
    }
    for (long, _) in LONG_FILES {
        if !files.iter().any(|file| file == Path::new(long)) {
            findings.push(format!("{long} is listed as long in tools/xtask/src/tidy.rs but isn't there"));
        }
    }
    for member in &workspace.crates {
        let manifest = workspace.read(&Path::new(&member.folder).join("Cargo.toml"))?.unwrap_or_default();
        if member.folder != UNSAFE_ROOM && !inherits_lints(&manifest) {
            findings.push(format!("{}/Cargo.toml does not inherit the workspace's lints", member.folder));
        }
    }
    Ok(findings)
}

fn check_top_level(workspace: &Workspace) -> Result<Vec<String>> {
    let mut findings = Vec::new();
    for entry in std::fs::read_dir(&workspace.root)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        let known = TOP_LEVEL.contains(&name.as_str()) || name.starts_with('.') || name.starts_with("target");
        if !known {
            findings.push(format!("{name} does not belong to the top level, which is fixed"));
        }
    }
    Ok(findings)
}

fn check_file(file: &Path, text: &str) -> Vec<String> {
    let mut findings = Vec::new();
    let name = file.display();
    let is_rust = file.extension().is_some_and(|extension| extension == "rs");
    // The lock file is cargo's and the licence is Apache's.
    if file == Path::new("Cargo.lock") || file == Path::new("LICENSE") {
        return findings;
    }
    if is_rust {
        findings.extend(check_length(file, text.lines().count()));
        let code = source::code_only(text);
        if !file.starts_with(UNSAFE_ROOM) {
            for line in source::lines_with_word(&code, "unsafe") {
                findings.push(format!("{name}:{line} has unsafe code; it belongs into {UNSAFE_ROOM}"));
            }
        }
    }
    let is_crate_head = is_rust && (file.ends_with("src/lib.rs") || file.ends_with("src/main.rs"));
    if is_crate_head && head_comment_words(text) < 8 {
        findings.push(format!("{name} lacks a head comment (//!) that says what the crate promises"));
    }
    for (index, line) in text.lines().enumerate() {
        for (one, other) in UNFINISHED {
            let word = format!("{one}{other}");
            if line.match_indices(&word).any(|(at, _)| stands_alone(line, at, word.len())) {
                findings.push(format!("{name}:{} says {word}; finish it, or leave it out", index + 1));
            }
        }
        for (one, other) in MACHINE_PATHS {
            let path = format!("{one}{other}");
            if line.contains(&path) {
                findings.push(format!("{name}:{} names {path}, a path of one machine", index + 1));
            }
        }
        if line.ends_with([' ', '\t']) {
            findings.push(format!("{name}:{} ends in blanks", index + 1));
        }
    }
    if !text.is_empty() && !text.ends_with('\n') {
        findings.push(format!("{name} does not end in a newline"));
    }
    findings
}

fn check_length(file: &Path, lines: usize) -> Option<String> {
    let listed = LONG_FILES.iter().any(|(long, _)| Path::new(long) == file);
    let name = file.display();
    match (lines > LINES_MAX, listed) {
        (true, false) => {
            Some(format!("{name} has {lines} lines, more than {LINES_MAX}; split it by what it is about"))
        }
        (false, true) => {
            Some(format!("{name} is no longer long; take it off the list in tools/xtask/src/tidy.rs"))
        }
        _ => None,
    }
}

fn head_comment_words(text: &str) -> usize {
    text.lines()
        .take_while(|line| line.starts_with("//!"))
        .map(|line| line.trim_start_matches("//!").split_whitespace().count())
        .sum()
}

fn stands_alone(line: &str, at: usize, length: usize) -> bool {
    let is_name = |character: char| character.is_alphanumeric() || character == '_';
    let begins_inside = line[..at].chars().next_back().is_some_and(is_name);
    let ends_in_name = line[at..at + length].chars().next_back().is_some_and(is_name);
    let goes_on = ends_in_name && line[at + length..].chars().next().is_some_and(is_name);
    !begins_inside && !goes_on
}

fn inherits_lints(manifest: &str) -> bool {
    toml::from_str::<toml::Table>(manifest)
        .ok()
        .and_then(|table| table.get("lints")?.get("workspace")?.as_bool())
        .unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "//! A crate that promises to be tidy in every single respect.\n";

    fn findings(file: &str, text: &str) -> Vec<String> {
        check_file(Path::new(file), text)
    }

    #[test]
    fn tidy_code_passes() {
        let text = format!("{HEAD}fn f() {{}} // nothing here is unsafe\n");
        assert_eq!(findings("engine/model/src/lib.rs", &text), Vec::<String>::new());
        assert_eq!(
            findings("engine/ring/src/lib.rs", &format!("{HEAD}unsafe fn f() {{}}\n")),
            Vec::<String>::new()
        );
    }

    #[test]
    fn planted_untidiness_fails() {
        let unfinished = format!("{HEAD}// {}{}: later\n", "TO", "DO");
        let macros = format!("{HEAD}fn f() {{ {}{}() }}\n", "unimpl", "emented!");
        let path = format!("{HEAD}const P: &str = \"{}{}x\";\n", "/wo", "rk/");
        for text in [
            "fn f() {}\n",
            &unfinished,
            &macros,
            &path,
            &format!("{HEAD}unsafe fn f() {{}}\n"),
            &format!("{HEAD}fn f() {{}} \n"),
            &format!("{HEAD}fn f() {{}}"),
            &format!("{HEAD}{}", "fn f() {}\n".repeat(LINES_MAX)),
        ] {
            assert_eq!(
                findings("engine/model/src/lib.rs", text).len(),
                1,
                "{}",
                &text[..text.len().min(120)]
            );
        }
    }

    #[test]
    fn lints_must_be_inherited() {
        assert!(inherits_lints("[lints]\nworkspace = true\n"));
        assert!(!inherits_lints("[package]\nname = \"x\"\n"));
    }
}
