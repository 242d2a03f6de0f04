#!/bin/sh
# Prints the absolute path of a Python of one of these minor versions, the first that is found.
#
#   find_python.sh <minor version> [more, in order of preference]
#
# It must run (pyenv leaves shims without a Python behind them) and be able to make virtual
# environments (Debian's may not be). Searches the PATH, pyenv's versions and uv's; if there is none,
# uv installs one, where uv is installed.
set -u

# usable <command> <minor version>: prints the interpreter behind the command, never a virtual
# environment's, if it has that version and can make virtual environments.
usable() {
	"$1" -I -c '
import ensurepip, os, sys, venv
if "%d.%d" % sys.version_info[:2] != sys.argv[1]:
    sys.exit(1)
print(os.path.abspath(getattr(sys, "_base_executable", "") or sys.executable))
' "$2" 2>/dev/null </dev/null
}

# on_path <command> <minor version>: tries every command of that name on the PATH.
on_path() (
	set -f
	IFS=:
	for folder in $PATH; do
		[ -x "$folder/$1" ] && usable "$folder/$1" "$2" && exit 0
	done
	exit 1
)

# with_pyenv <minor version>: tries pyenv's versions, whether selected or not.
with_pyenv() {
	for python in "${PYENV_ROOT:-${HOME:-}/.pyenv}/versions/$1".*/bin/python; do
		[ -x "$python" ] && usable "$python" "$1" && return 0
	done
	return 1
}

# with_uv <minor version>: tries what uv knows of.
with_uv() {
	command -v uv >/dev/null || return 1
	python=$(uv python find --no-project --system "$1" 2>/dev/null) && usable "$python" "$1"
}

for version in "$@"; do
	on_path "python$version" "$version" && exit 0
	with_pyenv "$version" && exit 0
	on_path python3 "$version" && exit 0
	with_uv "$version" && exit 0
done
for version in "$@"; do
	command -v uv >/dev/null && uv python install "$version" >&2 && with_uv "$version" && exit 0
done
echo "There is no Python $(echo "$*" | sed 's/ / or /g') on this machine that can make virtual environments: install one, for example with \`apt install python$1-venv\`, \`brew install python@$1\` or \`pyenv install $1\`; or install uv (https://docs.astral.sh/uv/), which then fetches Python by itself." >&2
exit 1
