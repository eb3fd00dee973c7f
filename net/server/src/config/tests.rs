use super::*;

fn load(file: &str, environment: &[(&str, &str)], flags: &[(&str, &str)]) -> Result<Config, ConfigError> {
    let path = std::env::temp_dir().join(format!("cutwater-config-{}-{:p}.toml", std::process::id(), &file));
    std::fs::write(&path, file).unwrap();
    let environment = environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    let flags: Vec<_> = flags.iter().map(|(key, value)| (*key, (*value).to_owned())).collect();
    let config = Config::load(Some(&path), environment, &flags);
    std::fs::remove_file(&path).unwrap();
    config
}

#[test]
fn a_flag_goes_over_the_environment_and_that_over_the_file() {
    let file = "data = \"a\"\njournal_bytes = \"1GiB\"\nshards = 1\nlog = \"json\"\n";
    let config = load(
        file,
        &[("CUTWATER_DATA", "b"), ("CUTWATER_JOURNAL_BYTES", "2GiB"), ("HOME", "/")],
        &[("data", "c")],
    )
    .unwrap();
    assert_eq!(config.data, Path::new("c"));
    assert_eq!(config.journal_bytes, 2 << 30);
    assert_eq!(config.log, LogFormat::Json);
    let text = config.render();
    assert!(text.contains("data = \"c\"  # flag --data\n"), "{text}");
    assert!(text.contains("journal_bytes = 2147483648  # environment CUTWATER_JOURNAL_BYTES\n"), "{text}");
    assert!(text.contains("log = \"json\"  # "), "{text}");
    assert!(text.contains("idle = \"adaptive\"  # default\n"), "{text}");
}

#[test]
fn what_is_printed_can_be_read_again() {
    let file = "shards = 2\nmemory_bytes = \"256MiB\"\nmemory_ready_bytes = 0\ncores = [0, 1]\n";
    let first = load(file, &[], &[]).unwrap();
    let second = load(&first.render(), &[], &[]).unwrap();
    assert_eq!(first.node().cores, second.node().cores);
    assert_eq!(first.node().memory_bytes, second.node().memory_bytes);
    assert_eq!([first.node().memory_ready_bytes, second.node().memory_ready_bytes], [0, 0]);
}

#[test]
fn an_unknown_key_is_refused_by_name_and_source() {
    let from_file = load("jornal_bytes = 5\n", &[], &[]).unwrap_err().to_string();
    assert!(from_file.starts_with("jornal_bytes: there is no such key ("), "{from_file}");
    let from_environment = load("", &[("CUTWATER_DATTA", "x")], &[]).unwrap_err().to_string();
    assert!(
        from_environment.contains("datta") && from_environment.contains("CUTWATER_DATTA"),
        "{from_environment}"
    );
}

#[test]
fn values_out_of_bounds_are_refused_with_their_key() {
    for (file, key) in [
        ("shards = 0", "shards"),
        ("shards = 65", "shards"),
        ("journal_bytes = -1", "journal_bytes"),
        ("journal_bytes = \"1MiB\"", "journal_bytes"),
        ("memory_bytes = \"1KiB\"", "memory_bytes"),
        ("memory_ready_bytes = -1", "memory_ready_bytes"),
        ("memory_bytes = \"100MiB\"\nshards = 2\n", "memory_bytes"),
        ("idle = \"sometimes\"", "idle"),
        ("listen = \"localhost\"", "listen"),
        ("cores = [1, 1]", "cores"),
        ("log_level = \"loud\"", "log_level"),
        ("shards = 2\ncores = [1]\nidle = \"busy\"", "idle"),
    ] {
        let error = load(file, &[], &[]).unwrap_err().to_string();
        assert!(error.starts_with(&format!("{key}: ")), "{file}: {error}");
    }
}

#[test]
fn a_public_address_needs_a_word() {
    let refused = load("listen = \"0.0.0.0:7400\"\n", &[], &[]).unwrap_err();
    assert!(matches!(refused, ConfigError::Public { .. }) && refused.to_string().contains("--insecure"));
    assert!(matches!(load("admin = \"[::]:1\"\n", &[], &[]), Err(ConfigError::PublicAdmin { .. })));
    let config = load("listen = \"0.0.0.0:7400\"\n", &[], &[("insecure", "true")]).unwrap();
    assert_eq!(config.listen.port(), 7400);
}

#[test]
fn the_environment_can_name_the_file_and_a_missing_one_is_an_error() {
    let variables = [("CUTWATER_CONFIG".to_owned(), "/nonexistent/cutwater.toml".to_owned())];
    let error = Config::load(None, variables, &[]).unwrap_err();
    assert!(error.to_string().contains("/nonexistent/cutwater.toml"));
}
