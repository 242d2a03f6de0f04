#!/bin/sh
# What the workflow asks of GitHub and tells it. It runs in the service's folder, with GitHub's own
# variables (GITHUB_…) and its command line program, gh, signed in by GH_TOKEN.
#
#   github.sh changes                  does this run have to do with the service? Sets the output `service`
#   github.sh environments             are dev and prod there, and protected?
#   github.sh role <variable> <where>  is the role there (in ROLE)? Else say which variable is missing
#   github.sh newest <environment>     refuse to deploy what is older than what a newer run has deployed
#   github.sh comment                  write the plans, dist/plan-*.md, into one comment of PULL_REQUEST
#   github.sh record <file>            open a pull request with the changed <file>
set -eu

for tool in git gh; do
	command -v "$tool" >/dev/null || {
		echo "::error::$tool is missing on this runner: install it, see https://git-scm.com and https://cli.github.com"
		exit 1
	}
done

run_url=$GITHUB_SERVER_URL/$GITHUB_REPOSITORY/actions/runs/$GITHUB_RUN_ID
folder=$(git rev-parse --show-prefix)
readme=$GITHUB_SERVER_URL/$GITHUB_REPOSITORY/blob/main/${folder}README.md#delivery

# The commit to compare with, nothing if there is none.
base_commit() {
	case $GITHUB_EVENT_NAME in
	pull_request) echo HEAD^1 ;; # HEAD is the merge with the branch that it goes to
	merge_group) echo "$MERGE_GROUP_BASE" ;;
	# Since the last deployment that succeeded: what failed or was replaced is not lost.
	push)
		gh run list --workflow "$GITHUB_WORKFLOW" --branch main --event push --status success --limit 1 \
			--json headSha --jq '.[].headSha'
		;;
	esac
}

changes() {
	base=$(base_commit)
	if [ "$GITHUB_EVENT_NAME" = workflow_dispatch ] && [ "$GITHUB_REF" != refs/heads/main ]; then
		echo "::error::Nothing was done: this run was started from ${GITHUB_REF#refs/*/}, and only main may deploy. Choose main under Run workflow."
		exit 1
	elif [ "$GITHUB_EVENT_NAME" = workflow_dispatch ]; then
		echo "Nothing is built: the deployed package stays."
		changed=false
	elif [ -z "$base" ] || ! git cat-file -e "$base^{commit}" 2>/dev/null; then
		echo "Nothing to compare with: the service counts as changed."
		changed=true
	elif git diff --quiet "$base" HEAD -- . ":/.github/workflows/$GITHUB_WORKFLOW.yml"; then
		echo "Nothing has changed in ${folder:-this repository} since $base."
		changed=false
	else
		git diff --stat "$base" HEAD -- . ":/.github/workflows/$GITHUB_WORKFLOW.yml"
		changed=true
	fi
	echo "service=$changed" >> "$GITHUB_OUTPUT"
}

# A job that names an environment which isn't there makes it, without any protection.
environments() {
	missing=
	for environment in dev prod; do
		if ! rules=$(gh api "repos/$GITHUB_REPOSITORY/environments/$environment" \
			--jq '[.protection_rules[].type] + [if .deployment_branch_policy then "branches" else empty end] | join(" ")'); then
			echo "::error::The environment $environment does not exist. Make it before anything is deployed: $readme"
			missing=yes
			continue
		fi
		case " $rules " in
		*" branches "*) ;;
		*) echo "::warning::Any branch may deploy to $environment: let only main do so, see $readme" ;;
		esac
		case "$environment $rules" in
		dev* | *required_reviewers*) ;;
		*) echo "::warning::The environment prod has no required reviewers: nobody is asked before a deployment. See $readme" ;;
		esac
	done
	[ -z "$missing" ]
}

role() {
	if [ -z "$ROLE" ]; then
		echo "::error::$1 is not set in $2, so there is no role to work with in AWS. How to set it: $readme"
		exit 1
	fi
}

# Deployments queue up, old runs are started again, and approvals come late: none of it may put an
# older commit over a newer one. A newer run of main has deployed if it has begun to apply, or if it
# found prod to be as it wants it.
newest() {
	actions=repos/$GITHUB_REPOSITORY/actions
	newer=$(gh api --paginate "$actions/workflows/$GITHUB_WORKFLOW.yml/runs?branch=main&event=push&per_page=100" \
		--jq '.workflow_runs[] | select(.run_number > (env.GITHUB_RUN_NUMBER | tonumber)) | "\(.id) \(.run_number) \(.head_sha)"')
	while read -r id number commit; do
		[ -n "$id" ] || continue
		deployed=$(ENVIRONMENT=$1 gh api "$actions/runs/$id/jobs?filter=all&per_page=100" --jq '
			any(.jobs[] | select(.name == "Deploy to " + env.ENVIRONMENT) | .steps[]?;
				.name == "Apply" and .status != "queued" and .status != "pending" and .conclusion != "skipped")
			or any(.jobs | group_by(.run_attempt)[];
				any(.[]; .name == "Plan " + env.ENVIRONMENT and .conclusion == "success")
				and any(.[]; .name == "Deploy to " + env.ENVIRONMENT and .conclusion == "skipped"))')
		if [ "$deployed" = true ]; then
			echo "::error::Nothing was deployed to $1: run $number of this workflow is newer and has brought $1 to commit $commit. To take that back, see \"Roll back\" in $readme, or revert the commit on main."
			exit 1
		fi
	done <<-END
		$newer
	END
}

comment() {
	marker="<!-- $GITHUB_WORKFLOW: plans -->"
	body=$(mktemp)
	trap 'rm -f "$body"' EXIT
	echo "$marker" > "$body"
	for environment in dev prod; do
		if [ -f "dist/plan-$environment.md" ]; then
			cat "dist/plan-$environment.md"
		else
			printf '### %s: no plan for %s\n\nIt failed: [see the run](%s).\n' "$GITHUB_WORKFLOW" "$environment" "$run_url"
		fi
		echo
	done >> "$body"
	comments=repos/$GITHUB_REPOSITORY/issues/$PULL_REQUEST/comments
	id=$(MARKER=$marker gh api "$comments" --paginate \
		--jq '.[] | select(.user.type == "Bot" and (.body | startswith(env.MARKER))) | .id' | head -n 1)
	if [ -n "$id" ]; then
		gh api --method PATCH "repos/$GITHUB_REPOSITORY/issues/comments/$id" --field "body=@$body" --silent
		echo "Updated the comment."
	else
		gh api --method POST "$comments" --field "body=@$body" --silent
		echo "Wrote a comment."
	fi
}

record() {
	if git diff --quiet -- "$1"; then
		echo "main has this setting already."
		return
	fi
	path=$folder$1
	branch=$GITHUB_WORKFLOW/$ACTION-$ENV-$GITHUB_RUN_ID-$GITHUB_RUN_ATTEMPT
	title="$GITHUB_WORKFLOW: $ACTION $ENV${VERSION:+ to version $VERSION}"
	by_hand="Commit it by hand, or the next deployment takes it back: $GITHUB_SERVER_URL/$GITHUB_REPOSITORY/compare/$branch"
	gh api "repos/$GITHUB_REPOSITORY/git/refs" -f "ref=refs/heads/$branch" -f "sha=$(git rev-parse HEAD)" --silent
	gh api --method PUT "repos/$GITHUB_REPOSITORY/contents/$path" --silent -f "message=$title" \
		-f "branch=$branch" -f "sha=$(git rev-parse "HEAD:$path")" -f "content=$(base64 < "$1" | tr -d '\n')"
	# A pull request of the workflow's own starts no workflows; closing and opening it does.
	if ! gh pr create --head "$branch" --base main --title "$title" --body "\
This is what $run_url did. Merge it, or the next deployment takes it back.

Checks that do not start by themselves start when you close and reopen this pull request."; then
		echo "::warning::The branch $branch has the setting, but no pull request could be opened. $by_hand"
	fi
}

"$@"
