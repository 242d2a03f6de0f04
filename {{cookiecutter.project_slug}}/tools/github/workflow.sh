#!/bin/sh
# In a monorepo GitHub reads workflows only at the repository's root, so a copy of the service's one
# lies there.
#
#   workflow.sh copy  <service> <service path>   make or refresh that copy
#   workflow.sh check <service> <service path>   exit 1 where the copy is missing or differs
set -eu

action=$1 service=$2 service_path=$3
source=.github/workflows/$service.yml

if [ "$service_path" = . ]; then
	[ "$action" = check ] || echo "Nothing to copy: in a repository of its own the workflow works where it is, $source."
	exit 0
fi
if ! root=$(git rev-parse --show-toplevel 2>/dev/null); then
	echo "The service is in no Git repository yet, so there is no place for the copy of $source." >&2
	[ "$action" = check ]
	exit
fi
copy=$root/$source
if cmp -s "$source" "$copy"; then
	[ "$action" = check ] || echo "$copy is up to date."
	exit 0
fi
if [ "$action" = check ]; then
	echo "$copy is missing or differs from $source: run \`make workflow\` and commit it." >&2
	exit 1
fi
mkdir -p "$(dirname "$copy")"
cp "$source" "$copy"
echo "Copied $source to $copy."
