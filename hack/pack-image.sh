#!/bin/bash
# Makes a container image of one static binary and nothing else, without a container engine:
# an archive that is both an OCI image layout ("ctr images import", skopeo, podman) and what
# "docker load" takes. The same input gives the same bytes.
#   pack-image.sh OUT.tar REFERENCE BINARY [--user UID:GID] [--label NAME=VALUE]... [--file FILE=/WHERE]...
# Name it localhost/... for a local cluster: a name without a host is completed with a registry's.
set -euo pipefail
usage() { sed -n '5p' "$0" >&2; exit 2; }
(($# >= 3)) || usage
out=$(realpath -m "$1") ref=$2 binary=$3; shift 3
name=$(basename "$binary") user= labels= files=()
while (($#)); do case $1 in
  --user) user=$2; shift 2 ;;
  --label) labels+=${labels:+,}\"${2%%=*}\":\"${2#*=}\"; shift 2 ;;
  --file) files+=("$2"); shift 2 ;;       # something that the binary needs beside it
  *) usage ;;
esac; done
case $(uname -m) in x86_64) arch=amd64 ;; aarch64) arch=arm64 ;; *) arch=$(uname -m) ;; esac

t=$(mktemp -d); trap 'rm -rf "$t"' EXIT
pack() { tar --format=ustar --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner --mode=u=rwX,go=rX -C "$1" -cf "$2" "${@:3}"; }
sha() { sha256sum "$1" | cut -d' ' -f1; }
size() { stat -c %s "$1"; }
mkdir -p "$t/root" "$t/out/blobs/sha256"
install -m 755 "$binary" "$t/root/$name"
for file in ${files[@]+"${files[@]}"}; do install -D -m 755 "${file%%=*}" "$t/root${file#*=}"; done
pack "$t/root" "$t/layer" .
layer=$(sha "$t/layer")
cat >"$t/config" <<JSON
{"created":"1970-01-01T00:00:00Z","architecture":"$arch","os":"linux","config":{${user:+\"User\":\"$user\",}"Entrypoint":["/$name"],"WorkingDir":"/","Labels":{$labels}},"rootfs":{"type":"layers","diff_ids":["sha256:$layer"]},"history":[{"created":"1970-01-01T00:00:00Z","created_by":"pack-image.sh"}]}
JSON
config=$(sha "$t/config")
cat >"$t/manifest" <<JSON
{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"sha256:$config","size":$(size "$t/config")},"layers":[{"mediaType":"application/vnd.oci.image.layer.v1.tar","digest":"sha256:$layer","size":$(size "$t/layer")}]}
JSON
manifest=$(sha "$t/manifest")
echo '{"imageLayoutVersion":"1.0.0"}' >"$t/out/oci-layout"
cat >"$t/out/index.json" <<JSON
{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"sha256:$manifest","size":$(size "$t/manifest"),"platform":{"architecture":"$arch","os":"linux"},"annotations":{"io.containerd.image.name":"$ref","org.opencontainers.image.ref.name":"$ref"}}]}
JSON
echo "[{\"Config\":\"blobs/sha256/$config\",\"RepoTags\":[\"$ref\"],\"Layers\":[\"blobs/sha256/$layer\"]}]" >"$t/out/manifest.json"
for blob in layer config manifest; do mv "$t/$blob" "$t/out/blobs/sha256/${!blob}"; done
mkdir -p "$(dirname "$out")"
pack "$t/out" "$out.new" oci-layout index.json manifest.json blobs
mv "$out.new" "$out"
