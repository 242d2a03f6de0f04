"""GitHub's own parser and expression evaluator, in a Node process that stays up."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

# GitHub publishes both from https://github.com/actions/languageservices; the last two are theirs.
PACKAGES = (
    *("@actions/workflow-parser@0.3.61", "@actions/expressions@0.3.61"),
    *("yaml@2.9.1", "cronstrue@2.61.0"),
)
SUCCESS = {"${{": "success()"}  # the condition of what has none
SCRIPT = Path(__file__).with_name("expressions.mjs")


class Expressions:
    """Reads workflows and actions, and evaluates their expressions."""

    def __init__(self, folder: Path) -> None:
        """Start Node in a folder where PACKAGES are installed."""
        shutil.copy(SCRIPT, folder)
        self._node = subprocess.Popen(
            ["node", SCRIPT.name], cwd=folder, stdin=-1, stdout=-1, text=True
        )
        self._parsed: dict[str, Any] = {}

    def close(self) -> None:
        """End Node."""
        self._node.communicate()

    def parse(self, kind: str, text: str) -> Any:
        """Return a workflow's or an action's text as JSON, with its expressions unevaluated.

        :raises ValueError: GitHub would refuse the file.
        """
        if text not in self._parsed:
            self._parsed[text] = self._ask(parse=kind, text=text)
        return self._parsed[text]

    def evaluate(self, piece: Any, contexts: dict[str, Any], **status: bool) -> Any:
        """Return a piece of a parsed file with its expressions evaluated.

        :param status: what success(), failure() and cancelled() answer.
        :raises ValueError: an expression names what is not there, or can't be evaluated.
        """
        if piece == SUCCESS:
            return status["success"]
        if "${{" not in str(piece):
            return piece
        return self._ask(evaluate=piece, contexts=contexts, status=status)

    def _ask(self, **request: Any) -> Any:
        assert self._node.stdin
        assert self._node.stdout
        self._node.stdin.write(json.dumps(request) + "\n")
        self._node.stdin.flush()
        answer = json.loads(self._node.stdout.readline())
        if errors := answer.get("errors"):
            raise ValueError("\n".join(errors))
        return answer["value"]


def text(value: Any) -> str:
    """Return a value as GitHub writes it into a variable or an input."""
    if value is None:
        return ""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return json.dumps(value) if isinstance(value, bool | dict | list) else str(value)
