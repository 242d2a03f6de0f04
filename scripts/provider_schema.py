"""Write tests/provider_schema.json: what version 6 of the AWS provider knows of what we use.

    make schema

Where the newest provider can't be had, its schema can: Pulumi's Python package for AWS is generated
from it. Noted is, for each resource type and data source in our Terraform files, each argument and
attribute that both 5.100 and 6.x have, under Terraform's name: its type, or what is in the block,
and whether 6.x deprecates it or gives it another type. Whatever isn't there, 6.x doesn't have.

Two things Pulumi hides: `timeouts`, and whether a block is a list, a set or an object. A list of at
most one string looks like a string. It takes Terraform with the provider 5.100, and PyPI.
"""

import ast
import json
import os
import re
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

TEMPLATE = Path(__file__).parents[1]
SERVICE = TEMPLATE / "{{cookiecutter.project_slug}}"
FOLDERS = (SERVICE / "terraform", TEMPLATE / "terraform" / "bootstrap")
TARGET = TEMPLATE / "tests" / "provider_schema.json"
PROVIDER = "registry.terraform.io/hashicorp/aws"
OLD = "5.100.0"

# Where Pulumi's name is not Terraform's: the module of a type, and the name of an argument.
MODULES = {
    "aws_caller_identity": "get_caller_identity",
    "aws_iam_openid_connect_provider": "iam/open_id_connect_provider",
    "aws_partition": "get_partition",
    "aws_s3_object": "s3/bucket_objectv2",
    "aws_security_group": "ec2/security_group",
    "aws_sqs_queue_redrive_allow_policy": "sqs/redrive_allow_policy",
    "aws_sqs_queue_redrive_policy": "sqs/redrive_policy",
    "aws_subnet": "ec2/get_subnet",
}
NAMES = {
    ("aws_cloudwatch_log_subscription_filter", "log_group_name"): "log_group",
    ("aws_cloudwatch_metric_alarm", "alarm_name"): "name",
    ("aws_lambda_function", "filename"): "code",
    ("aws_lambda_function", "function_name"): "name",
    ("aws_lambda_permission", "function_name"): "function",
    ("aws_s3_bucket_lifecycle_configuration", "and"): "and_",
    ("aws_sns_topic_subscription", "topic_arn"): "topic",
}
SCALARS = {"str": "string", "int": "number", "float": "number", "bool": "bool"}


def main() -> None:
    """Compare the two schemas and write the file."""
    sys.path.insert(0, str(SERVICE))
    old = schema_of_5()
    with tempfile.TemporaryDirectory() as folder:
        pip = (sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", folder)
        subprocess.run([*pip, "pulumi-aws>=7"], check=True)
        (wheel,) = Path(folder).glob("*.whl")
        new = Pulumi(wheel)
    facts: dict[str, Any] = {"pulumi-aws": wheel.name.split("-")[1], "hashicorp/aws": OLD}
    for kind, types in sorted(used().items()):
        facts[kind] = {
            name: compare(name, old[f"{kind}_schemas"][name]["block"], *new.find(kind, name), new)
            for name in sorted(types)
        }
    text = json.dumps(facts, indent=1, sort_keys=True)
    TARGET.write_text(text + "\n", encoding="utf-8")


def used() -> dict[str, set[str]]:
    """Return the types of resources and data sources in the Terraform files."""
    found: dict[str, set[str]] = {"resource": set(), "data_source": set()}
    for file in (file for folder in FOLDERS for file in folder.glob("*.tf")):
        for kind, name in re.findall(
            r'^(resource|data) "(aws_\w+)"', file.read_text(), re.MULTILINE
        ):
            found["data_source" if kind == "data" else kind].add(name)
    return found


def schema_of_5() -> Any:
    """Return the schemas of version 5.100, as Terraform prints them."""
    from tools.deploy.mirror import cli_config

    required = {"aws": {"source": PROVIDER, "version": OLD}}
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "versions.tf.json").write_text(
            json.dumps({"terraform": {"required_providers": required}})
        )
        if mirror := cli_config(Path(folder)):
            os.environ["TF_CLI_CONFIG_FILE"] = str(mirror)
        terraform = ("terraform", f"-chdir={folder}")
        subprocess.run([*terraform, "init"], check=True, stdout=subprocess.DEVNULL)
        schema = subprocess.check_output([*terraform, "providers", "schema", "-json"])
    return json.loads(schema)["provider_schemas"][PROVIDER]


class Pulumi:
    """Pulumi's package: what its classes say, without importing them."""

    def __init__(self, wheel: Path) -> None:
        self.archive = zipfile.ZipFile(wheel)
        self.modules: dict[str, dict[str, ast.ClassDef]] = {}

    def module(self, name: str) -> dict[str, ast.ClassDef]:
        """Return the classes of a module by name; none if there is no such module."""
        if name not in self.modules:
            path = f"pulumi_aws/{name}.py"
            there = path in self.archive.namelist()
            tree = ast.parse(self.archive.read(path) if there else "")
            self.modules[name] = {
                node.name: node for node in tree.body if isinstance(node, ast.ClassDef)
            }
        return self.modules[name]

    def find(self, kind: str, name: str) -> tuple[str, ast.ClassDef]:
        """Return the folder and the class of one of Terraform's types.

        :raises SystemExit: not found by its name, so MODULES must have it.
        """
        _, service, *words = name.split("_")
        folder = {"lambda": "lambda_"}.get(service, service)
        module = f"{folder}/{'get_' if kind == 'data_source' else ''}{'_'.join(words)}"
        module = MODULES.get(name, module)
        folder, _, file = module.rpartition("/")
        wanted = file.replace("_", "") + ("result" if kind == "data_source" else "")
        for title, found in self.module(module).items():
            if title.lower() == wanted:
                return folder, found
        raise SystemExit(f"{name} is not in Pulumi's {module}: MODULES must say where it is.")


def fields(node: ast.ClassDef) -> dict[str, tuple[ast.expr, bool]]:
    """Return the properties of a class, by name: their types, and whether they are deprecated."""
    found: dict[str, tuple[ast.expr, bool]] = {}
    for method in node.body:
        if isinstance(method, ast.FunctionDef) and method.returns is not None:
            decorators = " ".join(ast.unparse(one) for one in method.decorator_list)
            if "_builtins.property" in decorators:
                found[method.name] = (method.returns, "_utilities.deprecated(" in decorators)
    return found


def kind_of(expression: ast.expr) -> tuple[str, str | None]:
    """Return a type under Terraform's name and, of a block, the class of what is in it."""
    if isinstance(expression, ast.Constant):
        return "block", str(expression.value).rpartition(".")[2]
    if isinstance(expression, ast.Subscript):
        outer = ast.unparse(expression.value).rpartition(".")[2]
        if outer in {"Output", "Optional"}:
            return kind_of(expression.slice)
        if outer == "Mapping":
            return "map", None
        if outer == "Sequence":
            _, contents = kind_of(expression.slice)
            return ("block" if contents else "list"), contents
    return SCALARS.get(ast.unparse(expression).rpartition(".")[2], "string"), None


def compare(
    name: str, old: dict[str, Any], package: str, node: ast.ClassDef, new: Pulumi
) -> dict[str, Any]:
    """Return what 6.x still has of a resource or block.

    :param name: the type of the resource.
    :param old: the block's schema in 5.100.
    :param package: where Pulumi has it.
    :param node: Pulumi's class for it.
    :param new: Pulumi's package, to look up the blocks in this one.
    """
    facts: dict[str, Any] = {}
    known = fields(node)
    blocks: dict[str, Any] = old.get("block_types", {})
    wanted = {key: old_kind(value["type"]) for key, value in old.get("attributes", {}).items()}
    for key, kind in sorted({**wanted, **dict.fromkeys(blocks, "block")}.items()):
        found = next((known[one] for one in names_of(name, key) if one in known), None)
        if key == "id":
            facts[key] = kind
        elif found is not None:
            now, contents = kind_of(found[0])
            remarks = ["deprecated"] if found[1] else []
            if key in blocks and contents:
                inner = new.module(f"{package}/outputs")[contents]
                facts[key] = compare(name, blocks[key]["block"], package, inner, new)
                facts[key] |= {"": "deprecated"} if remarks else {}
            else:
                # What only AWS sets is a list of objects in Terraform, and Pulumi's block.
                if kind != now and (kind, now) != ("list", "block"):
                    remarks.append(f"{kind} in {OLD}")
                facts[key] = ", ".join([now, *remarks])
    return facts


def old_kind(kind: Any) -> str:
    """Return the type of an attribute of 5.100: string, number, bool, list or map."""
    name = kind if isinstance(kind, str) else kind[0]
    return "list" if name == "set" else str(name)


def names_of(resource: str, name: str) -> Iterator[str]:
    """Return what Pulumi may call an argument: lists have plurals, single blocks singulars."""
    yield NAMES.get((resource, name), name)
    yield f"{name}s"
    yield f"{name}es"
    yield re.sub("y$", "ies", name)
    yield name.removesuffix("s")


if __name__ == "__main__":
    main()
