#!/bin/bash
# A Go that is new enough to build Kubernetes' programs.
#   go.sh             prints its path; says what is missing where there is none
#   go.sh --wanted    prints the version that is needed
#   go.sh --fetch     gets that version with any older Go (as the module golang.org/toolchain, checked by Go's
#                     checksum database) and keeps it in the user's cache
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
wanted=$(sed -n 's/^go //p' ./*/go.mod | sort -V | tail -n 1)
cached=${XDG_CACHE_HOME:-$HOME/.cache}/component-lease/go/$wanted
at_least() { [[ $(printf '%s\n%s\n' "$1" "$2" | sort -V | head -n 1) == "$1" ]]; }     # WANTED FOUND

case ${1:-} in
--wanted) echo "$wanted" ;;
--fetch)
  ! path=$("$0" 2>/dev/null) || { echo "$path"; exit 0; }
  command -v go >/dev/null || { echo "Go of any version is needed to fetch Go $wanted" >&2; exit 1; }
  case $(uname -m) in x86_64) arch=amd64 ;; aarch64) arch=arm64 ;; *) echo "no Go is offered for $(uname -m); see go.dev/dl" >&2; exit 1 ;; esac
  module=golang.org/toolchain@v0.0.1-go$wanted.linux-$arch
  empty=$(mktemp -d); trap 'rm -rf "$empty"' EXIT
  # In a folder without a go.mod, by the Go that is here. Go strips the right to execute from a module's files.
  (cd "$empty" && GOFLAGS=-mod=mod GOTOOLCHAIN=local go mod download "$module") >&2
  from=$(go env GOMODCACHE)/$module
  mkdir -p "$(dirname "$cached")"
  cp -R "$from" "$cached.$$"
  chmod -R u+w "$cached.$$"
  chmod +x "$cached.$$"/bin/* "$cached.$$"/pkg/tool/*/*
  rm -rf "$cached"; mv "$cached.$$" "$cached"
  echo "$cached/bin/go"
  ;;
'')
  found=$(go env GOVERSION 2>/dev/null || true)
  if [[ $found ]] && at_least "$wanted" "${found#go}"; then command -v go
  elif [[ -x $cached/bin/go ]]; then echo "$cached/bin/go"
  else echo "Go $wanted or newer is missing (found: ${found:-none})" >&2; exit 1; fi
  ;;
*) sed -n '2,6p' "$0" >&2; exit 2 ;;
esac
