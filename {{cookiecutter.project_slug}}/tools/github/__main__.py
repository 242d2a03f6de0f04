"""What the workflows ask of GitHub and tell it: ``python3 -m tools.github COMMAND``.

It runs in the service's folder, before anything is installed: with the runner's own Python (3.11 or
later), Git, GitHub's variables (GITHUB_…) and its command-line program gh, signed in by GH_TOKEN.

    changes         what does this run do? Sets the outputs service, deploy, approval, commit, run
                    and plan; VARIABLES are those of the repository
    operate         in which role does ACTION run? Sets the outputs variable, role and setting
    role VARIABLE   is the role set (in ROLE)? If not, name the variable and its place
    ask             say how the plan for prod that this run has kept, PLAN_SHA256, is approved
    comment         write the plans, dist/plan-*.md, into one comment of the pull request
    record FILE     open a pull request with the changed FILE
    upgrade         open a pull request with all files that differ from the commit, or update it
    workflow        copy the workflows to where GitHub looks in a monorepo
    check-workflow  refuse copies that are missing or differ

Exit code: 0 for done, 1 for refused or failed.
"""

import os
import sys
from collections.abc import Callable

from tools.github import approval, copy, decide, report
from tools.github.runner import GitHubError

COMMANDS: dict[str, Callable[..., None]] = {
    "changes": decide.changes,
    "operate": decide.operate,
    "role": approval.role,
    "ask": approval.ask,
    "comment": report.comment,
    "record": report.record,
    "upgrade": report.upgrade,
    "workflow": copy.workflow,
    "check-workflow": copy.check_workflow,
}


def main(arguments: list[str]) -> int:
    """Run one command; return its exit code."""
    if not arguments or arguments[0] not in COMMANDS:
        print(__doc__, file=sys.stderr)
        return 1
    # A commit that a clone lacks is unknown: Git would fetch it, without credentials.
    os.environ["GIT_NO_LAZY_FETCH"] = "1"
    try:
        COMMANDS[arguments[0]](*arguments[1:])
    except GitHubError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
