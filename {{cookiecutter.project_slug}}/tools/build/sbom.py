"""Writes the package's bill of materials: CycloneDX 1.6, JSON.

It lists what is in the zip, by the metadata that every installed distribution has, so it cannot
differ from what is deployed. The same package gives the same bill.
"""

import hashlib
import json
import re
import uuid
import zipfile
from email.message import Message
from email.parser import HeaderParser
from pathlib import Path
from typing import Any

import click
from packaging.utils import canonicalize_name

from tools.build.package import build
from tools.project import project


@click.command()
def command() -> None:
    """Write the package's bill of materials (CycloneDX) to dist/lambda.cdx.json."""
    package = build()
    output = package.with_suffix(".cdx.json")
    bill = bill_of_materials(project().name, package)
    output.write_text(json.dumps(bill, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    print(f"{output}: {len(bill['components'])} components of {package}, CycloneDX 1.6")


def bill_of_materials(service: str, package: Path) -> dict[str, Any]:
    """Return the bill of materials of a package."""
    digest = hashlib.sha256(package.read_bytes()).hexdigest()
    application = {"type": "application", "bom-ref": service, "name": service}
    return {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, digest)}",
        "version": 1,
        "metadata": {
            "component": {**application, "hashes": [{"alg": "SHA-256", "content": digest}]}
        },
        "components": components(package),
    }


def components(package: Path) -> list[dict[str, Any]]:
    """List the distributions in a package, as CycloneDX describes components, sorted by name."""
    with zipfile.ZipFile(package) as archive:
        texts = [
            archive.read(name).decode("utf-8")
            for name in archive.namelist()
            if re.fullmatch(r"[^/]+\.dist-info/METADATA", name)
        ]
    found = [_component(HeaderParser().parsestr(text)) for text in texts]
    return sorted(found, key=lambda component: str(component["bom-ref"]))


def _component(metadata: Message) -> dict[str, Any]:
    # Package URLs have names as PyPI normalises them.
    purl = f"pkg:pypi/{canonicalize_name(metadata['Name'])}@{metadata['Version']}"
    component = {"type": "library", "bom-ref": purl, "name": metadata["Name"]}
    component |= {"version": metadata["Version"], "purl": purl}
    if metadata["License-Expression"]:
        component["licenses"] = [{"expression": metadata["License-Expression"]}]
    if metadata["Summary"]:
        component["description"] = metadata["Summary"]
    return component
