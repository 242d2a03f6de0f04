#!/bin/sh
# Runs Terraform, and adds what to do to errors whose own text does not say it.
#
#   terraform.sh <environment> <command> [argument …]
set -u

environment=$1
shift
errors=$(mktemp)
trap 'rm -f "$errors"' EXIT
"$@" 2> "$errors"
code=$?
cat "$errors" >&2
[ "$code" -eq 0 ] && exit 0

if grep -q 'Error acquiring the state lock' "$errors"; then
	# S3's own error above it names a RequestID and a HostID.
	id=$(sed -n 's/.*[^A-Za-z]ID: *\([A-Za-z0-9-]*\).*/\1/p' "$errors" | head -n 1)
	cat >&2 <<-END

		The state of $environment is locked. "Lock Info" above says by whom (Who), since when (Created) and for
		what (Operation). Wait for it to end, or ask them. Only if you know that it is dead:
		  TF_DATA_DIR=.terraform/$environment terraform -chdir=terraform force-unlock $id
		Nothing was changed, and nothing unlocks by itself.
	END
elif grep -q 'Saved plan is stale' "$errors"; then
	cat >&2 <<-END

		$environment has changed since this plan was made, so it is not applied: plan again and read it
		(make plan ENV=$environment; in the workflow, run all jobs again).
	END
elif grep -q 'Inconsistent dependency lock file' "$errors"; then
	cat >&2 <<-END

		terraform/.terraform.lock.hcl does not fit the providers that the code asks for: run \`make lock\` and
		commit it.
	END
fi
exit "$code"
