#!/bin/sh
# What `make demo` does: render the service of the default answers and take it from the first test to a
# message that goes through the whole chain, on a local AWS.
set -eu

cd "$(dirname "$0")/.."
demo=build/demo
service=$demo/order-events

say() {
	printf '\n==> %s\n' "$*"
}

# What runs ends with the demo, however that is ended.
running=
step() {
	make -C "$service" --no-print-directory "$@" &
	running=$!
	wait "$running"
}
trap 'kill "$running" 2>/dev/null && wait "$running"; exit 130' INT TERM HUP

python=$(sh '{{cookiecutter.project_slug}}/scripts/find_python.sh' 3.13 3.12 3.11)
version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')

say "1. Rendering a service from the default answers, for Python $version"
rm -rf "$demo"
mkdir -p "$demo"
# What it says of where to go next is for somebody who renders a service to keep it.
.venv/bin/python -m cookiecutter --no-input --default-config --output-dir "$demo" . \
	"python_version=$version" >"$demo/cookiecutter.log" 2>&1 || {
	cat "$demo/cookiecutter.log" >&2
	exit 1
}
ls "$service"

say "2. Installing its locked dependencies: make install"
step install

say "3. Running its checks and unit tests: make lint typecheck test"
step lint typecheck test

say "4. Building the package for Lambda: make package"
step package

if ! command -v terraform >/dev/null; then
	say "5. Not deployed: Terraform is missing."
	echo "Install version $(cat "$service/.terraform-version") from https://developer.hashicorp.com/terraform/install, then run \`make demo\` again."
	exit 0
fi

say "5. Deploying it to a local AWS and publishing messages to its topic: make e2e (about two minutes)"
step e2e

say "Done. The service lies in $service; \`make\` there prints what it can do."
