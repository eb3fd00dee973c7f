//! The targets, one group of decoders per file.

mod batch;
mod checkpoint;
mod journal;
mod log;
mod metadata;
mod native;

/// One decoder, or a few that read the same bytes.
#[derive(Clone, Copy)]
pub struct Target {
    /// What it is called on the command line, and its file in `tools/fuzz/fuzz_targets`.
    pub name: &'static str,
    /// Decodes whatever the bytes are, and panics where something doesn't hold.
    pub run: fn(&[u8]),
    /// Inputs that get far.
    pub seeds: fn() -> Vec<Vec<u8>>,
    /// How many bytes of memory each byte of input may cost, over the whole run of one input.
    pub bytes_per_byte: usize,
    /// What may be taken besides, whatever the input: fixed buffers.
    pub bytes_free: usize,
    /// How much slower than others it is: it gets as many times fewer inputs.
    pub cost: u64,
}

/// All targets.
pub const TARGETS: &[Target] = &[
    batch::BATCH,
    batch::RECORDS,
    native::PREFACE,
    native::REQUEST,
    native::SESSION,
    native::ANSWER,
    journal::GROUP,
    journal::SCAN,
    checkpoint::CHECKPOINT,
    log::BLOCKS,
    log::STATE,
    metadata::METADATA,
];

/// Feeds the target of that name: what each file in `tools/fuzz/fuzz_targets` calls.
///
/// # Panics
/// If there is no such target, or the target finds something.
pub fn run(name: &str, bytes: &[u8]) {
    let Some(target) = TARGETS.iter().find(|target| target.name == name) else {
        panic!("there is no target {name}")
    };
    (target.run)(bytes);
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use super::*;

    #[test]
    fn each_target_has_its_file_for_libfuzzer() {
        let home = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz");
        let manifest = fs::read_to_string(home.join("Cargo.toml")).unwrap();
        for target in TARGETS {
            let file = fs::read_to_string(home.join(format!("fuzz_targets/{}.rs", target.name)));
            assert!(
                file.is_ok_and(|text| text.contains(&format!("run(\"{}\", bytes)", target.name))),
                "{}",
                target.name
            );
            assert!(manifest.contains(&format!("name = \"{}\"", target.name)), "{}", target.name);
        }
        assert_eq!(fs::read_dir(home.join("fuzz_targets")).unwrap().count(), TARGETS.len());
    }
}
