"""What the workflow leaves on GitHub: a comment with the plans, a pull request with a setting."""

import base64
import subprocess
import tempfile
from pathlib import Path

from tools.github.runner import (
    GitHubError,
    api,
    folder,
    output,
    pages,
    repository_url,
    run_url,
    variable,
)


def comment() -> None:
    """Write the plans into one comment of the pull request: a new one, or the one of before."""
    service = variable("GITHUB_WORKFLOW")
    marker = f"<!-- {service}: plans -->"
    parts = [marker]
    for environment in ("dev", "prod"):
        plan = Path(f"dist/plan-{environment}.md")
        if plan.is_file():
            parts.append(plan.read_text(encoding="utf-8"))
        else:
            parts.append(
                f"### {service}: no plan for {environment}\n\nIt failed: "
                f"[see the run]({run_url()}).\n"
            )
    comments = f"issues/{variable('PULL_REQUEST')}/comments"
    own = [
        found["id"]
        for page in pages(comments)
        for found in page
        if found["user"]["type"] == "Bot" and found["body"].startswith(marker)
    ]
    with tempfile.NamedTemporaryFile("w", encoding="utf-8") as body:
        body.write("\n".join(parts))
        body.flush()
        field = ("--field", f"body=@{body.name}")
        if own:
            api(f"issues/comments/{own[0]}", "--method", "PATCH", *field)
        else:
            api(comments, "--method", "POST", *field)
    print("Updated the comment." if own else "Wrote a comment.")


def record(file: str) -> None:
    """Open a pull request with a file that an action of the workflow has changed."""
    if subprocess.run(["git", "diff", "--quiet", "--", file]).returncode == 0:
        print("main has this setting already.")
        return
    action, environment, version = (variable(name) for name in ("ACTION", "ENV", "VERSION"))
    service, path = variable("GITHUB_WORKFLOW"), folder() + file
    attempt = f"{variable('GITHUB_RUN_ID')}-{variable('GITHUB_RUN_ATTEMPT')}"
    branch = f"{service}/{action}-{environment}-{attempt}"
    title = f"{service}: {action} {environment}" + (f" to version {version}" if version else "")
    head = output("git", "rev-parse", "HEAD")
    api("git/refs", "-f", f"ref=refs/heads/{branch}", "-f", f"sha={head}")
    content = {
        "message": title,
        "branch": branch,
        "sha": output("git", "rev-parse", f"HEAD:{path}"),
        "content": base64.b64encode(Path(file).read_bytes()).decode(),
    }
    fields = [part for name, text in content.items() for part in ("-f", f"{name}={text}")]
    api(f"contents/{path}", "--method", "PUT", *fields)
    # A pull request that a workflow opens starts no workflows; closing and reopening it does.
    body = (
        f"This is what {run_url()} did. Merge it, or the next deployment takes it back.\n\n"
        "Checks that do not start by themselves start when you close and reopen this pull request."
    )
    create = ("gh", "pr", "create", "--head", branch, "--base", "main")
    try:
        print(output(*create, "--title", title, "--body", body))
    except GitHubError:
        print(
            f"::warning::The branch {branch} has the setting, but no pull request could be opened. "
            "Commit it by hand, or the next deployment takes it back: "
            f"{repository_url()}/compare/{branch}"
        )
