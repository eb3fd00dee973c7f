# Sourced by the other scripts: makes sure that what they need is installed, and says what it does.
#
# Checks first and installs only what is missing: a Rust toolchain (by rustup) and a few Debian packages (by apt-get,
# as root or through sudo). Defines `say`, `fail`, `project_root` and `bin_dir`.

set -euo pipefail

RUST_MIN_MAJOR=1
RUST_MIN_MINOR=95
# Where there is no Rust yet: the release that the code is checked with.
RUST_INSTALLED=1.95.0

project_root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
bin_dir=${CARGO_TARGET_DIR:-$project_root/target}/release

say() { printf '==> %s\n' "$*"; }
fail() { printf 'error: %s\n' "$*" >&2; exit 1; }

# as_root COMMAND...: runs it as root, through sudo where that works without a password.
as_root() {
    if [ "$(id -u)" -eq 0 ]; then
        "$@"
    elif command -v sudo >/dev/null && sudo -n true 2>/dev/null; then
        sudo -n "$@"
    else
        fail "'$*' needs root; run it yourself, then start this script again"
    fi
}

require_linux() {
    [ "$(uname -s)" = Linux ] || fail "Cutwater needs Linux (io_uring); this is $(uname -s)"
}

# Debian package -> a command that proves it is there.
missing_packages() {
    command -v cc >/dev/null || echo build-essential
    command -v curl >/dev/null || echo curl
    # Nothing can be fetched without; curl only recommends it.
    [ -e /etc/ssl/certs/ca-certificates.crt ] || echo ca-certificates
    command -v fio >/dev/null || echo fio
    command -v mkfs.ext4 >/dev/null || [ -x /sbin/mkfs.ext4 ] || echo e2fsprogs
}

install_packages() {
    local missing
    missing=$(missing_packages | tr '\n' ' ')
    [ -n "${missing// /}" ] || return 0
    command -v apt-get >/dev/null || fail "missing: $missing(no apt-get here; install them with your package manager)"
    say "installing Debian packages: $missing"
    as_root env DEBIAN_FRONTEND=noninteractive apt-get update -q </dev/null
    # shellcheck disable=SC2086 # one word per package
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends $missing </dev/null
}

# True when the cargo and rustc on the PATH are new enough.
rust_is_new_enough() {
    command -v cargo >/dev/null && command -v rustc >/dev/null || return 1
    local version major minor
    version=$(cd "$project_root" && rustc --version 2>/dev/null | cut -d' ' -f2) || return 1
    major=${version%%.*}
    minor=${version#*.}
    minor=${minor%%.*}
    [ "$major" -gt "$RUST_MIN_MAJOR" ] || { [ "$major" -eq "$RUST_MIN_MAJOR" ] && [ "$minor" -ge "$RUST_MIN_MINOR" ]; }
}

install_rust() {
    if ! rust_is_new_enough && [ -f "${CARGO_HOME:-$HOME/.cargo}/env" ]; then
        # shellcheck disable=SC1091 # written by rustup
        . "${CARGO_HOME:-$HOME/.cargo}/env"
    fi
    rust_is_new_enough && return 0
    if command -v rustup >/dev/null; then
        say "updating Rust to at least $RUST_MIN_MAJOR.$RUST_MIN_MINOR by rustup"
        rustup toolchain install stable --profile minimal --component rustfmt --component clippy </dev/null
        rustup default stable </dev/null
    else
        say "installing Rust $RUST_INSTALLED by rustup (https://rustup.rs) for this user"
        # What https://sh.rustup.rs leads to.
        curl --proto '=https' --tlsv1.2 -sSf https://static.rust-lang.org/rustup/rustup-init.sh \
            -o /tmp/rustup-init.$$ || fail "cannot fetch rustup; install Rust $RUST_MIN_MAJOR.$RUST_MIN_MINOR or newer yourself"
        sh /tmp/rustup-init.$$ -y --default-toolchain "$RUST_INSTALLED" --profile minimal --component rustfmt \
            --component clippy </dev/null
        rm -f /tmp/rustup-init.$$
        # shellcheck disable=SC1091
        . "${CARGO_HOME:-$HOME/.cargo}/env"
    fi
    rust_is_new_enough || fail "Rust $RUST_MIN_MAJOR.$RUST_MIN_MINOR or newer is needed; found: $(rustc --version 2>&1)"
}

# The pure crates are compiled for a target without std; where it can't be had, `cargo xtask no-std` says so.
install_bare_target() {
    local target=x86_64-unknown-none
    [ ! -d "$(rustc --print sysroot)/lib/rustlib/$target" ] || return 0
    command -v rustup >/dev/null || return 0
    say "adding the target $target by rustup"
    rustup target add "$target" </dev/null || say "could not add $target; going on without it"
}

require_linux
install_packages
install_rust
install_bare_target
cd "$project_root"
