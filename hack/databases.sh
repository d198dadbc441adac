#!/bin/bash
# Database servers (and Prometheus) that this machine's own packages do not offer, each as a tree: a package of another
# Debian suite with its libraries, unpacked and not installed. Fetched once, kept in the user's cache.
#   databases.sh                    fetches what is missing of those that the tests need
#   databases.sh NAME               fetches it if it is missing, and prints its folder
#   databases.sh --missing          prints the names of those that are not there yet
#   databases.sh --in NAME ACCOUNT SCRATCH PROGRAM ARGUMENTS...
#       runs a program of a tree as ACCOUNT, with this machine's /dev, /proc and the folder SCRATCH.
#       Needs root. The process keeps the number that this script was started with.
set -euo pipefail
cache=${XDG_CACHE_HOME:-$HOME/.cache}/component-lease/databases

# NAME: SUITE PACKAGES. "Extract" unpacks without running anything of the packages.
tree() {
  case $1 in
  postgres-13) echo bullseye postgresql-13,dash,coreutils,sed,grep ;;   # by RELEASE=13 of the drill alone, as 17
  postgres-17) echo trixie postgresql-17,dash,coreutils,sed,grep ;;
  postgres-18) echo forky postgresql-18,dash,coreutils,sed,grep ;;      # 18.6 when this was written
  mariadb-10.11) echo bookworm mariadb-server,mariadb-client-core,dash,coreutils,sed,grep ;;
  mariadb-11.8) echo trixie mariadb-server,mariadb-client-core,dash,coreutils,sed,grep ;;
  mysql-9) echo sid mysql-server-core ;;                                # 9.7 when this was written
  patroni) echo forky patroni,python3-etcd,etcd-server,postgresql-18,dash,coreutils,sed,grep ;;   # 4.1; by PEER=patroni of the drill alone
  prometheus) echo trixie prometheus ;;                                 # 2.53; no database, but fetched alike
  *) echo "databases.sh: no tree is called $1" >&2; return 2 ;;
  esac
}
# A tree is fetched anew when the line above asks for other packages.
there() { [[ $(cat "$cache/$1/complete" 2>/dev/null) == "$(tree "$1")" ]]; }
# A tree only where it is not installed: MariaDB 10.11 is Debian 12's own.
installed() {
  case $1 in
  mariadb-10.11) [[ $(/usr/sbin/mariadbd --version 2>/dev/null) == *" 10.11."* ]] ;;
  postgres-*) [[ $("/usr/lib/postgresql/${1#*-}/bin/postgres" --version 2>/dev/null) == *" ${1#*-}."* ]] ;;
  *) false ;;
  esac
}
all=(postgres-18 mariadb-10.11 mariadb-11.8 mysql-9 prometheus)

# Trees belong to root, who alone runs what is in them.
fetch() {
  local name=$1 suite packages new
  read -r suite packages < <(tree "$name")
  [[ $suite ]] || exit 2
  ! there "$name" || return 0
  command -v mmdebstrap >/dev/null || { echo "$name is fetched by mmdebstrap (package mmdebstrap)" >&2; exit 1; }
  mkdir -p "$cache"
  exec {lock}>"$cache/.lock"; flock "$lock"
  ! there "$name" || return 0
  echo "fetching $name (Debian's suite $suite)" >&2
  new=$(mktemp -d "$cache/.$name-XXXXXX"); chmod 755 "$new"
  # An index may be older than its validity on a mirror that keeps the past.
  mmdebstrap --quiet --variant=extract --include="$packages" --aptopt='Acquire::Check-Valid-Until "false"' \
    "$suite" "$new" >&2 || { rm -rf "$new"; echo "cannot fetch $name" >&2; exit 1; }
  local d
  for d in bin sbin lib lib64; do [[ -e $new/$d ]] || ln -s "usr/$d" "$new/$d"; done
  mkdir -p "$new"/{dev,proc,etc,run,scratch}
  rm -rf "$new/usr/share/doc" "$new/usr/share/man" "$new/usr/share/locale" "$new/var/lib/apt" "$new/var/cache/apt"
  tree "$name" >"$new/complete"
  rm -rf "${cache:?}/$name"; mv "$new" "$cache/$name"
  exec {lock}>&-
}

case ${1:-} in
--missing | --in) ;;
*) [[ $(id -u) == 0 ]] || exec "$(dirname "$0")/as-root.sh" "$0" "$@" ;;
esac
case ${1:-} in
'') for name in "${all[@]}"; do installed "$name" || fetch "$name"; done ;;
--missing) for name in "${all[@]}"; do installed "$name" || there "$name" || echo "$name"; done ;;
--in)
  name=$2 account=$3 scratch=$4; shift 4
  there "$name" || { echo "$name is not there: run hack/databases.sh $name" >&2; exit 1; }
  # A mount namespace of its own, so that the mounts go with the process.
  exec unshare --mount bash -c '
    root=$1 account=$2 scratch=$3; shift 3
    mkdir -p "$root$scratch"
    for file in passwd group hosts; do [[ -e $root/etc/$file ]] || cp "/etc/$file" "$root/etc/$file"; done
    for folder in /dev /proc "$scratch"; do mount --rbind "$folder" "$root$folder"; done
    exec chroot --userspec="$account" "$root" "$@"' in-tree "$cache/$name" "$account" "$scratch" "$@"
  ;;
*) fetch "$1"; echo "$cache/$1" ;;
esac
