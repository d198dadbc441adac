#!/bin/bash
# The plugin as krew wants it: an archive with the program under its plugin's name, and a manifest with the checksum.
#   hack/krew.sh PROGRAM FOLDER [URL]
# URL is where the archive will be; the manifest names it. Without one the manifest is for `krew install --manifest
# FOLDER/componentlease.yaml --archive FOLDER/…`.
set -euo pipefail
program=$1 folder=$2
version=v$("$program" --version | cut -d' ' -f2)
platform=linux
case $(uname -m) in
x86_64) machine=amd64 ;;
aarch64) machine=arm64 ;;
*)
  echo "krew.sh: no plugin is made for $(uname -m)" >&2
  exit 1
  ;;
esac
archive=kubectl-componentlease-$version-$platform-$machine.tar.gz
url=${3:-https://github.com/componentlease/component-lease/releases/download/$version/$archive}
here=$(cd "$(dirname "$0")/.." && pwd)
mkdir -p "$folder"
stage=$(mktemp -d)
trap 'rm -rf "$stage"' EXIT
install -m 755 "$program" "$stage/kubectl-componentlease"
install -m 644 "$here/LICENSE" "$stage/LICENSE"
# The same bytes for the same program: the checksum is published.
tar --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner -C "$stage" -cf - . | gzip -n >"$folder/$archive"
sum=$(sha256sum "$folder/$archive" | cut -d' ' -f1)
cat >"$folder/componentlease.yaml" <<YAML
apiVersion: krew.googlecontainertools.github.com/v1alpha2
kind: Plugin
metadata:
  name: componentlease
spec:
  version: $version
  homepage: https://github.com/componentlease/component-lease
  shortDescription: See and steer who leads
  description: |
    Shows who leads each ComponentLease, since when and why, and moves leadership: switchover, step-down, promote,
    pause, resume. Works with a cluster, or on a lease database alone with --database-url.
  platforms:
    - selector:
        matchLabels:
          os: $platform
          arch: $machine
      uri: $url
      sha256: $sum
      bin: kubectl-componentlease
      files:
        - from: ./kubectl-componentlease
          to: .
        - from: ./LICENSE
          to: .
YAML
echo "$folder/$archive"
echo "$folder/componentlease.yaml"
