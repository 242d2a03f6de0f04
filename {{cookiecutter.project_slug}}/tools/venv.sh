#!/bin/sh
# Makes a virtual environment and installs the locked requirements into it, checked against their hashes.
#
#   venv.sh <folder> <requirements file> <Python minor version> [more versions, in order of preference]
#
# pip installs uv, and uv the rest, ten times as fast as pip alone. In the end the folder has a copy of
# the requirements file: what was installed.
set -eu

# If this script is stopped, so is the program that it runs: nothing carries on unseen.
running=
step() {
	"$@" &
	running=$!
	wait "$running"
}
trap 'kill "$running" 2>/dev/null && wait "$running"; exit 130' INT TERM HUP

venv=$1
requirements=$2
shift 2
python=$(sh "$(dirname "$0")/find_python.sh" "$@")
echo "Making $venv from $requirements with $python"
step "$python" -m venv --clear "$venv"
bin=$PWD/$venv/bin
awk '/^[^ #]/ { wanted = /^uv==/ } wanted' "$requirements" > "$venv/uv.txt"
# Into that folder, whatever pip.conf and uv.toml say (the Makefile takes such environment variables away);
# where packages come from is theirs to say.
step "$bin/python" -m pip install --quiet --disable-pip-version-check --require-hashes --only-binary :all: \
	--no-user --target "" --prefix "$PWD/$venv" --root / --requirement "$venv/uv.txt"
# An entry without a hash is a library's folder in this repository: used from there, so that a change
# is seen at once.
awk '/^[^ #]/ { hashed = / \\$/ } hashed' "$requirements" > "$venv/hashed.txt"
awk '/^[^ #]/ && !/ \\$/ { sub(/^-e /, ""); print "-e " $0 }' "$requirements" > "$venv/shared.txt"
step "$bin/python" -m uv pip install --quiet --require-hashes --python "$bin/python" \
	--prefix "$PWD/$venv" --requirement "$venv/hashed.txt"
if [ -s "$venv/shared.txt" ]; then
	step "$bin/python" -m uv pip install --quiet --no-deps --python "$bin/python" \
		--prefix "$PWD/$venv" --requirement "$venv/shared.txt"
fi
# python-hcl2 keeps its parser here, for this folder alone, and from here it can get into uv's cache: then
# all environments would have one file, and write it anew in turn, two seconds each time.
rm -f "$venv"/lib/python*/site-packages/hcl2/.lark_cache.bin
# A target in uv.toml comes before a prefix.
"$bin/python" -c '
import importlib.metadata, re, sys
for name in re.findall(r"(?m)^([\w.-]+)==[^;\n]+$", open(sys.argv[1], encoding="utf-8").read()):
    importlib.metadata.version(name)
' "$requirements" 2>/dev/null || {
	echo "uv did not install all of $requirements into $venv: look for a target in your uv.toml, and remove it." >&2
	exit 1
}
cp "$requirements" "$venv/"
