#!/bin/bash
# Builds the docs as a website, with mdBook in the one version that this project uses (built once into the user's
# cache). `cargo test --test docs` builds it too, and follows every link of it.
#   site.sh [FOLDER]        default: target/site
set -euo pipefail
cd "$(dirname "$0")/.."
version=0.5.4
cache=${XDG_CACHE_HOME:-$HOME/.cache}/component-lease
root=$cache/tools/mdbook-$version
if [[ ! -x $root/bin/mdbook ]]; then
  echo "building mdBook $version (once, some 2 minutes)"
  mkdir -p "$cache/tools"
  build=$(mktemp -d); trap 'rm -rf "$build"' EXIT
  CARGO_TARGET_DIR=$build cargo install --quiet --locked mdbook --version "$version" --no-default-features --features search --root "$root"
  rm -rf "$build"
fi
site=$(realpath -m "${1:-target/site}")
stage=$(mktemp -d); trap 'rm -rf "$stage"' EXIT
# The pages at the places that they have in the repository, with what they link to, so that one link works in both.
mkdir -p "$stage/src/charts"
cp -r ./*.md docs examples "$stage/src/"
cp -r charts/component-lease "$stage/src/charts/"
# mdBook makes index.html of a README.md, but does not follow in links.
find "$stage/src" -name '*.md' -exec sed -i 's|](\([^)]*/\)\?README\.md|](\1index.md|g' {} +
# The summary is read at the root; in the repository its links start from docs/.
sed -e 's|](\.\./|](|' -e t -e 's|](|](docs/|' docs/SUMMARY.md >"$stage/src/SUMMARY.md"
rm "$stage/src/docs/SUMMARY.md"
cat >"$stage/book.toml" <<'BOOK'
[book]
title = "ComponentLease"
language = "en"
src = "src"
[output.html]
no-section-label = true
additional-css = ["wide.css"]
[output.html.fold]
enable = true
level = 0
BOOK
# Our tables and commands need more than 750 pixels.
echo ':root { --content-max-width: 960px }' >"$stage/wide.css"
rm -rf "$site"
"$root/bin/mdbook" build "$stage" --dest-dir "$site"
echo "the site is in $site; open $site/index.html"
