#!/bin/bash
# Runs a command as root: at once, or by sudo with this environment.
#   as-root.sh COMMAND ARGUMENTS...
# sudo keeps neither PATH nor HOME, and everything that was built is found by them.
[[ $(id -u) != 0 ]] || exec "$@"
command -v sudo >/dev/null || { echo "$(basename "$1") must run as root: become root, or install sudo" >&2; exit 1; }
exec sudo -E env "PATH=$PATH" "HOME=$HOME" "$@"
