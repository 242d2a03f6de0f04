#!/bin/sh
# What `make demo` does: renders a service with the default answers and takes it from its first test to a
# message that goes through the whole chain, on a local AWS.
set -eu

cd "$(dirname "$0")/.."
template=$PWD
demo=build/demo
service=$demo/order-events

say() {
	printf '\n==> %s\n' "$*"
}

# However the demo ends, it ends the running step, too.
running=
run() {
	"$@" &
	running=$!
	wait "$running"
}
step() {
	run make -C "$service" --no-print-directory "$@"
}
fetch_terraform() {
	cd '{{cookiecutter.project_slug}}'
	exec "$template/.venv/bin/python" -B -m tools.deploy.terraform_binary "$template/.terraform-bin"
}
trap 'kill "$running" 2>/dev/null && wait "$running"; exit 130' INT TERM HUP

python=$(sh '{{cookiecutter.project_slug}}/tools/find_python.sh' 3.13 3.14 3.12)
version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')

say "1. Rendering a service with the default answers, for Python $version"
rm -rf "$demo"
mkdir -p "$demo"
# If it can't be fetched, that is said at the end, and `make install` needn't try again.
fetched=0
run fetch_terraform 2>"$demo/terraform.log" || fetched=$?
case $fetched in
0) export PATH="$template/.terraform-bin:$PATH" ;;
3) export TERRAFORM_DOWNLOAD=no ;;
*) cat "$demo/terraform.log" >&2 && exit 1 ;;
esac
# The next steps that it prints are for somebody who renders a service to keep it.
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

if [ "$fetched" = 3 ]; then
	say "5. Not deployed:"
	cat "$demo/terraform.log"
	exit 0
fi

# Python 3.14 needs a newer AWS provider than some mirrors have.
check='from tools.deploy.mirror import cli_config; cli_config()'
if ! refusal=$(cd "$service" && .venv/bin/python -c "$check" 2>&1); then
	say "5. Not deployed: there is no AWS provider that fits."
	echo "$refusal"
	exit 0
fi

say "5. Deploying it to a local AWS and publishing messages to its topic: make e2e (about two minutes)"
step e2e

say "Done. The service is in $service: \`make local\` there keeps it running, \`make\` lists its targets."
