//! The map in docs/ARCHITECTURE.md stays true: what it names exists, and every crate is on it.
//!
//! A name is a path in backticks that begins with a top-level folder of code (`engine/`, `net/`, `bench/`, `tools/`,
//! `scripts/`, `docs/`, `.ci/`). Links between documents are followed too.

use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::workspace::Workspace;

/// Where the map lies.
const MAP: &str = "docs/ARCHITECTURE.md";
const ROOTS: [&str; 7] = ["engine/", "net/", "bench/", "tools/", "scripts/", "docs/", ".ci/"];

/// Every place where the map and the checkout disagree, in words.
pub(crate) fn check(workspace: &Workspace) -> Result<Vec<String>> {
    if !workspace.root.join(MAP).is_file() {
        return Ok(vec![format!("{MAP} is missing")]);
    }
    let mut findings = Vec::new();
    let exists = |path: &Path| workspace.root.join(path).exists();
    for file in workspace.files()? {
        if file.extension().is_none_or(|extension| extension != "md") {
            continue;
        }
        let Some(text) = workspace.read(&file)? else { continue };
        if file == Path::new(MAP) {
            let folders: Vec<&str> = workspace.crates.iter().map(|member| member.folder.as_str()).collect();
            findings.extend(check_map(&text, &folders, exists));
        }
        findings.extend(check_links(&file, &text, exists));
    }
    Ok(findings)
}

fn check_map(text: &str, folders: &[&str], exists: impl Fn(&Path) -> bool) -> Vec<String> {
    let mut findings = Vec::new();
    let named = named_paths(text);
    for (line, path) in &named {
        if !exists(Path::new(path)) {
            findings.push(format!("{MAP}:{line} names `{path}`, which isn't there"));
        }
    }
    for folder in folders {
        if !named.iter().any(|(_, path)| path.trim_end_matches('/') == *folder) {
            findings.push(format!("{MAP} does not name the crate `{folder}`"));
        }
    }
    findings
}

/// The paths in backticks with their lines; blocks between fences are drawings, not names.
fn named_paths(text: &str) -> Vec<(usize, String)> {
    let mut named = Vec::new();
    let mut in_drawing = false;
    for (index, line) in text.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            in_drawing = !in_drawing;
        }
        if in_drawing {
            continue;
        }
        for quoted in line.split('`').skip(1).step_by(2) {
            let is_path = ROOTS.iter().any(|root| quoted.starts_with(root));
            if is_path && !quoted.contains(['*', ' ', '<', '{']) {
                named.push((index + 1, quoted.to_owned()));
            }
        }
    }
    named
}

fn check_links(file: &Path, text: &str, exists: impl Fn(&Path) -> bool) -> Vec<String> {
    let mut findings = Vec::new();
    let home = file.parent().unwrap_or(Path::new(""));
    for (index, line) in text.lines().enumerate() {
        for link in line.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let target = link.split('#').next().unwrap_or_default();
            if target.is_empty() || target.contains("://") {
                continue;
            }
            if !exists(&flatten(&home.join(target))) {
                findings.push(format!(
                    "{}:{} links to {target}, which isn't there",
                    file.display(),
                    index + 1
                ));
            }
        }
    }
    findings
}

/// A path without its `..` parts.
fn flatten(path: &Path) -> PathBuf {
    let mut flat = PathBuf::new();
    for part in path.iter() {
        if part == ".." {
            flat.pop();
        } else {
            flat.push(part);
        }
    }
    flat
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str =
        "The words: `engine/model` and `engine/model/src/ids.rs`; `Shard::handle` is no path.\n";

    fn exists(path: &Path) -> bool {
        ["engine/model", "engine/model/src/ids.rs", "docs/ARCHITECTURE.md"].contains(&path.to_str().unwrap())
    }

    #[test]
    fn a_true_map_passes() {
        assert_eq!(check_map(TEXT, &["engine/model"], exists), Vec::<String>::new());
    }

    #[test]
    fn a_planted_ghost_and_a_missing_crate_fail() {
        let ghost = format!("{TEXT}See `engine/model/src/gone.rs`.\n");
        let findings = check_map(&ghost, &["engine/model"], exists);
        assert!(findings.len() == 1 && findings[0].contains(":2 ") && findings[0].contains("gone.rs"));
        let findings = check_map(TEXT, &["engine/model", "engine/api"], exists);
        assert!(findings.len() == 1 && findings[0].contains("engine/api"));
    }

    #[test]
    fn links_are_followed() {
        let text = "[map](../docs/ARCHITECTURE.md#layers) [out](https://example.org) [here](#x)\n";
        assert_eq!(check_links(Path::new("docs/README.md"), text, exists), Vec::<String>::new());
        assert_eq!(check_links(Path::new("docs/README.md"), "[no](NO.md)", exists).len(), 1);
    }
}
