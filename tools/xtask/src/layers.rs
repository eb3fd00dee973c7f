//! The layers: which crate may depend on which. The table below is the law; docs/ARCHITECTURE.md tells why.
//!
//! Pure crates decide and shells do, `log`, `journal` and `metadata` are strangers to each other, a door knows only the
//! seam (`api`) and the words (`model`), and nothing depends on `tools/` or `bench/` but tools and benches.

use crate::workspace::{Crate, Kind};

/// One row: a crate and the crates of the project that it may depend on.
struct Layer {
    folder: &'static str,
    may_use: &'static [&'static str],
}

const LAYERS: [Layer; 16] = [
    Layer { folder: "engine/model", may_use: &[] },
    Layer { folder: "engine/api", may_use: &["engine/model"] },
    Layer { folder: "engine/log", may_use: &["engine/model"] },
    Layer { folder: "engine/journal", may_use: &["engine/model"] },
    Layer { folder: "engine/metadata", may_use: &["engine/model"] },
    Layer {
        folder: "engine/broker",
        may_use: &["engine/api", "engine/journal", "engine/log", "engine/metadata", "engine/model"],
    },
    Layer { folder: "engine/ring", may_use: &["engine/model"] },
    Layer {
        folder: "engine/node",
        may_use: &["engine/api", "engine/broker", "engine/metadata", "engine/model", "engine/ring"],
    },
    Layer { folder: "net/native", may_use: &["engine/api", "engine/model"] },
    Layer { folder: "net/client", may_use: &["engine/api", "engine/model", "engine/ring", "net/native"] },
    Layer {
        folder: "net/server",
        may_use: &[
            "engine/api",
            "engine/broker",
            "engine/metadata",
            "engine/model",
            "engine/node",
            "engine/ring",
            "net/native",
        ],
    },
    Layer { folder: "bench/load", may_use: &[BELOW_BENCH] },
    Layer { folder: "bench/micro", may_use: &[BELOW_BENCH] },
    Layer { folder: "tools/cli", may_use: &[BELOW_BENCH, "bench/load"] },
    Layer { folder: "tools/fuzz-targets", may_use: &[BELOW_BENCH] },
    Layer { folder: "tools/sim", may_use: &[BELOW_BENCH] },
];

/// Stands for every crate of `engine/` and `net/`.
const BELOW_BENCH: &str = "engine/* net/*";

/// Crates that tests alone may use besides the row above: a client is tested against a real node.
const IN_TESTS: [(&str, &str); 1] = [("net/client", "net/server")];

/// Crates from outside that only some crates may use, with the reason.
const ROOMS: [(&str, &[&str], &str); 3] = [
    ("io-uring", &["engine/ring"], "system calls happen in engine/ring"),
    ("tokio", &["engine/node"], "the one tokio thread is the node's control thread"),
    ("hyper", &["engine/node"], "HTTP is served by the node's control thread"),
];

/// Every forbidden edge among `crates`, in words; empty when all keep to the table.
pub(crate) fn check(crates: &[Crate]) -> Vec<String> {
    let mut findings = Vec::new();
    for member in crates {
        let allowed = allowed(&member.folder);
        for dependency in &member.dependencies {
            if let Some((_, rooms, why)) = ROOMS.iter().find(|(name, _, _)| *name == dependency.name)
                && !rooms.contains(&member.folder.as_str())
                && dependency.kind != Kind::Dev
            {
                findings.push(format!("{} may not use {}: {why}", member.folder, dependency.name));
            }
            let Some(used) = crates.iter().find(|other| other.name == dependency.name) else { continue };
            if !allows(allowed, member, used, dependency.kind) {
                findings.push(format!(
                    "{} may not depend on {}: the edge is not in the table of layers (tools/xtask/src/layers.rs)",
                    member.folder, used.folder
                ));
            }
        }
        if allowed.is_none() && member.folder != "tools/xtask" {
            findings.push(format!(
                "{} has no row in the table of layers; give it one in tools/xtask/src/layers.rs",
                member.folder
            ));
        }
    }
    findings
}

fn allowed(folder: &str) -> Option<&'static [&'static str]> {
    LAYERS.iter().find(|layer| layer.folder == folder).map(|layer| layer.may_use)
}

fn allows(allowed: Option<&[&str]>, member: &Crate, used: &Crate, kind: Kind) -> bool {
    if kind == Kind::Dev && IN_TESTS.contains(&(member.folder.as_str(), used.folder.as_str())) {
        return true;
    }
    let below_bench = used.folder.starts_with("engine/") || used.folder.starts_with("net/");
    allowed
        .unwrap_or_default()
        .iter()
        .any(|name| *name == used.folder || (*name == BELOW_BENCH && below_bench))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workspace::made_up::{dependency, member};

    fn graph(last: Crate) -> Vec<Crate> {
        let mut crates: Vec<Crate> = LAYERS
            .iter()
            .filter(|layer| layer.folder != last.folder)
            .map(|layer| member(layer.folder, &[]))
            .collect();
        crates.push(last);
        crates
    }

    #[test]
    fn the_edges_of_the_design_pass() {
        let crates = graph(member(
            "engine/broker",
            &["engine/log", "engine/journal", "engine/metadata", "engine/api"],
        ));
        assert_eq!(check(&crates), Vec::<String>::new());
        assert_eq!(check(&graph(member("tools/cli", &["net/server", "bench/load"]))), Vec::<String>::new());
    }

    #[test]
    fn planted_edges_fail() {
        for (from, to) in [
            ("engine/log", "engine/journal"),
            ("engine/api", "engine/broker"),
            ("engine/node", "net/native"),
            ("engine/node", "engine/log"),
            ("net/native", "engine/broker"),
            ("net/client", "net/server"),
            ("engine/model", "tools/sim"),
            ("bench/load", "tools/cli"),
        ] {
            let findings = check(&graph(member(from, &[to])));
            assert_eq!(findings.len(), 1, "{from} -> {to}: {findings:?}");
            assert!(findings[0].contains(from) && findings[0].contains(to));
        }
    }

    #[test]
    fn tests_may_use_a_little_more_but_not_anything() {
        let mut client = member("net/client", &[]);
        client.dependencies.push(dependency("net/server", Kind::Dev));
        assert_eq!(check(&graph(client)), Vec::<String>::new());
        let mut log = member("engine/log", &[]);
        log.dependencies.push(dependency("engine/journal", Kind::Dev));
        assert_eq!(check(&graph(log)).len(), 1);
    }

    #[test]
    fn a_crate_without_a_row_and_a_crate_in_the_wrong_room_fail() {
        assert_eq!(check(&graph(member("engine/novel", &[]))).len(), 1);
        assert_eq!(check(&graph(member("engine/broker", &["tokio"]))).len(), 1);
        assert_eq!(check(&graph(member("engine/node", &["tokio"]))), Vec::<String>::new());
    }
}
