#!/bin/sh
# Writes terraform/.terraform.lock.hcl anew: the newest provider that versions.tf allows, with its
# hashes for the machines that people and workflows have. Reads TF_CLI_CONFIG_FILE; where that names a
# mirror, the mirror must do.
set -eu

file=terraform/.terraform.lock.hcl
if ! command -v terraform >/dev/null; then
	echo "$file is as it was: Terraform is missing."
	exit 0
fi

# Terraform keeps to a version that is locked, so the file is put aside; a failure brings it back.
before=$(mktemp)
trap '[ -f "$file" ] || [ ! -s "$before" ] || cp "$before" "$file"; rm -f "$before"' EXIT
if [ -f "$file" ]; then cp "$file" "$before" && rm "$file"; fi

lock() {
	terraform -chdir=terraform providers lock "$@"
}

platforms="linux_amd64 linux_arm64 darwin_amd64 darwin_arm64"
mirror=$(sed -n '/filesystem_mirror/,/}/s/.*path *= *"\(.*\)".*/\1/p' "${TF_CLI_CONFIG_FILE:-/dev/null}" 2>/dev/null | head -n 1)
if [ -z "$mirror" ]; then
	for platform in $platforms; do set -- "$@" "-platform=$platform"; done
	lock "$@" && exit
	echo "Where the registry can't be reached, name the folder of a provider mirror in TERRAFORM_PROVIDER_MIRROR." >&2
	exit 1
fi

missing=
for platform in $platforms; do
	lock "-fs-mirror=$mirror" "-platform=$platform" >/dev/null 2>&1 || missing="$missing $platform"
done
if [ "$missing" = " $platforms" ]; then
	lock "-fs-mirror=$mirror" # says what is wrong
fi
if [ -n "$missing" ]; then
	cat >&2 <<-END
		$file has no hashes for$missing: the provider mirror $mirror
		does not hold the provider for them, so \`make init\` fails on such machines. Run \`make lock\` where the
		registry can be reached, or have the mirror completed (terraform providers mirror -platform=…).
	END
fi
