"""What the workflow asks of GitHub and tells it: ``python3 -m tools.github COMMAND``.

It runs in the service's folder, before anything is installed: with the runner's own Python (3.11 or
later), Git, GitHub's variables (GITHUB_…) and its command-line program gh, signed in by GH_TOKEN.

    changes                  does this run concern the service? Sets the output ``service``
    environments             do dev and prod exist, and are they protected?
    role VARIABLE WHERE      is the role set (in ROLE)? If not, name the variable and its place
    newest ENVIRONMENT       refuse to deploy over what a newer run has deployed
    comment                  write the plans, dist/plan-*.md, into one comment of PULL_REQUEST
    record FILE              open a pull request with the changed FILE
    workflow                 copy the workflow to where GitHub looks in a monorepo
    check-workflow           refuse a copy that is missing or differs

Exit code: 0 for done, 1 for refused or failed.
"""

import os
import sys
from collections.abc import Callable

from tools.github import copy, decide, report
from tools.github.runner import GitHubError

COMMANDS: dict[str, Callable[..., None]] = {
    "changes": decide.changes,
    "environments": decide.environments,
    "role": decide.role,
    "newest": decide.newest,
    "comment": report.comment,
    "record": report.record,
    "workflow": copy.workflow,
    "check-workflow": copy.check_workflow,
}

# Git sets these for its hooks, and would answer for the repository that they name.
HOOK_VARIABLES = (
    *("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_PREFIX", "GIT_COMMON_DIR"),
    "GIT_OBJECT_DIRECTORY",
)


def main(arguments: list[str]) -> int:
    """Run one command; return its exit code."""
    if not arguments or arguments[0] not in COMMANDS:
        print(__doc__, file=sys.stderr)
        return 1
    for name in HOOK_VARIABLES:
        os.environ.pop(name, None)
    try:
        COMMANDS[arguments[0]](*arguments[1:])
    except GitHubError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
