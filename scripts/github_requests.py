"""Write tests/github_requests.json: what GitHub's API takes, of what the bootstrap's README calls.

    npm pack @octokit/openapi@23.0.2 && tar xzf octokit-openapi-*.tgz
    python scripts/github_requests.py package/generated/api.github.com.deref.json

By method and path, the schema of the request's body as JSON Schema. A name that GitHub doesn't know
is an error here, though GitHub would ignore it. GitHub publishes its description under MIT.
"""

import json
import sys
from pathlib import Path
from typing import Any

REQUESTS = Path(__file__).parents[1] / "tests" / "github_requests.json"
CALLED = {
    "/repos/{owner}/{repo}": "get",
    "/users/{username}": "get",
    "/repos/{owner}/{repo}/environments/{environment_name}": "put",
    "/repos/{owner}/{repo}/environments/{environment_name}/deployment-branch-policies": "post",
    "/repos/{owner}/{repo}/actions/permissions/workflow": "put",
    "/repos/{owner}/{repo}/rulesets": "post",
}
KEPT = {"type", "properties", "required", "items", "enum", "oneOf", "anyOf", "minimum", "maximum"}


def plain(schema: Any) -> Any:
    """Return a schema of OpenAPI 3.0 as JSON Schema, without what is for people to read."""
    made = {name: value for name, value in schema.items() if name in KEPT}
    if "properties" in made:
        made["properties"] = {name: plain(one) for name, one in made["properties"].items()}
        made["additionalProperties"] = False
    for name in {"oneOf", "anyOf"} & {*made}:
        made[name] = [plain(one) for one in made[name]]
    if "items" in made:
        made["items"] = plain(made["items"])
    if schema.get("nullable") and "type" in made:
        made["type"] = [made["type"], "null"]
    return made


def main() -> None:
    """Write the schemas, one operation a line."""
    paths = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))["paths"]
    made = {}
    for path, method in CALLED.items():
        body = paths[path][method].get("requestBody", {"content": {"application/json": {}}})
        schema = body["content"]["application/json"].get("schema", {"properties": {}})
        made[f"{method.upper()} {path}"] = plain(schema)
    lines = [f"{json.dumps(name)}: {json.dumps(schema)}" for name, schema in made.items()]
    REQUESTS.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
