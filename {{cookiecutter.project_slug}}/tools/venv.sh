#!/bin/sh
# Makes .venv and installs the locked requirements into it, checked against their hashes.
#
#   venv.sh <requirements file> <Python minor version> [more versions, in order of preference]
#
# pip installs uv, and uv the rest, ten times as fast as pip alone.
set -eu

# If this script is stopped, so is the program that it runs: nothing carries on in .venv unseen.
running=
step() {
	"$@" &
	running=$!
	wait "$running"
}
trap 'kill "$running" 2>/dev/null && wait "$running"; exit 130' INT TERM HUP

requirements=$1
shift
python=$(sh "$(dirname "$0")/find_python.sh" "$@")
echo "Making .venv from $requirements with $python"
step "$python" -m venv --clear .venv
awk '/^[^ #]/ { wanted = /^uv==/ } wanted' "$requirements" > .venv/uv.txt
step .venv/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes --requirement .venv/uv.txt
step env VIRTUAL_ENV=.venv .venv/bin/python -m uv pip install --quiet --require-hashes --requirement "$requirements"
touch .venv/installed
