//! The pure crates live without std: no clock, no file, no thread can creep into them.
//!
//! Where the target `x86_64-unknown-none` is installed, every pure crate is compiled for it, by itself: there is no std
//! there to lean on. Elsewhere a compilation for this machine has to do. What a compiler can't see (a crate that asks for
//! std back where there is one, a dependency that isn't wanted) is checked in the text and in the manifests.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::process::Step;
use crate::source;
use crate::workspace::{Crate, Kind, Workspace};

/// The crates that must be pure.
pub(crate) const PURE: [&str; 7] = [
    "engine/model",
    "engine/api",
    "engine/log",
    "engine/journal",
    "engine/metadata",
    "engine/broker",
    "net/native",
];

/// A target without an operating system, and so without std.
const TARGET: &str = "x86_64-unknown-none";

/// Crates from outside that a pure crate may use, and whether they may use std themselves.
const ALLOWED: [(&str, UsesStd); 4] = [
    // It asks the processor which instructions it has, which needs std; the model leaves it out where there is none.
    ("crc-fast", UsesStd::ForCpuDetection),
    ("hashbrown", UsesStd::No),
    ("thiserror", UsesStd::No),
    ("xxhash-rust", UsesStd::No),
];

#[derive(Clone, Copy, PartialEq, Eq)]
enum UsesStd {
    No,
    ForCpuDetection,
}

/// Everything that ties a pure crate to std, in words.
pub(crate) fn check(workspace: &Workspace) -> Result<Vec<String>> {
    let mut findings = Vec::new();
    for folder in PURE {
        let Some(member) = workspace.member(folder) else {
            findings.push(format!("{folder} is listed as pure but is not in the workspace"));
            continue;
        };
        findings.extend(check_dependencies(member));
        findings.extend(check_sources(folder, &sources(workspace, folder)?));
    }
    if findings.is_empty() {
        findings.extend(compile(workspace)?);
    }
    Ok(findings)
}

/// Compiles every pure crate by itself, so that features which other members switch on do not help it.
fn compile(workspace: &Workspace) -> Result<Vec<String>> {
    let mut arguments = vec!["check", "--quiet", "--lib"];
    if has_target()? {
        arguments.extend(["--target", TARGET]);
    } else {
        println!(
            "!!! The target {TARGET} is not installed: the pure crates are compiled for this machine only."
        );
        println!("!!! `rustup target add {TARGET}` makes this check complete.");
    }
    let mut findings = Vec::new();
    for folder in PURE {
        let Some(member) = workspace.member(folder) else { continue };
        let mut arguments = arguments.clone();
        arguments.extend(["--package", &member.name]);
        if !Step::cargo(&workspace.root, &arguments).run_quiet()? {
            findings.push(format!("{folder} does not compile without std"));
        }
    }
    Ok(findings)
}

fn has_target() -> Result<bool> {
    let output = Command::new("rustc").args(["--print", "sysroot"]).output().context("cannot run rustc")?;
    let sysroot = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    Ok(Path::new(&sysroot).join("lib/rustlib").join(TARGET).is_dir())
}

/// The source files of a crate with their paths relative to its `src`.
fn sources(workspace: &Workspace, folder: &str) -> Result<Vec<(PathBuf, String)>> {
    let src = Path::new(folder).join("src");
    let mut sources = Vec::new();
    for file in workspace.files()? {
        if let Ok(inside) = file.strip_prefix(&src)
            && inside.extension().is_some_and(|extension| extension == "rs")
            && let Some(text) = workspace.read(&file)?
        {
            sources.push((inside.to_path_buf(), text));
        }
    }
    Ok(sources)
}

fn check_dependencies(member: &Crate) -> Vec<String> {
    let mut findings = Vec::new();
    for dependency in member.dependencies.iter().filter(|dependency| dependency.kind != Kind::Dev) {
        if dependency.name.starts_with("cutwater-") {
            let pure = PURE
                .iter()
                .any(|folder| folder.rsplit('/').next() == dependency.name.strip_prefix("cutwater-"));
            if !pure {
                findings.push(format!("{} depends on {}, which is not pure", member.folder, dependency.name));
            }
            continue;
        }
        match ALLOWED.iter().find(|(name, _)| *name == dependency.name) {
            None => findings.push(format!(
                "{} depends on {}, which is not on the list of a pure crate's dependencies (tools/xtask/src/no_std.rs)",
                member.folder, dependency.name
            )),
            Some((_, UsesStd::ForCpuDetection)) => {}
            Some((_, UsesStd::No)) => {
                if dependency.default_features || dependency.features.iter().any(|feature| feature == "std") {
                    findings.push(format!(
                        "{} takes {} with std; set default-features = false and leave out the feature \"std\"",
                        member.folder, dependency.name
                    ));
                }
            }
        }
    }
    findings
}

fn check_sources(folder: &str, sources: &[(PathBuf, String)]) -> Vec<String> {
    let mut findings = Vec::new();
    let mut test_files: BTreeSet<PathBuf> = BTreeSet::new();
    let mut shipped = Vec::new();
    for (file, text) in sources {
        let code = source::code_only(text);
        let (kept, modules) = source::without_tests(&code);
        test_files.extend(modules.iter().map(|module| module_home(file).join(module)));
        if file == Path::new("lib.rs") && !declares_no_std(&code) {
            findings.push(format!("{folder}/src/lib.rs does not say #![no_std]"));
        }
        shipped.push((file, kept));
    }
    for (file, code) in shipped {
        let of_a_test =
            test_files.iter().any(|module| file.with_extension("") == *module || file.starts_with(module));
        if of_a_test {
            continue;
        }
        for line in source::lines_with_word(&code, "std") {
            findings.push(format!("{folder}/src/{}:{line} uses std outside #[cfg(test)]", file.display()));
        }
    }
    findings
}

fn declares_no_std(code: &str) -> bool {
    code.contains("#![no_std]") || code.contains("#![cfg_attr(not(test), no_std)]")
}

/// The folder in which a file's child modules live.
fn module_home(file: &Path) -> PathBuf {
    let parent = file.parent().unwrap_or(Path::new(""));
    match file.file_stem().and_then(|stem| stem.to_str()) {
        Some("lib" | "mod" | "main") | None => parent.to_path_buf(),
        Some(stem) => parent.join(stem),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workspace::made_up::{dependency, member};

    const HEAD: &str = "//! Words about std.\n#![no_std]\nextern crate alloc;\n";

    fn findings(files: &[(&str, &str)]) -> Vec<String> {
        let sources: Vec<_> =
            files.iter().map(|(file, text)| (PathBuf::from(file), (*text).to_owned())).collect();
        check_sources("engine/made_up", &sources)
    }

    #[test]
    fn a_pure_crate_passes_and_its_tests_may_use_std() {
        let lib = format!("{HEAD}mod log;\n#[cfg(test)]\nextern crate std;\n#[cfg(test)]\nmod checks;\n");
        let log = "#[cfg(test)]\nmod tests { use std::vec::Vec; }\n#[cfg(test)]\nmod slow;\n";
        let files = [
            ("lib.rs", lib.as_str()),
            ("log.rs", log),
            ("checks.rs", "use std::fs;"),
            ("checks/more.rs", "use std::fs;"),
            ("log/slow.rs", "use std::fs;"),
        ];
        assert_eq!(findings(&files), Vec::<String>::new());
    }

    #[test]
    fn planted_uses_of_std_fail() {
        assert_eq!(findings(&[("lib.rs", "//! No.\nextern crate alloc;\n")]).len(), 1);
        for planted in
            ["extern crate std;\n", "use std::time::Instant;\n", "fn f() { ::std::process::exit(1) }\n"]
        {
            let lib = format!("{HEAD}{planted}");
            assert_eq!(findings(&[("lib.rs", &lib)]).len(), 1, "{planted}");
        }
        assert_eq!(findings(&[("lib.rs", HEAD), ("slow.rs", "use std::fs;")]).len(), 1);
    }

    #[test]
    fn planted_dependencies_fail() {
        assert_eq!(
            check_dependencies(&member("engine/log", &["engine/model", "thiserror"])),
            Vec::<String>::new()
        );
        assert_eq!(check_dependencies(&member("engine/log", &["tokio"])).len(), 1);
        assert_eq!(check_dependencies(&member("engine/log", &["engine/ring"])).len(), 1);
        let mut with_std = member("engine/log", &[]);
        with_std.dependencies.push(dependency("thiserror", Kind::Normal));
        with_std.dependencies[0].default_features = true;
        assert_eq!(check_dependencies(&with_std).len(), 1);
        with_std.dependencies[0].kind = Kind::Dev;
        assert_eq!(check_dependencies(&with_std), Vec::<String>::new());
    }
}
