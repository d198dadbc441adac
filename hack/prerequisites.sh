#!/bin/bash
# Says what this machine lacks, by trying the very programs and files that are used.
#   prerequisites.sh [--install] [build] [postgres] [mysql] [controlplane] [node]      (default: all of them)
# --install: says what it is going to do, then gets what rustup, apt-get (on Debian and Ubuntu, as root or with sudo)
# and Go can bring. INSTALL=no in the environment: only says what is missing.
set -uo pipefail
cd "$(dirname "$0")/.."
PATH=$PATH:/usr/sbin:/sbin              # where Debian has them, and where only root looks
install=
[[ ${1:-} != --install ]] || { install=1; shift; }
[[ ${INSTALL:-} != no ]] || install=
parts=("$@"); ((${#parts[@]})) || parts=(build postgres mysql controlplane node)

packages=() words=() fetch_go=
# lacks "WHAT IS MISSING" [PACKAGE...]
lacks() { words+=("$1"); shift; packages+=("$@"); }
runs() { "$@" >/dev/null 2>&1 </dev/null; }
as_root() {
  if [[ $(id -u) == 0 ]]; then "$@"
  else sudo env DEBIAN_FRONTEND=noninteractive "$@"; fi
}
# Not where sudo would ask for a password and nobody is there to type it.
may_be_root() { [[ $(id -u) == 0 ]] || { command -v sudo >/dev/null && { [[ -t 0 ]] || sudo -n true 2>/dev/null; }; }; }

kubernetes_is_built() { [[ -z $(hack/kubernetes/build.sh --missing) ]]; }

check_build() {
  # Outside the checkout another toolchain may answer: rust-toolchain.toml picks this one.
  runs cargo --version || lacks "cargo does not run here: install rustup, then the toolchain of rust-toolchain.toml (rustup toolchain install)"
  runs cargo fmt --version && runs cargo clippy --version || lacks "rustfmt and clippy (rustup component add rustfmt clippy)"
  runs make --version || lacks "make" make
  runs cc --version || lacks "a C compiler that runs (SQLite is compiled from source, and what moves the clocks of tested servers)" gcc libc6-dev
}
check_postgres() {
  runs pgbouncer --version || lacks "PgBouncer, the connection pooler (pgbouncer)" pgbouncer
  [[ -z ${TEST_POSTGRES_BIN:-}${TEST_POSTGRES_URL:-} ]] || return 0
  local bin
  for bin in /usr/lib/postgresql/*/bin; do
    [[ -x $bin/initdb && -x $bin/postgres && -x $bin/psql && -e ${bin%/bin}/lib/pg_stat_statements.so ]] && return
  done
  bin=$(command -v postgres 2>/dev/null) && [[ -x $(dirname "$bin")/initdb ]] && return
  lacks "PostgreSQL's server programs (/usr/lib/postgresql/*/bin); TEST_POSTGRES_BIN may name their folder" postgresql
}
check_mysql() {
  runs mariadb --version || lacks "the program mariadb (it looks into MySQL too)" mariadb-client-core
  [[ -e $(compgen -G '/usr/lib/*/libmariadb3/plugin/caching_sha2_password.so' | head -n 1) ]] || lacks "caching_sha2_password for the program mariadb" libmariadb3
  [[ -z $(hack/databases.sh --missing) ]] && return
  # Where the distribution has it, MariaDB 10.11 is this package; the rest comes as trees.
  [[ $(apt-cache policy mariadb-server-core 2>/dev/null) != *10.11.* ]] || /usr/sbin/mariadbd --version 2>/dev/null | grep -q ' 10\.11\.' ||
    lacks "MariaDB 10.11 (/usr/sbin/mariadbd)" mariadb-server-core
  runs mmdebstrap --version || lacks "mmdebstrap, which fetches the databases of other Debian suites, and Prometheus" mmdebstrap
  runs flock --version && runs unshare --version || lacks "flock and unshare" util-linux
  may_be_root || lacks "root (or sudo without a password): servers of other suites run in a tree of their own"
}
check_controlplane() {
  runs openssl version || lacks "openssl" openssl
  runs flock --version || lacks "flock" util-linux
  kubernetes_is_built && return
  runs hack/kubernetes/go.sh && return
  # Any Go can fetch the one that is needed.
  fetch_go=1
  lacks "Go $(hack/kubernetes/go.sh --wanted) or newer, to build Kubernetes' programs once (hack/kubernetes/go.sh --fetch gets it with an older Go)" \
    $(runs go version || echo golang-go)
}
check_node() {
  [[ $(uname) == Linux ]] || { lacks "Linux: a node that runs containers needs its namespaces and cgroups"; return; }
  runs containerd --version && runs ctr --version || lacks "containerd and ctr" containerd
  local plugin cni=${CNI_BIN:-/usr/lib/cni}
  for plugin in bridge host-local loopback portmap; do
    [[ -x $cni/$plugin ]] || { lacks "the CNI plugins in $cni (CNI_BIN may name another folder)" containernetworking-plugins; break; }
  done
  runs nft --version || lacks "nft" nftables
  runs iptables --version || lacks "iptables" iptables
  runs ip -V || lacks "ip" iproute2
  runs openssl version || lacks "openssl" openssl
  runs nsenter --version && runs unshare --version || lacks "unshare and nsenter" util-linux
  if ! may_be_root; then lacks "root (or sudo): a node needs namespaces, mounts and cgroups of its own"
  elif runs unshare --version; then
    as_root true || { lacks "root: sudo refuses"; return; }
    runs as_root unshare --net --mount --pid --fork true || lacks "namespaces: unshare is refused here (a container without privileges?)"
    runs as_root unshare --net test -e /proc/sys/net/bridge || lacks "the kernel's bridge filter (modprobe br_netfilter)"
    grep -qw overlay /proc/filesystems || lacks "the kernel's overlay file system (modprobe overlay)"
  fi
}

look() {
  packages=() words=() fetch_go=
  local part
  for part in "${parts[@]}"; do
    declare -F "check_$part" >/dev/null || { sed -n '3p' "$0" >&2; exit 2; }
    "check_$part"
  done
}
# Fetches the toolchain of rust-toolchain.toml, or takes the default one where it is that very version.
install_toolchain() {
  local wanted sysroot
  wanted=$(sed -n 's/^channel = "\(.*\)"/\1/p' rust-toolchain.toml)
  runs cargo --version || ! runs rustup --version && return
  rustup toolchain install "$wanted" --profile minimal --component rustfmt,clippy && return
  sysroot=$(cd / && rustc --print sysroot 2>/dev/null) && [[ $(cd / && rustc --version) == "rustc $wanted "* ]] &&
    rustup toolchain link "$wanted" "$sysroot"
}

[[ ! $install ]] || install_toolchain
look
if [[ $install ]] && ((${#packages[@]})) && runs apt-get --version && may_be_root; then
  mapfile -t packages < <(printf '%s\n' "${packages[@]}" | sort -u)
  echo "Installing with apt-get (INSTALL=no only says what is missing): ${packages[*]}" >&2
  export DEBIAN_FRONTEND=noninteractive
  as_root apt-get update -q >&2 && as_root apt-get install -q -y --no-install-recommends "${packages[@]}" >&2 || exit 1
  look
fi
if [[ $install && $fetch_go ]] && runs go version; then
  echo "Fetching Go $(hack/kubernetes/go.sh --wanted) (INSTALL=no only says what is missing)" >&2
  hack/kubernetes/go.sh --fetch >/dev/null || exit 1
  look
fi
((${#words[@]})) || exit 0
echo "This machine lacks:" >&2
printf '  %s\n' "${words[@]}" | sort -u >&2
if ((${#packages[@]})); then
  mapfile -t packages < <(printf '%s\n' "${packages[@]}" | sort -u)
  echo "On Debian or Ubuntu, as root:
  apt-get install -y --no-install-recommends ${packages[*]}" >&2
fi
exit 1
