"""A repository with services on GitHub and in AWS, ready for a scenario."""

import copy
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, Self

from simulator.api import Api
from simulator.aws import Aws, Deployed
from simulator.expressions import Expressions
from simulator.github import GitHub, Run
from simulator.runner import Runner

ROLES = {
    "AWS_PLAN_ROLE_DEV": "plan-dev",
    "AWS_PLAN_ROLE_PROD": "plan-prod",
    "AWS_MAIN_PLAN_ROLE_PROD": "main-plan-prod",
    "AWS_OPERATE_ROLE_DEV": "operate-dev",
    "AWS_OPERATE_ROLE_PROD": "operate-prod",
}


def arn(role: str) -> str:
    return f"arn:aws:iam::123456789012:role/{role}"


class Play:
    """GitHub, AWS, and what people do."""

    def __init__(
        self,
        folder: Path,
        expressions: Expressions,
        runner: Runner,
        services: dict[str, Path],
        configured: bool = True,
        **repository: Any,
    ) -> None:
        """Make a repository with services.

        :param services: the rendered folder of each, by its path in the repository.
        :param configured: AWS has the roles and GitHub knows them.
        :param repository: GitHub's plan, private, default_branch.
        """
        self.aws, self.api = Aws(), Api(runner.folder / "input")
        self.github = GitHub(folder, expressions, runner, self.api, self.aws, **repository)
        self.services = services
        for path, rendered in services.items():
            self._copy(rendered, path)
        if configured:
            self.configure()

    def copy(self, folder: Path) -> Self:
        """Return a play that goes on from here, in another folder."""
        github = self.github
        shutil.copytree(github.folder, folder)
        shared = (github.expressions, github.execute)
        made = copy.deepcopy(self, {id(each): each for each in shared})
        made.github.folder = folder
        return made

    def _copy(self, rendered: Path, path: str) -> None:
        target = self.github.folder / path
        left_out = shutil.ignore_patterns(".git", ".venv", "dist", ".terraform", "__pycache__")
        shutil.copytree(rendered, target, ignore=left_out, dirs_exist_ok=True)
        if path != ".":
            # As `make workflow` does.
            command = [sys.executable, "-m", "tools.github", "workflow"]
            subprocess.run(command, cwd=target, check=True, stdout=subprocess.DEVNULL)

    def configure(self, reviewers: tuple[str, ...] = ("bob", "eve"), approval: str = "") -> None:
        """Set up GitHub as terraform/bootstrap says for its plan, and AWS's roles.

        :param approval: the variable PROD_APPROVAL.
        """
        github = self.github
        branch = f"ref:refs/heads/{github.default_branch}"
        github.variables |= {name: arn(role) for name, role in ROLES.items()}
        if approval:
            github.variables["PROD_APPROVAL"] = approval
        for role in ROLES.values():
            pull_request = role in {"plan-dev", "plan-prod"}
            github.trusts[role] = ("pull_request",) if pull_request else (branch,)
        has_environments = github.plan != "free" or not github.private
        for name in ("dev", "prod"):
            role = f"deploy-{name}"
            if has_environments:
                github.trusts[role] = (f"environment:{name}",)
                asked = reviewers if name == "prod" else ()
                github.protect(
                    name,
                    reviewers=asked,
                    branches=(github.default_branch,),
                    variables={"AWS_DEPLOY_ROLE": arn(role)},
                )
            else:
                github.trusts[role] = (branch,)
                github.variables[f"AWS_DEPLOY_ROLE_{name.upper()}"] = arn(role)
        for path in self.services:
            self.of("prod", path).initialised = True  # by Actions → …-operate → init

    def of(self, environment: str, path: str = "") -> Deployed:
        """Return what is deployed of a service, the first if none is said."""
        service = self.services[path or next(iter(self.services))].name
        return self.aws.deployed.setdefault((service, environment), Deployed())

    def change(self, text: str, path: str = "", actor: str = "ann") -> Run:
        """Merge a change of a service's handler; return the run that it starts."""
        place = path or next(iter(self.services))
        handler = self.github.folder / place / "handler.py"
        before = handler.read_text().partition("\n# ")[0]
        name = str(handler.relative_to(self.github.folder))
        runs = self.github.push(actor, **{name: f"{before}\n# {text}\n"})
        return runs[list(self.services).index(place)] if len(runs) > 1 else runs[0]
